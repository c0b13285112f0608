"""What is drawn by chance in a training, from its seed and a position alone."""

from __future__ import annotations

import torch


def generator_at(seed: int, position: int) -> torch.Generator:
    """The generator of one micro batch."""
    # Neighbouring seeds of a generator give unlike numbers only after some mixing: multiply by a large odd number.
    return torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + position * 0xBF58476D1CE4E5B9) % 2**63)


def samples_at(seed: int, position: int, batch: int, count: int) -> list[int]:
    """Which of ``count`` samples a micro batch has: all of them come up, in an order of chance, before one comes
    again."""
    found = []
    for place in range(position * batch, (position + 1) * batch):
        epoch, within = divmod(place, count)
        found.append(int(torch.randperm(count, generator=generator_at(seed, -1 - epoch))[within]))
    return found
