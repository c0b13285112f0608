"""The recorded attention to what a prompt binds together: the nouns of its entities, and what belongs to them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..attention.maps.heatmaps import upsampled
from ..attention.maps.recording import Recording
from ..attention.maps.targets import WORDS
from ..parsing.binding import Binding
from ..parsing.excluded import has_no_place


@dataclass(frozen=True)
class Attended:
    """Attention probabilities, ``(steps, latents, E, h, w)`` of the ``entities`` and ``(steps, latents, A, h, w)`` of
    their ``attributes`` and sub-objects, where the recording has them.

    An entity's map is that of its noun, or of all its words where the recording has only that. ``owners`` holds the
    place of each attribute's entity; ``skipped`` are the names of abstract nouns and backgrounds.
    """

    entities: tuple[str, ...]
    attributes: tuple[str, ...]
    owners: tuple[int, ...]
    skipped: tuple[str, ...]
    entity_maps: torch.Tensor
    attribute_maps: torch.Tensor


def attended(recording: Recording, binding: Binding) -> Attended:
    """The maps of a binding's entities in a recording of its prompt, all on the finest of its grids.

    Grids are averaged by the number of their layers.

    Raises:
        ValueError: the recording is of another prompt, has no map of an entity, or there are fewer than two entities.
    """
    if recording.prompt != binding.prompt:
        raise ValueError(
            f'The recording is of the prompt "{recording.prompt}", and the BINDING of "{binding.prompt}". Connect the '
            "same BINDING to Record Attention and here."
        )
    skipped = tuple(entity.name for entity in binding.entities if has_no_place(entity.noun.text))
    entities = tuple(entity.name for entity in binding.entities if entity.name not in skipped)
    if len(entities) < 2:
        left_out = f" Abstract nouns and backgrounds do not count: {', '.join(skipped)}." if skipped else ""
        raise ValueError(
            f"Binding is scored of two entities or more, and the BINDING has {len(entities)} "
            f"({', '.join(entities) or 'none'}).{left_out} Name entities in the node the BINDING comes from."
        )
    labels = list(zip(recording.labels, recording.entities, strict=True))
    if missing := [name for name in entities if recording.what == WORDS or (name, name) not in labels]:
        raise ValueError(
            f"The recording has no maps of the entities {', '.join(missing)}, but of: {', '.join(recording.labels)}. "
            "Set record in Record Attention to entities, and connect the same BINDING there and here."
        )
    maps = _on_finest_grid(recording)
    owned = [
        (place, label, entities.index(owner))
        for place, (label, owner) in enumerate(labels)
        if owner in entities and label != owner
    ]
    return Attended(
        entities=entities,
        attributes=tuple(label for _, label, _ in owned),
        owners=tuple(owner for *_, owner in owned),
        skipped=skipped,
        entity_maps=maps[:, :, [labels.index((name, name)) for name in entities]],
        attribute_maps=maps[:, :, [place for place, *_ in owned]],
    )


def _on_finest_grid(recording: Recording) -> torch.Tensor:
    """All maps ``(steps, latents, labels, h, w)``, mean over the layers."""
    size = tuple(max((grid.maps.shape[-2:] for grid in recording.grids), key=lambda each: each[0] * each[1]))
    layers = sum(len(grid.layers) for grid in recording.grids)
    return sum(
        upsampled(grid.maps.flatten(0, 1), size).unflatten(0, grid.maps.shape[:2]) * (len(grid.layers) / layers)
        for grid in recording.grids
    )
