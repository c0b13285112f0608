"""Segment Anything (Kirillov et al. 2023, arXiv 2304.02643) and MobileSAM (Zhang et al. 2023, arXiv 2306.14289): their
networks, built to the sizes of a checkpoint's tensors."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F

from .prompts import Prompt
from .sam_files import Weights
from .sam_packages import explained
from .sam_prompts import Embedded, prompt_tensors

MOBILE_SIZE = 1024
"""Pixels of the square that MobileSAM sees; its tensors do not tell, as all its attention is in windows."""


class SegmentAnything(torch.nn.Module):
    """Kirillov et al. 2023 (arXiv 2304.02643), and MobileSAM, by the module of the segment-anything package.

    Pictures are resized to its longest side, normalised, and padded at the right and bottom. ``memory`` is how many
    bytes of activations the encoder needs.
    """

    def __init__(self, sam: torch.nn.Module, memory: int):
        super().__init__()
        self.sam = sam
        self.memory = memory

    def embed(self, image: torch.Tensor) -> Embedded:
        """A picture ``(H, W, 3)`` in 0..1."""
        size = tuple(image.shape[:2])
        scale = self.sam.image_encoder.img_size / max(size)
        inner = tuple(int(side * scale + 0.5) for side in size)
        resized = F.interpolate(255 * image.movedim(-1, 0)[None], inner, mode="bilinear", antialias=True)
        return Embedded(self.sam.image_encoder(self.sam.preprocess(resized)), size, inner)

    def decode(self, embedded: Embedded, prompt: Prompt, three: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask logits ``(N, H, W)`` at the picture's size and the model's guess of each one's IoU ``(N,)``.

        N is 3 or 1.
        """
        boxes, points, labels = prompt_tensors(prompt, embedded.inner, embedded.features.device)
        sparse, dense = self.sam.prompt_encoder(
            points=None if points is None else (points, labels), boxes=boxes, masks=None
        )
        logits, scores = self.sam.mask_decoder(
            image_embeddings=embedded.features,
            image_pe=self.sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=three,
        )
        return self.sam.postprocess_masks(logits, embedded.inner, embedded.size)[0], scores[0]


def vit(weights: Weights) -> tuple[torch.nn.Module, int]:
    """ViT-B, L, H, or any other size of them, without weights."""
    with explained("segment_anything"):
        from segment_anything.modeling import ImageEncoderViT

    def shape(name: str) -> torch.Size:
        return weights[f"image_encoder.{name}"].shape

    dim, _, _, patch = shape("patch_embed.proj.weight")
    grid = shape("pos_embed")[1]
    blocks = range(_count(weights, "image_encoder.blocks."))
    spans = [(shape(f"blocks.{block}.attn.rel_pos_h")[0] + 1) // 2 for block in blocks]
    heads = dim // shape("blocks.0.attn.rel_pos_h")[1]
    with torch.device("meta"):
        encoder = ImageEncoderViT(
            img_size=grid * patch,
            patch_size=patch,
            embed_dim=dim,
            depth=len(blocks),
            num_heads=heads,
            mlp_ratio=shape("blocks.0.mlp.lin1.weight")[0] / dim,
            out_chans=shape("neck.0.weight")[0],
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=min(spans),
            global_attn_indexes=[block for block in blocks if spans[block] == grid],
        )
    # Where attention is global three matrices of all patches by all patches are alive at a time.
    return _with_decoder(encoder, weights, grid), 3 * 4 * heads * grid**4


def mobile(weights: Weights) -> tuple[torch.nn.Module, int]:
    """MobileSAM (Zhang et al. 2023, arXiv 2306.14289), without weights."""
    with explained("timm"):
        from timm.models.tiny_vit import TinyVit

    def shape(name: str) -> torch.Size:
        return weights[f"image_encoder.{name}"].shape

    stages = range(_count(weights, "image_encoder.layers."))
    biases = [shape(f"layers.{stage}.blocks.0.attn.attention_biases") for stage in stages[1:]]
    trunk = TinyVit(
        num_classes=0,
        embed_dims=(shape("layers.0.blocks.0.conv3.c.weight")[0], *(shape(_qkv(stage))[1] for stage in stages[1:])),
        depths=tuple(_count(weights, f"image_encoder.layers.{stage}.blocks.") for stage in stages),
        num_heads=(1, *(heads for heads, _ in biases)),
        window_sizes=(1, *(int(offsets**0.5) for _, offsets in biases)),
        drop_path_rate=0.0,
    )
    # Unlike the classifier, MobileSAM keeps the resolution before the last stage: 64 x 64.
    trunk.stages[-1].downsample.conv2.conv.stride = (1, 1)
    encoder = TinyEncoder(trunk, shape("neck.0.weight")[0])
    return _with_decoder(encoder, weights, MOBILE_SIZE // 16), 1 << 30


def _qkv(stage: int) -> str:
    return f"layers.{stage}.blocks.0.attn.qkv.weight"


class TinyEncoder(torch.nn.Module):
    """timm's TinyViT without its classifier, and segment-anything's neck."""

    img_size = MOBILE_SIZE

    def __init__(self, trunk: torch.nn.Module, channels: int):
        super().__init__()
        with explained("segment_anything"):
            from segment_anything.modeling.common import LayerNorm2d
        self.patch_embed = trunk.patch_embed
        self.stages = trunk.stages
        self.neck = torch.nn.Sequential(
            torch.nn.Conv2d(trunk.num_features, channels, 1, bias=False),
            LayerNorm2d(channels),
            torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            LayerNorm2d(channels),
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.neck(self.stages(self.patch_embed(pixels)))


CLASSIFIER = ("image_encoder.norm_head.", "image_encoder.head.")
"""Tensors of MobileSAM's encoder that it does not use."""


def timm_name(name: str) -> str:
    """The name that timm's TinyViT has for a tensor of MobileSAM's.

    timm counts the layer that makes the grid coarser to the stage after it.
    """
    encoder, _, rest = name.partition(".")
    if encoder != "image_encoder":
        return name
    parts = rest.replace("patch_embed.seq.0.", "patch_embed.conv1.").replace("patch_embed.seq.2.", "patch_embed.conv2.")
    parts = ["conv" if part == "c" else part for part in parts.split(".")]
    if parts[0] == "layers":
        parts[:2] = ["stages", str(int(parts[1]) + (parts[2] == "downsample"))]
    return ".".join((encoder, *parts))


def _with_decoder(encoder: torch.nn.Module, weights: Weights, grid: int) -> torch.nn.Module:
    """The whole of Segment Anything around an image encoder; the decoder is the same in all published models."""
    with explained("segment_anything"):
        from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
    dim = weights["prompt_encoder.no_mask_embed.weight"].shape[1]
    with torch.device("meta"):
        prompt_encoder = PromptEncoder(
            embed_dim=dim,
            image_embedding_size=(grid, grid),
            input_image_size=(encoder.img_size, encoder.img_size),
            mask_in_chans=16,
        )
        mask_decoder = MaskDecoder(
            transformer_dim=dim,
            transformer=TwoWayTransformer(depth=2, embedding_dim=dim, mlp_dim=2048, num_heads=8),
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        )
    return Sam(encoder, prompt_encoder, mask_decoder)


def _count(weights: Weights, prefix: str) -> int:
    """How many numbered parts there are under a prefix."""
    return len({name[len(prefix) :].split(".")[0] for name in weights if name.startswith(prefix)})
