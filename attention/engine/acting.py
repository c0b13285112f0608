"""Whether every technique has acted in a run: none is to be without effect and without a word.

Other packs may call the model without ComfyUI's wrappers, or put functions of their own in the place of its layers, and
then nothing of what a node has asked for happens.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from .others import is_core, name_of, pack_of
from .run import Participant, Run


def check_acted(run: Run, guider: Any, sampler: Any) -> None:
    """Raise ValueError if a technique could not act."""
    if run.steps < 1:
        return
    _note_never_computed(run)
    idle = [name for participant, name in run.names.items() if _left_out(run, participant)]
    if not idle:
        return
    found = "; ".join(_in_the_way(guider, sampler)) or "nothing that this pack knows of"
    names = " and ".join(dict.fromkeys(idle))
    raise ValueError(
        f"{names} had no effect on this picture: another node computes it without the parts of ComfyUI that they "
        f"change. In the way may be: {found}. Use an ordinary sampler and guider, or take {names} off this model."
    )


def _note_never_computed(run: Run) -> None:
    """A line in the log for a bound conditioning that no model call of the run had, so that nothing acted on it."""
    if not run.predicted:
        return
    bindings = (getattr(technique, "binding", None) for technique in run.techniques)
    texts = {binding.key: binding.text for binding in bindings if binding is not None}
    for key in dict.fromkeys(run.given.values()):
        if key in texts and key not in run.computed:
            logging.warning(
                'Semantic Binding: the conditioning of "%s" was not used at any step of this run (its timestep range '
                "or area leaves it out), so the nodes that act on it had no effect.",
                texts[key],
            )


def _left_out(run: Run, participant: Participant) -> bool:
    has_part = type(participant) is not Participant
    return has_part and (not run.predicted or (participant in run.wanting and participant not in run.acted))


def _in_the_way(guider: Any, sampler: Any) -> Iterator[str]:
    """What of a run is not ComfyUI's own: its guider, its sampler, and functions in the place of a module's."""
    for what, thing in (("guider", guider), ("sampler", sampler)):
        if not is_core(type(thing).__module__):
            yield f"the {what} {type(thing).__name__} of {name_of(type(thing).__module__)}"
    replaced = {name_of(home) for _, home in _replaced(guider) if not is_core(home)}
    if replaced:
        yield f"forward functions of {', '.join(sorted(replaced))} in the place of the model's own"


def undo_left_behind(guider: Any) -> None:
    """After an error in a run, give the network's modules their own forward functions back where the run's guider, of
    another pack, has put others in their place: such guiders (KSamplerWithNAG) undo it only when all goes well, and
    every later picture would be drawn with what they left. Object patches are ComfyUI's to undo."""
    pack = pack_of(type(guider).__module__)
    if is_core(pack):
        return
    patches = guider.model_patcher.object_patches.values()
    for module, home in list(_replaced(guider)):
        if pack_of(home) == pack and not any(module.forward is each for each in patches):
            del module.forward


def _replaced(guider: Any) -> Iterator[tuple[Any, str]]:
    """The modules of the network that have a forward function of their own, and the Python module it is of."""
    for module in guider.model_patcher.get_model_object("diffusion_model").modules():
        function = vars(module).get("forward")
        if function is None:
            continue
        while hasattr(function, "__func__") or hasattr(function, "func"):
            function = getattr(function, "__func__", None) or function.func
        yield module, getattr(function, "__module__", "")
