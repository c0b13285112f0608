"""ToMe's published procedure on a UNet of ComfyUI's, step by step in plain torch: the slow side of comparisons.

It shares nothing with the pack: the UNet is copied, its attention is an explicit softmax, and Euler sampling with
guidance is written out. One picture at a time. ``z`` is what the network gets, ``x / sqrt(1 + sigma²)``. Import only
after ComfyUI has been booted (fixture ``comfy``).
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace

import comfy.model_sampling
import torch
from comfy.ldm.modules.attention import CrossAttention

CHUNK = 77
TIME_IDS = 1536  # columns at the end of SDXL's y, after the pooled vector: sizes and crops
Rows = tuple[int, ...]


@dataclass(frozen=True)
class Text:
    """An encoded prompt: its rows ``(1, T, D)``, its ``y`` (SDXL), and of each text encoder its columns, the rows that
    are words, and those that are end tokens or padding."""

    rows: torch.Tensor
    y: torch.Tensor | None
    columns: tuple[slice, ...]
    words: tuple[Rows, ...]
    ends: tuple[Rows, ...]


@dataclass(frozen=True)
class Group:
    """The rows of an entity's noun, and those of its attributes and sub-objects, in each text encoder."""

    nouns: tuple[Rows, ...]
    rest: tuple[Rows, ...]


@dataclass(frozen=True)
class Settings:
    """Defaults are those of the published code for sub-objects, without its pose loss. ``published`` False: with what
    the paper says, or the pack chose, where the code slips. ``layers``: (output block, transformer block)."""

    cfg: float = 7.5
    merge: bool = True
    noun_weight: float = 1.1
    rest_weight: float = 1.2
    substitute_at: int = 0
    token_steps: int = 7
    token_iterations: int = 3
    token_step_size: float = 1e4
    entropy_steps: int = 7
    entropy_iterations: int = 6
    row_step_size: float = 3.0
    input_step_size: float = 1.5
    thresholds: tuple[float, ...] = (26, 25, 24, 23, 22.5, 22, 21.5, 21, 21, 21)
    pose: bool = False
    published: bool = True
    layers: tuple[tuple[int, int], ...] = ((1, 1), (1, 2), (1, 3))


@torch.no_grad()
def encode(model, clip, text: str, size: tuple[int, int]) -> Text:
    """A prompt as CLIP Text Encode has it, for a picture of this height and width in pixels."""
    rows, options = clip.encode_from_tokens_scheduled(clip.tokenize(text))[0]
    pooled, width = options["pooled_output"], rows.shape[-1]
    y = model.model.encode_adm(pooled_output=pooled, height=size[0], width=size[1], device=rows.device)
    tokens = clip.tokenize(text, return_word_ids=True)
    words = [[token[2] != 0 for chunk in tokens[key] for token in chunk] for key in "lgh" if key in tokens]
    last = pooled.shape[-1] if len(words) > 1 else width
    return Text(
        rows=rows,
        y=y,
        columns=(slice(0, width - last), slice(width - last, width))[-len(words) :],
        words=tuple(tuple(i for i, word in enumerate(each) if word) for each in words),
        ends=tuple(tuple(i for i, word in enumerate(each) if not word and i % CHUNK) for each in words),
    )


def with_soft_attention(model):
    """A MODEL from ``tiny``, its queries made smaller in place. With its own, rounding in one layer grows by thousands
    up to the last, and no two runs that differ in it can be compared."""
    with torch.inference_mode():
        for name, weight in model.model.diffusion_model.named_parameters():
            if ".to_q." in name:
                weight *= 0.25
    return model


