"""Small random judges in the folder layout of transformers: BLIP, vision language models, CLIP and SigLIP."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from clone import headless

WORDS = "yes no is are the a there red blue black cat dog two hat book wearing ? ##s".split()
BERT_SPECIAL = "[PAD] [UNK] [CLS] [SEP] [MASK]".split()
SIZE = 32
LAYERS = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_blip(folder: Path, words: list[str] = WORDS) -> None:
    """As the published ones, the network has two more tokens than the tokenizer: [DEC] and [ENC]."""
    from transformers import BertTokenizer, BlipConfig, BlipForQuestionAnswering, BlipImageProcessor, BlipProcessor

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = [*BERT_SPECIAL, *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", "utf-8")
    start = len(vocabulary)
    text = {"vocab_size": start + 2, "max_position_embeddings": 24, "bos_token_id": start}
    text |= {"sep_token_id": 3, "pad_token_id": 0, "eos_token_id": 3}
    config = BlipConfig(
        text_config={**LAYERS, **text},
        vision_config={**LAYERS, "image_size": SIZE, "patch_size": 8},
        projection_dim=16,
    )
    _spread(BlipForQuestionAnswering, config).save_pretrained(folder)
    images = BlipImageProcessor(size={"height": SIZE, "width": SIZE})
    BlipProcessor(images, BertTokenizer(str(folder / "vocab.txt"))).save_pretrained(folder)


def write_qwen(folder: Path, chat_template: str | None = CHAT) -> None:
    """Qwen2.5-VL with its real tokenizer, which ComfyUI has."""
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2Tokenizer,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = Qwen2Tokenizer.from_pretrained(
        headless.comfyui_folder() / "comfy" / "text_encoders" / "qwen25_tokenizer"
    )
    tokenizer.chat_template = None
    special = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{name}_pad|>") for name in ("image", "video")}
    special |= {
        f"vision_{side}_token_id": tokenizer.convert_tokens_to_ids(f"<|vision_{side}|>") for side in ("start", "end")
    }
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1000000.0}
    config = Qwen2_5_VLConfig(
        text_config={
            **LAYERS,
            "vocab_size": len(tokenizer),
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "rope_parameters": rope,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "depth": 2,
            "num_heads": 2,
            "out_hidden_size": 16,
            "fullatt_block_indexes": [1],
        },
        **special,
    )
    _spread(Qwen2_5_VLForConditionalGeneration, config).save_pretrained(folder)
    sizes = {"min_pixels": 56 * 56, "max_pixels": 112 * 112}
    images, video = Qwen2VLImageProcessor(**sizes), Qwen2VLVideoProcessor(**sizes)
    Qwen2_5_VLProcessor(images, tokenizer, video, chat_template=chat_template).save_pretrained(folder)


def write_paligemma(folder: Path) -> None:
    from transformers import (
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessor,
    )

    tokenizer = _gemma_tokenizer()
    images = SiglipImageProcessor(size={"height": SIZE, "width": SIZE})
    images.image_seq_length = (SIZE // 8) ** 2
    processor = PaliGemmaProcessor(images, tokenizer)
    config = PaliGemmaConfig(
        text_config={
            **LAYERS,
            "model_type": "gemma",
            "vocab_size": len(tokenizer),
            "num_key_value_heads": 1,
            "head_dim": 8,
            "pad_token_id": 0,
        },
        vision_config={
            **LAYERS,
            "model_type": "siglip_vision_model",
            "image_size": SIZE,
            "patch_size": 8,
            "vision_use_head": False,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=16,
        hidden_size=16,
    )
    _spread(PaliGemmaForConditionalGeneration, config).save_pretrained(folder)
    processor.save_pretrained(folder)


def write_clip(folder: Path) -> None:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = ["!", *letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: place for place, piece in enumerate(vocabulary)}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    last = len(vocabulary) - 1
    text = {"vocab_size": len(vocabulary), "bos_token_id": last - 1, "eos_token_id": last, "pad_token_id": last}
    config = CLIPConfig(
        text_config={**LAYERS, **text, "max_position_embeddings": 77},
        vision_config={**LAYERS, "image_size": SIZE, "patch_size": 8},
        projection_dim=16,
    )
    _spread(CLIPModel, config).save_pretrained(folder)
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)
    images = CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    CLIPProcessor(images, tokenizer).save_pretrained(folder)


def write_siglip(folder: Path) -> None:
    """SigLIP 2, which has Gemma's tokenizer."""
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor

    tokenizer = _gemma_tokenizer()
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "projection_size": 16}
    config = SiglipConfig(text_config={**LAYERS, **text}, vision_config={**LAYERS, "image_size": SIZE, "patch_size": 8})
    _spread(SiglipModel, config).save_pretrained(folder)
    images = SiglipImageProcessor(size={"height": SIZE, "width": SIZE})
    SiglipProcessor(images, tokenizer).save_pretrained(folder)


def _gemma_tokenizer():
    from transformers import GemmaTokenizer

    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    merges = [("y", "e"), ("ye", "s"), ("n", "o"), ("\u2581", "yes"), ("\u2581", "no")]
    pieces = ["\u2581", *map(chr, range(ord("a"), ord("z") + 1)), "?", "\n", *(left + right for left, right in merges)]
    return GemmaTokenizer(vocab={piece: place for place, piece in enumerate([*special, *pieces])}, merges=merges)


def _spread(model_class: type, config) -> torch.nn.Module:
    """Weights large enough that pictures and words matter."""
    torch.manual_seed(0)
    module = model_class(config)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.dim() > 1:
                weight.copy_(torch.randn_like(weight) * 0.3)
    return module.eval()
