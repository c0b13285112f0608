"""Whether every technique has acted in a run: none is to be without effect and without a word.

Other packs may call the model without ComfyUI's wrappers, or put functions of their own in the place of its layers, and
then nothing of what a node has asked for happens.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

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


@contextmanager
def blaming_others(options: dict[str, Any], doing: str) -> Iterator[None]:
    """An error in a model call that other packs' functions take part in, while ``doing`` what they may not expect, as
    a ValueError that names them."""
    try:
        yield
    except (RuntimeError, LookupError, TypeError, AssertionError) as error:
        packs = "" if isinstance(error, torch.OutOfMemoryError) else ", ".join(sorted(_packs_on(options)))
        if not packs:
            raise
        raise ValueError(
            f"The model failed while {doing}, for a node of Semantic Binding. In the way may be functions of {packs} "
            f"on this model: take their nodes off it. What failed: {type(error).__name__} {error}"
        ) from error


def _packs_on(options: dict[str, Any]) -> set[str]:
    """The other packs that have functions in the attention, among the patches, or around the network."""
    slots = [*options.get("patches_replace", {}).values(), options.get("wrappers", {}).get("diffusion_model", {})]
    found = [function for slot in slots for function in slot.values()] + [*options.get("patches", {}).values()]
    functions = [each for entry in found for each in (entry if isinstance(entry, list) else [entry])]
    homes = {getattr(each, "__module__", "") for each in functions}
    return {name_of(home) for home in homes if not is_core(home) and _pack(home) != _pack(__name__)}


def undo_left_behind(guider: Any) -> None:
    """After an error in a run, give the network's modules their own forward functions back where the run's guider, of
    another pack, has put others in their place: such guiders (KSamplerWithNAG) undo it only when all goes well, and
    every later picture would be drawn with what they left. Object patches are ComfyUI's to undo."""
    pack = _pack(type(guider).__module__)
    if is_core(pack):
        return
    patches = guider.model_patcher.object_patches.values()
    for module, home in list(_replaced(guider)):
        if _pack(home) == pack and not any(module.forward is each for each in patches):
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


def _pack(home: str) -> str:
    """ComfyUI imports a pack under a name without dots."""
    return home.partition(".")[0]


def name_of(home: str) -> str:
    """The folder of a pack, which ComfyUI imports by its whole path."""
    return _pack(home).replace("\\", "/").rpartition("/")[2]


def is_core(home: str) -> bool:
    return _pack(home) in ("comfy", "comfy_extras", "torch")
