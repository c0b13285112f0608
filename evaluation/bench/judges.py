"""Who judges the pictures: nodes that are added to a graph, and what their results say.

- ``shapes``: Score Binding, which knows the world of the demo model. The score is 1 where all is right, else 0.
- ``detector:NAME``: Detect Entities with that detector. The score is the share of the prompt's things that are found,
  and where the prompt says how two of them stand, 1 if both are there and stand so, else 0.
- any other name: Judge Binding with the judge of that name, which Load Judge loads, and its score.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .graphs import BINDING, Graph, Link, Template, node
from .prompt import Prompt
from .visor import stands

SHAPES, DETECTOR = "shapes", "detector:"
JUDGE = "benchmark judge"
OBJECT, RELATION = "detected object", "detected relation"
AGGREGATE = "arithmetic mean"

Outputs = dict[str, dict[str, list]]
"""What the nodes of a run showed, by their ids."""


@dataclass(frozen=True)
class Judged:
    """One picture: its score, None where it could not be judged, and what was asked of it.

    A question has ``text``, ``entity`` (whom it is about), ``kind``, ``wanted`` (whether yes is right), and
    ``probability`` (of yes).
    """

    score: float | None
    questions: tuple[dict[str, Any], ...]


class Judge(Protocol):
    @property
    def name(self) -> str:
        """For people."""
        ...

    def added_to(self, graph: Graph, template: Template, prompt: Prompt) -> Graph:
        """The graph, as ``template.filled`` gives it, with the nodes that judge its picture."""
        ...

    def read(self, outputs: Outputs, prompt: Prompt) -> list[Judged]:
        """What these nodes found, for each picture of the batch.

        Raises:
            ValueError: they showed nothing.
        """
        ...


def judge_named(name: str, aggregate: str | None = None) -> Judge:
    """The judge of that name; ``aggregate`` is Judge Binding's.

    Raises:
        ValueError: it has none, or does not aggregate.
    """
    if aggregate is not None and (name == SHAPES or name.startswith(DETECTOR)):
        raise ValueError(f"The judge {name} has one score, and nothing to aggregate.")
    if name == SHAPES:
        return ShapesJudge()
    if name.startswith(DETECTOR):
        if not (detector := name.removeprefix(DETECTOR).strip()):
            raise ValueError(f"{name}: name the detector too, as Detect Entities has it.")
        return DetectorJudge(detector)
    if not name.strip():
        raise ValueError("The judge has no name.")
    return ModelJudge(name, aggregate or AGGREGATE)


def shown(outputs: Outputs, node_id: str, key: str) -> Any:
    """The one value that a node showed.

    Raises:
        ValueError: it showed none.
    """
    values = outputs.get(node_id, {}).get(key)
    if not values:
        raise ValueError(f'The node "{node_id}" showed no "{key}": does the server have another version of the pack?')
    return values[0]


@dataclass(frozen=True)
class ShapesJudge:
    name: str = SHAPES

    def added_to(self, graph: Graph, template: Template, prompt: Prompt) -> Graph:
        return {**graph, JUDGE: node("SBScoreBinding", image=template.picture, binding=template.binding_link)}

    def read(self, outputs: Outputs, prompt: Prompt) -> list[Judged]:
        return [_of_shapes(image) for image in shown(outputs, JUDGE, "semantic_binding_score")["images"]]


def _of_shapes(image: dict[str, Any]) -> Judged:
    """From a record of `evaluation/overlay.py`: each thing that was asked for, and that there is nothing else."""
    judged = [each for each in image["entities"] if each["verdict"] != "not judged"]
    questions = [
        _question(each["wanted"], each["name"], "thing", float(each["verdict"] == "ok"), found=each["found"])
        for each in judged
    ]
    if image["not_asked_for"]:
        found = ", ".join(image["not_asked_for"])
        questions.append(_question("nothing else", "", "number", 0.0, found=found))
    return Judged(float(image["verdict"] == "ok") if judged else None, tuple(questions))


def _question(text: str, entity: str, kind: str, probability: float, **more: Any) -> dict[str, Any]:
    return {"text": text, "entity": entity, "kind": kind, "wanted": True, "probability": probability, **more}


@dataclass(frozen=True)
class ModelJudge:
    judge: str
    aggregate: str

    @property
    def name(self) -> str:
        return f"{self.judge}, {self.aggregate}"

    def added_to(self, graph: Graph, template: Template, prompt: Prompt) -> Graph:
        loaded = f"{JUDGE} model"
        return {
            **graph,
            loaded: node("SBLoadJudge", judge=self.judge, download=False),
            JUDGE: node(
                "SBJudgeBinding",
                image=template.picture,
                binding=template.binding_link,
                judge=Link(loaded, 0),
                aggregate=self.aggregate,
            ),
        }

    def read(self, outputs: Outputs, prompt: Prompt) -> list[Judged]:
        return of_judgement(shown(outputs, JUDGE, "semantic_binding_judgement"))


def of_judgement(record: dict[str, Any]) -> list[Judged]:
    """From the record of Judge Binding: {"images": [{"score", "questions": [...]}], ...}."""
    return [
        Judged(None if math.isnan(image["score"]) else float(image["score"]), tuple(image["questions"]))
        for image in record["images"]
    ]


@dataclass(frozen=True)
class DetectorJudge:
    """The things of MULTIGEN and VISOR are looked for by their names, those of other prompts by their nouns.

    OWL-ViT and OWLv2, known by their names, are asked as published: for "a photo of a cat", with the threshold 0.1.
    """

    detector: str

    @property
    def name(self) -> str:
        return DETECTOR + self.detector

    @property
    def is_owl(self) -> bool:
        return "owl" in self.detector.lower()

    def phrase(self, thing: str) -> str:
        return f"a photo of a {thing}" if self.is_owl else thing

    def added_to(self, graph: Graph, template: Template, prompt: Prompt) -> Graph:
        binding = template.binding_link
        added = {}
        if prompt.objects:
            phrases = [self.phrase(thing) for thing in prompt.objects]
            binding = Link(f"{BINDING} of things", 1)
            added[binding.node] = node(
                "SBBindPrompt", clip=template.clip, text=". ".join(phrases), entities=" | ".join(phrases)
            )
        found = Link(f"{JUDGE} detection", 1)
        added[found.node] = node(
            "SBDetectEntities",
            binding=binding,
            image=template.picture,
            model=self.detector,
            box_threshold=0.1 if self.is_owl else 0.3,
            text_threshold=0.25,
            with_attributes=False,
            boxes_per_entity="all",
            skip_background=False,
            not_found="empty mask",
            download=False,
        )
        entities = Link(binding.node, 2)
        return {
            **graph,
            **added,
            JUDGE: node("PreviewAny", source=found),
            f"{JUDGE} entities": node("PreviewAny", source=entities),
        }

    def read(self, outputs: Outputs, prompt: Prompt) -> list[Judged]:
        frames = json.loads(shown(outputs, JUDGE, "text"))
        entities = [each["name"] for each in json.loads(shown(outputs, f"{JUDGE} entities", "text"))["entities"]]
        things = prompt.objects or entities
        return [of_boxes(frame, dict(zip(entities, things, strict=True)), prompt) for frame in frames]


def of_boxes(boxes: Sequence[dict[str, Any]], things: dict[str, str], prompt: Prompt) -> Judged:
    """From the boxes of one picture, best first (core's BOUNDING_BOX with label and score).

    ``things`` are what is looked for, by the label of their boxes; a thing is where its best box has its centre.
    """
    best: dict[str, dict[str, Any]] = {}
    for box in boxes:
        best.setdefault(things[box["label"]], box)
    questions = [
        _question(
            thing, thing, OBJECT, float(thing in best), **({"score": best[thing]["score"]} if thing in best else {})
        )
        for thing in things.values()
    ]
    if not prompt.relation:
        return Judged(
            sum(thing in best for thing in things.values()) / len(things) if things else None, tuple(questions)
        )
    first, second = prompt.objects
    right = first in best and second in best and stands(prompt.relation, _centre(best[first]), _centre(best[second]))
    questions.append(_question(f"{first} {prompt.relation} {second}", first, RELATION, float(right)))
    return Judged(float(right), tuple(questions))


def _centre(box: dict[str, Any]) -> tuple[float, float]:
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
