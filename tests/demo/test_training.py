"""The demo model's training: every stage runs, on little data for a few steps, and gives a file that loads."""

import pytest
import torch


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_stages_lead_to_a_file_that_loads(part, tmp_path, monkeypatch, dtype):
    ranks, computing = part("demo.parallel").Ranks(0, 1), part("demo.computing").named("cpu", dtype)
    latents, text = part("demo.train_latents"), part("demo.train_text")
    monkeypatch.setattr(latents, "SCENES", 24)
    monkeypatch.setattr(latents, "EXCHANGED_SCENES", 4)
    monkeypatch.setattr(text, "SCENES", 8)
    monkeypatch.setattr(part("demo.train_unet"), "TEXT_FROM", 0.0)
    monkeypatch.setattr(part("demo.train_unet"), "BATCH", 4)
    with torch.inference_mode(False), torch.enable_grad():
        for stage in ("train_vae", "train_latents", "train_text", "train_unet", "export"):
            # The text encoder's rate rises from 0, so that it takes some steps of the UNet to move it.
            seconds = 8.0 if stage == "train_unet" else 2.0
            part(f"demo.{stage}").train(ranks, computing, tmp_path, seconds)

    cached = torch.load(tmp_path / "latents.0.pt", weights_only=True)
    assert cached["latents"].shape == (28, 4, 16, 16)
    favourite = part("world.names").FAVOURITE_COLOUR
    for first, second in cached["things"][-4:]:
        assert (first[1], second[1]) == (favourite[second[0]], favourite[first[0]])

    trained = torch.load(tmp_path / "unet.pt", weights_only=True)
    before = torch.load(tmp_path / "text.pt", weights_only=True)
    moved = [name for name, value in before.items() if not torch.equal(trained[f"text.{name}"], value)]
    assert moved, "the text encoder is trained along in the last part"

    model = part("demo.loader").load_model(tmp_path / "model.safetensors")
    loaded = model.model.diffusion_model.state_dict()["out.2.weight"]
    assert torch.allclose(loaded.float(), trained["unet.out.2.weight"], atol=1e-2)


def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(part, tmp_path):
    checkpoint_file = part("demo.progress").Checkpoint
    given = torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(1))

    def stage():
        torch.manual_seed(0)
        model, scale = torch.nn.Linear(4, 2), torch.nn.Parameter(torch.ones(()))
        optimisers = (torch.optim.AdamW(model.parameters(), 0.1), torch.optim.AdamW([scale], 0.1))
        parts = {"model": model, "scales": {"scale": scale}, "optimisers": optimisers}
        return parts, checkpoint_file(tmp_path / "stage.checkpoint.pt", **parts)

    def train(parts, batch):
        (parts["scales"]["scale"] * parts["model"](batch)).square().mean().backward()
        for optimiser in parts["optimisers"]:
            optimiser.step()
            optimiser.zero_grad()

    with torch.inference_mode(False), torch.enable_grad():
        parts, checkpoint = stage()
        assert checkpoint.restore() == (0, 0.0)
        train(parts, given[0].clone())
        train(parts, given[1].clone())
        checkpoint.save(2, 1.5)
        train(parts, given[2].clone())
        others, checkpoint = stage()
        assert checkpoint.restore() == (2, 1.5)
        train(others, given[2].clone())
    assert torch.equal(others["model"].weight, parts["model"].weight)
    assert torch.equal(others["scales"]["scale"], parts["scales"]["scale"])
