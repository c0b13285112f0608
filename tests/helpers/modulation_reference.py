"""Brute-force modulated attention for the tests of attention modulation.

Like attention_reference it shares nothing with the pack: queries, keys, values and the result of every attention come
from hooks on the modules, what each row of a prompt is for is written by hand, and everything is done again from
scratch in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F

from attention_reference import Reference

TOLERANCE = 2e-5
TIE = 1e-6
CLOSED = 1e4
BACKGROUND = -1


@dataclass(frozen=True)
class Focus:
    """Settings of Object-Focused Attention. ``masks`` are ``(latents, entities, H, W)``, where regions are fixed."""

    start: float = 0.1
    end: float = 1.0
    same_layer: bool = False
    mean: bool = False
    min_share: float = 0.0
    close_background: bool = False
    close_end: bool = False
    penalty: float = CLOSED
    masks: torch.Tensor | None = None


@dataclass(frozen=True)
class Weights:
    """Settings of Stage Weights on straight lines."""

    words: tuple[float, float] = (1.2, 0.8)
    entities: tuple[float, float] = (0.8, 1.2)
    end_as_words: bool = False


@dataclass(frozen=True)
class Temperature:
    """Settings of Self-Attention Temperature. ``factors`` are the grids, by how often the latent was divided."""

    tau: float = 0.8
    start: float = 0.0
    end: float = 0.2
    factors: Sequence[int] = (1, 2, 4, 8)
    negative: bool = True


@dataclass(frozen=True)
class Prompt:
    """A bound prompt, the rows of its tokens, and what is done to it."""

    embedding: torch.Tensor
    groups: Sequence[Sequence[int]]
    words: Sequence[int]
    end: Sequence[int]
    focus: Focus | None = None
    weights: Weights | None = None


class Patches(NamedTuple):
    """The entity of each patch ``(latents, h*w)`` in one layer and call, and where it is certain."""

    prompt: Prompt
    step: int
    layer: str
    entity: torch.Tensor
    certain: torch.Tensor


@dataclass
class Found:
    """What a check went through: the patches of each layer, the rows that were to be changed, and those that were not,
    as (kind of attention, step)."""

    patches: list[Patches] = field(default_factory=list)
    changed: set = field(default_factory=set)
    plain: set = field(default_factory=set)


def attention(q, k, v, heads: int, bias=0.0) -> torch.Tensor:
    """``softmax(q kT / sqrt(d) + bias) v`` with a bias ``(rows, N, T)``, the same for every head."""
    return probabilities(q, k, heads, bias).matmul(_split(v, q, heads)).transpose(1, 2).flatten(2)


def probabilities(q, k, heads: int, bias=0.0) -> torch.Tensor:
    """``(rows, heads, N, T)``."""
    q, k = _split(q, q, heads), _split(k, q, heads)
    bias = bias[:, None] if isinstance(bias, torch.Tensor) else bias
    return (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias).softmax(-1)


def _split(x, q, heads: int) -> torch.Tensor:
    """By heads; where q has been tiled into more rows, keys are cut into as many parts, as ComfyUI does it."""
    return x.reshape(q.shape[0], -1, heads, x.shape[-1] // heads).transpose(1, 2)


class ModulationReference(Reference):
    """All attentions of every UNet call while it is watched, and what they should have been."""

    @contextmanager
    def watching(self):
        handles = []
        for name, module in self.unet.named_modules():
            if name.endswith(("attn1.to_v", "attn2.to_v")):
                handles.append(module.register_forward_hook(self._keep(name)))
            if name.endswith(("attn1.to_out", "attn2.to_out")):
                handles.append(module.register_forward_pre_hook(self._keep_result(name)))
            if hasattr(module, "transformer_blocks"):
                handles.append(module.register_forward_pre_hook(self._keep_grid))
        try:
            with super().watching():
                yield self
        finally:
            for handle in handles:
                handle.remove()

    def _begin(self, module, args, kwargs):
        super()._begin(module, args, kwargs)
        options, call = kwargs["transformer_options"], self.thread.call
        sigma, schedule = float(options["sigmas"].max()), options["sample_sigmas"].tolist()
        call.steps = len(schedule) - 1
        call.step = max(i for i in range(call.steps) if i == 0 or sigma <= schedule[i] * (1 + 1e-4))
        call.grids = {}

    def _keep_grid(self, module, args):
        self.thread.grid = tuple(args[0].shape[-2:])

    def _keep_result(self, name: str):
        layer = name.rpartition(".")[0]

        def hook(module, args):
            self.thread.call.seen[layer]["result"] = args[0].double().clone()
            self.thread.call.grids[layer] = self.thread.grid

        return hook

    def check(
        self,
        prompts: Sequence[Prompt] = (),
        temperature: Temperature | None = None,
        *,
        negative: torch.Tensor | None = None,
        batch: int = 1,
        size: tuple[int, int] | None = None,
        first: Sequence | None = None,
        theirs: Callable = lambda call, layer, plain, q, k, v, heads: plain,
        skip: Callable = lambda call, layer: False,
    ) -> Found:
        """Assert that every attention of every call is what it should be.

        ``negative`` is the embedding that a temperature on the positive alone leaves as it is; ``size`` the latent's,
        if the first call's is another; ``first`` the calls whose attention counts for the patches, if not all;
        ``theirs`` what another pack makes of a plain attention to the prompt; ``skip`` names attentions that are
        somebody else's.
        """
        found, size = Found(), size or self.calls[0].size
        self._look_at_layers()
        scores = [self._scores(prompt, batch, size, first or self.calls) for prompt in prompts]
        for call in self.calls:
            for layer, seen in call.seen.items():
                if skip(call, layer):
                    continue
                heads = self.unet.get_submodule(layer).heads
                if layer.endswith("attn1"):
                    self._check_self(found, call, layer, seen, heads, temperature, negative)
                else:
                    self._check_cross(found, call, layer, seen, heads, prompts, scores, batch, theirs)
        return found

    def _check_self(self, found, call, layer, seen, heads, temperature, negative) -> None:
        q, k, v = seen["to_q"], seen["to_k"], seen["to_v"]
        tau = torch.ones(len(call.context), dtype=torch.double)
        if (
            temperature is not None
            and call.step in _steps(temperature.start, temperature.end, call.steps)
            and self.factors[layer] in temperature.factors
        ):
            tau[:] = temperature.tau
            if not temperature.negative:
                tau[self.rows(call, negative)] = 1
        for of_row in tau.tolist():
            (found.plain if of_row == 1 else found.changed).add(("self", call.step))
        tau = tau.repeat_interleave(len(q) // len(tau))[:, None, None]
        close(attention(q / tau, k, v, heads), seen["result"], (layer, call.step))

    def _check_cross(self, found, call, layer, seen, heads, prompts, scores, batch, theirs) -> None:
        q, k, v = seen["to_q"], seen["to_k"], seen["to_v"]
        plain = attention(q, k, v, heads)
        expected, certain = (
            theirs(call, layer, plain, q, k, v, heads).clone(),
            torch.ones(q.shape[:2], dtype=torch.bool),
        )
        untouched = set(range(len(q)))
        for prompt, of_steps in zip(prompts, scores, strict=True):
            rows = self.rows(call, prompt.embedding)
            for chunk in (rows[start : start + batch] for start in range(0, len(rows), batch)):
                bias, patches = self._bias(prompt, of_steps, call, layer, q[chunk], k[chunk], heads)
                if patches is not None:
                    found.patches.append(patches)
                    certain[chunk] = patches.certain
                if bias.any():
                    found.changed.add(("cross", call.step))
                    untouched -= set(chunk)
                    masked = attention(q[chunk], k[chunk], v[chunk], heads, bias)
                    expected[chunk] = expected[chunk] + masked - plain[chunk]
        if untouched:
            found.plain.add(("cross", call.step))
        assert certain.double().mean() > 0.9, "too many patches are undecided for the test to be of use"
        close(expected[certain], seen["result"][certain], (layer, call.step))

    def modulated_maps(self, prompt: Prompt, call, grid, batch: int) -> torch.Tensor:
        """Mean map of each group ``(batch, groups, h, w)`` with the mask and weights, over all layers on a grid."""
        self._look_at_layers()
        scores = self._scores(prompt, batch, self.calls[0].size, self.calls)
        rows, found = self.rows(call, prompt.embedding), []
        for layer, seen in call.seen.items():
            if layer.endswith("attn2") and call.grids[layer] == grid:
                q, k, heads = seen["to_q"][rows], seen["to_k"][rows], self.unet.get_submodule(layer).heads
                bias, _ = self._bias(prompt, scores, call, layer, q, k, heads)
                of_tokens = probabilities(q, k, heads, bias).mean(1)
                found.append(torch.stack([of_tokens[..., list(group)].mean(-1) for group in prompt.groups], 1))
        return torch.stack(found).mean(0).unflatten(2, grid)

    def _bias(self, prompt, scores, call, layer, q, k, heads) -> tuple[torch.Tensor, Patches | None]:
        """What a prompt's rows have added to their logits, and the patches where the mask is on."""
        bias, patches = torch.zeros(len(q), q.shape[1], k.shape[1], dtype=torch.double), None
        if prompt.focus is not None and call.step in _steps(prompt.focus.start, prompt.focus.end, call.steps):
            patches = self._patches(prompt, scores, call, layer, q, k, heads)
            bias += self._repeated(self._penalties(prompt), prompt, call, k)[patches.entity]
        if prompt.weights is not None:
            bias += self._repeated(self._log_weights(prompt, call), prompt, call, k)
        return bias, patches

    def _look_at_layers(self) -> None:
        """By what the latent's grid was divided for each layer's. The last call tells: in others it may be shrunken."""
        last = self.calls[-1]
        self.factors = {layer: factor_of(last.size, grid) for layer, grid in last.grids.items()}

    def _scores(self, prompt: Prompt, batch: int, size, first) -> dict[int, torch.Tensor]:
        """For each step the smoothed mean scores ``(latents, groups, h, w)`` of the coarse layers."""
        if prompt.focus is None:
            return {}
        found: dict[int, list] = {}
        for call in first:
            rows = self.rows(call, prompt.embedding)
            cross = [layer for layer in call.seen if layer.endswith("attn2")]
            factors = {layer: self.factors[layer] for layer in cross}
            fine = [factor for factor in factors.values() if factor <= 4 and min(size) // factor >= 16]
            coarse = max(fine, default=min(factors.values()))
            for layer in cross:
                if factors[layer] == coarse:
                    seen, heads = call.seen[layer], self.unet.get_submodule(layer).heads
                    for start in range(0, len(rows), batch):
                        chunk = rows[start : start + batch]
                        scores = self._sums(prompt, call, seen["to_q"][chunk], seen["to_k"][chunk], heads)
                        found.setdefault(call.step, []).append(scores.unflatten(2, call.grids[layer]))
        return {step: _mean_of_neighbours(torch.stack(of_step).mean(0)) for step, of_step in found.items()}

    def _sums(self, prompt, call, q, k, heads) -> torch.Tensor:
        """``(latents, groups, N)``: what the tokens of each group get of a patch's attention."""
        found, length = probabilities(q, k, heads).mean(1), prompt.embedding.shape[1]
        columns = [
            sum(found[:, :, column] for p in group for column in range(p, call.context.shape[1], length))
            / (len(group) if prompt.focus.mean else 1)
            for group in prompt.groups
        ]
        return torch.stack(columns, 1)

    def _patches(self, prompt, of_steps, call, layer, q, k, heads) -> Patches:
        focus, grid = prompt.focus, call.grids[layer]
        if focus.masks is not None:
            covered = _covered(focus.masks.double(), grid).expand(len(q), -1, -1, -1).flatten(2)
            best, entity = covered.max(1)
            nobody = (best == 0) | (best < focus.min_share)
            certain = torch.ones_like(nobody)
        else:
            if focus.same_layer or call.step - 1 not in of_steps:
                scores = self._sums(prompt, call, q, k, heads)
            else:
                of_patches = of_steps[call.step - 1]
                scores = F.interpolate(of_patches, size=grid, mode="bilinear", align_corners=False).flatten(2)
            best, entity = scores.max(1)
            share = best / scores.sum(1)
            nobody = share < focus.min_share
            ranked = scores.sort(1, descending=True).values
            certain = (share - focus.min_share).abs() > TIE
            if len(prompt.groups) > 1:
                certain &= ranked[:, 0] - ranked[:, 1] > TIE
        return Patches(prompt, call.step, layer, entity.masked_fill(nobody, BACKGROUND), certain)

    def _penalties(self, prompt: Prompt) -> torch.Tensor:
        """``(groups + 1, length)``: what a patch of each group, and of none (last), pays for each token."""
        focus, length = prompt.focus, prompt.embedding.shape[1]
        lines = []
        for group in prompt.groups:
            line = [0.0] * length
            for other in prompt.groups:
                for position in set(other) - set(group):
                    line[position] = -focus.penalty
            for position in prompt.end if focus.close_end else ():
                line[position] = -focus.penalty
            lines.append(line)
        line = [0.0] * length
        for position in (p for group in prompt.groups for p in group):
            line[position] = -focus.penalty if focus.close_background else 0.0
        return torch.tensor([*lines, line], dtype=torch.double)

    def _log_weights(self, prompt: Prompt, call) -> torch.Tensor:
        stage = call.step / max(1, call.steps - 1)
        of_words, of_entities = (
            a * (1 - stage) + b * stage for a, b in (prompt.weights.words, prompt.weights.entities)
        )
        weights = torch.ones(prompt.embedding.shape[1], dtype=torch.double)
        weights[list(prompt.words)] = of_words
        if prompt.weights.end_as_words:
            weights[list(prompt.end)] = of_words
        for group in prompt.groups:
            weights[list(group)] = of_entities
        return weights.clamp(min=torch.finfo(torch.double).tiny).log()

    @staticmethod
    def _repeated(of_rows, prompt, call, k) -> torch.Tensor:
        """Over all columns of the keys; those that others have appended have nothing."""
        repeated = torch.cat([of_rows] * (call.context.shape[1] // prompt.embedding.shape[1]), -1)
        appended = torch.zeros(*repeated.shape[:-1], k.shape[1] - repeated.shape[-1], dtype=torch.double)
        return torch.cat([repeated, appended], -1)


def close(expected: torch.Tensor, result: torch.Tensor, where) -> None:
    assert (expected - result).abs().max() <= TOLERANCE * expected.abs().max(), where


def factor_of(size, grid) -> int:
    """By what the latent's grid was divided for a layer's."""
    return next(f for f in (1, 2, 4, 8) if all(-(-s // f) == g for s, g in zip(size, grid, strict=True)))


def _steps(start: float, end: float, steps: int) -> list[int]:
    """Every step that the range touches."""
    return [step for step in range(steps) if step < end * steps - 1e-6 and step + 1 > start * steps + 1e-6]


def _mean_of_neighbours(scores: torch.Tensor) -> torch.Tensor:
    """Mean over each cell and those around it that are on the grid."""
    height, width = scores.shape[-2:]
    out = torch.empty_like(scores)
    for y in range(height):
        for x in range(width):
            near = scores[..., max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
            out[..., y, x] = near.mean((-2, -1))
    return out


def _covered(masks: torch.Tensor, grid) -> torch.Tensor:
    """The part of each patch that is white; the masks' sizes are multiples of the grid's."""
    height, width = (s // g for s, g in zip(masks.shape[-2:], grid, strict=True))
    return masks.unflatten(-1, (grid[1], width)).unflatten(-3, (grid[0], height)).mean((-3, -1))
