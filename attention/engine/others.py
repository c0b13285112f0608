"""What other packs have put on a model, and how errors name it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


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
    return {name_of(home) for home in homes if not is_core(home) and pack_of(home) != pack_of(__name__)}


def pack_of(home: str) -> str:
    """ComfyUI imports a pack under a name without dots."""
    return home.partition(".")[0]


def name_of(home: str) -> str:
    """The folder of a pack, which ComfyUI imports by its whole path."""
    return pack_of(home).replace("\\", "/").rpartition("/")[2]


def is_core(home: str) -> bool:
    return pack_of(home) in ("comfy", "comfy_extras", "torch")
