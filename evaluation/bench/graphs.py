"""A workflow in ComfyUI's API format, and where a prompt and a seed are put into it.

The rules, each of which a choice of the user replaces:

- the picture is what the one VAE Decode gives that a Save Image or Preview Image is wired to;
- the prompt goes to ``text`` of every Bind Prompt and Bind Conditioning before the picture (and of the CLIP Text Encode
  that Bind Conditioning reads), else of the CLIP Text Encode that a sampler's ``positive`` is wired to;
- the seed goes to ``seed`` and ``noise_seed`` of every sampler and Random Noise before the picture.

Only the nodes that the picture is made of are kept, and of these no Record Attention whose maps it does not need.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

PICTURE, BINDING = "benchmark picture", "benchmark binding"
"""Ids of the nodes that are added to a graph; judges have others."""

SAVING = ("SaveImage", "PreviewImage")
BINDERS = ("SBBindPrompt", "SBBindConditioning")
ENCODER = "CLIPTextEncode"
RECORDER, MODEL = "SBRecordAttention", 0
SEEDS = ("seed", "noise_seed")

Graph = dict[str, dict[str, Any]]


class Link(NamedTuple):
    """An output of a node."""

    node: str
    slot: int


class Place(NamedTuple):
    """An input of a node."""

    node: str
    name: str

    def __str__(self) -> str:
        return f"{self.node}.{self.name}"


@dataclass(frozen=True)
class Choices:
    """What the user chose instead of the rules: inputs "ID.input" for the prompt and the seed, and the id of the Save
    Image or Preview Image of the picture."""

    prompt: tuple[str, ...] = ()
    seed: tuple[str, ...] = ()
    image: str | None = None


@dataclass(frozen=True)
class Template:
    """A workflow, and where in it prompt, seed and picture are; ``binding`` is its BINDING of the prompt, if any."""

    name: str
    graph: Graph
    prompts: tuple[Place, ...]
    seeds: tuple[Place, ...]
    picture: Link
    clip: Link
    binding: Link | None

    def filled(self, text: str, seed: int) -> Graph:
        """The graph for a prompt and a seed, with a node ``PICTURE`` that shows the picture, and a binding of the
        prompt (see ``binding_link``)."""
        graph = {node_id: {**node, "inputs": dict(node["inputs"])} for node_id, node in self.graph.items()}
        for place in self.prompts:
            graph[place.node]["inputs"][place.name] = text
        for place in self.seeds:
            graph[place.node]["inputs"][place.name] = seed
        graph[PICTURE] = node("PreviewImage", images=self.picture)
        if self.binding is None:
            graph[BINDING] = node("SBBindPrompt", clip=self.clip, text=text)
        return graph

    @property
    def binding_link(self) -> Link:
        """The BINDING of the prompt in a filled graph: the workflow's own, else that of an added Bind Prompt."""
        return Link(BINDING, 1) if self.binding is None else self.binding


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """A node of a graph; a ``Link`` as an input is written as ComfyUI does."""
    return {
        "class_type": class_type,
        "inputs": {name: list(value) if isinstance(value, Link) else value for name, value in inputs.items()},
    }


def digest(graph: Graph) -> str:
    """The first 12 digits of a graph's SHA-256, whatever the order and titles of its nodes."""
    plain = {node_id: {key: each[key] for key in ("class_type", "inputs")} for node_id, each in graph.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def read_template(name: str, graph: Any, choices: Choices) -> Template:
    """Where prompt, seed and picture are in a graph.

    Raises:
        ValueError: it is no graph in the API format, or a rule finds nothing, or several things; the message has them.
    """
    try:
        checked = _checked(graph)
        picture = _picture(checked, choices.image)
        before = _before(checked, picture.node)
        kept = _without_recorders({node_id: each for node_id, each in checked.items() if node_id in before})
        prompts = _prompts(kept, choices.prompt)
        binders = [place.node for place in prompts if kept[place.node]["class_type"] in BINDERS]
        return Template(
            name,
            kept,
            prompts,
            _seeds(kept, choices.seed),
            picture,
            _clip(kept, [place.node for place in prompts]),
            Link(binders[0], 1) if binders else None,
        )
    except ValueError as error:
        raise ValueError(f"Workflow {name}: {error}") from error


def _checked(graph: Any) -> Graph:
    if isinstance(graph, dict) and isinstance(graph.get("nodes"), list):
        raise ValueError("this is the frontend's format. Export the workflow in the API format (File, Export (API)).")
    if not isinstance(graph, dict) or not graph:
        raise ValueError("this is no graph in the API format.")
    for node_id, each in graph.items():
        if not isinstance(each, dict) or "class_type" not in each or not isinstance(each.get("inputs"), dict):
            raise ValueError(f'this is no graph in the API format: "{node_id}" is not a node.')
    for node_id, each in graph.items():
        for link in _links(each):
            if link.node not in graph:
                raise ValueError(f"node {node_id} is wired to a node {link.node}, which is not there.")
    return graph


def _link(value: Any) -> Link | None:
    is_link = isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)
    return Link(*value) if is_link else None


