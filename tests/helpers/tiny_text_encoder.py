"""A small random Qwen3-VL, as transformers has it and as a CLIP of ComfyUI's with the same weights."""

from __future__ import annotations

from types import SimpleNamespace

import comfy.sd
import comfy.text_encoders.qwen3vl as qwen3vl
import comfy.utils
import torch

KIND = "qwen3vl_4b"
HIDDEN = 32
TEXT = {"hidden_size": HIDDEN, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {"hidden_size": 64, "intermediate_size": 64, "depth": 2, "deepstack_visual_indexes": [0, 1]}


def made(monkeypatch) -> SimpleNamespace:
    """``module`` of transformers and ``clip``. The sizes of the vision part are a table of ComfyUI's, which has others
    for as long as the test runs."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    rope = {"rope_type": "default", "mrope_section": [24, 20, 20], "mrope_interleaved": True, "rope_theta": 5000000.0}
    config = Qwen3VLConfig(
        text_config={
            **TEXT,
            "vocab_size": 151936,
            "num_key_value_heads": 2,
            "head_dim": 128,
            "rope_parameters": rope,
            "tie_word_embeddings": True,
        },
        vision_config={
            **VISION,
            "num_heads": 16,
            "patch_size": 16,
            "out_hidden_size": HIDDEN,
            "num_position_embeddings": 2304,
        },
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    module = Qwen3VLForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.dim() > 1:
                weight.copy_(torch.randn_like(weight) * (1.0 if "embed" in name else 0.3))
    monkeypatch.setitem(qwen3vl.QWEN3VL_VISION, KIND, VISION)
    sizes = {**TEXT, "num_key_value_heads": 2}
    target = SimpleNamespace(params={}, clip=qwen3vl.te(model_type=KIND), tokenizer=qwen3vl.tokenizer(model_type=KIND))
    clip = comfy.sd.CLIP(target, model_options={f"{KIND}_model_config": sizes, "dtype": torch.float32})
    prefixes = {"model.language_model.": "model.", "model.visual.": "visual."}
    weights = comfy.utils.state_dict_prefix_replace(dict(module.state_dict()), prefixes)
    weights.pop("lm_head.weight", None)
    missing, unexpected = clip.load_sd(weights)
    assert not unexpected and set(missing) <= {"logit_scale"}, (missing, unexpected)
    return SimpleNamespace(module=module, clip=clip)
