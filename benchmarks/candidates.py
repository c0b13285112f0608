"""Settings of each method among which those for the demo model are found, on prompts of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workflow import Workflow
from workflows import focused, guided, merged, optimised, side_by_side

Make = Callable[[Workflow], Workflow]


def _guided(loss: str, place: Make = lambda workflow: workflow, **changes: Any) -> Make:
    return lambda workflow: guided(place(workflow), loss, **changes)


def _merged(**inputs: Any) -> Make:
    return lambda workflow: workflow.through("SBTokenMerge", **inputs)


def _kept(noun: float, attribute: float) -> dict[str, Any]:
    return {"noun_weight": noun, "attribute_weight": attribute, "end_tokens": {"end_tokens": "kept"}}


def _ended(step: int) -> dict[str, Any]:
    return {"end_tokens": {"end_tokens": "substituted", "from_step": step}}


CANDIDATES: dict[str, tuple[str, str, dict[str, Make]]] = {
    "Attend-and-Excite": (
        "two_half",
        "things present",
        {
            **{
                f"words, step {size:g}": _guided("attend and excite", softmax_over="words", step_size=size)
                for size in (5.0, 10.0, 20.0, 40.0)
            },
            **{
                f"words, step {size:g}, 8 x 8": _guided(
                    "attend and excite", softmax_over="words", layers="latent/2", step_size=size
                )
                for size in (10.0, 20.0, 40.0)
            },
            "words, step 20, 8 x 8, no refinement": _guided(
                "attend and excite", softmax_over="words", layers="latent/2", thresholds=""
            ),
            "words, step 20, no refinement": _guided("attend and excite", softmax_over="words", thresholds=""),
            "words, step 20, to 0.25": _guided("attend and excite", softmax_over="words", end=0.25),
            "all tokens, step 20": _guided("attend and excite"),
            "all tokens, step 60": _guided("attend and excite", step_size=60.0),
        },
    ),
    "SynGen": (
        "two_half",
        "bound, of things present",
        {
            **{f"step {size:g}": _guided("syngen", step_size=size) for size in (2.0, 5.0, 10.0, 20.0)},
            "step 10, 8 x 8": _guided("syngen", step_size=10.0, layers="latent/2"),
            "step 10, to 0.25": _guided("syngen", step_size=10.0, end=0.25),
        },
    ),
    "Layout guidance": (
        "two_half",
        "things in their place",
        {
            **{
                f"step {size:g}": _guided("layout", side_by_side, step_size=size) for size in (10.0, 30.0, 100.0, 300.0)
            },
            "step 100, threshold 0.05": _guided("layout", side_by_side, step_size=100.0, threshold=0.05),
            "step 100, 16 x 16": _guided("layout", side_by_side, step_size=100.0, layers="latent"),
            **{
                f"step {size:g}, 8 x 8": _guided("layout", side_by_side, step_size=size, layers="latent/2")
                for size in (10.0, 30.0, 100.0)
            },
            "step 30, 8 x 8, to 0.5": _guided("layout", side_by_side, layers="latent/2", end=0.5),
        },
    ),
    "Token and pixel losses": (
        "two_half",
        "things in their place",
        {
            **{
                f"step {size:g}": _guided("token and pixel", side_by_side, step_size=size)
                for size in (3.0, 10.0, 30.0, 100.0)
            },
            "step 10, pixel weight 0": _guided("token and pixel", side_by_side, step_size=10.0, pixel_weight=0.0),
        },
    ),
    "ToMe": (
        "two_first_marked",
        "marks on their own thing",
        {
            "merge, own end": merged,
            **{f"merge, simple end from step {step}": _merged(**_ended(step)) for step in (0, 2, 5, 10)},
            "merge 1 / 1, own end": _merged(**_kept(1.0, 1.0)),
            "merge 1 / 0.6, own end": _merged(**_kept(1.0, 0.6)),
            "merge and entropy, latent step 1.5": lambda workflow: optimised(
                merged(workflow), token_steps=0, latent_step_size=1.5
            ),
            "merge and entropy, latent step 10": lambda workflow: optimised(
                merged(workflow), token_steps=0, latent_step_size=10.0
            ),
            "merge, both losses": lambda workflow: optimised(merged(workflow)),
        },
    ),
    "ToMe, colours": (
        "two_half",
        "things right",
        {
            "merge 1.1 / 1.2, own end": _merged(**_kept(1.1, 1.2)),
            **{f"merge 1 / {weight:g}, own end": _merged(**_kept(1.0, weight)) for weight in (1.0, 0.8, 0.6, 0.4)},
            "merge 1.1 / 1.2, simple end": _merged(),
            "merge 1 / 0.6, simple end": _merged(noun_weight=1.0, attribute_weight=0.6),
            "merge 1 / 0.6, own end, both losses": lambda workflow: optimised(_merged(**_kept(1.0, 0.6))(workflow)),
        },
    ),
    "Composable Diffusion": (
        "two_half",
        "things present",
        {
            "weights 1": lambda workflow: workflow.through("SBComposeNoise"),
            "weights 0.5": lambda workflow: workflow.through("SBComposeNoise", weights="1: 0.5 | 2: 0.5"),
            "weights 0.5, prompt 0.5": lambda workflow: workflow.through(
                "SBComposeNoise", weights="1: 0.5 | 2: 0.5", prompt_weight=0.5
            ),
            "weights 0.2, prompt 0.8": lambda workflow: workflow.through(
                "SBComposeNoise", weights="1: 0.2 | 2: 0.2", prompt_weight=0.8
            ),
        },
    ),
    "Combinations": (
        "two_half",
        "things right",
        {
            "A&E words and object focus": lambda workflow: focused(
                guided(workflow, "attend and excite", softmax_over="words")
            ),
            "SynGen and object focus": lambda workflow: focused(guided(workflow, "syngen", step_size=5.0)),
            "merge and object focus": lambda workflow: focused(merged(workflow)),
            "object focus": focused,
            "structured conditioning": lambda workflow: workflow.through("SBStructuredConditioning"),
            "structured conditioning and object focus": lambda workflow: focused(
                workflow.through("SBStructuredConditioning")
            ),
        },
    ),
}
"""Of each method the prompts and the measure (of claims.py) by which settings are compared, and the settings."""
