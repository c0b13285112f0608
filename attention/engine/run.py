"""What a technique sees of a sampling run, and what it may do in it."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from ...parsing.binding import Binding
from .calls import Attention, Call, Evaluation, Layer, Negative
from .held import HeldLatent
from .rows import BoundCond, Chunk

if typing.TYPE_CHECKING:
    from .gradient import ModelCall


@dataclass
class Run:
    """State of one sampling run: made when it starts, dropped when it ends.

    ``height`` and ``width`` are the latent's, in cells; ``cell`` is the size of a cell in pixels; ``batch`` the
    number of latents; ``sigmas`` the falling noise schedule, one longer than the steps. ``techniques`` are all that
    take part, ``given`` the keys of the bound conditionings that the sampler was given, by their uuids, ``merged``
    those whose entities have been merged, with the names of these, ``replaced`` those with entities that have a sum
    of phrases in their place, likewise, ``encoded`` for each key the rows ``(1, T, D)`` that are known of its
    conditioning, ``may_have_regions`` whether other packs have the patches that regions take, and ``regional``, as
    soon as it is known, whether these make regions of other prompts. ``compositions`` are the names of those that the
    sampler was given the parts of. ``conds`` are the bound conditionings of the evaluation in progress,
    ``negative_slots`` the places of the negative ones among its conditionings, ``added_slots`` the places that parts
    of a composition have in it, with the place that each stands for. ``negative`` is set, where there is a negative
    prompt, and ``guiding`` true, while techniques have their pass with gradients. ``names`` are the nodes of the
    participants; ``predicted`` once the model was asked for anything through ComfyUI's wrappers, ``computed`` are the
    keys of the bound conditionings that it was asked for, ``wanting`` the participants that wanted a layer of it,
    ``acted`` those that got one. ``held`` is the latent as the sampler has it.
    """

    layers: tuple[Layer, ...]
    sigmas: tuple[float, ...]
    batch: int
    height: int
    width: int
    cell: int
    techniques: tuple[Technique, ...] = ()
    given: Mapping[Any, str] = field(default_factory=dict)
    encoded: Mapping[str, tuple[torch.Tensor, ...]] = field(default_factory=dict)
    may_have_regions: bool = False
    regional: bool | None = None
    merged: Mapping[str, frozenset[str]] = field(default_factory=dict)
    replaced: Mapping[str, frozenset[str]] = field(default_factory=dict)
    compositions: frozenset[str] = frozenset()
    evaluation: Evaluation | None = None
    conds: Mapping[tuple[Any, int], BoundCond] = field(default_factory=dict)
    negative_slots: frozenset[int] = frozenset()
    added_slots: Mapping[int, int] = field(default_factory=dict)
    negative: Negative | None = None
    guiding: bool = False
    names: dict[Participant, str] = field(default_factory=dict)
    predicted: bool = False
    computed: set[str] = field(default_factory=set)
    wanting: set[Participant] = field(default_factory=set)
    acted: set[Participant] = field(default_factory=set)
    held: HeldLatent = field(default_factory=HeldLatent)

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    def given_slots(self, slots: Iterable[int]) -> list[int]:
        """The slots as other packs are to see them, which know a positive and a negative one."""
        return [self.added_slots.get(slot, slot) for slot in slots]

    def gives(self, binding: Binding) -> bool:
        """Whether the sampler was given the conditioning of the binding, or another pack may have it."""
        return binding.key in self.given.values() or (self.may_have_regions and binding.key in self.encoded)

    def require(self, binding: Binding, name: str, with_gradients: bool = False) -> None:
        """Raise ValueError if the sampler was not given the conditioning of the binding that a technique acts on.

        Gradients are taken through the model calls of the sampler's own conditionings.
        """
        if not self.gives(binding) or (with_gradients and binding.key not in self.given.values()):
            raise ValueError(
                f"{name} has nothing to act on: {not_given(binding)} Or take {name} off the model of this sampler."
            )


def not_given(binding: Binding) -> str:
    """The sentences for a sampler without the conditioning of a binding: how that comes about, and what to do."""
    return (
        f'the sampler was not given the conditioning of "{binding.text}" to draw. Connect the CONDITIONING output of '
        "the node that the BINDING comes from to its positive input; as a negative prompt it does not count. "
        "Conditioning (Concat) and Conditioning (Average) keep the binding of conditioning_to alone: connect the bound "
        "prompt there, or bind what they have made with Bind Conditioning."
    )


class Participant:
    """One technique's part in one run. ``cross_layers`` and ``self_layers`` are the layers it takes part in.

    Changes come first, in the order of the nodes, each computed from the attention as it was found; then all observers
    see the changed attention.
    """

    cross_layers: frozenset[Layer] = frozenset()
    self_layers: frozenset[Layer] = frozenset()
    needs_places = False
    """Whether it has to know where in the picture the patches are."""
    moves_latent = False
    """Whether it moves the latent that the sampler holds."""
    edits_last = False
    """Whether its edits of the context come after those of all others, which it has to know."""
    edits_values = False
    """Whether it gives the values of cross-attention other rows than the keys."""
    gradient_rows = 0
    """How many rows it takes gradients through at a time; 0 if it takes none."""

    def guides(self, key: str, step: int) -> bool:
        """Whether it wants a pass with gradients for a binding's conditioning in this step."""
        return False

    def guide(self, call: ModelCall, chunk: Chunk, found: torch.Tensor) -> None:
        """A pass with gradients before the first model call of an evaluation. ``call`` is the model call that a bound
        conditioning will have; ``found (B, T, D)`` are its rows without the edits of those that edit last."""

    def shift_input(self, uuid: Any, step: int) -> torch.Tensor | None:
        """What to add to the network's input in all model calls of an evaluation, found for this conditioning: ``(B, C,
        H, W)`` of its area; None for nothing. The sampler's latent stays as it is."""
        return None

    def move_latent(self, uuid: Any, step: int) -> torch.Tensor | None:
        """What to add to the sampler's own latent, found in a pass with gradients for this conditioning: ``(B, C, H,
        W)`` of its area; None for nothing."""
        return None

    def edit_context(self, call: Call, chunk: Chunk, rows: torch.Tensor) -> torch.Tensor:
        """The rows ``(B, T, D)`` of a conditioning that the model is to get; ``rows`` itself for no change."""
        return rows

    def wants(self, call: Call) -> bool:
        """Whether it takes part in this call at all."""
        return False

    def edit_values(self, call: Call, chunk: Chunk, rows: torch.Tensor) -> torch.Tensor:
        """The rows ``(B, T, D)`` of a conditioning that the values of all cross-attention layers are made of; ``rows``,
        those that the keys are made of, for no change."""
        return rows

    def scale_self(self, call: Call) -> Sequence[float] | None:
        """A factor on the queries of the ``self_layers`` for each of the call's equal parts; None for no change."""
        return None

    def bias_cross(self, call: Call, attention: Attention) -> Iterable[tuple[Chunk, torch.Tensor]]:
        """What to add to the logits of a cross-attention: chunks and biases that broadcast to ``(rows of the chunk, N,
        T)``."""
        return ()

    def observe_cross(self, call: Call, attention: Attention) -> None:
        """Look at an attention to the prompt; called for the ``cross_layers`` of wanted calls."""

    def observe_self(self, call: Call, attention: Attention) -> None:
        """Look at an attention among the image's patches; called for the ``self_layers`` of wanted calls."""

    def finish(self, latent: torch.Tensor) -> None:
        """The run has come to its end and returned ``latent``. Not called after an error or an interrupt."""


class Technique(Protocol):
    """The frozen settings that a node puts on a MODEL. ``name`` is the node's, for messages. Those that need gradients
    have ``differentiates = True``."""

    name: str

    def check(self, layers: tuple[Layer, ...]) -> None:
        """Raise ValueError if a model with these layers cannot do what is asked; called when the node executes."""

    def begin(self, run: Run) -> Participant:
        """Its part in a run; raises ValueError if it cannot act in this one."""
