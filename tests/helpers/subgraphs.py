"""What the frontend sends of a graph that it has saved: subgraphs are replaced by what is inside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

NOTES = {"MarkdownNote"}
DYNAMIC = "COMFY_DYNAMICCOMBO_V3"
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "CURVE", "BOUNDING_BOXES", DYNAMIC}
INSIDE, OUTSIDE = -10, -20
"""Ids of the two ends of a subgraph, from where its links come and where they go."""


def widget_values(inputs: dict, saved: Iterator, prefix: str = "") -> dict:
    """The inputs of a node that are widgets, by their names in a prompt, from the values that the frontend saves.

    ``inputs`` are the node's as the server tells of them; ``saved`` is used up as far as they go.
    """
    values = {}
    for name, (kind, *options) in (
        entry for group in ("required", "optional") for entry in inputs.get(group, {}).items()
    ):
        if isinstance(kind, list) or kind in WIDGETS:
            value = next(saved)
            values[prefix + name] = {"__value__": value} if isinstance(value, list) else value
            if options and (options[0].get("control_after_generate") or options[0].get("image_upload")):
                next(saved)
        if kind == DYNAMIC:
            [chosen] = [option for option in options[0]["options"] if option["key"] == values[prefix + name]]
            values |= widget_values(chosen["inputs"], saved, f"{prefix}{name}.")
    return values


def sent(graph: dict, definitions: dict) -> dict:
    """The API form of a saved graph; ``definitions`` are those of the server's nodes."""
    links = {link[0]: [str(link[1]), link[2]] for link in graph["links"]}
    inner = {each["id"]: each for each in graph.get("definitions", {}).get("subgraphs", ())}
    hosts = {str(node["id"]): node for node in graph["nodes"] if node["type"] in inner}

    def source(link: int) -> list:
        """The node and output at the beginning of a link of the graph; of a subgraph's output, what it comes from."""
        node_id, slot = links[link]
        if node_id not in hosts:
            return [node_id, slot]
        [end] = [
            each
            for each in inner[hosts[node_id]["type"]]["links"]
            if (each["target_id"], each["target_slot"]) == (OUTSIDE, slot)
        ]
        return [f"{node_id}:{end['origin_id']}", end["origin_slot"]]

    found = {}
    for node in graph["nodes"]:
        node_id = str(node["id"])
        if node_id not in hosts:
            found |= _of_node(node_id, node, definitions, source)
            continue
        subgraph = inner[node["type"]]
        ends = {each["id"]: each for each in subgraph["links"]}
        given = _given_from_outside(node, subgraph, source)

        def within(link: int, node_id: str = node_id, ends: dict = ends, given: list = given) -> Any:
            end = ends[link]
            if end["origin_id"] == INSIDE:
                return given[end["origin_slot"]]
            return [f"{node_id}:{end['origin_id']}", end["origin_slot"]]

        for each in subgraph["nodes"]:
            found |= _of_node(f"{node_id}:{each['id']}", each, definitions, within)
    return found


def _given_from_outside(host: dict, subgraph: dict, source) -> list:
    """What each input of a subgraph's node brings: the beginning of its link, or the value of its widget."""
    slots = {node["id"]: node["inputs"] for node in subgraph["nodes"]}
    inward = [link for link in subgraph["links"] if link["origin_id"] == INSIDE]
    widgets = {link["origin_slot"] for link in inward if "widget" in slots[link["target_id"]][link["target_slot"]]}
    values = iter(host["widgets_values"])
    links = {slot["name"]: slot["link"] for slot in host["inputs"]}
    given = []
    for place, slot in enumerate(subgraph["inputs"]):
        value = next(values) if place in widgets else None
        link = links.get(slot["name"])
        given.append(value if link is None else source(link))
    assert not list(values), f"{host['title']} has more values than widgets"
    return given


def _of_node(node_id: str, node: dict, definitions: dict, source) -> dict:
    if node["type"] in NOTES:
        return {}
    saved = iter(node.get("widgets_values", ()))
    inputs = widget_values(definitions[node["type"]]["input"], saved)
    assert not list(saved), f"{node['type']} has more values than widgets"
    inputs |= {slot["name"]: source(slot["link"]) for slot in node.get("inputs", ()) if slot.get("link") is not None}
    title = node.get("title", definitions[node["type"]]["display_name"])
    return {node_id: {"inputs": inputs, "class_type": node["type"], "_meta": {"title": title}}}
