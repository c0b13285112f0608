"""Bound prompts and brute-force attention maps for the tests of the engine and the recorder.

The reference shares nothing with the engine: queries and keys come from hooks on the projection modules, the rows of a
prompt are told by comparing the context with its embedding, and the softmax is in float64.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from contextlib import contextmanager
from types import SimpleNamespace

import torch


def bind(part, clip, prompt: str, entities: str) -> SimpleNamespace:
    """A prompt bound by the node with the manual syntax: ``conditioning``, ``binding``, ``embedding``, ``groups``."""
    with torch.inference_mode():
        conditioning, binding, _ = part("nodes.parsing.prompt").SBBindPrompt.execute(clip, prompt, entities).args
    groups = [binding.group(entity) for entity in binding.entities]
    return SimpleNamespace(conditioning=conditioning, binding=binding, embedding=conditioning[0][0], groups=groups)


def encode(clip, prompt: str) -> list:
    """A prompt as CLIP Text Encode encodes it."""
    with torch.inference_mode():
        return clip.encode_from_tokens_scheduled(clip.tokenize(prompt))


class Reference:
    """Queries and keys of every cross-attention of every UNet call while it is watched."""

    def __init__(self, model):
        self.unet = model.model.diffusion_model
        self.calls: list[SimpleNamespace] = []
        self.thread = threading.local()

    @contextmanager
    def watching(self):
        handles = [self.unet.register_forward_pre_hook(self._begin, with_kwargs=True)]
        for name, module in self.unet.named_modules():
            if name.endswith(("attn2.to_q", "attn2.to_k", "attn1.to_q", "attn1.to_k")):
                handles.append(module.register_forward_hook(self._keep(name)))
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def _begin(self, module, args, kwargs):
        context = kwargs["context"].float().clone()
        size = tuple(args[0].shape[-2:])
        self.thread.call = SimpleNamespace(context=context, seen=defaultdict(dict), size=size)
        self.calls.append(self.thread.call)

    def _keep(self, name: str):
        layer, _, projection = name.rpartition(".")

        def hook(module, args, output):
            self.thread.call.seen[layer][projection] = output.double().clone()

        return hook

    def rows(self, call, embedding: torch.Tensor) -> list[int]:
        """Rows of a call whose context is the embedding, repeated to the context's length."""
        length = call.context.shape[1]
        if length % embedding.shape[1]:
            return []
        wanted = embedding.float().repeat(1, length // embedding.shape[1], 1)
        return [row for row in range(len(call.context)) if torch.equal(call.context[row : row + 1], wanted)]

    def maps(self, embedding, groups: Sequence[Sequence[int]], grid, batch: int, calls=None) -> torch.Tensor:
        """Mean map of each group ``(batch, groups, h, w)`` over all layers on a grid, all calls and all chunks."""
        found = []
        for call, heads, q, k in self._attentions("attn2", embedding, grid, calls):
            probabilities = self._softmax(q, k, heads)
            length, whole = embedding.shape[1], call.context.shape[1]
            for chunk in probabilities.split(batch):
                columns = [
                    sum(chunk[:, :, column] for p in group for column in range(p, whole, length)) / len(group)
                    for group in groups
                ]
                found.append(torch.stack(columns, 1).unflatten(2, grid))
        return torch.stack(found).mean(0)

    def self_map(self, embedding, grid, row: int, column: int, calls=None, tau: float = 1.0) -> torch.Tensor:
        """Mean self-attention map ``(batch, h, w)`` of a patch, over all layers on a grid and all calls, where it has
        the temperature tau."""
        found = [
            self._softmax(q / tau, k, heads)[:, row * grid[1] + column].unflatten(1, grid)
            for _, heads, q, k in self._attentions("attn1", embedding, grid, calls)
        ]
        return torch.stack(found).mean(0)

    def affinity(self, embedding, grid, calls=None) -> torch.Tensor:
        """Mean self-attention ``(batch, N, N)`` over all layers on a grid and all calls."""
        found = [self._softmax(q, k, heads) for _, heads, q, k in self._attentions("attn1", embedding, grid, calls)]
        return torch.stack(found).mean(0)

    def _attentions(self, kind: str, embedding, grid, calls):
        for call in self.calls if calls is None else calls:
            rows = self.rows(call, embedding)
            for layer, seen in call.seen.items():
                if layer.endswith(kind) and seen["to_q"].shape[1] == grid[0] * grid[1] and rows:
                    yield call, self.unet.get_submodule(layer).heads, seen["to_q"][rows], seen["to_k"][rows]

    @staticmethod
    def _softmax(q, k, heads: int) -> torch.Tensor:
        q, k = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k))
        return (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1).mean(1)


def sample(
    comfy, model, positive, negative, *, size=(16, 16), batch=1, steps=2, sampler="euler", cfg=4.0, seed=1, **options
):
    """Core's KSampler on latents of ``size`` cells; returns the LATENT."""
    latent = {"samples": options.pop("latent", torch.zeros(batch, 4, *size))}
    scheduler = options.pop("scheduler", "normal")
    with torch.inference_mode():
        (out,) = comfy.nodes.common_ksampler(
            model, seed, steps, cfg, sampler, scheduler, positive, negative, latent, **options
        )
    return out


def record(
    part,
    model,
    bound,
    *,
    record="entities",
    words="",
    resolution="all",
    start=0.0,
    end=1.0,
    keep=None,
    point=None,
    affinity=False,
):
    """What Record Attention does: (recording MODEL, maps)."""
    aggregation = "keep steps" if keep else "mean over steps"
    output = part("nodes.maps.record").SBRecordAttention.execute(
        model,
        bound.binding,
        record,
        words,
        resolution,
        start,
        end,
        aggregation,
        keep or 1,
        point is not None,
        *(point or (0.5, 0.5)),
        affinity,
    )
    return output.args


def in_threads(model):
    """A clone that samples as with several GPUs: cond and uncond at the same time, each in a thread outside inference
    mode."""
    from comfy.multigpu import MultiGPUThreadPool

    devices = [torch.device("cpu"), torch.device("cpu", 0)]

    def two_devices(executor, guider, sigmas, extra_args, *args):
        pool = MultiGPUThreadPool(devices)
        extra_args["model_options"]["multigpu_clones"] = dict.fromkeys(devices, guider.model_patcher)
        extra_args["model_options"]["multigpu_thread_pool"] = pool
        try:
            return executor(guider, sigmas, extra_args, *args)
        finally:
            pool.shutdown()

    clone = model.clone()
    clone.add_wrapper_with_key("sampler_sample", "test", two_devices)
    return clone
