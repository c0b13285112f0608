"""Training without a graph: one process and two, on the demo model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from PIL import Image, ImageDraw

from clone import ROOT, headless

SHORT = {
    "method": "tokencompose",
    "model": "demo",
    "size": 64,
    "steps": 2,
    "rank": 2,
    "alpha": 2,
    "learning_rate": 1e-3,
}


@pytest.fixture
def folder(tmp_path):
    """Three pictures with a masked shape each."""
    data = tmp_path / "data"
    for number, (colour, shape) in enumerate((("red", "circle"), ("blue", "square"), ("green", "circle"))):
        (data / str(number)).mkdir(parents=True)
        picture, mask = Image.new("RGB", (64, 64), "grey"), Image.new("L", (64, 64))
        for each, fill in ((picture, colour), (mask, "white")):
            draw = ImageDraw.Draw(each)
            (draw.ellipse if shape == "circle" else draw.rectangle)((8, 8, 34 + number, 34), fill=fill)
        picture.save(data / f"{number}.png")
        mask.save(data / str(number) / f"{shape}.png")
        (data / f"{number}.txt").write_text(f"a {colour} {shape}")
    return data


@pytest.fixture
def run(tmp_path):
    """``run(config, processes=1)``: what training/run.py did as a program, with its files in ``tmp_path``."""

    def made(config, processes=1, out="out"):
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config))
        many = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        command = [sys.executable, *(many if processes > 1 else []), str(ROOT / "training" / "run.py")]
        command += [str(path), "--out", str(tmp_path / out)]
        environment = {
            **os.environ,
            "COMFYUI_PATH": str(headless.comfyui_folder()),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300)

    return made


def weights(path):
    from safetensors.torch import load_file

    return load_file(path)


@pytest.mark.slow
def test_two_processes_make_what_one_makes_with_twice_the_batches(run, folder, tmp_path):
    """The one is given its command twice, and goes on."""
    config = {**SHORT, "data": str(folder), "name": "cats/small"}
    first = run({**config, "accumulate": 2, "steps": 1}, out="one")
    assert first.returncode == 0, first.stderr
    assert "3 masks for 3 nouns" in first.stdout and "step 1 of 1" in first.stdout
    done = run({**config, "accumulate": 2, "preview_prompts": ["a red circle"]}, out="one")
    assert done.returncode == 0, done.stderr
    assert "Goes on from step 1 of 2." in done.stdout
    path = tmp_path / "one" / "cats" / "small.safetensors"
    assert done.stdout.splitlines()[-1] == f"{path} is written: 2 steps."
    assert Image.open(tmp_path / "one" / "semantic_binding_training" / "cats" / "small" / "curves.png").height > 450
    both = run({**config, "accumulate": 1}, processes=2, out="two")
    assert both.returncode == 0, both.stderr
    losses = [re.findall("loss ([0-9.]+)", text) for text in (first.stdout + done.stdout, both.stdout)]
    assert losses[0] == losses[1] and len(losses[0]) == 8, "told by the first process only"
    one, two = weights(path), weights(tmp_path / "two" / "cats" / "small.safetensors")
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[key], two[key], atol=1e-5) for key in one)
    assert max(one[key].abs().max() for key in one if key.endswith("lora_up.weight")) > 1e-3


@pytest.mark.slow
def test_what_is_wrong_is_said_in_a_line(run, folder):
    done = run({**SHORT, "data": str(folder), "step": 2})
    assert done.returncode == 1 and done.stdout == ""
    assert re.match(r'run\.py: .*config\.json: "step" is unknown\. There are: "method"', done.stderr.splitlines()[-1])


def test_configurations_that_cannot_be(part, tmp_path):
    program, path = part("training.run"), tmp_path / "config.json"
    for text, told in (
        ("nothing", "cannot be read as JSON"),
        ("[]", '"method" is one of: tokencompose'),
        ('{"method": "dreambooth"}', '"method" is one of: tokencompose'),
        ('{"method": "tokencompose"}', '"model" is missing, "data" is missing. There are: "method"'),
        ('{"method": "comat"}', '"model" is missing, "prompts" is missing. There are: "method"'),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=told):
            program.read(path)
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        program.read(tmp_path / "none.json")
    with pytest.raises(ValueError, match='There is no file "none.safetensors". "model" is "demo" or'):
        program.load("none.safetensors")


@pytest.mark.parametrize(("changes", "told"), [({"data": "none"}, "no folder"), ({"size": 100}, "multiple of 64")])
def test_data_that_cannot_be(part, folder, changes, told):
    with pytest.raises(ValueError, match=told):
        part("training.tokencompose_task").from_options(
            {"data": str(folder), "size": 64, **changes}, *[None] * 3, print
        )
