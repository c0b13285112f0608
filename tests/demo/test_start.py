"""Training that goes on from the networks of a release, and the tables of what was measured."""

import sys

import pytest
import torch


@pytest.fixture
def ranks(part):
    return part("demo.parallel").Ranks(0, 1)


@pytest.fixture
def cpu(part):
    return part("demo.computing").named("cpu", "float32")


def test_a_release_comes_apart_and_together_again(part, comfy, tmp_path, ranks, cpu):
    from safetensors.torch import load_file

    program, weights = part("demo.train"), part("demo.loader").WEIGHTS
    assert program.take_start(weights, tmp_path)
    assert program.take_start(weights, tmp_path), "the command is given again"
    part("demo.start").train(ranks, cpu, tmp_path, 0.0)
    unet, text = (torch.load(tmp_path / name, weights_only=True) for name in ("unet.start.pt", "text.pt"))
    trained = {f"unet.{name}": value for name, value in unet.items()}
    torch.save(trained | {f"text.{name}": value for name, value in text.items()}, tmp_path / "unet.pt")
    part("demo.export").train(ranks, cpu, tmp_path, 0.0)
    before, after = load_file(weights), load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_folder_with_another_training_is_refused(part, tmp_path):
    program, weights = part("demo.train"), part("demo.loader").WEIGHTS
    (tmp_path / "vae.pt").touch()
    assert not program.take_start(weights, tmp_path)
    (tmp_path / "start.safetensors").write_bytes(b"another")
    assert not program.take_start(weights, tmp_path)


def test_other_words_are_refused(part, comfy, tmp_path, ranks, cpu):
    from safetensors.torch import load_file, save_file

    tensors = load_file(part("demo.loader").WEIGHTS)
    tensors[part("demo.architecture").TOKEN_IDS_KEY][0] += 1
    save_file(tensors, tmp_path / "start.safetensors")
    with pytest.raises(ValueError, match="has other words"):
        part("demo.start").train(ranks, cpu, tmp_path, 0.0)


def test_subjects_have_no_start(part, monkeypatch, tmp_path, capsys):
    program = part("demo.train")
    monkeypatch.setattr(program, "demo_module", lambda name: part(f"demo.{name}"))
    arguments = ["train.py", "--comfyui", "ComfyUI", "--out", str(tmp_path), "--start", "model.safetensors"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit):
        program.main("", {"scenes": program.Stage("train_subject_scenes")})
    assert "unrecognized arguments: --start" in capsys.readouterr().err


@pytest.mark.slow
def test_the_unet_goes_on_and_the_text_encoder_stays(part, comfy, tmp_path, monkeypatch, ranks, cpu):
    assert part("demo.train").take_start(part("demo.loader").WEIGHTS, tmp_path)
    monkeypatch.setattr(part("demo.train_latents"), "SCENES", 24)
    monkeypatch.setattr(part("demo.train_latents"), "EXCHANGED_SCENES", 0)
    with torch.inference_mode(False), torch.enable_grad():
        for stage in ("start", "train_vae", "train_latents", "train_text", "train_unet"):
            part(f"demo.{stage}").train(ranks, cpu, tmp_path, 1.0)
    after = torch.load(tmp_path / "unet.pt", weights_only=True)
    unet, text = (torch.load(tmp_path / name, weights_only=True) for name in ("unet.start.pt", "text.pt"))
    assert all(torch.equal(after[f"text.{key}"], value) for key, value in text.items())
    far = [(after[f"unet.{key}"] - value).norm() / value.norm().clamp(min=1e-3) for key, value in unet.items()]
    assert 0.0 < max(far) and sorted(far)[len(far) // 2] < 0.2


def test_scenes_of_each_count_have_their_share(part, monkeypatch):
    train_unet, thing = part("demo.train_unet"), part("world.scenes").Thing
    monkeypatch.setattr(train_unet, "UNUSUAL_WEIGHT", 4.0)
    monkeypatch.setattr(train_unet, "MARK_WEIGHTS", (3.0, 0.5))

    def scene(*marked_circles):
        return tuple(thing("circle", colour, mark, 0.0, 0.0, 1.0) for colour, mark in marked_circles)

    red, blue, usual, other = ("red", None), ("blue", None), ("red", "dot"), ("red", "bar")
    scenes = [
        scene(red),
        scene(blue),
        scene(usual),
        scene(other),
        scene(red, red),
        scene(blue, blue),
        scene(usual, other),
    ]
    probabilities = train_unet.scene_probabilities(scenes)
    shares = train_unet.COUNT_SHARES
    assert probabilities.sum() == pytest.approx(1.0)
    assert probabilities[:4].sum() / probabilities[4:].sum() == pytest.approx(shares[1] / shares[2])
    assert probabilities[1:4] / probabilities[0] == pytest.approx([4.0, 3.0, 0.5])
    assert probabilities[5:] / probabilities[4] == pytest.approx([16.0, 1.5])


def test_tables(part):
    def row(cell, verdict, present, marks, asked):
        common = {"right": float(verdict == "ok"), "drawn": ["red"]}
        return {"cell": cell, "verdict": verdict, "present": present, "marks": marks, "asked": asked, **common}

    rows = [
        row("three", "ok", 3, [], ["red", "blue", "green"]),
        row("three", "missing", 1, [], ["red", "blue", "green"]),
        row("two_marked", "swap", 2, ["exchanged", "exchanged"], ["red", "blue"]),
        row("two_marked", "wrong mark", 2, ["right", "missing"], ["red", "blue"]),
        row("merged", "ok", 1, [], ["red"]),
    ]
    verdicts, presence, marks = (
        part("demo.figures")
        .tables(rows, ["two_marked", "three", "merged", "none"], ["three", "two_marked"])
        .split("\n\n")
    )
    assert [line.split(" | ")[0] for line in verdicts.splitlines()[2:]] == ["| two_marked", "| three", "| merged"]
    assert "| three | 2 | 0.500 ± 0.500 | 0.500 | missing 0.500 |" in verdicts
    assert presence.splitlines()[2:] == [
        "| two_marked | 2 | 1.000 ± 0.000 | 1.000 ± 0.000 | 1.000 ± 0.000 |  |",
        "| three | 2 | 0.667 ± 0.333 | 1.000 ± 0.000 | 0.500 ± 0.500 | 0.500 ± 0.500 |",
    ]
    assert marks.splitlines()[2:] == ["| two_marked | 4 | 0.750 ± 0.250 | 0.250 | 0.500 | 0.000 | 0.250 | 0.000 |"]
