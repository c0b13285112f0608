"""The thumbnails of the example workflows: what each does to pictures, a row of pictures for each way of drawing them.

    .dev/venv/bin/python tests/helpers/thumbnails.py [NAME ...]

The pictures are those that the workflow itself makes on the demo model; effects.py has its rows. First come pictures of
the batch that Score Binding finds wrong in the first row and right in the last. Workflows without an entry in
effects.py keep the picture of their graph (take_pictures.py).
"""

from __future__ import annotations

import argparse
import copy
import io
import logging
import shutil
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from effects import EFFECTS, PLAIN, SIDE, Effect  # noqa: E402
from examples import FILES, WORKFLOWS, api  # noqa: E402

GAP, TEXT = 6, 30
GROUND, INK = "#16161c", "#f4f4f8"
DEMO_SIZE, BATCH = 128, 4
MOBILE_SAM = ROOT / ".dev" / "models" / "mobile_sam.pt"
"""Where dev.py test puts it."""
CHOOSING = {"SBJudgeBinding", "SBScoreAttention"}
"""They need their whole batch; of others no more pictures are made than are shown or judged."""
SHOWN_ITSELF = ("SBPreviewAttention", "SBPreviewMasks")


def graph_of(effect: Effect, name: str) -> dict:
    """The graph in its API form, with the changes of its entry."""
    graph = api(effect.workflow or name)
    if any(node["class_type"] == "CheckpointLoaderSimple" for node in graph.values()):
        graph = on_demo_model(graph)
    for node_id, inputs in effect.changes.items():
        graph[node_id]["inputs"] |= inputs
    if not effect.judged and not CHOOSING & kinds(graph):
        for node in graph.values():
            if node["class_type"] == "EmptyLatentImage":
                node["inputs"]["batch_size"] = len(effect.rows)
    return graph


def on_demo_model(graph: dict) -> dict:
    """A graph for the user's checkpoint, on the demo model, with what its size and its text encoder want."""
    for node in graph.values():
        match node["class_type"]:
            case "CheckpointLoaderSimple":
                node |= {"class_type": "SBLoadDemoModel", "inputs": {}}
            case "EmptyLatentImage":
                node["inputs"] |= {"width": DEMO_SIZE, "height": DEMO_SIZE, "batch_size": BATCH}
            case "SBMasksFromBoxes":
                node["inputs"] |= {"width": DEMO_SIZE, "height": DEMO_SIZE}
            case "KSampler":
                node["inputs"] |= {"steps": 20, "cfg": 5.0}
            case "SBObjectFocusedAttention":
                node["inputs"]["end_and_padding"] = "closed"
            case "CLIPTextEncode":
                node["inputs"]["text"] = ""
    return graph


def first_of(graph: dict, kind: str) -> str:
    return next(node_id for node_id, node in graph.items() if node["class_type"] == kind)


def source_of(graph: dict, node_id: str) -> list:
    """The pictures that a node shows, as a link."""
    node = graph[node_id]
    if node["class_type"] in SHOWN_ITSELF:
        return [node_id, 0]
    return node["inputs"].get("images") or node["inputs"]["image"]


def plainly(graph: dict, sampled: list) -> list:
    """A second sampler and decoder like those of some pictures, with nothing of this pack in the way of the model."""
    decode = copy.deepcopy(graph[sampled[0]])
    sampler = copy.deepcopy(graph[decode["inputs"]["samples"][0]])
    binder = next(kind for kind in ("SBBindPrompt", "SBBindConditioning") if kind in kinds(graph))
    sampler["inputs"] |= {"model": [first_of(graph, "SBLoadDemoModel"), 0], "positive": [first_of(graph, binder), 0]}
    decode["inputs"]["samples"] = ["plain sampler", 0]
    graph |= {"plain sampler": sampler, "plain pictures": decode}
    return ["plain pictures", 0]


def kinds(graph: dict) -> set[str]:
    return {node["class_type"] for node in graph.values()}


def drawn(server, effect: Effect, name: str) -> Image.Image:
    """The thumbnail: a row of pictures for each row of the entry."""
    graph = graph_of(effect, name)
    sources = [None if node_id is PLAIN else source_of(graph, node_id) for _, node_id in effect.rows]
    sources = [plainly(graph, sources[-1]) if source is None else source for source in sources]
    graph = {key: node for key, node in graph.items() if node["class_type"] not in ("SaveImage", "PreviewImage")}
    for row, source in enumerate(sources):
        graph[f"row {row}"] = {"class_type": "PreviewImage", "inputs": {"images": source}}
    judged = (0, len(sources) - 1) if effect.judged else ()
    binder = next((kind for kind in ("SBBindPrompt", "SBBindConditioning") if kind in kinds(graph)), None)
    for row in judged:
        inputs = {"image": sources[row], "binding": [first_of(graph, binder), 1]}
        graph[f"judged {row}"] = {"class_type": "SBScoreBinding", "inputs": inputs}
    run = server.run(graph)
    rows = [
        [Image.open(io.BytesIO(server.view(shown))).convert("RGB") for shown in run.outputs[f"row {row}"]["images"]]
        for row in range(len(sources))
    ]
    wrong, right = (verdicts(run.outputs[f"judged {row}"]) for row in judged) if judged else ((), ())
    order = list(range(max(map(len, rows))))
    if judged:
        order.sort(key=lambda place: (wrong[place] == "ok", right[place] != "ok"))
    return composed([label for label, _ in effect.rows], rows, order)


def verdicts(shown: dict) -> list[str]:
    return [image["verdict"] for image in shown["semantic_binding_score"][0]["images"]]


def composed(labels: list[str], rows: list[list[Image.Image]], order: list[int]) -> Image.Image:
    """A square of as many pictures across as there are rows, the label of each row on top of it."""
    count = len(rows)
    cell = (SIDE - GAP) // count - GAP
    high = cell - TEXT
    sheet = Image.new("RGB", (SIDE, SIDE), GROUND)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(TEXT - 6)
    for row, (label, pictures) in enumerate(zip(labels, rows, strict=True)):
        top = GAP + row * (cell + GAP)
        pen.text((GAP + 4, top - 2), label, INK, font)
        across = 1 if pictures[0].width > 2 * pictures[0].height else min(count, len(pictures))
        wide = (SIDE - GAP) // across - GAP
        chosen = [pictures[place] for place in order if place < len(pictures)][:across]
        for column, picture in enumerate(chosen):
            fitted = ImageOps.pad(picture, (wide, high), Image.Resampling.BICUBIC, GROUND)
            sheet.paste(fitted, (GAP + column * (wide + GAP), top + TEXT))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(EFFECTS))
    parser.add_argument("--to", type=Path, default=WORKFLOWS, help="where the thumbnails go")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from demo.server import Server

    with Server() as server:
        sams = server.base / "models" / "sams"
        sams.mkdir(parents=True, exist_ok=True)
        shutil.copy(MOBILE_SAM, sams)
        for name in arguments.names:
            thumbnail = drawn(server, EFFECTS[name], name)
            thumbnail.save(
                arguments.to / FILES[name].with_suffix(".jpg").name, quality=88, optimize=True, progressive=True
            )
            logging.info(name)


if __name__ == "__main__":
    main()
