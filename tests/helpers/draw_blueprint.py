"""A blueprint, our nodes put together as one node to drag, from the API form of what is inside.

    .dev/venv/bin/python tests/helpers/draw_blueprint.py GRAPH.json NAME

GRAPH.json holds ``api``, ``note`` and ``columns`` of the inside, as draw_workflow.py has them; ``inputs``, a list of
``[name, [[id, input], ...]]``, and ``outputs``, a list of ``[name, id, output]``, from top to bottom; ``description``
and ``aliases``. The blueprint is written to subgraphs/, and ComfyUI lists it by its file's name.
"""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path

from draw_workflow import MULTILINE, ROOT, SLOT, WIDGET, Widget, drawn, groups_of, widgets_of, with_defaults
from subgraphs import INSIDE, OUTSIDE

CATEGORY = "semantic binding"
FIRST_INSIDE = 100
"""Added to the ids inside: the frontend numbers nodes anew that have the id of one outside."""
WIDTH, LINES = 440, 90
LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


def identity(*parts: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "/".join(("semantic binding", *parts))))


def sockets_of(told: dict) -> dict[str, str]:
    """The types of a node's inputs."""
    return {name: kind for group in groups_of(told).values() for name, (kind, *_) in group.items()}


def end(number: int, left: float, slots: list) -> dict:
    """One end of a subgraph, where its inputs or outputs are."""
    return {"id": number, "bounding": [left, 80, 140, 40 + 20 * len(slots)]}


def blueprint(asked: dict, name: str, definitions: dict) -> dict:
    """The graph of one node that the frontend's library takes; see the top."""
    api = with_defaults(asked["api"], definitions)
    inner = drawn(api, asked["note"], asked["columns"], definitions)
    nodes = {str(node["id"]): node for node in inner["nodes"]}
    links = [dict(zip(LINK, link, strict=True)) for link in inner["links"]]
    inputs: list[dict] = []
    outputs: list[dict] = []
    widgets: dict[str, Widget] = {}

    def linked(origin: int, slot: int, target: int, at: int, kind: str) -> int:
        links.append(dict(zip(LINK, (len(links) + 1, origin, slot, target, at, kind), strict=True)))
        return len(links)

    for title, targets in asked["inputs"]:
        slot = {"id": identity(name, "input", title), "name": title, "type": "", "linkIds": []}
        for node_id, entering in targets:
            told, node = definitions[api[node_id]["class_type"]], nodes[node_id]
            [*widget] = [each for each in widgets_of(groups_of(told), api[node_id]["inputs"]) if each.name == entering]
            kind = widget[0].kind if widget else sockets_of(told)[entering]
            number = linked(INSIDE, len(inputs), int(node_id), len(node["inputs"]), kind)
            entry = {"name": entering, "type": kind, "link": number}
            node["inputs"].append(entry | ({"widget": {"name": entering}} if widget else {}))
            slot["type"] = kind
            slot["linkIds"].append(number)
            if widget:
                widgets.setdefault(title, widget[0])
        inputs.append(slot)
    for title, node_id, leaving in asked["outputs"]:
        output = nodes[node_id]["outputs"][leaving]
        number = linked(int(node_id), leaving, OUTSIDE, len(outputs), output["type"])
        output["links"] = [*(output["links"] or []), number]
        slot = {"id": identity(name, "output", title), "name": title, "type": output["type"], "linkIds": [number]}
        outputs.append(slot)
    for node in inner["nodes"]:
        node["id"] += FIRST_INSIDE
    for link in links:
        link |= {end: link[end] + FIRST_INSIDE for end in ("origin_id", "target_id") if link[end] > 0}
    right = max(left + across for left, _, across, _ in (group["bounding"] for group in inner["groups"]))
    definition = {
        "id": identity(name, json.dumps(asked["api"])),
        "version": 1,
        "state": {
            "lastGroupId": len(inner["groups"]),
            "lastNodeId": FIRST_INSIDE + inner["last_node_id"],
            "lastLinkId": len(links),
            "lastRerouteId": 0,
        },
        "revision": 0,
        "config": {},
        "name": name,
        "inputNode": end(INSIDE, -220, inputs),
        "outputNode": end(OUTSIDE, right + 60, outputs),
        "inputs": inputs,
        "outputs": outputs,
        "widgets": [],
        "nodes": inner["nodes"],
        "groups": inner["groups"],
        "links": links,
        "extra": {"workflowRendererVersion": "LG"},
        "category": CATEGORY,
        "description": asked["description"],
    }
    high = max(len(inputs) - len(widgets), len(outputs)) * SLOT + len(widgets) * WIDGET + 40
    host = {
        "id": 2,
        "type": definition["id"],
        "pos": [0, 0],
        "size": [WIDTH, high + LINES * sum(each in MULTILINE for each in widgets)],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [
            {"name": slot["name"], "type": slot["type"], "link": None}
            | ({"widget": {"name": slot["name"]}} if slot["name"] in widgets else {})
            for slot in inputs
        ],
        "outputs": [{"name": slot["name"], "type": slot["type"], "links": []} for slot in outputs],
        "title": name,
        "properties": {},
        "widgets_values": [each.value for each in widgets.values()],
    }
    return {
        "id": identity(name, "blueprint"),
        "revision": 0,
        "last_node_id": 2,
        "last_link_id": 0,
        "nodes": [host],
        "links": [],
        "groups": [],
        "config": {},
        "extra": {"BlueprintDescription": asked["description"], "BlueprintSearchAliases": asked["aliases"]},
        "version": 0.4,
        "definitions": {"subgraphs": [definition]},
    }


def main() -> None:
    from demo.server import Server

    asked, name = json.loads(Path(sys.argv[1]).read_text("utf-8")), sys.argv[2]
    with Server() as server:
        drawing = blueprint(asked, name, server.object_info())
    folder = ROOT / "subgraphs"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(drawing, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
