"""The benchmark as a program, on real servers with the demo model."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from io import BytesIO

import pytest
from PIL import Image

import tiny_detectors
from clone import ROOT, headless

PROMPTS = ["a red circle and a blue square", "a green star"]
STEPS = 6


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def graph(prompt_node, steps=STEPS):
    """A picture of the demo model, its prompt read by a node of that type."""
    return {
        "1": node("SBLoadDemoModel"),
        "2": node(prompt_node, text="a heart", clip=["1", 1]),
        "3": node("CLIPTextEncode", text="", clip=["1", 1]),
        "4": node("EmptyLatentImage", width=128, height=128, batch_size=1),
        "5": node(
            "KSampler",
            **{"seed": 1, "steps": steps, "cfg": 5, "sampler_name": "euler", "scheduler": "normal", "denoise": 1},
            **{"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]},
        ),
        "6": node("VAEDecode", samples=["5", 0], vae=["1", 2]),
        "7": node("SaveImage", images=["6", 0], filename_prefix="benchmark"),
    }


@pytest.fixture
def command(tmp_path):
    """``command(url, ..., judge="shapes")``: the program on two workflows and two prompts, in ``tmp_path / "out"``."""
    (tmp_path / "plain.json").write_text(json.dumps(graph("CLIPTextEncode")))
    (tmp_path / "bound.json").write_text(json.dumps(graph("SBBindPrompt")))
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))

    def make(*urls, judge="shapes", prompts="prompts.txt", module=False):
        given = {"--server": urls, "--workflow": ("plain.json", "bound.json"), "--prompts": (prompts,)}
        given |= {"--seeds": ("1",), "--judge": (judge,), "--out": (str(tmp_path / "out"),)}
        start = ["-m", "evaluation.run"] if module else [str(ROOT / "evaluation" / "run.py")]
        made = [sys.executable, *start]
        for option, values in given.items():
            for value in values:
                of_file = option in ("--workflow", "--prompts") and ":" not in value
                made += [option, str(tmp_path / value) if of_file else value]
        return made

    return make


def run(command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def rows(folder):
    return [json.loads(line) for line in (folder / "out" / "rows.jsonl").read_text("utf-8").splitlines()]


def queue(server):
    return server.get("/queue").json()


def wait_until(true, seconds=120):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_two_servers_of_which_one_is_killed(command, server, tmp_path):
    with headless.Server(cpu=True) as dying:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command(server.url, dying.url), cwd=ROOT, **streams) as program:
            wait_until(lambda: queue(dying)["queue_running"])
            dying.process.kill()
            said, errors = program.communicate(timeout=300)
    assert program.returncode == 0, errors
    assert said.count(f"The server {dying.url} is lost") == 1
    made = rows(tmp_path)
    assert Counter((row["workflow"], row["prompt"]) for row in made) == Counter(
        (workflow, prompt) for workflow in ("plain", "bound") for prompt in PROMPTS
    )
    assert {row["server"] for row in made} <= {server.url, dying.url}
    for row in made:
        (image,) = row["images"]
        picture = Image.open(tmp_path / "out" / image["file"])
        assert picture.size == (128, 128) and image["score"] in (0, 1)
        assert len(image["questions"]) >= row["prompt"].count("a ")
    by_prompt = {row["prompt"]: [] for row in made}
    for row in made:
        by_prompt[row["prompt"]].append((tmp_path / "out" / row["images"][0]["file"]).read_bytes())
    for pictures in by_prompt.values():
        first, second = (Image.open(BytesIO(each)).tobytes() for each in pictures)
        assert first == second, "Bind Prompt encodes as CLIP Text Encode does, and the seed is the same"
    table = json.loads((tmp_path / "out" / "table.json").read_text("utf-8"))
    assert [(line["workflow"], line["n"], line["pairs"]) for line in table["rows"]] == [
        ("plain", 2, 0),
        ("bound", 2, 2),
    ]
    assert table["rows"][1]["difference"] == 0
    page = (tmp_path / "out" / "page.html").read_text("utf-8")
    assert all(prompt in page for prompt in PROMPTS) and page.count("<img ") == 4
    again = run(command(server.url, module=True))
    assert again.returncode == 0 and "4 runs, 4 of them are there already." in again.stdout, again.stderr
    assert rows(tmp_path) == made


@pytest.mark.slow
def test_interrupted_and_given_again(command, server, tmp_path):
    with subprocess.Popen(command(server.url), cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        told = [program.stdout.readline() for _ in range(2)]
        wait_until(lambda: queue(server)["queue_running"])
        program.send_signal(signal.SIGINT)
        rest, _ = program.communicate(timeout=60)
    assert told[0].startswith("4 runs, 0 of them") and told[1].startswith("plain, ")
    assert program.returncode == 130 and "page.html has the pictures" in rest
    wait_until(lambda: not queue(server)["queue_running"] and not queue(server)["queue_pending"], 30)
    kept = rows(tmp_path)
    assert 1 <= len(kept) < 4 and (tmp_path / "out" / "table.md").is_file()
    done = run(command(server.url))
    assert done.returncode == 0 and f"4 runs, {len(kept)} of them" in done.stdout, done.stderr
    made = rows(tmp_path)
    assert made[: len(kept)] == kept
    assert len(made) == len({(row["workflow"], row["prompt"], row["seed"]) for row in made}) == 4


@pytest.mark.slow
def test_withdrawing_takes_back_ones_own_run_alone(server):
    """One run is under way and another waits; the second is withdrawn first, then the first."""
    clients = [headless.Client(server.url) for _ in range(2)]
    ended = {}

    def run_long(place):
        try:
            clients[place].run(graph("CLIPTextEncode", steps=5000 + place), timeout=(20, 8)[place])
        except (headless.Interrupted, TimeoutError) as error:
            ended[place] = type(error)

    threads = [threading.Thread(target=run_long, args=[place], daemon=True) for place in range(2)]
    threads[0].start()
    wait_until(lambda: queue(server)["queue_running"])
    threads[1].start()
    wait_until(lambda: clients[1].waiting_for)
    clients[1].withdraw()
    assert len(queue(server)["queue_running"]) == 1 and queue(server)["queue_pending"] == []
    clients[0].withdraw()
    for thread in threads:
        thread.join(15)
    assert ended == {0: headless.Interrupted, 1: TimeoutError}, "a run that left the queue has no end to be told"
    assert queue(server)["queue_running"] == []


@pytest.mark.slow
def test_a_detector_as_the_judge(command, server, tmp_path):
    """MULTIGEN and VISOR with a random OWLv2: its scores follow from what it found."""
    tiny_detectors.write_owl(server.base / "models" / "grounding-dino" / "tiny-owlv2")
    (tmp_path / "classes.txt").write_text("circle\nsquare\nstar\nheart\ncross\n")
    records = [
        {f"obj_{i}_attributes": [each] for i, each in enumerate(("circle", "square", "star", "heart", "cross"), 1)}
        | {"text": "a photo of a circle, a square, a star, a heart, and a cross."},
        {
            "obj_1_attributes": ["circle"],
            "obj_2_attributes": ["star"],
            "rel_type": "above",
            "text": "a circle above it",
        },
        {"text": "a red square"},
    ]
    (tmp_path / "records.json").write_text(json.dumps(records))
    done = run(command(server.url, judge="detector:tiny-owlv2", prompts="records.json"))
    assert done.returncode == 0, done.stderr
    made = {(row["workflow"], row["category"]): row["images"][0] for row in rows(tmp_path)}
    assert len(made) == 6
    five, two, one = (made["bound", category] for category in ("multigen", "above", "records"))
    assert [each["entity"] for each in five["questions"]] == ["circle", "square", "star", "heart", "cross"]
    assert five["score"] == sum(each["probability"] for each in five["questions"]) / 5
    assert 0 < sum(each["probability"] for image in made.values() for each in image["questions"])
    assert two["questions"][-1]["text"] == "circle above star" and two["score"] == two["questions"][-1]["probability"]
    assert [each["entity"] for each in one["questions"]] == ["square"]
    text = (tmp_path / "out" / "table.md").read_text("utf-8")
    assert "## MULTIGEN" in text and "## VISOR" in text and "## above" in text


@pytest.mark.slow
def test_a_judge_of_load_judge(command, server, tmp_path):
    """Judge Binding is put behind the picture and asks the demo world's judge its questions."""
    done = run([*command(server.url, judge="demo world"), "--aggregate", "product"])
    assert done.returncode == 0, done.stderr
    made = rows(tmp_path)
    assert len(made) == 4
    for row in made:
        (image,) = row["images"]
        values = [each["probability"] if each["wanted"] else 1 - each["probability"] for each in image["questions"]]
        assert set(values) <= {0, 1} and image["score"] == math.prod(values)
        assert {each["entity"] for each in image["questions"]} == set(re.findall("circle|square|star", row["prompt"]))
    by_prompt = {prompt: {row["images"][0]["score"] for row in made if row["prompt"] == prompt} for prompt in PROMPTS}
    assert all(len(scores) == 1 for scores in by_prompt.values()), "the same pictures"
    table = json.loads((tmp_path / "out" / "table.json").read_text("utf-8"))
    assert [line["n"] for line in table["rows"]] == [2, 2]


