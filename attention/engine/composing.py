"""Composed noise: Composable Diffusion (Liu et al. 2022, arXiv 2206.01714), equation 11 and its negation.

``eps = eps_u + sum_i w_i (eps_i - eps_u)``: every part of a prompt is predicted alone, in a slot of its own, and their
differences from the negative prompt add up. Other than in the published code, where a weight is a guidance scale,
weights here are shares of the sampler's own (CFG): the positive prediction becomes ``D_u + sum_i w_i (D_i - D_u)``, and
guidance does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from .rows import has_own_text, is_negative, is_zeroed

NAME = "Compose Noise"
PART_KEY = "semantic_binding_part"
"""In a conditioning's dict: the ``Part`` that it is."""
NOTHING = 1e-37
"""ComfyUI's own: what the weights of a place add up to where no conditioning is."""


class Part(NamedTuple):
    """Part ``number`` of a composition, which all parts of one node share the name of."""

    composition: str
    number: int
    weight: float


def compositions_of(conds: Mapping[str, Iterable[Mapping[str, Any]]], techniques: Iterable[Any]) -> frozenset[str]:
    """The compositions among a guider's conditionings.

    Raises:
        ValueError: they cannot be composed here.
    """
    parts = [
        cond[PART_KEY] for name, group in conds.items() if not is_negative(name) for cond in group if is_part(cond)
    ]
    if not parts:
        return frozenset()
    if not conds.get("negative"):
        raise ValueError(
            f"{NAME} compares each part with the negative prompt, and this guider has none. Use KSampler, CFGGuider or "
            "another guider with a negative input; an empty prompt will do."
        )
    found = {part.composition for part in parts}
    known = {getattr(each, "composition", None) for each in techniques}
    if found - known:
        raise ValueError(
            f"The sampler was given a conditioning of {NAME}, but not its model, so that its parts would be averaged. "
            f"Connect the MODEL output of {NAME} to the sampler."
        )
    return frozenset(found)


def is_part(cond: Mapping[str, Any]) -> bool:
    """Whether a conditioning is a part, and no zeroed copy of one."""
    return PART_KEY in cond and not is_zeroed(cond)


class Member(NamedTuple):
    """Conditionings to be predicted in a slot of their own: those of one part, or (None) all that are no part."""

    slot: int
    part: Part | None
    conds: list[dict[str, Any]]


def composed(
    base: torch.Tensor, predictions: Sequence[torch.Tensor], weights: Sequence[float | torch.Tensor]
) -> torch.Tensor:
    """``base + sum_i w_i (D_i - base)``, all ``(B, C, H, W)``; weights may differ from place to place."""
    return base + sum(weight * (prediction - base) for weight, prediction in zip(weights, predictions, strict=True))


@dataclass(frozen=True)
class Expanded:
    """The conditionings of a model evaluation with a slot for each part.

    ``members`` are those of each slot that was composed, ``base`` the slot of the negative prompt, ``count`` the number
    of slots that were given.
    """

    conds: list[list[dict[str, Any]] | None]
    members: Mapping[int, Sequence[Member]]
    base: int
    count: int

    @property
    def origins(self) -> dict[int, int]:
        """For each slot that was added, the one it stands for; a negative prompt that was added is in slot 1."""
        added = {member.slot: slot for slot, members in self.members.items() for member in members}
        return {slot: added.get(slot, 1) for slot in range(self.count, len(self.conds))}

    def combined(
        self, found: Sequence[torch.Tensor], coverage: Callable[[list[dict[str, Any]]], torch.Tensor]
    ) -> list[torch.Tensor]:
        """The predictions of the slots that were given, from those of all slots ``(B, C, H, W)``.

        Several compositions, or a composition and other conditionings, share a slot as ComfyUI has conditionings share
        it: by their weight in each place.

        Args:
            coverage: how much conditionings weigh in each place ``(B, C, H, W)``.
        """
        result, base = list(found[: self.count]), found[self.base]
        for slot, members in self.members.items():
            total, weight = torch.zeros_like(base), torch.full_like(base, NOTHING)
            for share, prediction in self._shares(members, found, base, coverage):
                total += share * prediction
                weight += share
            result[slot] = total / weight
        return result

    @staticmethod
    def _shares(members, found, base, coverage):
        """The weight and the prediction of every composition, and of the conditionings that are no part."""
        by_name: dict[str | None, list[Member]] = {}
        for member in members:
            by_name.setdefault(member.part and member.part.composition, []).append(member)
        for name, parts in by_name.items():
            shares = [coverage(member.conds) for member in parts]
            predictions = [found[member.slot] for member in parts]
            if name is None:
                yield shares[0], predictions[0]
                continue
            weights = [member.part.weight * (share > 0) for member, share in zip(parts, shares, strict=True)]
            yield torch.stack(shares).amax(0), composed(base, predictions, weights)


def expanded(
    conds: Sequence[list[dict[str, Any]] | None], negative_slots: frozenset[int], negative: list[dict[str, Any]]
) -> Expanded | None:
    """The conditionings with a slot for each part; None if there is no part among them.

    Args:
        negative: the guider's negative prompt, for an evaluation without one (CFG 1, or another node's own).

    Raises:
        ValueError: a conditioning next to parts fills what others leave (Cond Set Default Combine).
    """
    slots, members = list(conds), {}
    for slot, group in enumerate(conds):
        found = _members(group or ())
        if not found or slot in negative_slots:
            continue
        places = [slot, *range(len(slots), len(slots) + len(found) - 1)]
        members[slot] = [Member(place, *each) for place, each in zip(places, found, strict=True)]
        slots[slot] = found[0][1]
        slots += [own for _, own in found[1:]]
    if not members:
        return None
    there = [slot for slot in negative_slots if slot < len(conds) and conds[slot]]
    if not there:
        slots.append(negative)
    return Expanded(slots, members, min(there, default=len(slots) - 1), len(conds))


def _members(group: Iterable[dict[str, Any]]) -> list[tuple[Part | None, list[dict[str, Any]]]]:
    """The parts in a slot, each with its conditionings, and behind them all that are no part; nothing if there is no
    part."""
    parts: dict[Part, list[dict[str, Any]]] = {}
    others = []
    for cond in group:
        if is_part(cond) and has_own_text(cond):
            parts.setdefault(cond[PART_KEY], []).append(cond)
        else:
            others.append(cond)
    if not parts:
        return []
    if any("default" in cond for cond in group):
        raise ValueError(
            f"{NAME} cannot share a sampler's input with Cond Set Default Combine. Combine the conditionings with "
            "Conditioning (Combine) and give each an area or a mask."
        )
    texts = {id(cond["model_conds"]["c_crossattn"]) for own in parts.values() for cond in own}
    others = [cond for cond in others if id(cond["model_conds"].get("c_crossattn")) not in texts]
    return [*parts.items(), *([(None, others)] if others else [])]
