"""Small random Qwen3-VL and Qwen2.5-VL, as transformers has them and as CLIPs of ComfyUI's with the same weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import comfy.sd
import comfy.text_encoders.qwen3vl as qwen3vl
import comfy.text_encoders.qwen_image as qwen_image
import comfy.text_encoders.qwen_vl as qwen_vl
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
    module = _random(Qwen3VLForConditionalGeneration(config))
    monkeypatch.setitem(qwen3vl.QWEN3VL_VISION, KIND, VISION)
    sizes = {**TEXT, "num_key_value_heads": 2}
    target = SimpleNamespace(params={}, clip=qwen3vl.te(model_type=KIND), tokenizer=qwen3vl.tokenizer(model_type=KIND))
    clip = comfy.sd.CLIP(target, model_options={f"{KIND}_model_config": sizes, "dtype": torch.float32})
    weights = _weights(module)
    weights.pop("lm_head.weight", None)
    missing, unexpected = clip.load_sd(weights)
    assert not unexpected and set(missing) <= {"logit_scale"}, (missing, unexpected)
    return SimpleNamespace(module=module, clip=clip)


def made_of_qwen_image(monkeypatch, file: Path) -> SimpleNamespace:
    """``module`` of transformers, ``clip``, and the ``file`` that ComfyUI's loader of text encoders read. What it makes
    of a file's weights is small here: it tells networks apart by their sizes."""
    from safetensors.torch import save_file
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    sizes = {"hidden_size": 256, "intermediate_size": 64, "num_hidden_layers": 2, **heads}
    rope = {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1000000.0}
    vision = {"hidden_size": 64, "intermediate_size": 64, "num_heads": 4}
    config = Qwen2_5_VLConfig(
        text_config={**sizes, "vocab_size": 152064, "rope_parameters": rope, "tie_word_embeddings": False},
        vision_config={**vision, "depth": 2, "out_hidden_size": 256},
        tie_word_embeddings=False,
    )
    module = _random(Qwen2_5_VLForConditionalGeneration(config))
    seeing = qwen_vl.Qwen2VLVisionTransformer
    small = {**vision, "num_layers": 2}
    monkeypatch.setattr(qwen_vl, "Qwen2VLVisionTransformer", lambda **given: seeing(**{**given, **small}))

    def of(weights, **_):
        target = SimpleNamespace(params={}, clip=qwen_image.te(), tokenizer=qwen_image.QwenImageTokenizer)
        clip = comfy.sd.CLIP(target, model_options={"qwen25_7b_model_config": sizes, "dtype": torch.float32})
        missing, unexpected = clip.load_sd(weights[0])
        assert unexpected == ["lm_head.weight"] and set(missing) <= {"logit_scale"}, (missing, unexpected)
        return clip

    monkeypatch.setattr(comfy.sd, "load_text_encoder_state_dicts", of)
    save_file({name: weight.contiguous() for name, weight in _weights(module).items()}, file)
    clip = comfy.sd.load_clip([str(file)], clip_type=comfy.sd.CLIPType.QWEN_IMAGE)
    return SimpleNamespace(module=module, clip=clip, file=file)


def _random(module: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.dim() > 1:
                weight.copy_(torch.randn_like(weight) * (1.0 if "embed" in name else 0.3))
    return module.eval()


def _weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """As ComfyUI's files have them."""
    prefixes = {"model.language_model.": "model.", "model.visual.": "visual."}
    return comfy.utils.state_dict_prefix_replace(dict(module.state_dict()), prefixes)
