"""A small random BLIP in the folder layout of transformers."""

from __future__ import annotations

from pathlib import Path

import torch

WORDS = "a photography of the red blue cat dog and two hat ##s ##fish".split()
SPECIAL = "[PAD] [UNK] [CLS] [SEP] [MASK] [DEC]".split()
SIZE = 32


def write_captioner(folder: Path, class_name: str = "BlipForConditionalGeneration", size: int = SIZE) -> None:
    """``size`` of its pictures, in pixels."""
    import transformers
    from transformers import BertTokenizer, BlipConfig, BlipImageProcessor, BlipProcessor

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = [*SPECIAL, *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", "utf-8")
    layers = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": len(vocabulary), "max_position_embeddings": 24, "bos_token_id": SPECIAL.index("[DEC]")}
    text |= {"sep_token_id": SPECIAL.index("[SEP]"), "pad_token_id": 0, "eos_token_id": SPECIAL.index("[SEP]")}
    config = BlipConfig(
        text_config={**layers, **text},
        vision_config={**layers, "image_size": size, "patch_size": 8},
        projection_dim=16,
    )
    torch.manual_seed(0)
    module = getattr(transformers, class_name)(config)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.dim() > 1:
                weight.copy_(torch.randn_like(weight) * 0.3)
    module.save_pretrained(folder)
    images = BlipImageProcessor(size={"height": size, "width": size})
    BlipProcessor(images, BertTokenizer(str(folder / "vocab.txt"))).save_pretrained(folder)