def _links(each: dict[str, Any]) -> list[Link]:
    return [link for value in each["inputs"].values() if (link := _link(value))]


def _before(graph: Graph, node_id: str) -> set[str]:
    """The node and all that it is made of."""
    found, open_ = set(), [node_id]
    while open_:
        if (each := open_.pop()) not in found:
            found.add(each)
            open_ += [link.node for link in _links(graph[each])]
    return found


def _without_recorders(graph: Graph) -> Graph:
    """The graph without nodes that only pass a model on and record, perhaps words that other prompts do not have."""
    used = {link for each in graph.values() for link in _links(each) if link.slot != MODEL}
    passed = {
        node_id: model
        for node_id, each in graph.items()
        if each["class_type"] == RECORDER
        and node_id not in {link.node for link in used}
        and (model := _link(each["inputs"].get("model")))
    }

    def onward(value: Any) -> Any:
        while (link := _link(value)) and link.node in passed:
            value = list(passed[link.node])
        return value

    return {
        node_id: {**each, "inputs": {name: onward(value) for name, value in each["inputs"].items()}}
        for node_id, each in graph.items()
        if node_id not in passed
    }


def _picture(graph: Graph, chosen: str | None) -> Link:
    shown = {
        node_id: link
        for node_id, each in graph.items()
        if each["class_type"] in SAVING and (link := _link(each["inputs"].get("images")))
    }
    listed = ", ".join(f"{node_id} ({_title(graph, node_id)})" for node_id in shown) or "none"
    if chosen is not None:
        if chosen not in shown:
            raise ValueError(f"{chosen} is not the id of a Save Image or Preview Image. There are: {listed}.")
        return shown[chosen]
    decoded = {link for link in shown.values() if graph[link.node]["class_type"].startswith("VAEDecode")}
    if len(decoded) == 1:
        return decoded.pop()
    found = "several pictures are" if decoded else "no picture that a VAE Decode gives is"
    raise ValueError(
        f"{found} saved or previewed. Say by --image-node which Save Image or Preview Image has the picture to judge. "
        f"There are: {listed}."
    )


def _title(graph: Graph, node_id: str) -> str:
    each = graph[node_id]
    return each.get("_meta", {}).get("title") or each["class_type"]


def _chosen(graph: Graph, names: Iterable[str], option: str) -> tuple[Place, ...]:
    """The inputs "ID.input".

    Raises:
        ValueError: there is no such input among what the picture is made of.
    """
    places = []
    for given in names:
        node_id, _, name = given.rpartition(".")
        if node_id not in graph:
            ids = ", ".join(f"{each} ({_title(graph, each)})" for each in graph)
            raise ValueError(f"{option} {given}: the picture is made of no node {node_id!r}. It is made of: {ids}.")
        if name not in graph[node_id]["inputs"]:
            inputs = ", ".join(graph[node_id]["inputs"])
            raise ValueError(f"{option} {given}: node {node_id} has no such input. It has: {inputs}.")
        places.append(Place(node_id, name))
    return tuple(places)


