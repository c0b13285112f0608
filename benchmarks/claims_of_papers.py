"""The claims: what a paper says of its method, in its own terms, and how the demo model can tell."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """``sign`` is that of the difference in ``measure`` which the paper expects of ``workflow`` over ``against``; 0 if
    it expects none."""

    method: str
    text: str
    prompt_set: str
    measure: str
    workflow: str
    sign: int
    against: str = "plain"


PRESENT, BOUND, RIGHT = "things present", "bound, of things present", "things right"
MARKS, PLACED = "marks on their own thing", "things in their place"

CLAIMS = (
    Claim("Attend-and-Excite", "raises object presence", "two_counter", PRESENT, "Attend-and-Excite", +1),
    Claim("Attend-and-Excite", "raises object presence", "three", PRESENT, "Attend-and-Excite", +1),
    Claim("Attend-and-Excite", "the same with softmax over the words", "two_counter", PRESENT, "A&E, words", +1),
    Claim("Attend-and-Excite", "the same with softmax over the words", "three", PRESENT, "A&E, words", +1),
    Claim("SynGen", "attributes on their own nouns", "two_swap", BOUND, "SynGen", +1),
    Claim("SynGen", "less leaking", "two_swap", "leaking, of things present", "SynGen", -1),
    Claim("SynGen", "fewer things missing than plain", "two_counter", PRESENT, "SynGen", +1),
    Claim("Layout guidance", "things stand in their boxes", "two_counter", PLACED, "layout", +1),
    Claim("Layout guidance", "things stand in their boxes", "three", PLACED, "layout", +1),
    Claim(
        "Token and pixel losses", "things stand in their regions", "two_counter", PLACED, "token and pixel losses", +1
    ),
    Claim("Token and pixel losses", "raise object presence", "three", PRESENT, "token and pixel losses", +1),
    Claim("Attention modulation", "temperature alone helps", "two_swap", RIGHT, "self-attention temperature", +1),
    Claim("Attention modulation", "mask alone helps", "two_swap", RIGHT, "object-focused attention", +1),
    Claim("Attention modulation", "weights alone hurt", "two_swap", RIGHT, "stage weights", -1),
    Claim(
        "Attention modulation",
        "all three are better than the mask alone",
        "two_swap",
        RIGHT,
        "attention modulation",
        +1,
        "object-focused attention",
    ),
    Claim("ToMe", "merge alone: a slight gain", "two_swap", RIGHT, "token merge", +1),
    Claim("ToMe", "sub-objects stay with their objects", "two_marked", MARKS, "token merge", +1),
    Claim("ToMe", "with the entropy loss: a large gain", "two_swap", RIGHT, "token merge and entropy loss", +1),
    Claim("ToMe", "sub-objects, with both losses", "two_marked", MARKS, "token merge, both losses", +1),
    Claim("ToMe", "losses without merge: as plain", "two_swap", RIGHT, "optimisation without merge", 0),
    Claim(
        "ToMe",
        "end-token substitution: less leaking",
        "two_swap",
        "leaking, of things present",
        "token merge, simple end",
        -1,
        "token merge",
    ),
    Claim("Structured Diffusion", "a small gain in binding", "two_swap", BOUND, "structured conditioning", +1),
    Claim("Composable Diffusion", "all parts of the prompt are there", "two_counter", PRESENT, "composed noise", +1),
)

SUBJECT_CLAIMS = (
    Claim(
        "FastComposer",
        "subjects are drawn without any training of their own",
        "subjects",
        "identity",
        "one subject",
        +1,
        "one, text alone",
    ),
    Claim(
        "FastComposer", "delay trades identity for text: identity", "subjects", "identity", "delay 0.8", -1, "delay 0"
    ),
    Claim("FastComposer", "delay trades identity for text: text", "subjects", "adherence", "delay 0.8", +1, "delay 0"),
    Claim(
        "FastComposer",
        "the localisation loss keeps subjects apart",
        "subject-losses",
        "blending",
        "two subjects, with the loss",
        -1,
        "two subjects, without",
    ),
)
"""From the tables of subjects.py and subject_losses.py: ``prompt_set`` is the table, workflows are its cases."""
