"""Recorded attention: what a recording holds, and how a viewer finds the one of its own run."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..engine.results import RunResults, Wording

KEPT_RUNS = 8
WORDING = Wording(node="Record Attention", done="recorded", result="recording")


@dataclass(frozen=True)
class Grid:
    """Maps of the layers that work on one grid.

    ``maps`` is ``(steps, latents, labels, h, w)`` in float32 on the CPU: the attention probability of one token of the
    label, mean over its tokens, the heads, the layers named in ``layers`` and the model calls. ``level`` counts the
    halvings of the latent's grid. ``affinity`` ``(latents, h * w, h * w)``, where it was recorded, is the probability
    that a patch (second dimension) attends to another (third), mean over the same and the steps.
    """

    level: int
    layers: tuple[str, ...]
    maps: torch.Tensor
    affinity: torch.Tensor | None = None


@dataclass(frozen=True)
class Recording:
    """The attention of one sampling run.

    ``what`` was recorded is one of ``targets.WHAT``, or "" in files that do not tell. ``labels`` name the maps and
    ``entities`` the entity each belongs to ("" for none). ``latent_size`` is (height, width) in cells of ``cell``
    pixels. ``steps`` holds, for each kept map, the steps of the run it is the mean of; ``sigmas`` is the noise schedule
    of the whole run.
    """

    prompt: str
    labels: tuple[str, ...]
    entities: tuple[str, ...]
    latent_size: tuple[int, int]
    cell: int
    steps: tuple[tuple[int, ...], ...]
    sigmas: tuple[float, ...]
    grids: tuple[Grid, ...]
    what: str = ""

    @property
    def latents(self) -> int:
        return self.grids[0].maps.shape[1]

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the decoded pictures in pixels."""
        return self.latent_size[0] * self.cell, self.latent_size[1] * self.cell


class AttentionMaps(RunResults[Recording]):
    """The value on the ATTENTION_MAPS wire: the recordings of the last few runs of one recorder, or one that was
    loaded."""

    def __init__(self, fixed: Recording | None = None):
        super().__init__(WORDING, KEPT_RUNS)
        self._fixed = fixed

    def find(self, latent: dict | None) -> Recording:
        """As RunResults; a loaded recording whatever the latent."""
        return super().find(latent) if self._fixed is None else self._fixed
