"""What tests of judges have: small random ones, in the folder that judges are looked for in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import tiny_judges


@pytest.fixture(scope="session")
def judges_folder(comfy) -> Path:
    """models/judges with one of each kind, and folders of something else."""
    folder = comfy.base / "models" / "judges"
    for name in ("blip", "qwen", "paligemma", "clip", "siglip"):
        getattr(tiny_judges, f"write_{name}")(folder / name)
    (folder / "captions").mkdir()
    told = {"architectures": ["BlipForConditionalGeneration"], "vision_config": {}}
    (folder / "captions" / "config.json").write_text(json.dumps(told), "utf-8")
    (folder / "original").mkdir()
    (folder / "original" / "model_base_vqa_capfilt_large.pth").touch()
    return folder


@pytest.fixture
def judge_files(part):
    return part("evaluation.judges.judge_files")


@pytest.fixture
def load_judge(judge_files, judges_folder):
    """``load_judge("blip")``: as a node loads it, within inference mode."""

    def load(name):
        with torch.inference_mode():
            return judge_files.load(name, False)

    return load


@pytest.fixture(scope="session")
def noise() -> torch.Tensor:
    """Two pictures that are no squares."""
    return torch.rand(2, 40, 56, 3, generator=torch.Generator().manual_seed(0))
