"""Whether a picture binds what its prompt binds, predicted from recorded attention alone: no picture is looked at.

Each measure is of parts of the prompt: pairs of entities, entities, or attributes; a picture's score is that of its
weakest part, or their mean. All are oriented so that higher is better. Which of them says how much is measured by
benchmarks/attention_scores.py.

Sources of the measures: peak is what Attend-and-Excite raises (Chefer et al. 2023, arXiv 2301.13826); the divergences
are those of SynGen (Rassin et al. 2023, arXiv 2306.08877); the entropy is that of ToMe's loss (Hu et al. 2024, arXiv
2411.07132). The rest is our own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch

from ..attention.guidance.losses import FLOOR, divergences, smoothed_peak
from .attended import Attended

PAIRS, ENTITIES, ATTRIBUTES = "pairs of entities", "entities", "attributes"
WEAKEST, MEAN = "weakest", "mean"


def distributions(maps: torch.Tensor) -> torch.Tensor:
    """Maps ``(..., h, w)`` as distributions ``(..., N)`` over the patches."""
    flat = maps.flatten(-2)
    return flat / flat.sum(-1, keepdim=True).clamp(min=FLOOR)


def overlaps(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """How much of each of the distributions ``(..., A, N)`` lies where each of ``(..., B, N)`` does: ``(..., A, B)``,
    0 for none and 1 for all."""
    return torch.minimum(one[..., :, None, :], other[..., None, :, :]).sum(-1)


def regions(strengths: torch.Tensor) -> torch.Tensor:
    """``(..., E, N)`` of 0 and 1: each patch is of the entity that is strongest there."""
    best = strengths.argmax(-2, keepdim=True)
    return (torch.arange(strengths.shape[-2])[:, None] == best).to(strengths)


def entities_apart(of: Attended) -> torch.Tensor:
    """What part of each of two entities' attention does not lie where the other's does."""
    return _of_pairs(1 - overlaps(*[distributions(of.entity_maps)] * 2))


def entities_diverge(of: Attended) -> torch.Tensor:
    """The symmetric Kullback-Leibler divergence of two entities' attention."""
    return _of_pairs(_divergences(of.entity_maps))


def own_region(of: Attended) -> torch.Tensor:
    """What part of an entity's attention lies where its own is the highest, each scaled to a sum of 1."""
    maps = distributions(of.entity_maps)
    return (maps * regions(maps)).sum(-1)


def conquered_region(of: Attended) -> torch.Tensor:
    """What part of an entity's attention lies where its own is the highest, as it is."""
    return (distributions(of.entity_maps) * regions(of.entity_maps.flatten(-2))).sum(-1)


def concentration(of: Attended) -> torch.Tensor:
    """How far an entity's attention is from lying everywhere: 1 less its entropy, by that of an even map."""
    maps = distributions(of.entity_maps)
    return 1 + (maps * (maps + FLOOR).log()).sum(-1) / torch.tensor(float(maps.shape[-1])).log()


def peak(of: Attended) -> torch.Tensor:
    """The probability of an entity's strongest patch, after Attend-and-Excite's filter."""
    flat = of.entity_maps.flatten(0, 1)
    return smoothed_peak(flat.flatten(-2), tuple(flat.shape[-2:])).unflatten(0, of.entity_maps.shape[:2])


def strength(of: Attended) -> torch.Tensor:
    """An entity's part of all entities' attention, by an even part."""
    sums = of.entity_maps.sum((-2, -1))
    return sums / sums.mean(-1, keepdim=True).clamp(min=FLOOR)


def attribute_on_noun(of: Attended) -> torch.Tensor:
    """How much of an attribute's attention lies where its entity's does."""
    return _own(_of_attributes(of), of)


def attribute_off_others(of: Attended) -> torch.Tensor:
    """How much of an attribute's attention does not lie where that of the entity nearest to it, of the others, does."""
    return 1 - _nearest_other(_of_attributes(of), of)


