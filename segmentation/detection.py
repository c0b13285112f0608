"""Boxes of things named by words: open-vocabulary detection with the zero-shot detectors of transformers.

Grounding DINO (arXiv 2303.05499) and MM Grounding DINO read all phrases as one text, OWL-ViT (arXiv 2205.06230) and
OWLv2 (arXiv 2306.09683) each as a query. Boxes that overlap are thinned out here, as neither does it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch

from ..parsing.binding import Entity
from ..pretrained.loading import as_bytes
from .boxes import Labelled, dealt
from .detector_files import Detector

BOXES = ALL, AS_COUNTED = "all", "as many as in the prompt"
SAME_THING = 0.5
"""Two boxes of one noun of which more than this part of their union overlaps are the same thing."""

SEPARATOR = "."


class Query(NamedTuple):
    """A phrase to look for, and the noun in it."""

    phrase: str
    noun: str


class Search(NamedTuple):
    """How to look: ``boxes`` is one of ``BOXES``, the others are as in ``found_in``."""

    box_threshold: float
    text_threshold: float
    with_attributes: bool
    boxes: str


class Found(NamedTuple):
    """The boxes of each entity in a picture, by its name, best first; and of each noun how many boxes were left out."""

    boxes: dict[str, list[Labelled]]
    left_out: dict[str, int]


def query_of(entity: Entity, with_attributes: bool) -> Query:
    """Lower case, as detectors were trained, without the signs that end a phrase."""
    noun, phrase = (
        " ".join(re.sub(r"[.?]", " ", text.lower()).split()) for text in (entity.noun.text, entity.anchor_phrase)
    )
    return Query(phrase if with_attributes else noun, noun)


def entities_in(detector: Detector, picture: torch.Tensor, entities: Sequence[Entity], search: Search) -> Found:
    """The entities in a picture ``(H, W, 3)`` in 0..1.

    All nouns are looked for at once, and a box is the noun's that it fits best. Entities with the same noun never get
    the same box: each gets as many as it is of, by the scores of their phrases where these differ, else from left to
    right.
    """
    queries = [query_of(entity, search.with_attributes) for entity in entities]
    asked = list(dict.fromkeys(queries))
    boxes, scores = found_in(detector, picture, asked, search.box_threshold, search.text_threshold)
    of_noun = [asked[best].noun for best in scores.argmax(1).tolist()]
    found = Found({}, {})
    for noun in dict.fromkeys(query.noun for query in asked):
        columns = [place for place, query in enumerate(asked) if query.noun == noun]
        mine = [place for place, other in enumerate(of_noun) if other == noun]
        kept = [mine[place] for place in distinct(boxes[mine], scores[mine][:, columns].amax(1))]
        same = [
            (entity, asked.index(query)) for entity, query in zip(entities, queries, strict=True) if query.noun == noun
        ]
        if len(columns) > 1:
            shares = matched(boxes[kept], scores[kept], same)
        else:
            best = [Labelled(tuple(boxes[place].tolist()), noun, scores[place, columns[0]].item()) for place in kept]
            if len(same) == 1 and search.boxes == AS_COUNTED:
                best = best[: same[0][0].count]
            shares = dealt(best, [entity for entity, _ in same])
        for name, each in shares.items():
            found.boxes[name] = [Labelled(box.box, name, box.score) for box in each]
        found.left_out[noun] = len(kept) - sum(map(len, shares.values()))
    return found


def found_in(
    detector: Detector, picture: torch.Tensor, queries: Sequence[Query], box_threshold: float, text_threshold: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes ``(N, 4)`` in a picture ``(H, W, 3)``, as fractions of it, and how well each query fits each: ``(N, Q)``.

    Those whose best score is above ``box_threshold``; for Grounding DINO the score of a phrase is that of its best
    token, and that of the noun's own tokens has to be above ``text_threshold``.
    """
    size = tuple(picture.shape[:2])
    pixels = as_bytes(picture)
    phrases = [query.phrase for query in queries]
    if detector.grounding:
        text = " ".join(f"{phrase}{SEPARATOR}" for phrase in phrases)
        inputs = detector.processor(images=pixels, text=text, return_tensors="pt")
        _check_length(inputs["input_ids"].shape[1], detector.module.config.max_text_len)
    else:
        inputs = detector.processor(images=pixels, text=[phrases], return_tensors="pt", truncation=True)
    with torch.no_grad():
        outputs = detector.module(**inputs.to(detector.device))
    boxes = detector.processor.image_processor.post_process_object_detection(
        outputs, threshold=-1.0, target_sizes=[size]
    )[0]["boxes"]
    height, width = size
    boxes = (boxes.float().cpu() / torch.tensor([width, height, width, height])).clamp(0, 1)
    probabilities = outputs.logits[0].float().sigmoid().cpu()
    if detector.grounding:
        scores, of_nouns = _of_phrases(detector, inputs["input_ids"][0].tolist(), queries, probabilities)
    else:
        scores = of_nouns = probabilities
    best, query = scores.max(1)
    kept = (best > box_threshold) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    if detector.grounding:
        kept &= of_nouns.gather(1, query[:, None])[:, 0] > text_threshold
    return boxes[kept], scores[kept]


