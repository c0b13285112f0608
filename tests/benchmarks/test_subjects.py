"""The benchmarks of subjects: their arithmetic, chart and tables, and a small real run."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from clone import BENCHMARKS, ROOT


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
    lines, (record,) = report.pairs({"two subjects": plain, "two, localised by attention": confined}, compared)
    cells = "-0.500 ± 0.000 (n = 2) | -0.500 ± 0.500 (n = 2) |  (n = 1) | "
    assert lines[2:] == [f"| two, localised by attention | two subjects | {cells} |"]
    assert (record["case"], record["less"]) == ("two, localised by attention", "two subjects")
    assert (record["both"], record["both_error"], record["both_n"]) == (-0.5, 0.5, 2)


def test_identity_by_fill(benchmark):
    """Of one subject the second fill of the picture does not count, and two of one fill count as their mean."""
    report, cases = benchmark("subject_report"), {case.name: case for case in benchmark("subject_cases").CASES}
    one, two = cases["one subject"], cases["two subjects"]
    rows = {
        one.name: [{"identity": [True]}, {"identity": [False]}, {"identity": [True]}],
        two.name: [{"identity": [True, False]}, {"identity": [False, True]}, {"identity": [True, True]}],
    }
    fills = [["plain", "plain"], ["plain", "stripes"], ["stripes", "plain"]]
    assert report.by_fill([one, two], rows, fills)[2:] == [
        "| one subject | 0.500 ± 0.500 (n = 2) |  (n = 1) |",
        "| two subjects | 0.500 ± 0.289 (n = 3) | 1.000 ± 0.000 (n = 2) |",
    ]


def test_chart_of_delays_shows_every_picture(benchmark, tmp_path):
    from PIL import Image

    report, cases = benchmark("subject_report"), benchmark("subject_cases")
    rates = {"identity": 0.5, "identity_error": 0.1, "adherence": 0.4, "adherence_error": 0.1}
    records = [{"case": case.name, **rates} for case in cases.CASES]
    beside = [case.name for case in cases.CASES if case.prompt == cases.BESIDE and not case.adapted]
    colours = {name: (20 * number + 40, 10, 200) for number, name in enumerate(["reference 1", *beside])}
    shown = {(name, 0): np.full((8, 8, 3), colour, np.float32) / 255 for name, colour in colours.items()}
    report.draw_delays(records, shown, cases.DELAYS, (0,), tmp_path / "chart.png")
    chart = np.asarray(Image.open(tmp_path / "chart.png").convert("RGB")).astype(int)
    for name, colour in colours.items():
        assert (np.abs(chart - colour).max(2) <= 1).sum() > 1000, name


@pytest.mark.slow
def test_subjects_for_real(tmp_path):
    """Two pictures each: kept pictures are not made again, and of two adapters each is measured."""
    cases = ["one subject", "two, localised by attention"]
    command = [sys.executable, BENCHMARKS / "subjects.py", "--images", "2", "--workers", "1", "--cases", *cases]
    options = ["--kept", tmp_path / "kept", "--tables", tmp_path / "subjects"]
    for _ in range(2):
        subprocess.run([*command, *options], check=True)
        rows = json.loads((tmp_path / "subjects.json").read_text())["rows"]
        assert [(row["case"], row["n"]) for row in rows] == [(case, 2) for case in cases]
        kept = [line for path in tmp_path.glob("kept/*/*.jsonl") for line in path.read_text().splitlines()]
        assert len(kept) == 4
    weights = load_file(ROOT / "demo" / "subjects.safetensors")
    adapters = {"with": weights, "without": {name: value / 2 for name, value in weights.items()}}
    command = [sys.executable, BENCHMARKS / "subject_losses.py", "--images", "2", "--workers", "1"]
    for name, of in adapters.items():
        file = tmp_path / name / "subjects.safetensors"
        file.parent.mkdir()
        save_file(of, file, {"image_encoder_heads": "4"})
        command += [f"--{name}-loss", file]
    subprocess.run([*command, "--kept", tmp_path / "both", "--tables", tmp_path / "losses"], check=True)
    rows = json.loads((tmp_path / "losses.json").read_text())["rows"]
    found = {row["case"]: row["identity"] for row in rows if "less" not in row}
    assert found["two subjects, with the loss"] > found["two subjects, without"], "of the same name in two folders"