def attribute_margin(of: Attended) -> torch.Tensor:
    """How much more of an attribute's attention lies where its entity's does than where another's does."""
    shared = _of_attributes(of)
    return _own(shared, of) - _nearest_other(shared, of)


def attribute_divergence_margin(of: Attended) -> torch.Tensor:
    """How much further an attribute's attention is from the other entities' than from its own entity's, by SynGen's
    divergence."""
    count = len(of.attributes)
    apart = -_divergences(torch.cat([of.attribute_maps, of.entity_maps], 2))[..., :count, count:]
    return _own(apart, of) - _nearest_other(apart, of)


def attribute_in_region(of: Attended) -> torch.Tensor:
    """What part of an attribute's attention lies in its entity's region."""
    own = regions(distributions(of.entity_maps))[..., list(of.owners), :]
    return (distributions(of.attribute_maps) * own).sum(-1)


@dataclass(frozen=True)
class Measure:
    """``of`` says of what parts it is: PAIRS, ENTITIES or ATTRIBUTES; ``values`` gives ``(steps, latents, parts)``."""

    of: str
    values: Callable[[Attended], torch.Tensor]

    def parts(self, of: Attended) -> tuple[str, ...]:
        """The names of the parts, in the order of the values."""
        if self.of == PAIRS:
            return tuple(f"{one} and {other}" for one, other in combinations(of.entities, 2))
        return of.entities if self.of == ENTITIES else of.attributes


MEASURES = {
    "entities apart": Measure(PAIRS, entities_apart),
    "entities diverge": Measure(PAIRS, entities_diverge),
    "own region": Measure(ENTITIES, own_region),
    "conquered region": Measure(ENTITIES, conquered_region),
    "concentration": Measure(ENTITIES, concentration),
    "peak": Measure(ENTITIES, peak),
    "strength": Measure(ENTITIES, strength),
    "attribute on noun": Measure(ATTRIBUTES, attribute_on_noun),
    "attribute off others": Measure(ATTRIBUTES, attribute_off_others),
    "attribute margin": Measure(ATTRIBUTES, attribute_margin),
    "attribute divergence margin": Measure(ATTRIBUTES, attribute_divergence_margin),
    "attribute in region": Measure(ATTRIBUTES, attribute_in_region),
}


def over_parts(values: torch.Tensor, reduction: str) -> torch.Tensor:
    """Values of parts ``(..., parts)`` as one: of the WEAKEST part, or their MEAN."""
    return values.amin(-1) if reduction == WEAKEST else values.mean(-1)


def _divergences(maps: torch.Tensor) -> torch.Tensor:
    """``(steps, latents, K, K)`` of maps ``(steps, latents, K, h, w)``."""
    return divergences(maps.flatten(0, 1).flatten(-2).transpose(1, 2)).unflatten(0, maps.shape[:2])


def _of_pairs(square: torch.Tensor) -> torch.Tensor:
    """The values ``(..., E * (E - 1) / 2)`` of all pairs in a symmetric ``(..., E, E)``."""
    rows, columns = torch.triu_indices(square.shape[-1], square.shape[-1], 1)
    return square[..., rows, columns]


def _of_attributes(of: Attended) -> torch.Tensor:
    """Overlaps ``(..., A, E)`` of attributes and entities."""
    return overlaps(distributions(of.attribute_maps), distributions(of.entity_maps))


def _own(values: torch.Tensor, of: Attended) -> torch.Tensor:
    """Of ``(..., A, E)`` that of each attribute's own entity."""
    return values[..., range(len(of.owners)), list(of.owners)]


def _nearest_other(values: torch.Tensor, of: Attended) -> torch.Tensor:
    """Of ``(..., A, E)`` the largest of the entities that are not the attribute's own."""
    return values.masked_fill(_is_own(of.owners, values.shape[-1]), -torch.inf).amax(-1)


def _is_own(owners: Sequence[int], entities: int) -> torch.Tensor:
    return torch.tensor(owners)[:, None] == torch.arange(entities)
