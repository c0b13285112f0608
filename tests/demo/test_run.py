"""What ``dev.py demo`` does inside its environment, and the client it does it with."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from clone import ROOT, headless

PICTURE = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 8, "batch_size": 2, "color": 255}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "blue"}},
}
TOO_SMALL = {**PICTURE, "1": {"class_type": "EmptyImage", "inputs": {**PICTURE["1"]["inputs"], "width": -8}}}
RECORD = {
    "images": [
        {
            "verdict": "leak",
            "entities": [
                {"name": "circle", "wanted": "red circle", "verdict": "ok", "found": "red circle"},
                {"name": "square", "wanted": "blue square", "verdict": "leak", "found": "red square"},
                {"name": "heart", "wanted": "green heart", "verdict": "missing", "found": None},
            ],
            "not_asked_for": ["yellow star"],
        }
    ],
    "share_of_images_right": 0.0,
    "share_of_entities_right": 1 / 3,
}


def test_a_run_gives_pictures(server):
    run = server.run(PICTURE)
    assert len(run.images) == 2
    assert server.view(run.images[0]).startswith(b"\x89PNG")
    assert server.upload_image("blue.png", server.view(run.images[0])) == "blue.png"
    assert {"1", "2"} <= set(server.run(PICTURE).cached)


def test_threads_of_the_server_do_not_spin_unless_the_user_wants_it(server):
    assert (
        headless.server_environment({"PATH": "/bin"}).items() >= {"OMP_WAIT_POLICY": "PASSIVE", "PATH": "/bin"}.items()
    )
    own = {"OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": "3"}
    assert headless.server_environment(own).items() >= own.items()
    environment = Path(f"/proc/{server.process.pid}/environ")
    if environment.exists():
        policy = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")
        assert f"OMP_WAIT_POLICY={policy}" in environment.read_text("utf-8", errors="replace").split("\0")


def test_a_rejected_graph_says_which_node_and_why(server):
    with pytest.raises(headless.GraphRejected, match=r"node 1 \(EmptyImage\): Value -8 smaller than min of 1: width"):
        server.run(TOO_SMALL)
    with pytest.raises(headless.GraphRejected, match="'Nope' not found"):
        server.run({"1": {"class_type": "Nope", "inputs": {}}})


def test_one_bad_branch_is_enough_to_reject_a_graph(server):
    both = {**TOO_SMALL, **{f"{key}0": node for key, node in PICTURE.items()}}
    both["20"] = {"class_type": "SaveImage", "inputs": {"images": ["10", 0], "filename_prefix": "good"}}
    with pytest.raises(headless.GraphRejected) as caught:
        server.run(both)
    assert list(caught.value.node_errors) == ["1"]
    assert server.run(PICTURE).images, "the half that was queued does not stand in the way of the next run"


def test_a_raising_node_is_named(server):
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "2": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "3": {"class_type": "LoadImageMask", "inputs": {"image": "not-a-picture.png", "channel": "red"}},
        "4": {"class_type": "MaskPreview", "inputs": {"mask": ["3", 0]}},
    }
    server.upload_image("not-a-picture.png", b"no picture")
    with pytest.raises(headless.ExecutionFailed) as caught:
        server.run(graph)
    assert (caught.value.node_id, caught.value.node_type) == ("3", "LoadImageMask")
    assert "Traceback" in caught.value.traceback or "File" in caught.value.traceback


def test_pictures_get_readable_names_and_replace_older_ones(part, server, tmp_path, monkeypatch):
    program = part("demo.run")
    monkeypatch.setattr(program, "OUTPUT", tmp_path)
    graph = {**PICTURE, "2": {**PICTURE["2"], "_meta": {"title": "Save: the image"}}}
    (tmp_path / "my-graph-old-1.png").touch()
    paths = program.save_pictures(server, program.slug("My graph"), graph, server.run(graph))
    assert [path.name for path in paths] == ["my-graph-save-the-image-1.png", "my-graph-save-the-image-2.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in paths]
    assert Image.open(paths[0]).size == (16, 8)


def test_the_score_table_says_what_was_bound_to_what(part):
    program = part("demo.run")
    run = SimpleNamespace(outputs={"7": {"semantic_binding_score": [RECORD]}})
    graph = {"7": {"class_type": "SBScoreBinding", "_meta": {"title": "Score"}, "inputs": {}}}
    lines = program.score_table(program.score_records(graph, run)).splitlines()
    assert "red circle; blue square -> red square; green heart -> missing; also yellow star" in lines[2]
    assert "0% right" in lines[3] and "33% of the entities right" in lines[3]


def test_workflows_that_read_what_others_save_come_last(part):
    program = part("demo.run")
    order = list(program.load_graphs(program.WORKFLOWS).values())
    loads = ["SBLoadAttention" in program.classes(graph) for graph in order]
    scores = ["SBScoreBinding" in program.classes(graph) for graph in order]
    assert loads == sorted(loads) and any(loads)
    assert scores == sorted(scores, reverse=True) and any(scores)


def test_interrupting_the_demo_stops_its_server(tmp_path):
    """In a copy of the clone, whose servers are its own."""
    copy = tmp_path / "pack"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".dev", ".git", "output"))
    command, settings = [sys.executable, "-m", "demo.run"], {"COMFYUI_PATH": str(headless.comfyui_folder())}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=copy, env={**os.environ, **settings}, **streams) as demo:
        port = int(re.search(r"on port (\d+)", demo.stdout.readline())[1])
        time.sleep(1)
        demo.send_signal(signal.SIGINT)
        _, said = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert said.strip() == "dev.py: interrupted; ComfyUI is stopped."
    assert headless.port_is_free(port)
    assert list((copy / ".dev").iterdir()) == []


@pytest.mark.slow
def test_a_server_that_dies_during_a_run():
    with headless.Server(pack=None, cpu=True) as server:
        with pytest.raises(headless.ServerError, match="(?s)ended during a run.*Starting server"):
            server.run(PICTURE, on_event=lambda event: server.process.kill())


@pytest.mark.slow
def test_the_demo_runs_every_workflow(part):
    done = subprocess.run([sys.executable, "-m", "demo.run"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed, table = done.stdout.split("Pictures:\n")[1].split("\n\n", 1)
    pictures = [Image.open(path.strip()) for path in listed.splitlines()]
    assert len(pictures) >= 8 and all(picture.width >= 128 for picture in pictures)
    assert table.splitlines()[0].endswith("what was bound to what") and "of the entities right" in table
    graphs = [json.loads(path.read_text("utf-8")) for path in (ROOT / "workflows" / "api").glob("*.json")]
    program = part("demo.run")
    run = [graph for graph in graphs if not program.classes(graph) & program.NEEDING.keys()]
    assert len(graphs) - len(run) == done.stdout.count("left out: it needs")
    scored = sum(node["class_type"] == "SBScoreBinding" for graph in run for node in graph.values())
    assert table.count("of the entities right") == scored
