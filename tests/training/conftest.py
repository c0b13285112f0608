"""Small trainings: samples of random pictures for the tiny models."""

import shutil

import pytest
import torch


@pytest.fixture(autouse=True)
def nothing_trained_by_others(comfy):
    """Each test has the names of all LoRAs to itself."""
    yield
    for folder in (comfy.base / "models" / "loras", comfy.base / "output" / "semantic_binding_training"):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def samples_of(part):
    """``samples_of("sd1")``: four samples of random latents and contexts, each with two nouns."""

    def made(layout="sd1", size=64, seed=0):
        chance = torch.Generator().manual_seed(seed)
        width, vector = {"sd1": (32, 0), "sd2": (64, 0), "sdxl": (96, 64 + 6 * 256)}[layout]
        masks = torch.zeros(2, size, size, dtype=torch.bool)
        masks[0, :, : size // 2] = True
        masks[1, : size // 2] = True
        return [
            part("training.prepare").Sample(
                latent=torch.randn(4, size // 8, size // 8, generator=chance),
                context=torch.randn(77, width, generator=chance),
                vector=torch.randn(vector, generator=chance) if vector else None,
                nouns=part("training.grounding").Nouns(((2,), (5, 6)), masks),
                caption=f"caption {number}",
            )
            for number in range(4)
        ]

    return made


@pytest.fixture
def settings_of(part):
    """Settings of a short training; changes by name."""

    def made(name="trained", **changes):
        lora = part("training.lora").LoRASettings(rank=4, alpha=4.0, targets="attention")
        optimisation = part("training.loop").Optimisation(rate=1e-2)
        chosen = {
            "lora": lora,
            "optimisation": optimisation,
            "steps": 4,
            "batch": 2,
            "accumulate": 1,
            "seed": 1,
            "checkpointing": False,
            "save_every": 0,
            "preview_every": 0,
        }
        return part("training.session").Settings(name=name, **chosen | changes)

    return made