class PlainToMe:
    """Runs on a copy of the MODEL's UNet in ``dtype``; the MODEL stays as it is."""

    def __init__(self, model, settings: Settings, dtype: torch.dtype = torch.float64, device="cpu"):
        self.settings, self.dtype, self.device = settings, dtype, device
        self.precise = torch.promote_types(dtype, torch.float32)
        self.sampling = model.model.model_sampling
        self.predicts_v = isinstance(self.sampling, comfy.model_sampling.V_PREDICTION)
        with torch.inference_mode(False):
            self.unet = copy.deepcopy(model.model.diffusion_model).to(device, dtype).requires_grad_(False)
        self.unet.dtype = dtype
        self.probabilities = {}
        for module in self.unet.modules():
            if isinstance(module, CrossAttention):
                module.forward = self.attention_of(module)
        self.watched = []
        for block, number in settings.layers:
            (transformer,) = [each for each in self.unet.output_blocks[block] if hasattr(each, "transformer_blocks")]
            self.watched.append(id(transformer.transformer_blocks[number].attn2))

    def attention_of(self, module: CrossAttention):
        def split(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.unflatten(-1, (module.heads, module.dim_head)).transpose(1, 2)

        def forward(x, context=None, value=None, mask=None, transformer_options=None):
            context = x if context is None else context
            q, k, v = split(module.to_q(x)), split(module.to_k(context)), split(module.to_v(context))
            probabilities = (q @ k.transpose(-2, -1) / math.sqrt(module.dim_head)).softmax(-1)
            if id(module) in self.watched:
                self.probabilities[id(module)] = probabilities
            return module.to_out((probabilities @ v).transpose(1, 2).flatten(2))

        return forward

    def network(self, z: torch.Tensor, sigma: torch.Tensor, rows: torch.Tensor, y: torch.Tensor | None):
        """The network's own output."""
        timestep = self.sampling.timestep(sigma.to(self.sampling.sigmas).reshape(1)).float().to(self.device)
        z, rows, y = (None if value is None else value.to(self.dtype) for value in (z, rows, y))
        return self.unet(z, timestep, context=rows, y=y, transformer_options={}).to(self.precise)

    def noise(self, output: torch.Tensor, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """The noise that an output means: the output itself, unless the model predicts v."""
        return (sigma * z + output) / (1 + sigma**2).sqrt() if self.predicts_v else output

    @torch.inference_mode(False)
    @torch.no_grad()
    def run(self, x, sigmas, prompt, negative, groups=(), anchors=(), simplified=None) -> SimpleNamespace:
        """Samples with Euler from the noisy latent ``x (1, C, H, W)``; all prompts are of type Text.

        Returns:
            ``latent``, and ``steps``: for each ``context`` (the rows) and ``input`` (``z``) after optimisation, the
            ``anchors``' latents after the step, and losses: ``binding`` by group and iteration, ``entropy`` by
            iteration and group, ``pose`` by iteration.
        """
        settings, steps = self.settings, []
        x, sigmas = self._own(x), self._own(sigmas)
        rows, null_rows = self._own(prompt.rows), self._own(negative.rows)
        y, null_y = (None if text.y is None else self._own(text.y) for text in (prompt, negative))
        without_pooled = None if y is None else torch.cat([0 * y[:, :-TIME_IDS], y[:, -TIME_IDS:]], 1)
        places = [place_of(prompt.columns, group) for group in groups]
        self.words = sorted({row for words in prompt.words for row in words})
        if settings.merge:
            rows = merged(rows, prompt.columns, groups, settings.noun_weight, settings.rest_weight)
        latents, phrases = [x] * len(groups), [self._own(anchor.rows) for anchor in anchors]
        for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
            z = x / (1 + sigma**2).sqrt()
            if simplified is not None and step == settings.substitute_at:
                rows = substituted(rows, prompt, simplified, self._own(simplified.rows))
            binding, entropies, poses, refined = [], [], [], z
            for number, place in enumerate(places if step < settings.token_steps else ()):
                token, latents[number], losses = self.optimised(
                    rows[place], latents[number], sigma, sigma_next, phrases[number], null_rows, without_pooled
                )
                rows = rows.clone()
                rows[place] = token
                binding.append(losses)
            if groups and step < settings.entropy_steps:
                strength = 1 - step / max(1, len(sigmas) - 2)
                threshold = settings.thresholds[min(step, len(settings.thresholds) - 1)]
                used_y = without_pooled if settings.published else y
                refined, rows, entropies, poses = self.refined(z, rows, sigma, used_y, places, strength, threshold)

            # The refined input is used for the prediction only; the step starts from the latent as it was.
            noise = self.noise(self.network(refined, sigma, rows, y), z, sigma)
            if settings.cfg != 1:
                null = self.noise(self.network(refined, sigma, null_rows, null_y), z, sigma)
                noise = null + settings.cfg * (noise - null)
            x = x + (sigma_next - sigma) * noise
            losses = {"binding": binding, "entropy": entropies, "pose": poses}
            steps.append(SimpleNamespace(context=rows, input=refined, anchors=list(latents), **losses))
        return SimpleNamespace(latent=x, steps=steps)

    def _own(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.clone().to(self.device, self.precise)

    def optimised(self, token, latent, sigma, sigma_next, anchor, null_rows, y):
        """Token optimisation of one group in one step: the composite alone has to predict what its anchor phrase
        predicts on the anchor's latent. Then that latent goes on one step."""
        z = latent / (1 + sigma**2).sqrt()
        target = self.network(z, sigma, anchor, y)
        losses = []
        for _ in range(self.settings.token_iterations):
            with torch.enable_grad():
                leaf = token.clone().requires_grad_()
                loss = (target - self.network(z, sigma, leaf[None, None], y)).square().mean()
                (gradient,) = torch.autograd.grad(loss, leaf)
            token = token - self.settings.token_step_size * gradient
            losses.append(loss.item())
        noise = self.noise(target, z, sigma)
        null = self.noise(self.network(z, sigma, null_rows, y), z, sigma)
        if self.settings.published:  # the sign of the guidance is wrong, and the step starts from the scaled latent
            latent = z + (sigma_next - sigma) * (null + self.settings.cfg * (null - noise))
        else:
            latent = latent + (sigma_next - sigma) * (null + self.settings.cfg * (noise - null))
        return token, latent, losses

    def refined(self, z, rows, sigma, y, places, strength, threshold):
        """Entropy refinement in one step of the network's input and the conditioning."""
        settings, entropies, poses = self.settings, [], []
        for _ in range(settings.entropy_iterations):
            with torch.enable_grad():
                z, rows = z.detach().requires_grad_(), rows.detach().requires_grad_()
                maps = self.maps(z, sigma, rows, y, places)
                smaller_grid = 2 * math.log(1024 / maps.shape[1])
                entropy = entropy_losses(maps)
                pose = pose_loss(maps, z.shape[-2:]) if settings.pose else torch.zeros(()).to(maps)
                entropies.append(entropy.tolist())
                poses.append(pose.item())
                pushed = torch.ones_like(entropy)
                if not settings.published:
                    pushed = (entropy > threshold / 2 - 1 - smaller_grid).to(entropy)
                    if not pushed.any():
                        break
                loss = (entropy * pushed).sum() + pose
                # One after the other, as in the published code.
                (of_z,) = torch.autograd.grad(loss, z, retain_graph=True)
                (of_rows,) = torch.autograd.grad(loss, rows)
            if not settings.published:
                of_composites = torch.zeros_like(of_rows)
                for place in places:
                    of_composites[place] = of_rows[place]
                of_rows = of_composites
            z = z - settings.input_step_size * strength * of_z
            rows = rows - settings.row_step_size * strength * of_rows
            if settings.published and loss < len(places) * (threshold / 2 - smaller_grid) - 2:
                break
        return z.detach(), rows.detach(), entropies, poses

    def maps(self, z, sigma, rows, y, places) -> torch.Tensor:
        """``(groups, cells)``: the composites' attention after a softmax over the words, each map from 0 to 1."""
        self.network(z, sigma, rows, y)
        layers = [self.probabilities[layer][0].to(self.precise).mean(0) for layer in self.watched]
        among_words = (torch.stack(layers).mean(0)[:, self.words] / 0.5).softmax(-1)
        columns = [[self.words.index(row) for row in place[1].unique()] for place in places]
        maps = torch.stack([among_words[:, each].mean(1) for each in columns])
        low, high = maps.amin(1, keepdim=True), maps.amax(1, keepdim=True)
        return (maps - low) / (high - low)


def merged(rows, columns, groups, noun_weight: float, rest_weight: float) -> torch.Tensor:
    """Each group's weighted sum at the first row of its noun, zeros at its others."""
    result = rows.clone()
    for group in groups:
        for part, noun, rest in zip(columns, group.nouns, group.rest, strict=True):
            total = noun_weight * rows[0, list(noun), part].sum(0) + rest_weight * rows[0, list(rest), part].sum(0)
            result[0, [*noun, *rest], part] = 0
            result[0, noun[0], part] = total
    return result


def place_of(columns, group: Group) -> tuple:
    """Index of the group's composite in rows: each encoder's columns at the first row of the noun there."""
    pairs = zip(columns, group.nouns, strict=True)
    rows = torch.cat([torch.full((part.stop - part.start,), noun[0]) for part, noun in pairs])
    return 0, rows, torch.arange(len(rows))


def substituted(rows, prompt: Text, simplified: Text, values: torch.Tensor) -> torch.Tensor:
    """End and padding rows become those at the same place of the simplified prompt, or its end token where that has
    a word there; chunks that it does not have take its last."""
    rows = rows.clone()
    for part, ends, available in zip(prompt.columns, prompt.ends, simplified.ends, strict=True):
        for row in (end for end in ends if end < rows.shape[1]):
            start = min(row // CHUNK, values.shape[1] // CHUNK - 1) * CHUNK
            same = start + row % CHUNK
            source = same if same in available else min(end for end in available if end >= start)
            rows[0, row, part] = values[0, source, part]
    return rows


def entropy_losses(maps: torch.Tensor) -> torch.Tensor:
    shares = maps / maps.sum(1, keepdim=True)
    return -2 * (shares * (shares + 1e-5).log()).sum(1)


def pose_loss(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """How far the centres of two maps are from their places on a picture of 32 x 32. ``size`` is the latent's."""
    grids = [[math.ceil(side / 2**level) for side in size] for level in range(4)]
    (grid,) = [grid for grid in grids if math.prod(grid) == maps.shape[1]]
    loss = torch.zeros(()).to(maps)
    down, across = (torch.linspace(0, 1, cells).to(maps) for cells in grid)
    for weights, (left, top) in zip(maps.unflatten(1, grid), ((10, 16), (25, 16)), strict=True):
        x = (weights.sum(0) * across).sum() / weights.sum() * 32
        y = (weights.sum(1) * down).sum() / weights.sum() * 32
        loss = loss + 0.2 * ((x - left) ** 2 + (y - top) ** 2) / 2
    return loss
