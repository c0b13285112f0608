"""The demo model's training: every stage runs, on little data for a few steps, and gives a file that loads."""

import pytest
import torch


@pytest.mark.slow
def test_the_stages_lead_to_a_file_that_loads(part, tmp_path, monkeypatch):
    ranks = part("demo.parallel").Ranks(0, 1)
    latents, text = part("demo.train_latents"), part("demo.train_text")
    monkeypatch.setattr(latents, "SCENES", 24)
    monkeypatch.setattr(latents, "EXCHANGED_SCENES", 4)
    monkeypatch.setattr(text, "SCENES", 8)
    with torch.inference_mode(False), torch.enable_grad():
        for stage in ("train_vae", "train_latents", "train_text", "train_unet", "export"):
            part(f"demo.{stage}").train(ranks, tmp_path, 2.0)

    cached = torch.load(tmp_path / "latents.0.pt", weights_only=True)
    assert cached["latents"].shape == (28, 4, 16, 16)
    favourite = part("demo.architecture").FAVOURITE_COLOUR
    for first, second in cached["things"][-4:]:
        assert (first[1], second[1]) == (favourite[second[0]], favourite[first[0]])

    trained = torch.load(tmp_path / "unet.pt", weights_only=True)
    before = torch.load(tmp_path / "text.pt", weights_only=True)
    moved = [name for name, value in before.items() if not torch.equal(trained[f"text.{name}"], value)]
    assert moved, "the text encoder is trained along in the last part"

    model = part("demo.loader").load_model(tmp_path / "model.safetensors")
    loaded = model.model.diffusion_model.state_dict()["out.2.weight"]
    assert torch.allclose(loaded.float(), trained["unet.out.2.weight"], atol=1e-2)
