"""The benchmarks' arithmetic and tables, and one small real run."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """``benchmark("speed")``: a module of the benchmarks folder, found as its own scripts find it."""
    import importlib

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def row(benchmark):
    table = benchmark("binding_table")

    def _row(workflow, image, verdict, latent="a"):
        right = float(verdict == "ok")
        return table.Row("two_swap", workflow, image, "a prompt", latent, verdict, right, 1.0, right, math.nan)

    return _row


def test_rows_of_an_interrupted_run(benchmark, row, tmp_path):
    from dataclasses import asdict

    table = benchmark("binding_table")
    lines = [
        json.dumps(asdict(each)) for each in (row("plain", 0, "swap"), row("plain", 1, "ok"), row("plain", 0, "ok"))
    ]
    (tmp_path / "1.jsonl").write_text("\n".join(lines) + "\n" + lines[0][:40])
    rows = table.read_rows(tmp_path)
    assert [(each.image, each.verdict) for each in rows] == [(0, "ok"), (1, "ok")]
    table.forget_rows(tmp_path, ["recorder"])
    assert len(table.read_rows(tmp_path)) == 2
    table.forget_rows(tmp_path, ["plain"])
    assert table.read_rows(tmp_path) == []


def test_binding_table(benchmark, row, tmp_path):
    table = benchmark("binding_table")
    plain = [row("plain", image, verdict) for image, verdict in enumerate(["ok", "swap", "swap", "ok"])]
    other = [row("other", image, verdict, "b") for image, verdict in enumerate(["ok", "ok", "swap", "ok"])]
    beyond = row("other", 7, "missing")
    records = table.compare([*plain, *other, beyond], ["two_fav", "two_swap"], ["plain", "other"], images=4)
    assert [(each["workflow"], each["n"], each["rate"]) for each in records] == [("plain", 4, 0.5), ("other", 4, 0.75)]
    assert "difference" not in records[0]
    assert records[1]["difference"] == 0.25
    assert records[1]["difference_error"] == pytest.approx(np.std([0, 1, 0, 0], ddof=1) / 2)
    assert records[1]["identical_to_plain"] == 0.0
    table.write_tables(records, ["About."], tmp_path / "binding")
    lines = (tmp_path / "binding.md").read_text().splitlines()
    assert lines[-1].startswith("| two_swap | other | 4 | 0.750 ± 0.250 | +0.250 ± 0.250 | 0.00 | 0.250 |")
    assert json.loads((tmp_path / "binding.json").read_text())["rows"][0]["leakage"] is None


def test_speed_table(benchmark):
    speed = benchmark("speed")
    latent = np.zeros(3)
    plain = [speed.Timing(wall, wall, latent) for wall in (1.0, 2.0, 4.0)]
    slower = [speed.Timing(wall, wall * 0.5, latent + 1) for wall in (1.1, 2.4, 4.2)]
    first, second = speed.compare({"plain": plain, speed.SMALL: slower})
    assert first["wall_ratio"] == (1.0, 1.0, 1.0)
    assert first["identical"] is True
    assert second["wall_ratio"] == pytest.approx((1.075, 1.1, 1.15))
    assert second["processor_ratio"][1] == pytest.approx(0.55)
    assert second["identical"] is False
    assert f"| {speed.SMALL} | 3 | 2.40 | 1.100 | 1.075 to 1.150 |" in speed.markdown([first, second], [])


@pytest.mark.slow
def test_recording_changes_no_image(tmp_path):
    """The binding benchmark, for real: eight images each, resumed where the first four are kept."""
    command = [sys.executable, BENCHMARKS / "binding.py", "--sets", "two_swap", "--workers", "1", "--steps", "3"]
    for images in (4, 8):
        subprocess.run(
            [*command, "--images", str(images), "--tables", tmp_path / "binding", "--kept", tmp_path], check=True
        )
        rows = json.loads((tmp_path / "binding.json").read_text())["rows"]
        assert [(each["workflow"], each["n"]) for each in rows] == [("plain", images), ("recorder", images)]
        assert rows[1]["identical_to_plain"] == 1.0
