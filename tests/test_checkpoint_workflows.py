"""The example graphs for the user's own checkpoint, on small random models in the layouts that they are set for."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
import torch
from PIL import Image

from examples import api
from gradients import slowly
from tiny_adapter import Sizes, random_unet, weights_of, write

FIRST, FIRST_SDXL = "Your own checkpoint", "Your own SDXL checkpoint"
OBJECTS_SDXL, PARTS, FACES = "Object binding on SDXL", "Parts on the wrong thing", "Faces on the right bodies"
ENTITIES = {
    FIRST: ["bowl", "cat"],
    FIRST_SDXL: ["cat", "dog"],
    "Colours on the wrong thing": ["bowl", "cat"],
    "Something is left out": ["frog", "crown"],
    PARTS: ["cat", "dog"],
    OBJECTS_SDXL: ["cat", "dog"],
    "Three things and more": ["apple", "cup", "lemon"],
    FACES: ["man", "woman"],
}
SDXL = (FIRST_SDXL, OBJECTS_SDXL)
OTHER_LAYOUTS = [
    *((name, "sdxl") for name in ENTITIES if name not in (*SDXL, FACES)),
    (FIRST, "sd2"),
    (OBJECTS_SDXL, "sd1"),
]


def small(graph: dict, checkpoint: str) -> dict:
    """The graph on another checkpoint, for a small picture in few steps."""
    for node in graph.values():
        match node["class_type"]:
            case "CheckpointLoaderSimple":
                node["inputs"]["ckpt_name"] = checkpoint
            case "EmptyLatentImage":
                node["inputs"] |= {"width": 256, "height": 192}
            case "KSampler":
                node["inputs"]["steps"] = 4
    return graph


@pytest.fixture
def files(comfy, tiny) -> None:
    """A photograph and a small random adapter, under the names that the graphs have."""
    Image.new("RGB", (64, 64), "tan").save(folder_of(comfy.base / "input") / "example.png")
    adapter = weights_of(Sizes()) | random_unet(tiny("sd1").model)
    write(adapter, folder_of(comfy.base / "models" / "fastcomposer") / "pytorch_model.bin")
    comfy.folder_paths.filename_list_cache.clear()


def folder_of(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.parametrize("name", slowly(list(ENTITIES), [FIRST, FIRST_SDXL, FACES]))
def test_what_it_shows_and_that_each_sampler_makes_another_picture(files, tiny, run_graph, name: str) -> None:
    shows_all(tiny("sdxl" if name in SDXL else "sd1").name, run_graph, name)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "layout"), OTHER_LAYOUTS)
def test_the_same_on_the_other_layouts(tiny, run_graph, name: str, layout: str) -> None:
    shows_all(tiny(layout).name, run_graph, name)


def shows_all(checkpoint: str, run_graph, name: str) -> None:
    graph = small(api(name), checkpoint)
    samplers = [node_id for node_id, node in graph.items() if node["class_type"] == "KSampler"]
    run = run_graph(graph, **{node_id: [node_id, 0] for node_id in samplers})
    [bound] = [node_id for node_id, node in graph.items() if node["class_type"] == "SBBindPrompt"]
    found = json.loads(run.outputs[bound]["semantic_binding"][0])["entities"]
    assert [entity["name"] for entity in found] == ENTITIES[name]
    kinds = ("SaveImage", "SBPreviewAttention", "SBPreviewMasks", "SBPreviewTokenLosses")
    assert all(run.outputs[node_id]["images"] for node_id, node in graph.items() if node["class_type"] in kinds)
    made = [run.values[node_id]["samples"] for node_id in samplers]
    assert len(made) > 1 and all(each.isfinite().all() for each in made)
    assert not any(torch.equal(one, other) for one, other in combinations(made, 2))
