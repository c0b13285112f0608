"""The form in which the frontend opens a graph, from its API form and columns of nodes: how new examples are made.

    .dev/venv/bin/python tests/helpers/draw_workflow.py GRAPH.json NAME

GRAPH.json holds ``api``, the graph as scripts send it, with node 1 left free; ``note``, what it says in Markdown; and
``columns``, a list of ``[title, [id, ...]]``, from left to right, whose first gets the note on top. A ``class_type``
may be the name of a blueprint of subgraphs/. Both forms are written to workflows/; tests/test_workflows.py holds that
they are the same.
"""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from subgraphs import sent

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

COLOURS = ("#7f6a3f", "#3f5f7f", "#5f4f7f", "#3f6f4f")
GAP, TITLE, HEAD = 20, 30, 60
SLOT, WIDGET, LINES = 22, 26, 110
NOTE = (320, 420)
WIDTHS = {
    "SBBindPrompt": 440,
    "SBScoreBinding": 480,
    "SBPreviewAttention": 520,
    "SBTokenArithmetic": 440,
    "SaveImage": 440,
    "PreviewImage": 440,
    "CreateBoundingBoxes": 440,
}
WIDTH = 320
PANELS = {
    "SBBindPrompt": 220,
    "SBScoreBinding": 420,
    "SBPreviewAttention": 340,
    "SBTokenArithmetic": 100,
    "SaveImage": 380,
    "PreviewImage": 380,
    "CreateBoundingBoxes": 640,
}
"""Pixels that a node needs below its widgets for what it shows."""
MULTILINE = ("prompt", "negative", "entities")
"""Widgets of blueprints that hold text of several lines."""
DYNAMIC = "COMFY_DYNAMICCOMBO_V3"
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "CURVE", "BOUNDING_BOXES", DYNAMIC}


class Widget(NamedTuple):
    """A widget of a node; ``options`` are what the server tells of it."""

    name: str
    kind: str
    value: Any
    options: dict


def groups_of(told: dict) -> dict:
    """The inputs of a node that a user sees, as the server tells of them."""
    return {group: told["input"].get(group, {}) for group in ("required", "optional")}


def widgets_of(inputs: dict, given: dict, prefix: str = "") -> list[Widget]:
    """The widgets of a node, in the order in which the frontend saves them."""
    found = []
    for name, (kind, *options) in ((*each,) for group in inputs.values() for each in group.items()):
        told = options[0] if options else {}
        if (isinstance(kind, list) or kind in WIDGETS) and not told.get("forceInput"):
            value = given.get(prefix + name, told.get("default"))
            value = told.get("default") if isinstance(value, list) else value
            found.append(Widget(prefix + name, "COMBO" if isinstance(kind, list) else kind, value, told))
            if told.get("control_after_generate"):
                found.append(Widget(f"{prefix}{name} control", "COMBO", "fixed", {}))
            if told.get("image_upload"):
                found.append(Widget(f"{prefix}{name} control", "COMBO", "image", {}))
        if kind == DYNAMIC:
            [chosen] = [option for option in told["options"] if option["key"] == given[prefix + name]]
            found += widgets_of(chosen["inputs"], given, f"{prefix}{name}.")
    return found


def drawn(api: dict, note: str, columns: list, definitions: dict) -> dict:
    """The graph as the frontend saves it."""
    nodes, links = {}, []
    for node_id, node in api.items():
        told, given = definitions[node["class_type"]], node["inputs"]
        widgets = widgets_of(groups_of(told), given)
        sockets = {name: kind for group in told["input"].values() for name, (kind, *_) in group.items()}
        wired = [name for name, value in given.items() if isinstance(value, list)]
        entries = []
        for name in [each for each in sockets if each in wired]:
            links.append([len(links) + 1, int(given[name][0]), given[name][1], int(node_id), len(entries)])
            entry = {"name": name, "type": sockets[name], "link": len(links)}
            entries.append(entry | ({"widget": {"name": name}} if name in {each.name for each in widgets} else {}))
        outputs = [
            {"name": name, "type": kind, "links": None}
            for name, kind in zip(told["output_name"], told["output"], strict=True)
        ]
        kind = node["class_type"]
        high = max(len(entries), len(outputs)) * SLOT + len(widgets) * WIDGET + PANELS.get(kind, 0) + 20
        high += LINES * sum(bool(each.options.get("multiline")) for each in widgets)
        nodes[node_id] = {
            "id": int(node_id),
            "type": kind,
            "size": [WIDTHS.get(kind, WIDTH), high],
            "flags": {},
            "mode": 0,
            "inputs": entries,
            "outputs": outputs,
            "title": node.get("_meta", {}).get("title", told["display_name"]),
            "properties": {"Node name for S&R": kind},
            "widgets_values": [unwrapped(each.value) for each in widgets],
        }
    for link in links:
        output = nodes[str(link[1])]["outputs"][link[2]]
        output["links"] = [*(output["links"] or []), link[0]]
        link.append(output["type"])
    free = {"type": "MarkdownNote", "flags": {}, "mode": 0, "inputs": [], "outputs": [], "properties": {}}
    nodes["1"] = {"id": 1, **free, "size": list(NOTE), "title": "Read me", "widgets_values": [note]}
    groups = placed(
        nodes, [[title, [*(["1"] if number == 0 else []), *ids]] for number, (title, ids) in enumerate(columns)]
    )
    ordered = [{**nodes[node_id], "order": place} for place, node_id in enumerate(sorted(nodes, key=int))]
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, note)),
        "revision": 0,
        "last_node_id": max(map(int, nodes)),
        "last_link_id": len(links),
        "nodes": ordered,
        "links": links,
        "groups": groups,
        "config": {},
        "extra": {"ds": {"scale": 0.75, "offset": [60, 90]}},
        "version": 0.4,
    }