def _prompts(graph: Graph, chosen: tuple[str, ...]) -> tuple[Place, ...]:
    if chosen:
        places = _chosen(graph, chosen, "--prompt-node")
    else:
        places = _bound(graph) or _encoded(graph)
        _check_same(graph, places)
    for place in places:
        each = graph[place.node]
        if each["class_type"] in BINDERS and str(each["inputs"].get("entities", "")).strip():
            raise ValueError(
                f"the input entities of {place.node} ({_title(graph, place.node)}) names those of one prompt. Empty "
                "it, so that every prompt is parsed."
            )
    return places


def _bound(graph: Graph) -> tuple[Place, ...]:
    places = []
    for node_id, each in graph.items():
        if each["class_type"] in BINDERS:
            places.append(Place(node_id, "text"))
            if link := _link(each["inputs"].get("conditioning")):
                places += [Place(encoder, "text") for encoder in sorted(_encoders(graph, link))]
    return tuple(dict.fromkeys(places))


def _encoded(graph: Graph) -> tuple[Place, ...]:
    found = {
        encoder
        for each in graph.values()
        if (link := _link(each["inputs"].get("positive")))
        for encoder in _encoders(graph, link)
    }
    if len(found) == 1:
        return (Place(found.pop(), "text"),)
    texts = [
        f'{node_id}.{name} ("{value[:40]}")'
        for node_id, each in graph.items()
        for name, value in each["inputs"].items()
        if isinstance(value, str) and (node_id in found or "text" in name)
    ]
    raise ValueError(
        f"{'several CLIP Text Encode are' if found else 'no Bind Prompt and no CLIP Text Encode is'} wired to a "
        f"sampler's positive. Say by --prompt-node ID.input where the prompt goes. There are: "
        f"{', '.join(texts) or 'no texts'}."
    )


def _encoders(graph: Graph, link: Link) -> set[str]:
    """The CLIP Text Encode nodes that a conditioning comes from; through nodes with a positive and a negative side,
    those of the positive one."""
    each = graph[link.node]
    if each["class_type"] == ENCODER:
        return {link.node}
    names = [name for name in each["inputs"] if name == "positive" or name.startswith("conditioning")]
    found: set[str] = set()
    for name in names:
        if onward := _link(each["inputs"][name]):
            found |= _encoders(graph, onward)
    return found


def _check_same(graph: Graph, places: tuple[Place, ...]) -> None:
    texts = {place: graph[place.node]["inputs"].get(place.name) for place in places}
    for place, text in texts.items():
        if link := _link(text):
            raise ValueError(
                f"{place} is wired to node {link.node} ({_title(graph, link.node)}). Say by --prompt-node ID.input "
                f"where the prompt goes: {place} itself, or one of "
                f"{', '.join(f'{link.node}.{name}' for name in graph[link.node]['inputs'])}."
            )
    if len(set(texts.values())) > 1:
        listed = ", ".join(f'{place} ("{text}")' for place, text in texts.items())
        raise ValueError(f"there are several prompts. Say by --prompt-node ID.input which one is meant: {listed}.")


def _seeds(graph: Graph, chosen: tuple[str, ...]) -> tuple[Place, ...]:
    if chosen:
        return _chosen(graph, chosen, "--seed-node")
    all_ = [Place(node_id, name) for node_id, each in graph.items() for name in SEEDS if name in each["inputs"]]
    places = tuple(
        place
        for place in all_
        if graph[place.node]["class_type"] == "RandomNoise" or "Sampler" in graph[place.node]["class_type"]
    )
    if not places:
        listed = ", ".join(map(str, all_)) or "none"
        raise ValueError(
            "no sampler and no Random Noise has a seed. Say by --seed-node ID.input where the seed goes. Inputs called "
            f"seed: {listed}."
        )
    return places


def _clip(graph: Graph, prompt_nodes: list[str]) -> Link:
    """The text encoder of the prompt: that of its nodes, else the one that all text encoding nodes have."""
    for ids in (prompt_nodes, [each for each in graph if graph[each]["class_type"].startswith((ENCODER, *BINDERS))]):
        links = {link for each in ids if (link := _link(graph[each]["inputs"].get("clip")))}
        if len(links) == 1:
            return links.pop()
    raise ValueError("the prompt's nodes have no text encoder, or several: there must be one input clip among them.")
