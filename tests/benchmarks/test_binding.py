"""The benchmarks' arithmetic and tables, and one small real run."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from clone import BENCHMARKS


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
    records = table.compare([*plain, *other, beyond], ["two_fav", "two_swap"], ["plain", "other"], images=range(4))
    assert [(each["workflow"], each["n"], each["rate"]) for each in records] == [("plain", 4, 0.5), ("other", 4, 0.75)]
    assert "difference" not in records[0]
    assert records[1]["difference"] == 0.25
    assert records[1]["difference_error"] == pytest.approx(np.std([0, 1, 0, 0], ddof=1) / 2)
    assert records[1]["identical_to_plain"] == 0.0
    benchmark("report").write_report(table.markdown(records, ["About."]), records, ["About."], tmp_path / "binding")
    lines = (tmp_path / "binding.md").read_text().splitlines()
    assert lines[-1].startswith("| two_swap | other | 4 | 0.750 ± 0.250 | +0.250 ± 0.250 | 0.00 | 0.250 |")
    assert json.loads((tmp_path / "binding.json").read_text())["rows"][0]["leakage"] is None


def test_records_of_different_images_join_to_that_of_all(benchmark):
    table = benchmark("binding_table")
    random = np.random.default_rng(0)
    rows = [
        table.Row("two_swap", workflow, image, "a prompt", "a", verdict, *random.random(4))
        for workflow in ("plain", "other")
        for image, verdict in enumerate(random.choice(["ok", "swap", "missing"], 30))
    ]
    rows[3] = replace(rows[3], binding=math.nan, leakage=math.nan)
    parts = [table.compare(rows, ["two_swap"], ["plain", "other"], images) for images in (range(11), range(11, 30))]
    for one, other, both in zip(*parts, table.compare(rows, ["two_swap"], ["plain", "other"], range(30)), strict=True):
        found = table.joined_records(one, other)
        assert found.pop("verdicts") == pytest.approx(both.pop("verdicts"))
        assert found == pytest.approx(both)


def test_sockets_have_no_default(benchmark, comfy):
    """A box's schema has one, which ComfyUI does not give to a node either."""
    from comfy_api.latest import io

    default = benchmark("host")._default
    assert default(io.BoundingBox.Input("bboxes", optional=True, force_input=True)) is None
    assert default(io.Int.Input("width", default=8)) == 8


def test_speed_table(benchmark):
    speed, Timing = benchmark("speed"), benchmark("subject").Timing
    latent = np.zeros(3)
    plain = [Timing((9.0, wall, wall), (1.0, wall, wall), latent) for wall in (1.0, 4.0)]
    walls = ((18.0, 1.1, 1.2), (27.0, 4.2, 4.0))
    slower = [Timing(wall, tuple(s / 2 for s in wall), latent + 1) for wall in walls]
    measured = {"plain": speed.Measured(plain, 8.0), "recorder, latent/4": speed.Measured(slower, 9.5)}
    first, second = speed.compare(measured)
    assert first["wall_ratio"] == (1.0, 1.0, 1.0)
    assert first["identical"] is True
    assert second["n"] == 4
    assert second["wall_ratio"] == pytest.approx((1.0375, 1.075, 1.125))
    assert second["processor_ratio"][1] == pytest.approx(1.075 / 2)
    assert second["first_step_ratio"] == pytest.approx((2.25, 2.5, 2.75))
    assert second["identical"] is False
    line = speed.markdown([first, second], []).splitlines()[-1]
    assert line.startswith("| recorder, latent/4 | 4 | 2.60 | 1.075 | 1.038 to 1.125 |")
    assert line.endswith("| 1.05 | 2.500 | 9.5 | +1.5 | no |")


def test_peak_memory_is_the_most_held_at_a_time(benchmark):
    import torch

    kept = []

    def work():
        kept.append(torch.ones(2**18))
        for _ in range(3):
            torch.ones(2**18)

    assert benchmark("subject").peak_memory(work) == pytest.approx(2.0, abs=0.01)


def test_token_speed_table(benchmark):
    """Updates are compared one by one, without those that hold the anchors; steps as sums of their updates."""
    module = benchmark("token_speed")
    ours = module.Step(np.array([[5.0, 9.0], [1.0, 2.0]]), np.array([[2.0, 4.0]]), np.array([1.0, 1.0]))
    plain = module.Step(np.array([[9.0, 18.0], [3.0, 4.0]]), np.array([[6.0, 8.0]]), np.array([0.0, 1.0]))
    records = module.compare({"ours": [ours, ours], module.PLAIN: [plain, ours], module.PRECISE: [ours, ours]})
    found = {each["part"]: each for each in records if each["compared_with"] == module.PLAIN}
    assert [each["n"] for each in found.values()] == [2] * 6
    assert [each["times_faster"][1] for each in found.values()] == pytest.approx([2.0, 2.0, 1.5, 2.0, 1.625, 1.5])
    assert found["an update by the entropy loss"]["processor_times_faster"] == pytest.approx((1.25, 1.5, 1.75))
    assert all(each["times_faster"][1] == 1.0 for each in records if each["compared_with"] == module.PRECISE)
    line = module.markdown(records, []).splitlines()[-8]
    assert line.startswith("| a step's semantic binding loss, with its anchors | plain | 2 | 6.00 | 9.00 | 1.50 |")
    assert line.endswith("| 2 |")