def unwrapped(value: object) -> object:
    """What the frontend saves of a value that it sends: lists are sent in a dict, as they would be links."""
    return value["__value__"] if isinstance(value, dict) and "__value__" in value else value


def placed(nodes: dict, columns: list) -> list[dict]:
    """Give the nodes their places, column by column; the groups around them, all of one height."""
    left, groups, lowest = 20, [], 0
    for number, (title, ids) in enumerate(columns):
        wide = max(nodes[node_id]["size"][0] for node_id in ids)
        top = 20 + HEAD
        for node_id in ids:
            nodes[node_id] |= {"pos": [left + GAP, top]}
            nodes[node_id]["size"][0] = wide
            top += nodes[node_id]["size"][1] + TITLE + GAP
        lowest = max(lowest, top)
        box = [left, 20, wide + 2 * GAP, 0]
        colour = COLOURS[number % len(COLOURS)]
        groups.append(
            {"id": number + 1, "title": f"{number + 1}. {title}", "bounding": box, "color": colour, "flags": {}}
        )
        left += wide + 3 * GAP
    for group in groups:
        group["bounding"][3] = lowest - 20
    return groups


def with_defaults(api: dict, definitions: dict) -> dict:
    """The graph with a title and all values for every node."""
    filled = {}
    for node_id, node in api.items():
        told = definitions[node["class_type"]]
        widgets = widgets_of(groups_of(told), node["inputs"])
        values = {each.name: each.value for each in widgets if not each.name.endswith(" control")}
        title = node.get("_meta", {}).get("title", told["display_name"])
        filled[node_id] = {**node, "inputs": values | node["inputs"], "_meta": {"title": title}}
    return filled


def blueprint(name: str) -> tuple[dict, dict]:
    """The subgraph of a blueprint, and what the server would tell of it if it were a node."""
    graph = json.loads((ROOT / "subgraphs" / f"{name}.json").read_text("utf-8"))
    [host], [definition] = graph["nodes"], graph["definitions"]["subgraphs"]
    values = iter(host["widgets_values"])
    inputs = {
        slot["name"]: (
            slot["type"],
            {"default": next(values), "multiline": slot["name"] in MULTILINE} if "widget" in slot else {},
        )
        for slot in host["inputs"]
    }
    told = {
        "input": {"required": inputs},
        "output": [slot["type"] for slot in host["outputs"]],
        "output_name": [slot["name"] for slot in host["outputs"]],
        "display_name": name.partition(" (")[0],
    }
    return definition, told


def main() -> None:
    from demo.server import Server

    asked, name = json.loads(Path(sys.argv[1]).read_text("utf-8")), sys.argv[2]
    with Server() as server:
        definitions = server.object_info()
    names = {node["class_type"] for node in asked["api"].values()} - definitions.keys()
    blueprints = {each: blueprint(each) for each in sorted(names)}
    known = definitions | {each: told for each, (_, told) in blueprints.items()}
    graph = drawn(with_defaults(asked["api"], known), asked["note"], asked["columns"], known)
    for node in graph["nodes"]:
        if node["type"] in blueprints:
            node |= {"type": blueprints[node["type"]][0]["id"], "properties": {}}
    if blueprints:
        graph["definitions"] = {"subgraphs": [definition for definition, _ in blueprints.values()]}
    (ROOT / "workflows" / f"{name}.json").write_text(json.dumps(graph, indent=1, ensure_ascii=False) + "\n", "utf-8")
    api = json.dumps(sent(graph, definitions), indent=2, ensure_ascii=False) + "\n"
    (ROOT / "workflows" / "api" / f"{name}.json").write_text(api, "utf-8")


if __name__ == "__main__":
    main()