@pytest.mark.slow
def test_what_is_wrong_is_said(command, server, tmp_path):
    """A judge that the server does not have, prompts that cannot be judged, and no server at all."""
    rejected = run(command(server.url, judge="detector:nothing"))
    assert rejected.returncode == 1 and 'There is no detector "nothing"' in rejected.stderr
    unknown = "\n".join(f"a photograph of {each}" for each in ("an elephant", "a bird", "a cat", "a dog"))
    (tmp_path / "prompts.txt").write_text(unknown)
    hopeless = run(command(server.url))
    assert hopeless.returncode == 1 and hopeless.stderr.count("Failed: plain") == 2
    assert 'run.py: stopped at plain, "a photograph of a cat", seed 0' in hopeless.stderr
    (tmp_path / "prompts.txt").write_text(f"a green star\n{unknown}")
    failed = run(command(server.url))
    assert failed.returncode == 1 and "Nothing in this prompt can be judged" in failed.stderr
    assert "8 runs failed" in failed.stderr and {row["prompt"] for row in rows(tmp_path)} == {"a green star"}
    alone = run(command(f"http://127.0.0.1:{headless.free_port()}"))
    assert alone.returncode == 1 and "No server is left, and 8 of 8 jobs" in alone.stderr
    missing = run(command(server.url, prompts="nothing.txt"))
    assert missing.returncode == 1 and "cannot be read" in missing.stderr


def test_neither_comfyui_nor_torch_is_imported(command, tmp_path):
    """Without a server the program gets as far as asking for one."""
    told = run([sys.executable, "-X", "importtime", *command(f"http://127.0.0.1:{headless.free_port()}")[1:]])
    assert "No server is left" in told.stderr
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in told.stderr.splitlines() if "|" in line}
    assert "aiohttp" in imported and not imported & {"torch", "comfy", "spacy", "transformers"}


def test_two_workflows_need_two_names(command, tmp_path):
    told = run([*command("127.0.0.1:1"), "--workflow", str(tmp_path / "plain.json")])
    assert told.returncode == 1 and 'Two workflows are called "plain"' in told.stderr
    named = run([*command("127.0.0.1:1"), "--workflow", f"again={tmp_path / 'plain.json'}"])
    assert named.returncode == 1 and "Two workflows are the same graph: plain, bound, again" in named.stderr
    assert not (tmp_path / "out").exists()