@pytest.mark.slow
def test_speed_of_token_optimisation(tmp_path):
    """The published procedure beside ours on the demo model; the program stops if their latents differ."""
    command = [sys.executable, BENCHMARKS / "speed.py", "--tome", "--model", "demo", "--repeats", "2", "--threads", "1"]
    subprocess.run([*command, "--tables", tmp_path / "speed"], check=True)
    rows = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert len(rows) == 12
    assert [row["n"] for row in rows] == [4] * 2 + [8] * 2 + [2] * 8
    assert all(min(*row["seconds"], *row["plain_seconds"]) > 0 for row in rows)


@pytest.mark.slow
def test_speed_of_the_demo_model(tmp_path):
    """What is off or only watches changes no image; what is on changes it, in every step that is timed."""
    command = [sys.executable, BENCHMARKS / "speed.py", "--model", "demo", "--repeats", "1", "--steps", "2"]
    subprocess.run([*command, "--threads", "1", "--tables", tmp_path / "speed"], check=True)
    rows = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert all(row["n"] == 1 and row["memory_mib"] > 1 for row in rows)
    assert {row["workflow"]: row["identical"] for row in rows} == {
        "plain": True,
        "all at strength 0": True,
        "recorder, latent/2": True,
        "recorder, latent/4": True,
        "recorder with affinity, latent/4": True,
        "self-attention temperature": False,
        "object-focused attention and stage weights": False,
        "all of these, recorder at latent/2": False,
        "token merge": False,
        "Attend-and-Excite": False,
        "Attend-and-Excite, SynGen and entropy loss": False,
        "subjects": False,
        "subjects, localised by attention": False,
    }


def test_workflows_of_a_sweep(benchmark):
    """Windows end with the run, its last column is the whole run, and temperature 1 is plain sampling."""
    module = benchmark("sweep")
    sweep = module.Sweep((0.5, 1.0), module.columns_of([0, 8], window=4, steps=10), 10)
    assert sweep.column_titles == ["steps 1 to 4", "steps 9 to 10", "steps 1 to 10"]
    assert sweep.names == [[f"temperature 0.5, {title}" for title in sweep.column_titles], ["plain"] * 3]
    assert list(sweep.workflows) == [*sweep.names[0], "plain"]

    class Asked:
        def through(self, node_id, **inputs):
            return node_id, inputs

    asked = [make(Asked()) for name, make in sweep.workflows.items() if name != "plain"]
    assert {node_id for node_id, _ in asked} == {"SBSelfAttentionTemperature"}
    assert [(inputs["start"], inputs["end"]) for _, inputs in asked] == [(0.0, 0.4), (0.8, 1.0), (0.0, 1.0)]


def test_table_of_pictures(benchmark):
    """Every cell has its own picture and the colour of its difference."""
    drawing = benchmark("picture_table")
    assert drawing.shade(0.0) == drawing.PAPER
    assert drawing.shade(0.5) == drawing.shade(drawing.MOST) == drawing.BETTER
    assert drawing.shade(-0.5) == drawing.WORSE
    greys, differences = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), (0.0, 0.1, -0.1, 0.3, -0.3, 0.05)
    cells = [
        drawing.Cell(np.full((8, 8, 3), grey), ("a share", "a difference"), difference)
        for grey, difference in zip(greys, differences, strict=True)
    ]
    columns, rows = ["steps 1 to 4", "all", "none"], ["0.5", "2"]
    sheet = drawing.draw_table("temperature", columns, rows, [cells[:3], cells[3:]], ["A note. " * 40])
    left = [drawing.SIDE + column * (drawing.PICTURE + 2 * drawing.PAD) for column in range(3)]
    down = (drawing.LINE + 2 * drawing.PAD, 2 * drawing.LINE + drawing.PICTURE + 3 * drawing.PAD)
    corners = [(x, down[0] + row * down[1]) for row in range(2) for x in left]
    middle, edge = drawing.PAD + drawing.PICTURE // 2, drawing.PAD // 2
    assert [sheet.getpixel((x + middle, y + middle))[0] for x, y in corners] == [round(grey * 255) for grey in greys]
    assert [sheet.getpixel((x + edge, y + edge)) for x, y in corners] == [*map(drawing.shade, differences)]


