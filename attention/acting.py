"""Whether every technique has acted in a run: none is to be without effect and without a word.

Other packs may call the model without ComfyUI's wrappers, or put functions of their own in the place of its layers, and
then nothing of what a node has asked for happens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .run import Participant, Run


def check_acted(run: Run, guider: Any, sampler: Any) -> None:
    """Raise ValueError if a technique could not act."""
    if run.steps < 1:
        return
    idle = [name for participant, name in run.names.items() if _left_out(run, participant)]
    if not idle:
        return
    found = "; ".join(_in_the_way(guider, sampler)) or "nothing that this pack knows of"
    names = " and ".join(dict.fromkeys(idle))
    raise ValueError(
        f"{names} had no effect on this picture: another node computes it without the parts of ComfyUI that they "
        f"change. In the way may be: {found}. Use an ordinary sampler and guider, or take {names} off this model."
    )


def _left_out(run: Run, participant: Participant) -> bool:
    has_part = type(participant) is not Participant
    return has_part and (not run.predicted or (participant in run.wanting and participant not in run.acted))


def _in_the_way(guider: Any, sampler: Any) -> Iterator[str]:
    """What of a run is not ComfyUI's own: its guider, its sampler, and functions in the place of a module's."""
    for what, thing in (("guider", guider), ("sampler", sampler)):
        if not type(thing).__module__.startswith(("comfy.", "comfy_extras.")):
            yield f"the {what} {type(thing).__name__} of {type(thing).__module__}"
    replaced = {
        getattr(function, "__module__", None) or type(function).__module__
        for module in guider.model_patcher.get_model_object("diffusion_model").modules()
        if (function := vars(module).get("forward")) is not None
    }
    if replaced:
        yield f"forward functions of {', '.join(sorted(replaced))} in the place of the model's own"
