"""Training the adapter of the demo model: batches, losses on attention, and its stages."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from injecting import triangles


@pytest.fixture(scope="module")
def world(part):
    return part("world.subjects")


def test_subjects_in_a_batch(part, world):
    """Rows are those of nouns; a subject has a picture where neither the caption nor the picture was left out."""
    training, text = part("demo.train_subject_adapter"), part("demo.text")
    rng = np.random.default_rng(0)
    drawn = [world.sample_scene(rng) for _ in range(600)]
    scenes = SimpleNamespace(things=[each.things for each in drawn], subjects=[each.subjects for each in drawn])
    batch = training.Batch(rng, scenes, np.arange(600))
    subjects = torch.tensor(
        [[place < len(each) and each[place] is not None for place in (0, 1)] for each in scenes.subjects]
    )
    given = batch.valid.bool()
    assert batch.pictures.shape == (given.sum(), 3, 64, 64)
    assert not (given & ~subjects).any()
    share, expected = float(given.sum() / subjects.sum()), 0.9 * 0.88
    assert abs(share - expected) < 4 * (expected * (1 - expected) / 600) ** 0.5
    for item, place in given.nonzero().tolist():
        words = text.words_of(batch.captions[item])
        assert words[int(batch.rows[item, place]) - 1] == scenes.things[item][place].shape


def test_balanced_attention(part):
    """methods.md, C.9.1."""
    balanced = part("demo.subject_losses").balanced
    attention = torch.tensor([0.1, 0.2, 0.3, 0.4])
    assert balanced(attention, torch.tensor([0.0, 0.0, 1.0, 1.0])).item() == pytest.approx(-0.199999, abs=1e-6)
    soft = torch.tensor([0.25, 0.75, 1.0, 0.0])
    assert balanced(attention, soft).item() == pytest.approx(0.025, abs=1e-5)
    assert balanced(attention / 0.4, torch.tensor([0.0, 0.0, 1.0, 1.0])).item() == pytest.approx(-0.499998, abs=2e-5)


def test_localisation_loss_entry_by_entry(part):
    losses = part("demo.subject_losses")
    generator = torch.Generator().manual_seed(0)
    seen = [torch.rand(2, 3, cells, 2, generator=generator) for cells in (256, 64, 16)]
    masks = torch.rand(2, 2, 16, 16, generator=generator)
    valid = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    layers = []
    for attention in seen[:2]:
        side = int(attention.shape[2] ** 0.5)
        found = []
        for item, subject in ((0, 0), (1, 0), (1, 1)):
            along = triangles(16, side)
            mask = (along @ masks[item, subject].double() @ along.T).flatten()
            heads = []
            for head in range(3):
                values = attention[item, head, :, subject]
                on = sum(float(v * m) for v, m in zip(values, mask, strict=True)) / (float(mask.sum()) + 1e-5)
                off = sum(float(v * (1 - m)) for v, m in zip(values, mask, strict=True))
                heads.append(off / (float((1 - mask).sum()) + 1e-5) - on)
            found.append(sum(heads) / 3)
        layers.append(sum(found) / 3)
    assert losses.localisation_loss(seen, masks, valid).item() == pytest.approx(sum(layers) / 2, abs=1e-6)


def test_watched_attention_is_attention(part):
    watched_class = part("demo.subject_losses").WatchedAttention
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, n, 32, generator=generator) for n in (9, 77, 77))
    watched = watched_class(torch.tensor([[3, 5], [1, 0]]), 77)
    heads = [each.unflatten(-1, (4, 8)).transpose(1, 2) for each in (q, k, v)]
    expected = torch.nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    assert torch.allclose(watched(None, q, k, v, 4), expected, atol=1e-6)
    weights = (heads[0] @ heads[1].transpose(-1, -2) / 8**0.5).softmax(-1)
    assert torch.allclose(watched.seen[0][1, :, :, 0], weights[1, :, :, 1])
    watched(None, q, q, q, 4)
    assert len(watched.seen) == 1, "self-attention is not kept"


@pytest.mark.slow
def test_the_stages_lead_to_an_adapter_that_loads(part, comfy, tmp_path, monkeypatch):
    ranks, computing = part("demo.parallel").Ranks(0, 1), part("demo.computing").named("cpu", "float32")
    scenes = part("demo.train_subject_scenes")
    monkeypatch.setattr(scenes, "SCENES", 25)
    monkeypatch.setattr(part("demo.averaging"), "SAVE_EVERY", 1)
    stages = ("train_subject_scenes", "train_subject_encoder", "train_subject_adapter", "export_subjects")
    with torch.inference_mode(False), torch.enable_grad():
        for stage in stages:
            part(f"demo.{stage}").train(ranks, computing, tmp_path, 3.0)
    trained = torch.load(tmp_path / "adapter.pt", weights_only=True)
    before = part("demo.train_subject_adapter").trained_unet().state_dict()
    moved = [name for name, value in before.items() if not torch.equal(trained[f"unet.{name}"], value)]
    assert len(moved) > 0.9 * len(before)
    encoder = torch.load(tmp_path / "encoder.pt", weights_only=True)
    kept = {name: value for name, value in trained.items() if name.startswith("image_encoder.")}
    assert kept
    for name, value in kept.items():
        assert torch.equal(value, encoder[name.replace("image_encoder.", "clip.")]), name
    checkpoint = part("subjects.checkpoint")
    read = checkpoint.read(tmp_path / "subjects.safetensors")
    adapter = part("subjects.adapter").build(read, "subjects")
    assert adapter.width == 128 and not read.unknown
    model = part("subjects.unet").with_unet(part("demo.loader").load_model(), read, adapter.width)
    assert len(model.patches) == len(before)

    before_going_on = torch.load(tmp_path / "adapter.checkpoint.pt", weights_only=True)
    (tmp_path / "adapter.pt").unlink()
    with torch.inference_mode(False), torch.enable_grad():
        part("demo.train_subject_adapter").train(ranks, computing, tmp_path, before_going_on["spent"] + 3.0)
    after = torch.load(tmp_path / "adapter.checkpoint.pt", weights_only=True)
    assert after["step"] > before_going_on["step"] and after["spent"] > before_going_on["spent"] + 2.0
    assert (tmp_path / "adapter.pt").exists()
