"""The benchmarks of masks: their arithmetic, and the workflows that draw twice."""

import json
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from clone import BENCHMARKS


def test_overlap_of_masks_and_things(benchmark):
    masks, things = np.zeros((2, 2, 4), bool), np.zeros((2, 2, 4), bool)
    masks[0, :, :2] = masks[1, 0] = things[0, :, 1:] = True
    found = benchmark("masks").overlap(masks, things)
    assert found.tolist() == [[2 / 8, 0.0], [3 / 7, 0.0]]


def test_scores_by_shape_and_as_suits_best(benchmark):
    masks, scored = benchmark("masks"), np.zeros((2, 2, 4), bool)
    scored[0, :, :2] = scored[1, :, 2:] = True
    things = [SimpleNamespace(shape="star", mask=scored[1]), SimpleNamespace(shape="heart", mask=scored[0])]
    assert masks.scores(scored, things, ["heart", "star"], right=True) == (1.0, 1.0)
    assert masks.scores(scored, things, ["star", "heart"], right=True) == (0.0, 1.0)
    own, best = masks.scores(scored, things, ["star", "heart"], right=False)
    assert math.isnan(own) and best == 1.0


@pytest.mark.slow
def test_drawing_twice_for_real(tmp_path):
    """Four images each: all workflows but the one with SAM, which is slow, make other images than plain."""
    names = ["plain", "draft, masks from attention", "draft, outlines of the shapes", "masks from the first steps"]
    command = [sys.executable, BENCHMARKS / "binding.py", "--sets", "two_swap", "--workflows", *names]
    options = ["--images", "4", "--steps", "6", "--workers", "1", "--kept", tmp_path, "--tables", tmp_path / "masks"]
    subprocess.run([*command, *options], check=True)
    rows = json.loads((tmp_path / "masks.json").read_text())["rows"]
    assert [(row["workflow"], row["n"]) for row in rows] == [(name, 4) for name in names]
    assert all(row["identical_to_plain"] == 0.0 for row in rows[1:])
    kept = [json.loads(line) for path in tmp_path.glob("*/*.jsonl") for line in path.read_text().splitlines()]
    assert len({row["latent"] for row in kept}) == 16


@pytest.mark.slow
def test_going_on_with_the_first_steps_is_the_whole_run(tmp_path):
    """What the workflow "masks from the first steps" builds on: without masks it gives the plain images."""
    program = """
import sys
sys.path.insert(0, sys.argv[1])
import host
host.start_comfyui("--cpu")
import torch
from dataclasses import replace
from laboratory import Job, Laboratory, Sampling

def halved(workflow):
    latents, _ = workflow.draft(workflow, 3)
    return replace(workflow, begun=(latents, 3))

with torch.inference_mode():
    sampling = Sampling(6, 5.0, "euler", "normal", "")
    laboratory = Laboratory(sampling, {"plain": lambda workflow: workflow, "halved": halved})
    text = host.part("evaluation.prompts").draw_prompts("two_swap", 1)[0].text
    plain, halves = (laboratory.images(Job("two_swap", text, (0, 1)), name)[0] for name in ("plain", "halved"))
    assert (plain - halves).abs().max() < 1e-4 * plain.abs().max(), (plain - halves).abs().max()
"""
    subprocess.run([sys.executable, "-c", program, BENCHMARKS], check=True)
