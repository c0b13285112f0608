"""Subjects: FastComposer (Xiao et al. 2023, arXiv 2305.10431), section 3: fused rows, and delayed subject conditioning.

From a step on the row of each subject's noun is one that its reference picture has been fused with. The paper keeps
subjects apart by a loss on the attention maps while it trains; here this can be asked for when pictures are made: the
row of a subject is closed to the patches of others, whose they are being found as in Object-Focused Attention.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import torch

from ..parsing.binding import Binding, Entity
from .engine.calls import Attention, Call, Layer
from .engine.marks import NAME
from .engine.roles import check_rows
from .engine.rows import Chunk
from .engine.run import Participant, Run
from .modulation.object_focus import CLOSED, Focus, FocusSettings

LOCALISATIONS = FREE, REGIONS, REGIONS_OR_ATTENTION = "off", "masks", "masks, else attention"


def text_only_steps(delay: float, steps: int, published: bool) -> int:
    """How many of the first steps have the text alone, for a ``delay`` that is a share of them.

    The published code goes on with the text while the number of a step, from 0 on, is not above ``delay * steps``; its
    alpha is 1 - delay.
    """
    share = round(delay * steps, 6)
    return min(steps, int(share) + 1) if published else round(share)


def with_subjects(binding: Binding) -> tuple[Entity, ...]:
    """The entities that have a subject.

    Raises:
        ValueError: none has, or one has no tokens, or a weight on its noun.
    """
    found = tuple(entity for entity in binding.entities if entity.subject is not None)
    if not found:
        raise ValueError(
            f'No entity of "{binding.text}" has a subject. Give them reference pictures with Entity Subject, and '
            "connect its BINDING."
        )
    missing = [entity.name for entity in found if not binding.positions([entity.noun])]
    if missing:
        raise ValueError(f"There are no tokens in the conditioning for: {', '.join(missing)}.")
    for entity in found:
        rows = [tokens.rows[row] for tokens in binding.encoders for row in tokens.positions(entity.noun.spans)]
        weight = max((row.weight for row in rows), key=lambda weight: abs(weight - 1))
        if weight != 1:
            raise ValueError(
                f'"{entity.noun.text}" has the weight {weight:g} in the prompt, and a subject can be fused only with '
                "the word as it is. Take the weight off this word; Entity Subject has a strength."
            )
    return found


def row_of(binding: Binding, entity: Entity, summed: Collection[str]) -> int:
    """The row that a subject is fused with: the last of its noun, or the first for an entity that is named among those
    that have a composite token or a sum of phrases there."""
    rows = binding.positions([entity.noun])
    return rows[0] if entity.name in summed else rows[-1]


@dataclass(frozen=True)
class SubjectSettings:
    """``embeddings (S, D)`` are those of the binding's entities that have a subject, which ``fusion`` makes rows of.

    ``delay`` is the share of the steps that have the text alone, counted as ``text_only_steps`` does; ``localisation``
    is one of ``LOCALISATIONS``.
    """

    binding: Binding
    fusion: torch.nn.Module = field(compare=False)
    embeddings: torch.Tensor = field(compare=False)
    delay: float
    published: bool
    localisation: str

    name = NAME

    @property
    def entities(self) -> tuple[Entity, ...]:
        return with_subjects(self.binding)

    @property
    def injects(self) -> frozenset[tuple[str, str]]:
        """The key of the binding and the name of the entity, of each subject."""
        return frozenset((self.binding.key, entity.name) for entity in self.entities)

    @property
    def by_region(self) -> tuple[Entity, ...]:
        """The subjects that are confined to their own region."""
        return tuple(each for each in self.entities if self.localisation != FREE and _has_region(each))

    @property
    def by_attention(self) -> tuple[Entity, ...]:
        """The subjects that are confined to where their entity is found while sampling."""
        if self.localisation != REGIONS_OR_ATTENTION or len(self.binding.entities) < 2:
            return ()
        return tuple(each for each in self.entities if not _has_region(each))

    def check(self, layers: tuple[Layer, ...]) -> None:
        """Raise ValueError if there is no subject, or no region to confine any to."""
        names = [entity.name for entity in self.entities]
        if self.localisation == REGIONS and not self.by_region:
            raise ValueError(
                f"localisation is set to masks, and none of these has a mask or a box: {', '.join(names)}. Give them "
                f'masks with Assign Mask, or choose "{REGIONS_OR_ATTENTION}".'
            )

    def begin(self, run: Run) -> Participant:
        """Raises ValueError if no step is left for subjects, or an entity has its subject from another node too."""
        run.require(self.binding, NAME)
        mine = {entity.name for entity in self.entities}
        for other in run.techniques:
            if isinstance(other, SubjectSettings) and other is not self and other.binding.key == self.binding.key:
                twice = sorted(mine & {entity.name for entity in other.entities})
                if twice:
                    raise ValueError(f"Two {NAME} nodes on this model have a subject for {', '.join(twice)}. Use one.")
        begin = text_only_steps(self.delay, run.steps, self.published)
        if begin >= run.steps:
            raise ValueError(
                f"{NAME} leaves no step for the subjects: with a delay of {self.delay:g}, {begin} of {run.steps} steps "
                "have the text alone. Lower delay."
            )
        return Injection(self, run, begin)


def _has_region(entity: Entity) -> bool:
    return entity.mask is not None or entity.box is not None


class Injection(Participant):
    """Fuses the rows of the subjects from step ``begin`` on, and confines them, in one run."""

    def __init__(self, settings: SubjectSettings, run: Run, begin: int):
        self.settings = settings
        self.begin = begin
        key = settings.binding.key
        summed = run.merged.get(key, frozenset()) | run.replaced.get(key, frozenset())
        rows = {each.name: row_of(settings.binding, each, summed) for each in settings.entities}
        self.rows = list(rows.values())
        self.tools: dict[torch.device, tuple] = {}
        self.confining = [
            Confinement(binding, {each.name: rows[each.name] for each in entities}, run, begin)
            for binding, entities in (
                (settings.binding, settings.by_region),
                (_without_regions(settings.binding), settings.by_attention),
            )
            if entities
        ]
        self.cross_layers = frozenset(layer for each in self.confining for layer in each.cross_layers)
        self.needs_places = bool(self.confining)

    def edit_context(self, call: Call, chunk: Chunk, rows: torch.Tensor) -> torch.Tensor:
        binding = self.settings.binding
        if chunk.cond.key != binding.key or call.step < self.begin:
            return rows
        check_rows(binding, chunk.cond.length)
        fusion, embeddings, strengths = self._on(rows.device)
        words = rows[:, self.rows]
        result = rows.clone()
        result[:, self.rows] = torch.lerp(words.float(), fusion(words, embeddings), strengths).to(rows)
        return result

    @torch.inference_mode(False)
    def _on(self, device: torch.device) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
        """The fusion head, the embeddings ``(S, D)`` and the strengths ``(S, 1)``; a pass with gradients may have
        them."""
        if device not in self.tools:
            strengths = torch.tensor([[entity.subject.strength] for entity in self.settings.entities])
            self.tools[device] = (
                copy.deepcopy(self.settings.fusion).to(device),
                self.settings.embeddings.clone().to(device),
                strengths.to(device),
            )
        return self.tools[device]

    def wants(self, call: Call) -> bool:
        return any(each.wants(call) for each in self.confining)

    def bias_cross(self, call: Call, attention: Attention):
        for each in self.confining:
            if each.wants(call):
                yield from each.bias_cross(call, attention)


def _without_regions(binding: Binding) -> Binding:
    return replace(binding, entities=tuple(replace(each, mask=None, box=None) for each in binding.entities))


class Confinement(Focus):
    """Closes the rows of subjects, by the names of their entities, to all patches but those of the entity."""

    def __init__(self, binding: Binding, rows: Mapping[str, int], run: Run, begin: int):
        focus = FocusSettings(
            binding,
            same_layer=False,
            score="sum",
            min_share=0.0,
            close_background=True,
            close_end=False,
            penalty=CLOSED,
            start=0.0,
            end=1.0,
        )
        super().__init__(focus, run)
        self.rows = rows
        self.steps = range(begin, run.steps)

    def table(self, length: int) -> torch.Tensor:
        owners = self.settings.owners
        table = torch.zeros(len(owners) + 1, length)
        for line, owner in enumerate(owners):
            table[line, [row for name, row in self.rows.items() if name != owner.name]] = -CLOSED
        table[-1, list(self.rows.values())] = -CLOSED
        return table
