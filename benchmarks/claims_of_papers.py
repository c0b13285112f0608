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


PRESENT, LEFT_OUT = "things present", "something left out"
BOUND, LEAKING, RIGHT = "bound, of things present", "leaking, of things present", "things right"
PLACED = "things in their place"

CLAIMS = (
    *(
        Claim(method, text, prompt_set, measure, workflow, sign)
        for method, workflow, text in (
            ("Attend-and-Excite", "Attend-and-Excite", "fewer subjects are left out"),
            ("Attend-and-Excite", "A&E, found", "the same over the words alone, without refinement"),
        )
        for prompt_set in ("two_counter", "three")
        for measure, sign in ((LEFT_OUT, -1), (PRESENT, +1))
    ),
    Claim("SynGen", "attributes are on their own nouns", "two_swap", BOUND, "SynGen", +1),
    Claim("SynGen", "attributes are on their own nouns", "two_counter", BOUND, "SynGen", +1),
    Claim("SynGen", "less leaking", "two_swap", LEAKING, "SynGen", -1),
    Claim("SynGen", "no more subjects left out", "two_counter", PRESENT, "SynGen", +1),
    Claim("Layout guidance", "things stand in their boxes", "two_counter", PLACED, "layout", +1),
    Claim("Layout guidance", "the same in settings found here", "two_counter", PLACED, "layout, found", +1),
    Claim(
        "Token and pixel losses", "things stand in their regions", "two_counter", PLACED, "token and pixel, found", +1
    ),
    Claim("Token and pixel losses", "object presence is raised", "three", PRESENT, "token and pixel, found", +1),
    Claim("Attention modulation", "temperature alone helps", "two_swap", RIGHT, "self-attention temperature", +1),
    Claim("Attention modulation", "mask alone helps", "two_swap", RIGHT, "object-focused attention", +1),
    Claim("Attention modulation", "weights alone hurt", "two_swap", RIGHT, "stage weights", -1),
    Claim("Attention modulation", "all three: the largest gain", "two_swap", RIGHT, "attention modulation", +1),
    Claim(
        "Attention modulation",
        "all three are better than the mask alone",
        "two_swap",
        RIGHT,
        "attention modulation",
        +1,
        "object-focused attention",
    ),
    Claim("ToMe", "merge alone: a slight gain in colours", "two_swap", RIGHT, "token merge", +1),
    Claim("ToMe", "the same with end-token substitution", "two_swap", RIGHT, "token merge, simple end", +1),
    Claim("ToMe", "the same with end-token substitution", "two_counter", RIGHT, "token merge, simple end", +1),
    Claim("ToMe", "merge with the entropy loss: a large gain", "two_swap", RIGHT, "token merge and entropy loss", +1),
    Claim("ToMe", "losses without merge: as plain", "two_swap", RIGHT, "optimisation without merge", 0),
    Claim(
        "ToMe",
        "end-token substitution: less leaking than merge alone",
        "two_swap",
        LEAKING,
        "token merge, simple end",
        -1,
        "token merge",
    ),
    Claim(
        "ToMe",
        "sub-objects stay with their objects: the published settings",
        "two_marked",
        RIGHT,
        "token merge, published settings",
        +1,
    ),
    Claim("ToMe", "the same by merge alone", "two_marked", RIGHT, "token merge", +1),
    Claim("ToMe", "the same by merge alone with lower weights", "two_marked", RIGHT, "token merge, found", +1),
    Claim("ToMe", "less of one thing on the other", "two_marked", LEAKING, "token merge, found", -1),
    Claim("Structured Diffusion", "a small gain in binding", "two_swap", BOUND, "structured conditioning", +1),
    Claim("Structured Diffusion", "a small gain in binding", "two_counter", BOUND, "structured conditioning", +1),
    Claim("Composable Diffusion", "all parts of the prompt are there", "two_counter", PRESENT, "composed noise", +1),
    Claim("Composable Diffusion", "attributes do not mix", "two_counter", BOUND, "composed noise", +1),
    Claim(
        "Combinations",
        "Attend-and-Excite and object focus: less is left out than with focus alone",
        "two_counter",
        LEFT_OUT,
        "A&E, found, and object focus",
        -1,
        "object-focused attention",
    ),
    Claim(
        "Combinations",
        "SynGen and object focus are better than focus alone",
        "two_swap",
        RIGHT,
        "SynGen and object focus",
        +1,
        "object-focused attention",
    ),
    Claim(
        "Combinations",
        "two passes are better than focus in one",
        "two_swap",
        RIGHT,
        "draft, masks from attention",
        +1,
        "object-focused attention",
    ),
)

SUBJECT_CLAIMS = (
    Claim(
        "FastComposer",
        "subjects are drawn without any training of their own",
        "claims-subjects",
        "identity",
        "one subject",
        +1,
        "one, text alone",
    ),
    Claim(
        "FastComposer",
        "delay trades identity for text: identity",
        "claims-subjects",
        "identity",
        "delay 0.8",
        -1,
        "delay 0",
    ),
    Claim(
        "FastComposer",
        "delay trades identity for text: text",
        "claims-subjects",
        "adherence",
        "delay 0.8",
        +1,
        "delay 0",
    ),
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
"""From the tables of subjects.py and subject_losses.py: ``prompt_set`` is the table, workflows are its cases. The first
is made by subjects.py --images 480 --cases "one subject" "one, text alone" "delay 0" "delay 0.8"
--tables benchmarks/results/claims-subjects."""