def _check_length(tokens: int, limit: int) -> None:
    """Raise ValueError if the text is longer than the detector reads."""
    if tokens > limit:
        raise ValueError(
            f"The entities' phrases are {tokens} tokens for the detector, which reads {limit}. Switch with_attributes "
            "off, or name fewer entities."
        )


def _of_phrases(
    detector: Detector, tokens: list[int], queries: Sequence[Query], probabilities: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """From probabilities ``(N, tokens)`` those of the phrases, and those of their nouns, ``(N, Q)`` each."""
    tokenizer = detector.processor.tokenizer
    separator = tokenizer.convert_tokens_to_ids(SEPARATOR)
    ends = [place for place, token in enumerate(tokens) if token == separator]
    starts = [1, *(end + 1 for end in ends)]
    scores, of_nouns = [], []
    for query, start, end in zip(queries, starts, ends, strict=False):
        noun = tokenizer(query.noun, add_special_tokens=False)["input_ids"]
        at = next((p for p in range(start, end) if tokens[p : p + len(noun)] == noun), None)
        scores.append(probabilities[:, start:end].amax(1))
        of_nouns.append(scores[-1] if at is None else probabilities[:, at : at + len(noun)].amax(1))
    return torch.stack(scores, 1), torch.stack(of_nouns, 1)


def distinct(boxes: torch.Tensor, scores: torch.Tensor) -> list[int]:
    """Places of the boxes ``(N, 4)`` without those that are the same thing as one with a higher score; best first."""
    kept: list[int] = []
    for place in scores.argsort(descending=True, stable=True).tolist():
        if not kept or overlap(boxes[place], boxes[kept]).max() <= SAME_THING:
            kept.append(place)
    return kept


def overlap(box: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """``(N,)``: the intersection of a box with each of others ``(N, 4)``, as part of their union."""
    sides = (torch.minimum(box[2:], others[:, 2:]) - torch.maximum(box[:2], others[:, :2])).clamp(min=0)
    areas = (others[:, 2:] - others[:, :2]).prod(1)
    shared = sides.prod(1)
    return shared / ((box[2:] - box[:2]).prod() + areas - shared)


def matched(
    boxes: torch.Tensor, scores: torch.Tensor, entities: Sequence[tuple[Entity, int]]
) -> dict[str, list[Labelled]]:
    """The boxes of entities with the same noun: the best pair of box and phrase first, until every entity has as many
    as it is of or no box is left. ``scores (N, Q)``; each entity comes with the column of its phrase."""
    pairs = [
        (scores[place, column].item(), place, entity) for place in range(len(boxes)) for entity, column in entities
    ]
    taken: set[int] = set()
    shares: dict[str, list[Labelled]] = {}
    for score, place, entity in sorted(pairs, key=lambda pair: -pair[0]):
        if place not in taken and len(shares.get(entity.name, ())) < entity.count:
            taken.add(place)
            shares.setdefault(entity.name, []).append(Labelled(tuple(boxes[place].tolist()), entity.name, score))
    return shares