def test_ablation_of_token_merge(benchmark, comfy):
    """A loss alone is the demo model's plan with no steps of the other; without merge, the rest is as it is with it."""
    from dataclasses import asdict

    class Asked:
        def __init__(self, *nodes):
            self.nodes = nodes

        def through(self, node_id, **inputs):
            return Asked(*self.nodes, (node_id, inputs))

    workflows, host = benchmark("workflows"), benchmark("host")
    asked = {name: make(Asked()).nodes for name, make in workflows.GROUPS["token-merge"].items()}
    merge, full = asked["token merge, both losses"]
    assert asked["token merge"] == (merge,) == (("SBTokenMerge", workflows.DEMO_MERGE),)
    assert asked["optimisation without merge"] == (full,)
    plan = host.part("attention.token_merge.presets").PLANS["demo model"]
    assert 0 < min(plan.token_steps, plan.entropy_steps)
    for name, changes in (
        ("token merge, both losses", {}),
        ("token merge and entropy loss", {"token_steps": 0}),
        ("token merge and semantic binding loss", {"entropy_steps": 0}),
    ):
        first, (node_id, inputs) = asked[name]
        assert (first, node_id) == (merge, "SBTokenOptimization")
        found = host.part("nodes.token_merge.optimization").custom(inputs["settings"])
        assert asdict(found) == {**asdict(plan), **changes}, name
    assert asked["token merge, published settings"] == (("SBTokenMerge", {}), ("SBTokenOptimization", {}))


def test_workflow_unknown_to_again(tmp_path):
    command = [sys.executable, BENCHMARKS / "binding.py", "--kept", tmp_path, "--again", "nothing"]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "there is no workflow nothing" in refused.stderr


@pytest.mark.slow
def test_sweep_for_real(tmp_path):
    """Four images a cell; in the picture the cells of temperature 1 show the same plain image, the others another."""
    from PIL import Image

    command = [sys.executable, BENCHMARKS / "sweep.py", "--temperatures", "0.2", "1", "--starts", "0", "--window", "1"]
    options = ["--images", "4", "--steps", "2", "--workers", "1", "--kept", tmp_path, "--tables", tmp_path / "sweep"]
    subprocess.run([*command, *options], check=True)
    rows = {row["workflow"]: row for row in json.loads((tmp_path / "sweep.json").read_text())["rows"]}
    names = ["temperature 0.2, steps 1 to 1", "temperature 0.2, steps 1 to 2", "plain"]
    assert [(name, row["n"]) for name, row in rows.items()] == [(name, 4) for name in names]
    assert all(rows[name]["identical_to_plain"] == 0.0 for name in names[:2])
    text = (tmp_path / "sweep.md").read_text()
    assert "| temperature | steps 1 to 1 | steps 1 to 2 |" in text
    assert "plain | " in text.splitlines()[-1]
    sheet = np.asarray(Image.open(tmp_path / "sweep.png").convert("RGB"))
    assert sheet.shape[1] == 96 + 2 * 144
    shown = [[sheet[row + 8 : row + 136, left + 8 : left + 136] for left in (96, 240)] for row in (36, 36 + 192)]
    assert np.array_equal(*shown[1])
    assert not any(np.array_equal(cell, shown[1][0]) for cell in shown[0])


@pytest.mark.slow
def test_every_part_of_token_merge_changes_images(tmp_path):
    """The ablation for real: no two of its parts make the same images."""
    command = [sys.executable, BENCHMARKS / "binding.py", "--sets", "two_swap", "--group", "token-merge"]
    options = ["--images", "4", "--steps", "3", "--workers", "1", "--kept", tmp_path, "--tables", tmp_path / "binding"]
    subprocess.run([*command, *options], check=True)
    rows = json.loads((tmp_path / "binding.json").read_text())["rows"]
    assert [row["workflow"] for row in rows][:2] == ["plain", "token merge"]
    assert all(row["n"] == 4 for row in rows)
    kept = [json.loads(line) for path in tmp_path.glob("*/*.jsonl") for line in path.read_text().splitlines()]
    latents = {row["workflow"]: row["latent"] for row in kept if row["image"] == 0}
    assert len(latents) == len(rows) == 10
    parts = {latent for name, latent in latents.items() if "published" not in name}
    assert len(parts) == 8
    assert latents["token merge, published code"] != latents["token merge, published settings"]


@pytest.mark.slow
def test_recording_changes_no_image(tmp_path):
    """The binding benchmark, for real: eight images each, resumed where the first four are kept."""
    command = [sys.executable, BENCHMARKS / "binding.py", "--sets", "two_swap", "--workflows", "plain", "recorder"]
    command += ["--workers", "1", "--steps", "3"]
    for images in (4, 8):
        subprocess.run(
            [*command, "--images", str(images), "--tables", tmp_path / "binding", "--kept", tmp_path], check=True
        )
        rows = json.loads((tmp_path / "binding.json").read_text())["rows"]
        assert [(each["workflow"], each["n"]) for each in rows] == [("plain", images), ("recorder", images)]
        assert rows[1]["identical_to_plain"] == 1.0
