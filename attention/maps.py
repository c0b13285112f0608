"""Recorded attention: what a recording holds, and how a viewer finds the one of its own run."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import torch

KEPT_RUNS = 8
HOW_TO_WIRE = (
    "Connect the model output of Record Attention to a sampler, and the LATENT output of that same sampler to the "
    "latent input of this node (with SamplerCustomAdvanced its first output, not denoised_output)."
)


@dataclass(frozen=True)
class Grid:
    """Maps of the layers that work on one grid.

    ``maps`` is ``(steps, latents, labels, h, w)`` in float32 on the CPU: the attention probability of one token of the
    label, mean over its tokens, the heads, the layers named in ``layers`` and the model calls. ``level`` counts the
    halvings of the latent's grid.
    """

    level: int
    layers: tuple[str, ...]
    maps: torch.Tensor


@dataclass(frozen=True)
class Recording:
    """The attention of one sampling run.

    ``labels`` name the maps and ``entities`` the entity each belongs to ("" for none). ``latent_size`` is (height,
    width) in cells of ``cell`` pixels. ``steps`` holds, for each kept map, the steps of the run it is the mean of;
    ``sigmas`` is the noise schedule of the whole run.
    """

    prompt: str
    labels: tuple[str, ...]
    entities: tuple[str, ...]
    latent_size: tuple[int, int]
    cell: int
    steps: tuple[tuple[int, ...], ...]
    sigmas: tuple[float, ...]
    grids: tuple[Grid, ...]

    @property
    def latents(self) -> int:
        return self.grids[0].maps.shape[1]

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the decoded pictures in pixels."""
        return self.latent_size[0] * self.cell, self.latent_size[1] * self.cell


class AttentionMaps:
    """The value on the ATTENTION_MAPS wire: the recordings of the last few runs of one recorder, or one that was
    loaded.

    ComfyUI keeps this object between executions and may sample one model several times, so each recording is kept with
    the latent its run returned, and a viewer asks with the latent it is wired to.
    """

    def __init__(self, fixed: Recording | None = None):
        self._fixed = fixed
        self._lock = threading.Lock()
        self._runs: deque[tuple[torch.Tensor, Recording | str]] = deque(maxlen=KEPT_RUNS)

    def __deepcopy__(self, memo) -> AttentionMaps:
        """Itself: a copy of the MODEL it hangs on still records for the same viewers."""
        return self

    def add(self, latent: torch.Tensor, result: Recording | str) -> None:
        """Keep the result of a finished run: its recording, or the reason why there is none."""
        with self._lock:
            self._runs.append((latent.detach().float().cpu().clone(), result))

    def find(self, latent: dict | None) -> Recording:
        """The recording of the run that returned this LATENT; a loaded recording whatever the latent.

        Raises:
            ValueError: there is none; the message says why and how to wire the nodes.
        """
        if self._fixed is not None:
            return self._fixed
        if latent is None:
            raise ValueError(
                f"The latent input is not connected, so there is no telling which run to show. {HOW_TO_WIRE}"
            )
        with self._lock:
            runs = list(self._runs)
        if not runs:
            raise ValueError(
                f"Nothing has been recorded: the recorded model has not been sampled. {HOW_TO_WIRE} If it is wired so, "
                "ComfyUI has dropped the recording from its cache: change the sampler's seed to sample again."
            )
        for returned, result in reversed(runs):
            if _equal(returned, latent["samples"]):
                if isinstance(result, str):
                    raise ValueError(result)
                return result
        raise ValueError(
            f"This latent was not returned by any of the last {len(runs)} runs of the recorded model: it comes from "
            f"another sampler, or was changed after sampling. {HOW_TO_WIRE}"
        )


def _equal(returned: torch.Tensor, given: torch.Tensor) -> bool:
    """Whether the latents are the same up to a cast of ``given`` to another type and device."""
    given = given.cpu()
    return returned.shape == given.shape and torch.equal(
        returned.to(given.dtype).float().nan_to_num(), given.float().nan_to_num()
    )
