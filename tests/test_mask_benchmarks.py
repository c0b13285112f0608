"""The benchmarks of masks and subjects: their arithmetic, and the workflows that draw twice."""

import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """``benchmark("masks")``: a module of the benchmarks folder, found as its own scripts find it."""
    import importlib

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


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


def test_summary_of_subjects(benchmark):
    report, cases = benchmark("subject_report"), benchmark("subject_cases").CASES
    case = next(case for case in cases if case.name == "two subjects")
    rows = [
        {"identity": [True, True], "blending": [0.0, 0.1]},
        {"identity": [True, False], "blending": [0.5]},
        {"identity": [False, False], "blending": []},
    ]
    record = report.summarised(case, rows)
    assert (record["n"], record["identity"], record["both"]) == (3, 0.5, pytest.approx(1 / 3))
    assert record["identity_error"] == pytest.approx(np.std([1, 0.5, 0], ddof=1) / 3**0.5)
    assert record["blending"] == pytest.approx((0.05 + 0.5) / 2)
    assert math.isnan(record["adherence"])


def test_paired_differences_of_subjects(benchmark):
    """Blending counts where both cases have the shapes."""
    report, compared = benchmark("subject_report"), benchmark("subject_cases").COMPARED
    plain = [{"identity": [True, True], "blending": [0.5]}, {"identity": [False, True], "blending": [0.25]}]
    confined = [{"identity": [True, False], "blending": []}, {"identity": [False, False], "blending": [0.25]}]
    lines = report.pairs({"two subjects": plain, "two, localised by attention": confined}, compared)
    cells = "-0.500 ± 0.000 (n = 2) | -0.500 ± 0.500 (n = 2) |  (n = 1)"
    assert lines[2:] == [f"| two, localised by attention | two subjects | {cells} |"]


def test_chart_of_delays_shows_every_picture(benchmark, tmp_path):
    from PIL import Image

    report, cases = benchmark("subject_report"), benchmark("subject_cases")
    rates = {"identity": 0.5, "identity_error": 0.1, "adherence": 0.4, "adherence_error": 0.1}
    records = [{"case": case.name, **rates} for case in cases.CASES]
    beside = [case.name for case in cases.CASES if case.prompt == cases.BESIDE]
    colours = {name: (20 * number + 40, 10, 200) for number, name in enumerate(["reference 1", *beside])}
    shown = {(name, 0): np.full((8, 8, 3), colour, np.float32) / 255 for name, colour in colours.items()}
    report.draw_delays(records, shown, cases.DELAYS, (0,), tmp_path / "chart.png")
    chart = np.asarray(Image.open(tmp_path / "chart.png").convert("RGB")).astype(int)
    for name, colour in colours.items():
        assert (np.abs(chart - colour).max(2) <= 1).sum() > 1000, name


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
