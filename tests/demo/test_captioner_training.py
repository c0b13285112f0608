"""The captioner's training: every stage runs, on little data for seconds, goes on, and gives a folder that loads."""

import numpy as np
import pytest
import torch


@pytest.fixture
def ranks(part):
    return part("demo.parallel").Ranks(0, 1)


@pytest.fixture
def cpu(part):
    return part("demo.computing").named("cpu", "float32")


@pytest.mark.slow
def test_the_stages_lead_to_a_folder_that_is_measured(part, comfy, tmp_path, monkeypatch, ranks, cpu):
    from transformers import BlipForConditionalGeneration

    pictures, network, measure = (
        part(f"demo.{name}") for name in ("train_captioner_pictures", "train_captioner_network", "measure_captioner")
    )
    monkeypatch.setattr(pictures, "SCENES", 8)
    monkeypatch.setattr(network, "SCENES", 4)
    for name, value in (("PAIRS", 4), ("DRAWN", 4), ("CHUNK", 4), ("DRAWN_SETS", ("single_fav",))):
        monkeypatch.setattr(measure, name, value)
    with torch.inference_mode(False), torch.enable_grad():
        for stage in ("train_captioner_pictures", "train_captioner_network", "export_captioner", "measure_captioner"):
            part(f"demo.{stage}").train(ranks, cpu, tmp_path, 2.0)

    kept = torch.load(tmp_path / "pictures.0.pt", weights_only=True)
    assert kept["pictures"].shape == (8, 3, 96, 96) and len(kept["things"]) == 8
    trained = torch.load(tmp_path / "captioner.pt", weights_only=True)
    loaded = BlipForConditionalGeneration.from_pretrained(tmp_path / "captioner", local_files_only=True).state_dict()
    assert loaded.keys() == trained.keys()
    assert all(torch.equal(loaded[name].half(), value.half()) for name, value in trained.items())
    tables = (tmp_path / "captioner-figures.md").read_text("utf-8")
    assert tables.count("| 4 |") == 7, "three kinds of near misses in two kinds of pictures, and one set of prompts"


@pytest.mark.slow
def test_the_captioner_goes_on_from_its_checkpoint(part, comfy, tmp_path, monkeypatch, ranks, cpu, caplog):
    pictures, network = part("demo.train_captioner_pictures"), part("demo.train_captioner_network")
    progress = part("demo.progress")
    monkeypatch.setattr(pictures, "SCENES", 4)
    monkeypatch.setattr(network, "SCENES", 2)
    saved = []

    class Kept(progress.Checkpoint):
        def restore(self):
            saved.append(super().restore())
            return saved[-1]

    monkeypatch.setattr(network, "Checkpoint", Kept)
    monkeypatch.setattr(network, "SAVE_EVERY", 2)
    with torch.inference_mode(False), torch.enable_grad():
        pictures.train(ranks, cpu, tmp_path, 0.0)
        for _ in range(2):
            network.train(ranks, cpu, tmp_path, 3.0)
            (tmp_path / "captioner.pt").unlink()
    (first, second) = saved
    assert first == (0, 0.0)
    assert second[0] >= 2 and 0.0 < second[1] <= 3.5


def test_patches_without_things_do_not_count(part):
    network = part("demo.train_captioner_network")
    generator = torch.Generator().manual_seed(0)
    answers = torch.randn(1, 3, sum(network.ANSWERS), generator=generator)
    content = torch.tensor([[[-1, 2, 5], [-1, 0, 3], [-1, 2, 1]]])

    def lost(logits, right) -> float:
        return -torch.log_softmax(logits.double(), 0)[right].item()

    expected = 0.0
    for place, (start, end) in enumerate(((0, 6), (6, 12), (12, 15))):
        expected += sum(lost(answers[0, patch, start:end], content[0, place, patch]) for patch in (1, 2)) / 2
    assert network.patch_loss(answers, content).item() == pytest.approx(expected, rel=1e-5)


def test_words_are_hidden_from_what_goes_on_and_never_from_the_prefix(part):
    network, names = part("demo.train_captioner_network"), part("demo.captioner_network")
    ids, labels = torch.full((50, 20), 9), torch.full((50, 20), 9)
    labels[:, :4] = names.IGNORED
    hidden = network.hidden(np.random.default_rng(0), ids, labels)
    unknown = names.VOCABULARY.index(names.UNKNOWN)
    assert set(hidden.unique().tolist()) == {9, unknown}
    assert (hidden[:, :4] == 9).all()
    assert 0.03 < (hidden[:, 4:] == unknown).float().mean() < 0.07
    assert (ids == 9).all()
