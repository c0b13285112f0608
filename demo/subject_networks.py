"""The networks of the demo subject adapter: ComfyUI's CLIP vision tower in a small size, and FastComposer's fusion."""

from __future__ import annotations

import torch
from torch import nn

from ..subjects.preprocess import DEVIATION, MEAN
from ..world.subjects import REFERENCE_SIZE
from .architecture import TEXT_CONFIG

VISION_HEADS = 4
VISION_CONFIG = {
    "hidden_size": 128,
    "image_size": REFERENCE_SIZE,
    "intermediate_size": 512,
    "num_attention_heads": VISION_HEADS,
    "num_channels": 3,
    "num_hidden_layers": 4,
    "patch_size": 8,
    "projection_dim": TEXT_CONFIG["hidden_size"],
    "hidden_act": "quick_gelu",
    "model_type": "clip_vision_model",
}


class SubjectEncoder(nn.Module):
    """Pictures of subjects ``(B, 3, 64, 64)`` in 0..1 to embeddings ``(B, 128)``, as the node computes them."""

    def __init__(self):
        super().__init__()
        import comfy.ops
        from comfy.clip_model import CLIPVisionModelProjection

        self.clip = CLIPVisionModelProjection(VISION_CONFIG, torch.float32, "cpu", comfy.ops.disable_weight_init)
        for layer in self.clip.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.LayerNorm):
                nn.init.ones_(layer.weight)
                nn.init.zeros_(layer.bias)
        tower = self.clip.vision_model
        nn.init.normal_(tower.embeddings.class_embedding, std=0.5)
        nn.init.normal_(tower.embeddings.position_embedding.weight, std=0.5)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        from comfy.ldm.modules.attention import attention_basic

        mean, deviation = (pictures.new_tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
        tower = self.clip.vision_model
        hidden = tower.pre_layrnorm(tower.embeddings((pictures - mean) / deviation))
        for layer in tower.encoder.layers:  # ComfyUI's own loop adds in place, which training cannot do
            hidden = hidden + layer.self_attn(layer.layer_norm1(hidden), None, attention_basic)
            hidden = hidden + layer.mlp(layer.layer_norm2(hidden))
        return self.clip.visual_projection(tower.post_layernorm(hidden[:, 0]))
