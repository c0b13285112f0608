"""The fusion head: FastComposer (Xiao et al. 2023, arXiv 2305.10431), equation 4, as in the published code.

It makes one row of a word's row and the embedding of a reference picture. The paper has one perceptron; the published
code, which the released weights are for, adds the word's row to what comes out, then a second perceptron with its own
residual, and a normalisation.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


class Perceptron(nn.Module):
    """A normalisation and two linear layers; the names are those of the checkpoint."""

    def __init__(self, width: int, hidden: int, result: int):
        super().__init__()
        self.layernorm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, result)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(self.layernorm(x))))


class FusionHead(nn.Module):
    """For rows of ``width`` numbers. Its weights are in 32 bits and need no gradients."""

    def __init__(self, width: int, hidden: tuple[int, int]):
        super().__init__()
        self.width = width
        self.mlp1 = Perceptron(2 * width, hidden[0], width)
        self.mlp2 = Perceptron(width, hidden[1], width)
        self.layer_norm = nn.LayerNorm(width)
        self.requires_grad_(False)

    @classmethod
    def for_weights(cls, weights: Mapping[str, torch.Tensor]) -> FusionHead:
        """A head of the sizes of these weights, which are yet to be loaded.

        Raises:
            KeyError: a tensor that says a size is missing.
        """
        hidden = tuple(len(weights[f"{part}.fc1.bias"]) for part in ("mlp1", "mlp2"))
        return cls(len(weights["layer_norm.weight"]), hidden)

    def forward(self, rows: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """Fused rows ``(..., D)`` in 32 bits, of words' rows ``(..., D)`` and embeddings that broadcast to them."""
        rows = rows.float()
        both = torch.cat([rows, embeddings.float().expand_as(rows)], dim=-1)
        fused = self.mlp1(both) + rows
        return self.layer_norm(fused + self.mlp2(fused))
