"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) beside the linear layers of a UNet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

_ATTENTION = r"\.attn[12]\.to_(q|k|v|out\.0)$"
_FEED_FORWARD = r"\.ff\.net\.(0\.proj|2)$"
TARGETS = {
    "attention": _ATTENTION,
    "cross-attention": r"\.attn2\.to_(q|k|v|out\.0)$",
    "attention and feed-forward": f"{_ATTENTION}|{_FEED_FORWARD}",
}
"""Which layers of the transformer blocks get adapters, by the ends of their names. CoMat has those of all attention."""


@dataclass(frozen=True)
class LoRASettings:
    """``rank`` of the pairs; their product counts ``alpha / rank``; ``targets`` is one of ``TARGETS``."""

    rank: int
    alpha: float
    targets: str


class Pair(nn.Module):
    """``scale * up(down(x))`` for one linear layer."""

    def __init__(self, layer: nn.Module, settings: LoRASettings, generator: torch.Generator):
        super().__init__()
        out_features, in_features = layer.weight.shape
        rank = settings.rank
        # As in CoMat's code; kohya's tools begin with a uniform distribution of about the same width.
        self.down = nn.Parameter(torch.randn(rank, in_features, generator=generator) / rank)
        self.up = nn.Parameter(torch.zeros(out_features, rank))
        self.scale = settings.alpha / rank

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(F.linear(x, self.down), self.up) * self.scale


class Adapters(nn.Module):
    """A pair for each targeted linear layer of a UNet, in float32 whatever the UNet computes in.

    They act only within ``attached``, and there only while they are ``enabled``. The UNet itself is not changed.
    """

    def __init__(self, unet: nn.Module, settings: LoRASettings, seed: int):
        super().__init__()
        self.settings, self.enabled = settings, False
        generator = torch.Generator().manual_seed(seed)
        found = targeted(unet, settings.targets)
        self.paths = tuple(found)
        self.pairs = nn.ModuleList(Pair(layer, settings, generator) for layer in found.values())

    @contextmanager
    def attached(self, unet: nn.Module) -> Iterator[None]:
        """Add what the pairs give to the output of their layers of the UNet."""
        handles = []
        try:
            for path, pair in zip(self.paths, self.pairs, strict=True):
                handles.append(unet.get_submodule(path).register_forward_hook(self._hook(pair)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, pair: Pair):
        def add(_: nn.Module, given: tuple, output: torch.Tensor) -> torch.Tensor | None:
            return output + pair(given[0].float()).to(output) if self.enabled else None

        return add

    def weights(self, names: Mapping[str, str]) -> dict[str, torch.Tensor]:
        """The pairs under the keys of kohya's trainers, which ComfyUI's loaders read; ``names`` gives the name of each
        path. On the CPU, in float32."""
        written = {}
        for path, pair in zip(self.paths, self.pairs, strict=True):
            name = names[path]
            written[f"{name}.lora_down.weight"] = pair.down.detach().cpu().clone()
            written[f"{name}.lora_up.weight"] = pair.up.detach().cpu().clone()
            written[f"{name}.alpha"] = torch.tensor(float(self.settings.alpha))
        return written


def targeted(unet: nn.Module, targets: str) -> dict[str, nn.Module]:
    """The linear layers that get adapters, by their path in the UNet.

    Raises:
        ValueError: there are none.
    """
    found = {name: layer for name, layer in unet.named_modules() if re.search(TARGETS[targets], f".{name}")}
    if not found:
        raise ValueError(f"This UNet has no layers for adapters of {targets}.")
    return found
