"""Small random detectors in the folder layout of transformers."""

from __future__ import annotations

import json
from pathlib import Path

import torch

WORDS = "a the and with black white red blue cat dog circle square hat wearing snow".split()
BERT_SPECIAL = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}
"""Grounding DINO has the ids of [CLS], [SEP], the full stop and the question mark in its code."""


def write_grounding_dino(folder: Path, kind: str = "GroundingDino", sides: tuple[int, int] = (64, 96)) -> None:
    """``kind`` is GroundingDino or MMGroundingDino."""
    import transformers
    from transformers import BertTokenizer, GroundingDinoImageProcessor, GroundingDinoProcessor

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = [BERT_SPECIAL.get(place, f"[unused{place}]") for place in range(1030)] + WORDS
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", "utf-8")
    config = getattr(transformers, f"{kind}Config")(
        backbone_config={
            "model_type": "swin",
            "image_size": 64,
            "embed_dim": 8,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 1, 2, 2],
            "window_size": 4,
            "out_indices": [2, 3, 4],
        },
        text_config={
            "model_type": "bert",
            "vocab_size": len(vocabulary),
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "max_position_embeddings": 64,
        },
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=12,
        max_text_len=64,
    )
    torch.manual_seed(0)
    _spread(getattr(transformers, f"{kind}ForObjectDetection")(config)).save_pretrained(folder)
    images = GroundingDinoImageProcessor(size=dict(zip(("shortest_edge", "longest_edge"), sides, strict=True)))
    GroundingDinoProcessor(images, BertTokenizer(str(folder / "vocab.txt"))).save_pretrained(folder)


def write_owl(folder: Path, kind: str = "Owlv2") -> None:
    """``kind`` is Owlv2 or OwlViT."""
    import transformers

    config, model, images, processor = (
        getattr(transformers, f"{kind}{part}")
        for part in ("Config", "ForObjectDetection", "ImageProcessor", "Processor")
    )
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = ["!", *letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: place for place, piece in enumerate(vocabulary)}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    layers = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    last = len(vocabulary) - 1
    text = {**layers, "vocab_size": len(vocabulary), "bos_token_id": last - 1, "eos_token_id": last, "pad_token_id": 0}
    sizes = config(
        text_config={**text, "max_position_embeddings": 16},
        vision_config={**layers, "image_size": 64, "patch_size": 16},
        projection_dim=16,
    )
    torch.manual_seed(0)
    _spread(model(sizes)).save_pretrained(folder)
    tokenizer = transformers.CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), pad_token="!", model_max_length=16
    )
    processor(images(size={"height": 64, "width": 64}), tokenizer).save_pretrained(folder)


def _spread(module: torch.nn.Module) -> torch.nn.Module:
    """Weights large enough that words and boxes differ."""
    with torch.no_grad():
        for weight in module.parameters():
            if weight.dim() > 1:
                weight.copy_(torch.randn_like(weight) * 0.3)
    return module
