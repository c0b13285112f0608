"""Where a stage of training stands: its time, its learning rate, and the file that it goes on from."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

LEARNING_RATE_FLOOR = 0.02


class Clock:
    """Training time of one stage in seconds, carried on over interruptions; the learning rate follows it."""

    def __init__(self, budget: float, spent: float = 0.0):
        self.budget = budget
        self._start = time.monotonic() - spent

    @property
    def spent(self) -> float:
        """Seconds trained so far."""
        return time.monotonic() - self._start

    @property
    def progress(self) -> float:
        """Share of the budget that is spent."""
        return self.spent / self.budget


def learning_rate_factor(progress: float, step: int, warm_up: int = 100, hold: float = 0.45) -> float:
    """Linear warm-up over steps, constant up to the share `hold` of the time, then a cosine down to a floor."""
    warm = min(1.0, (step + 1) / warm_up)
    if progress <= hold:
        return warm
    phase = min(1.0, (progress - hold) / (1.0 - hold))
    cosine = 0.5 * (1.0 + float(torch.cos(torch.tensor(torch.pi * phase))))
    return warm * (LEARNING_RATE_FLOOR + (1.0 - LEARNING_RATE_FLOOR) * cosine)


def save_atomically(value: object, path: os.PathLike) -> None:
    """`torch.save`, such that an interruption leaves the former file."""
    partial = f"{path}.partial"
    torch.save(value, partial)
    os.replace(partial, path)


def load(path: Path) -> Any:
    """What was saved, on the CPU, wherever it was computed."""
    return torch.load(path, map_location="cpu", weights_only=True)


class Checkpoint:
    """Parts of a stage by name, kept in a file: networks, optimisers, tensors, and tuples and mappings of these."""

    def __init__(self, path: Path, **parts: Any):
        self._path, self._parts = path, parts

    def restore(self) -> tuple[int, float]:
        """Give the parts what was last saved, if anything was; the steps and seconds trained so far."""
        if not self._path.exists():
            return 0, 0.0
        state = load(self._path)
        _restore(self._parts, state["parts"])
        return state["step"], state["spent"]

    def save(self, step: int, spent: float) -> None:
        """Replace the file."""
        save_atomically({"parts": _state(self._parts), "step": step, "spent": spent}, self._path)


def _state(part: Any) -> Any:
    if isinstance(part, torch.Tensor):
        return part.detach()
    if isinstance(part, Mapping):
        return {name: _state(each) for name, each in part.items()}
    if isinstance(part, tuple):
        return [_state(each) for each in part]
    return part.state_dict()


@torch.no_grad()
def _restore(part: Any, state: Any) -> None:
    if isinstance(part, torch.Tensor):
        part.copy_(state)
    elif isinstance(part, Mapping):
        for name, each in part.items():
            _restore(each, state[name])
    elif isinstance(part, tuple):
        for each, saved in zip(part, state, strict=True):
            _restore(each, saved)
    else:
        part.load_state_dict(state)
