"""The shipped blueprints: ComfyUI lists them, they run on every layout, and workflows hold them as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from clone import ROOT
from subgraphs import INSIDE, sent

BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
NAMES = [path.stem for path in BLUEPRINTS]
LOADER, LATENT = 20, 21
FIRST = 2
"""The node of the blueprint itself."""


def read(path: Path) -> dict:
    return json.loads(path.read_text("utf-8"))


def wired(path: Path, checkpoint: str, **values) -> dict:
    """A blueprint with a checkpoint and a latent of 256 x 192, and other values of its widgets."""
    graph = read(path)
    [host] = graph["nodes"]
    widgets = [slot["name"] for slot in host["inputs"] if "widget" in slot]
    host["widgets_values"] = [values.get(*each) for each in zip(widgets, host["widgets_values"], strict=True)]
    sources = {"model": (LOADER, 0), "clip": (LOADER, 1), "latent_image": (LATENT, 0)}
    for slot in host["inputs"]:
        if slot["name"] in sources:
            slot["link"] = len(graph["links"]) + 1
            graph["links"].append([slot["link"], *sources[slot["name"]], FIRST, 0, slot["type"]])
    graph["nodes"] += [
        {"id": LOADER, "type": "CheckpointLoaderSimple", "title": "", "widgets_values": [checkpoint]},
        {"id": LATENT, "type": "EmptyLatentImage", "title": "", "widgets_values": [256, 192, 1]},
    ]
    return graph


def outputs_of(graph: dict) -> dict[str, list]:
    """Where each output of the blueprint comes from, in the form that is sent."""
    [subgraph] = graph["definitions"]["subgraphs"]
    ends = {link["id"]: link for link in subgraph["links"]}
    inner = {slot["name"]: ends[slot["linkIds"][0]] for slot in subgraph["outputs"]}
    return {name: [f"{FIRST}:{end['origin_id']}", end["origin_slot"]] for name, end in inner.items()}


def test_there_are_two() -> None:
    assert len(NAMES) == 2


def test_comfyui_lists_them(server) -> None:
    listed = server.get("/global_subgraphs").json()
    mine = {key: each for key, each in listed.items() if each["info"]["node_pack"] == f"custom_nodes.{ROOT.name}"}
    assert sorted(each["name"] for each in mine.values()) == NAMES
    for key, each in mine.items():
        data = server.get(f"/global_subgraphs/{key}").json()["data"]
        assert json.loads(data) == read(ROOT / "subgraphs" / f"{each['name']}.json")


@pytest.mark.parametrize("path", BLUEPRINTS, ids=NAMES)
def test_its_slots_are_those_of_what_is_inside(path: Path) -> None:
    graph = read(path)
    [host], [subgraph] = graph["nodes"], graph["definitions"]["subgraphs"]
    assert host["type"] == subgraph["id"] and host["title"] == subgraph["name"] == path.stem
    assert graph["extra"]["BlueprintSearchAliases"] and graph["extra"]["BlueprintDescription"]
    for end in ("inputs", "outputs"):
        outer = [(slot["name"], slot["type"]) for slot in host[end]]
        assert outer == [(slot["name"], slot["type"]) for slot in subgraph[end]]
    links = {link["id"]: link for link in subgraph["links"]}
    nodes = {node["id"]: node for node in subgraph["nodes"]}
    for link in links.values():
        if link["origin_id"] == INSIDE:
            assert link["id"] in subgraph["inputs"][link["origin_slot"]]["linkIds"]
            assert nodes[link["target_id"]]["inputs"][link["target_slot"]]["link"] == link["id"]


@pytest.mark.parametrize("layout", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("path", BLUEPRINTS, ids=NAMES)
def test_it_runs_on_every_layout(tiny, run_graph, published, path: Path, layout: str) -> None:
    graph = wired(path, tiny(layout).name, steps=3)
    run = run_graph(sent(graph, published), **outputs_of(graph))
    latent, maps = run.values["LATENT"], run.values["maps"]
    assert latent["samples"].shape == (1, 4, 24, 32) and latent["samples"].isfinite().all()
    assert maps.find(latent).labels == ("cup", "plate")
    assert [entity.name for entity in run.values["binding"].entities] == ["cup", "plate"]


@pytest.mark.parametrize("path", BLUEPRINTS, ids=NAMES)
def test_strength_0_is_the_plain_picture(tiny, run_graph, published, path: Path) -> None:
    made = {}
    for strength in (0.0, 8.0):
        graph = wired(path, tiny("sd1").name, steps=3, strength=strength)
        made[strength] = run_graph(sent(graph, published), **outputs_of(graph)).values["LATENT"]["samples"]
    graph = sent(graph, published)
    [sampler] = [each for each, node in graph.items() if node["class_type"] == "KSampler"][:1]
    graph[sampler]["inputs"]["model"] = [str(LOADER), 0]
    plain = run_graph(graph, plain=[sampler, 0]).values["plain"]["samples"]
    assert torch.equal(made[0.0], plain)
    assert not torch.allclose(made[8.0], plain)


def test_workflows_hold_them_as_they_are() -> None:
    shipped = {graph["id"]: graph for path in BLUEPRINTS for graph in read(path)["definitions"]["subgraphs"]}
    held = set()
    for path in (ROOT / "workflows").glob("*.json"):
        graph = read(path)
        numbers = [node["id"] for node in graph["nodes"]]
        for subgraph in graph.get("definitions", {}).get("subgraphs", ()):
            assert subgraph == shipped[subgraph["id"]]
            numbers += [node["id"] for node in subgraph["nodes"]]
            held.add(subgraph["id"])
        assert len(numbers) == len({*numbers}), "the frontend would number some of them anew"
    assert held == shipped.keys()


@pytest.fixture(scope="module")
def published(server) -> dict:
    return server.object_info()
