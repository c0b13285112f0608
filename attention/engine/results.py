"""What the last few runs of a model gave, found again by the latent each of them returned."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Wording:
    """What messages call things: the ``node`` whose model output is sampled ("Record Attention"), what it has ``done``
    to the model ("recorded"), and what a run gives (``result``, "recording")."""

    node: str
    done: str
    result: str

    @property
    def how_to_wire(self) -> str:
        return (
            f"Connect the model output of {self.node} to a sampler, and the LATENT output of that same sampler to the "
            "latent input of this node (with SamplerCustomAdvanced its first output, not denoised_output), and put "
            f"{self.node} after nodes that merge models: they keep the settings of model1 alone."
        )


class RunResults(Generic[T]):
    """Results of the last ``kept`` runs.

    ComfyUI keeps this object between executions and may sample one model several times, so each result is kept with
    the latent its run returned, and a viewer asks with the latent it is wired to.
    """

    def __init__(self, wording: Wording, kept: int):
        self._wording = wording
        self._lock = threading.Lock()
        self._runs: deque[tuple[torch.Tensor, T | str]] = deque(maxlen=kept)

    def __deepcopy__(self, memo) -> RunResults[T]:
        """Itself: a copy of the MODEL it hangs on still fills it for the same viewers."""
        return self

    def add(self, latent: torch.Tensor, result: T | str) -> None:
        """Keep the result of a finished run, or the reason why there is none."""
        with self._lock:
            self._runs.append((latent.detach().float().cpu().clone(), result))

    def find(self, latent: dict | None) -> T:
        """The result of the run that returned this LATENT.

        Raises:
            ValueError: there is none; the message says why and how to wire the nodes.
        """
        wording = self._wording
        if latent is None:
            raise ValueError(
                "The latent input is not connected, so there is no telling which run to show. " + wording.how_to_wire
            )
        with self._lock:
            runs = list(self._runs)
        if not runs:
            raise ValueError(
                f"Nothing has been {wording.done}: the {wording.done} model has not been sampled. "
                f"{wording.how_to_wire} If it is wired so, ComfyUI has dropped the {wording.result} from its cache: "
                "change the sampler's seed to sample again."
            )
        for returned, result in reversed(runs):
            if _same(returned, latent["samples"]):
                if isinstance(result, str):
                    raise ValueError(result)
                return result
        raise ValueError(
            f"This latent was not returned by any of the last {len(runs)} runs of the {wording.done} model: it comes "
            f"from another sampler, or was changed after sampling. {wording.how_to_wire}"
        )


def _same(returned: torch.Tensor, given: torch.Tensor) -> bool:
    """Whether the latents are the same up to a cast of ``given`` to another type and device, and the rounding of nodes
    that only hand it on (Impact Pack's samplers put it together again under its mask)."""
    given = given.cpu()
    if returned.shape != given.shape:
        return False
    cast = returned.to(given.dtype).float().nan_to_num()
    return bool(((cast - given.float().nan_to_num()).abs() <= 1e-6).all())
