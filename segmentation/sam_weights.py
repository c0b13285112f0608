"""Whether the tensors of a checkpoint are those of a network."""

from __future__ import annotations

from pathlib import Path

import torch

from .sam_files import Weights

LISTED = 4


def check_fits(module: torch.nn.Module, weights: Weights, path: Path, family: str) -> None:
    """Raise ValueError unless the weights are the module's, name by name and shape by shape."""
    expected = {name: value.shape for name, value in module.state_dict().items()}
    found = {name: value.shape for name, value in weights.items()}
    check_names(
        expected.keys() - found.keys(),
        found.keys() - expected.keys(),
        {name for name in expected.keys() & found.keys() if expected[name] != found[name]},
        f"The tensors of {path} do not fit {family}",
    )


def check_names(missing: set[str], unknown: set[str], resized: set[str], what: str) -> None:
    lists = {"missing": missing, "unknown": unknown, "of another size": resized}
    told = [f"{kind}: {_listed(names)}" for kind, names in lists.items() if names]
    if told:
        raise ValueError(f"{what}; {'; '.join(told)}. Download it again.")


def _listed(names: set[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(sorted(names)[:LISTED]) + more
