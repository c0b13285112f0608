"""What ``dev.py demo`` does inside its environment, and the client it does it with."""

from __future__ import annotations

import base64
import html
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from io import BytesIO
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


def test_the_page_has_what_a_run_made(part, server):
    program, page = part("demo.run"), part("demo.page")
    graph = {
        **PICTURE,
        "2": {**PICTURE["2"], "_meta": {"title": "Save: <the image>"}},
        "7": {"class_type": "SBScoreBinding", "_meta": {"title": "Score"}, "inputs": {}},
    }
    pictures = program.pictures_of(server, graph, server.run(PICTURE))
    assert [each.label for each in pictures] == ["Save: <the image>"] * 2
    scores = program.scores_of(graph, SimpleNamespace(outputs={"7": {"semantic_binding_score": [RECORD]}}))
    note = "## A title\n\nThe **same** seed & *prompt*:\n\n- one\n- `two`"
    made = page.page("Title", "About.", [page.Section("A name", note, pictures, scores, 1.25)], [("Other", "why <b>")])
    assert "<p>The <b>same</b> seed &amp; <i>prompt</i>:</p><ul><li>one</li><li><code>two</code></li></ul>" in made
    assert "0% of the images right, 33% of the entities" in made and "why &lt;b&gt;" in made
    assert "leak: red circle; blue square -&gt; red square; green heart -&gt; missing; also yellow star" in made
    shown = re.findall(r'alt="Save: &lt;the image&gt;" src="data:image/png;base64,([^"]+)"', made)
    assert [Image.open(BytesIO(base64.b64decode(each))).size for each in shown] == [(16, 8)] * 2
    assert not re.search(r'(?:src|href)="(?!data:)', made), "it needs no other file"


def test_workflows_are_chosen_by_name(part):
    program = part("demo.run")
    graphs = program.load_graphs(program.WORKFLOWS / "api")
    tour = program.choose(graphs, [])
    assert {program.NUMBER.sub("", name) for name in tour} == program.TOUR, "the tour is of workflows that there are"
    assert program.choose(graphs, ["all"]) == list(graphs)
    assert program.choose(graphs, ["two SUBJECTS"]) == [name for name in graphs if "wo subjects" in name]
    with pytest.raises(
        part("demo.server").ServerError, match='There is no workflow "zebra". There are: .*Two subjects'
    ):
        program.choose(graphs, ["zebra"])


def test_workflows_that_read_what_others_save_come_last(part):
    program = part("demo.run")
    order = list(program.load_graphs(program.WORKFLOWS / "api").values())
    loads = ["SBLoadAttention" in program.classes(graph) for graph in order]
    assert loads == sorted(loads) and any(loads)


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
@pytest.mark.parametrize("names", [[], ["bind a prompt", "attention maps", "own"]], ids=["a tour", "named"])
def test_the_demo_makes_one_page(part, names, tmp_path):
    """In a folder of its own: what the demo writes beside the page would be seen there. Of those named, one reads what
    another has saved, and some need a checkpoint."""
    copy = tmp_path / "pack"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".dev", ".git", "output", "tests", "benchmarks"))
    settings = {**os.environ, "COMFYUI_PATH": str(headless.comfyui_folder())}
    command = [sys.executable, "-m", "demo.run", *names]
    done = subprocess.run(command, cwd=copy, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) <= 10
    assert [path.name for path in (copy / "output").iterdir()] == ["index.html"]
    made = (copy / "output" / "index.html").read_text("utf-8")
    pictures = [Image.open(BytesIO(base64.b64decode(each))) for each in re.findall(r"base64,([^\"]+)", made)]
    assert len(pictures) >= 8 and all(picture.width >= 128 for picture in pictures)
    program = part("demo.run")
    graphs = program.load_graphs(program.WORKFLOWS / "api")
    chosen = program.choose(graphs, names)
    run = [name for name in chosen if not program.classes(graphs[name]) & program.NEEDING.keys()]
    assert re.findall("<section><h2>(.*?)</h2>", made)[:-1] == [
        html.escape(program.NUMBER.sub("", name)) for name in run
    ]
    scored = sum(node["class_type"] == "SBScoreBinding" for name in run for node in graphs[name].values())
    assert made.count("of the images right") == scored > 0
    left = set(graphs) - set(run)
    assert len(re.findall("<tr><th>", made.split("<h2>Not run</h2>")[1])) == len(left) > 0
