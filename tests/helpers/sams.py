"""Small random networks of Segment Anything's families, in the published formats."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import torch

SIZE = 128
"""Pixels of the square that the small models see."""
SMALL = {"img_size": SIZE, "embed_dim": 32, "depth": 3, "num_heads": 2, "window_size": 3, "global_attn_indexes": [1]}
HIERA = {
    "model_type": "sam2_hiera_det_model",
    "hidden_size": 8,
    "image_size": [SIZE, SIZE],
    "embed_dim_per_stage": [8, 16, 32, 64],
    "num_attention_heads_per_stage": [1, 2, 4, 8],
    "blocks_per_stage": [1, 1, 2, 1],
    "global_attention_blocks": [3],
}
SAM2_SIZES = {
    "vision_config": {
        "backbone_config": HIERA,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        "fpn_hidden_size": 32,
    },
    "prompt_encoder_config": {"hidden_size": 32, "image_size": SIZE},
    "mask_decoder_config": {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 32},
}


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """The module with all weights drawn anew, those that start at zero too."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(0, 0.2)
    return module.eval()


def small_vit() -> torch.nn.Module:
    """Segment Anything with a small image encoder, by its own package."""
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    encoder = ImageEncoderViT(**SMALL, norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), use_rel_pos=True)
    grid = SIZE // 16
    transformer = TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8)
    return randomised(
        Sam(
            encoder,
            PromptEncoder(256, (grid, grid), (SIZE, SIZE), mask_in_chans=16),
            MaskDecoder(transformer_dim=256, transformer=transformer),
        )
    )


def write_sam2(folder: Path, video: bool = False) -> None:
    """A small random SAM 2 as published for transformers: the config and weights may be the video model's."""
    from transformers import Sam2Config, Sam2Model, Sam2VideoConfig, Sam2VideoModel

    if video:
        sizes = dict.fromkeys(("memory_attention_hidden_size", "memory_encoder_hidden_size"), 32)
        sizes |= dict.fromkeys(("mask_downsampler_embed_dim", "memory_fuser_embed_dim"), 32)
        config = Sam2VideoConfig(**SAM2_SIZES, **sizes, memory_encoder_output_channels=16, image_size=SIZE)
        model = Sam2VideoModel(config)
    else:
        model = Sam2Model(Sam2Config(**SAM2_SIZES))
    randomised(model).save_pretrained(folder)
    side = {"height": SIZE, "width": SIZE}
    preprocessor = {"image_processor_type": "Sam2ImageProcessorFast", "size": side}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    processor = {"processor_class": "Sam2VideoProcessor", "target_size": SIZE, "point_pad_value": -10}
    (folder / "processor_config.json").write_text(json.dumps(processor))


def noise(height: int, width: int) -> torch.Tensor:
    """A picture ``(H, W, 3)`` of 8-bit colours in 0..1."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (height, width, 3), generator=generator) / 255
