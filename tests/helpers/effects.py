"""What the thumbnail of each example workflow shows (thumbnails.py)."""

from __future__ import annotations

from dataclasses import dataclass, field

SIDE = 640
"""Pixels of a thumbnail, which is a square."""
PLAIN = None
"""In a row's place of a node: the pictures of the last row, drawn from the same noise with nothing in the way."""


@dataclass(frozen=True)
class Effect:
    """``rows`` are labels and the nodes whose pictures they show, the last one what the workflow is for.

    ``changes`` are other inputs of nodes, for graphs that are made for Stable Diffusion. ``workflow`` is another one
    whose pictures tell more. ``judged``: pictures that are right come first.
    """

    rows: tuple[tuple[str, str | None], ...]
    changes: dict[str, dict] = field(default_factory=dict)
    workflow: str | None = None
    judged: bool = True


def more(node_id: str, pictures: int = 4) -> dict[str, dict]:
    return {node_id: {"batch_size": pictures}}


STAR = {"4": {"text": "a blue star and a green circle"}}
MARKED = {"text": "a circle with a dot and a square with a bar", "entities": "circle: with a dot | square: with a bar"}
IN_THIRDS = {"layout": "circle: 0 0 0.33 1\nsquare: 0.33 0 0.67 1\nstar: 0.67 0 1 1"}
SEED = {"seed": 2}
SEGMENTED = (("outlines in the draft", "12"), ("each in its outline", "16"))
LORAS = (("plain", "8"), ("TokenCompose's LoRA", "13"), ("CoMat's LoRA", "18"))

EFFECTS = {
    "Assign a batch of masks": Effect((("masks of a draft", "11"), ("each in its mask", "15")), judged=False),
    "Assign masks to entities": Effect(((("plain"), PLAIN), ("circle left, square right", "16"))),
    "Attention guidance": Effect((("plain", PLAIN), ("guided by SynGen", "9"))),
    "Attention modulation, plain and modulated": Effect((("plain", "9"), ("modulated", "16"))),
    "Attention step by step": Effect((("the picture", "9"), ("where words act, step by step", "10")), judged=False),
    "Attribute binding with token merge": Effect((("plain", "9"), ("merged tokens", "17")), more("5")),
    "Best of a batch": Effect((("a batch", "9"), ("the best of it", "11")), judged=False),
    "Bind a prompt": Effect((("what was drawn", "9"), ("where words act", "10")), judged=False),
    "Bind an existing conditioning": Effect((("what was drawn", "10"), ("where words act", "11")), judged=False),
    "Bound Sampler": Effect((("KSampler", "8"), ("Bound Sampler", "12"))),
    "Bound Sampler in two passes": Effect((("draft", "6"), ("where things are", "8"), ("final picture", "10"))),
    "Colours on the wrong thing": Effect((("plain", "8"), ("object focus", "12"), ("and SynGen", "17")), STAR),
    "Compare trained LoRAs": Effect(LORAS),
    "Compose noise": Effect((("plain", "8"), ("composed", "13"))),
    "Detect and segment entities": Effect(SEGMENTED, workflow="Segment entities with SAM", judged=False),
    "Draw the regions": Effect((("boxes", "7"), ("each in its box", "12")), judged=False),
    "Faces on the right bodies": Effect(
        (("text alone", PLAIN), ("subjects", "22")), workflow="Two subjects", judged=False
    ),
    "Judge binding": Effect((("questions and answers", "10"), ("the best picture", "11")), judged=False),
    "Layout guidance": Effect((("plain", PLAIN), ("circle left, square right", "16"))),
    "Make training data": Effect((("masks of nouns", "10"),), judged=False),
    "Masks from attention": Effect((("masks of the draft", "10"), ("each in its mask", "14")), judged=False),
    "Masks from boxes": Effect((("boxes", "7"), ("each in its box", "12")), judged=False),
    "Masks within one run": Effect((("masks after 8 steps", "9"), ("each in its mask", "13")), judged=False),
    "Nothing left out with Attend-and-Excite": Effect((("plain", "8"), ("Attend-and-Excite", "13"))),
    "Object binding on SDXL": Effect(
        (("plain", "9"), ("merged tokens", "17")), more("5"), workflow="Object binding with token merge"
    ),
    "Object binding with token merge": Effect((("plain", "9"), ("merged tokens", "17")), more("5")),
    "Object-focused attention": Effect((("plain", PLAIN), ("object focus", "9"))),
    "One subject": Effect((("text alone", PLAIN), ("this square", "16")), judged=False),
    "Parts on the wrong thing": Effect((("plain", "9"), ("merged tokens", "15")), {"4": MARKED}),
    "Segment entities with SAM": Effect(SEGMENTED, judged=False),
    "Self-attention of a point": Effect((("the picture", "9"), ("what a point looks at", "10")), judged=False),
    "Self-attention temperature": Effect((("plain", PLAIN), ("sharper self-attention", "9"))),
    "Something is left out": Effect(
        (("plain", "8"), ("Attend-and-Excite", "13")), {"4": {"text": "a green triangle and a yellow star"}}
    ),
    "Stage weights": Effect((("plain", PLAIN), ("stage weights, object focus", "10"))),
    "Structured conditioning": Effect((("plain", "8"), ("structured", "13"))),
    "Subject delay": Effect((("at once", "20"), ("after 40 %", "22"), ("after 80 %", "24")), judged=False),
    "Three things and more": Effect(
        (("plain", "8"), ("boxes", "10"), ("in their places", "15")),
        {"4": {"text": "a red circle, a green square and a yellow star"}, "9": IN_THIRDS},
    ),
    "Token arithmetic": Effect((("plain", "8"), ("a mark added", "12"), ("a colour exchanged", "16")), judged=False),
    "Train with CoMat": Effect((LORAS[0], LORAS[2]), workflow="Compare trained LoRAs"),
    "Train with TokenCompose": Effect(LORAS[:2], workflow="Compare trained LoRAs"),
    "Two subjects": Effect((("text alone", PLAIN), ("these two", "22")), judged=False),
    "Your own SDXL checkpoint": Effect(
        (("plain", "9"), ("one pass", "13"), ("two passes", "19")), {**STAR, "7": SEED, "11": SEED, "17": SEED}
    ),
    "Your own checkpoint": Effect((("plain", "9"), ("one pass", "13"), ("two passes", "19")), STAR),
}
