"""Workflows on a page of the frontend."""

from __future__ import annotations

import copy

import pytest
from playwright.sync_api import Locator

import examples
from browser import Frontend

RENDERERS = pytest.mark.parametrize("vue_nodes", [False, True], ids=["canvas", "nodes 2.0"])
EACH_ONCE = [("pinned", False), ("newest", True)]
"""Of both frontends and both renderings."""

PAIR = "Bind a prompt"
BYPASSED = 4
INNER_PANEL = """() => app.rootGraph.nodes.find(node => node.subgraph).subgraph.nodes[0].widgets
    .find(widget => widget.name === "semantic_binding_panel").element"""


# The contrast of an element's colour against the ground of its panel or menu, as WCAG reckons it; the browser reads
# the colours.
CONTRAST = """(element, styled) => {
    const ground = getComputedStyle(element.closest(".sb-panel, .sb-menu")).backgroundColor;
    const luminance = colour => {
        const context = new OffscreenCanvas(1, 1).getContext("2d");
        for (const laid of [ground, colour]) {
            context.fillStyle = laid;
            context.fillRect(0, 0, 1, 1);
        }
        const [red, green, blue] = [...context.getImageData(0, 0, 1, 1).data].map(value => value / 255)
            .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const [lower, higher] = [getComputedStyle(element)[styled], ground].map(luminance).sort((a, b) => a - b);
    return (higher + 0.05) / (lower + 0.05);
}"""


def workflow(name: str) -> dict:
    return examples.ui(name)


def node_of(graph: dict, kind: str) -> dict:
    return next(node for node in graph["nodes"] if node["type"] == kind)


def only(graph: dict, *kinds: str) -> dict:
    """The graph without its other nodes."""
    graph = copy.deepcopy(graph)
    graph["nodes"] = [node for node in graph["nodes"] if node["type"] in kinds]
    kept = {node["id"] for node in graph["nodes"]}
    graph["links"] = [link for link in graph["links"] if {link[1], link[3]} <= kept]
    present = {link[0] for link in graph["links"]}
    for node in graph["nodes"]:
        for slot in node.get("outputs", ()):
            slot["links"] = [link for link in slot.get("links") or () if link in present]
        for slot in node.get("inputs", ()):
            slot["link"] = slot["link"] if slot["link"] in present else None
    return graph


def prompt_alone(text: str) -> tuple[dict, int]:
    """A graph of Bind Prompt and its CLIP, and the number of Bind Prompt."""
    graph = only(workflow(PAIR), "SBLoadDemoModel", "SBBindPrompt")
    node = node_of(graph, "SBBindPrompt")
    node["widgets_values"][0] = text
    return graph, node["id"]


def middle(element: Locator) -> tuple[float, float]:
    """Where an element's middle is on the page."""
    box = element.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def values(graph: dict) -> dict:
    return {node["id"]: node.get("widgets_values") or [] for node in graph["nodes"]}


def short_run(name: str, seed: int, steps: int = 3) -> dict:
    """A shipped workflow for one picture in a few steps; the seed keeps ComfyUI from taking it from its cache."""
    graph = workflow(name)
    for node in graph["nodes"]:
        match node["type"]:
            case "EmptyLatentImage":
                node["widgets_values"][2] = 1
            case "KSampler":
                node["widgets_values"][0], node["widgets_values"][2] = seed, steps
    return graph


def sent(page: Frontend, kind: str) -> dict:
    """What the open workflow sends to the server as inputs of its node of a kind."""
    return next(node["inputs"] for node in page.prompt().values() if node["class_type"] == kind)
