"""What an entity is to look like: its reference pictures, on the BINDING."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Subject:
    """``pictures`` are ``(3, H, W)`` in 0..1, as ``preprocess.references`` has them, in the user's order.

    ``reference`` is the number of the one that counts, from 1 on, or 0 for the mean of all; ``strength`` how much of
    the word the subject takes over.
    """

    pictures: tuple[torch.Tensor, ...]
    reference: int
    strength: float

    @property
    def chosen(self) -> tuple[torch.Tensor, ...]:
        """The pictures that count."""
        return self.pictures if self.reference == 0 else self.pictures[self.reference - 1 : self.reference]
