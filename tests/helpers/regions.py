"""How other packs make regions of several prompts, imitated: a patch of cross-attention puts a block of rows for each
region in the place of a positive one, and another joins their results by masks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

Region = tuple[list, torch.Tensor]
"""A conditioning and its mask ``(H, W)``."""


def weights(regions: Sequence[Region], extra: dict, latents: int) -> torch.Tensor:
    """``(regions, latents, N, 1)``: the share of each region in every patch of a layer."""
    masks = torch.stack([mask for _, mask in regions])[:, None]
    shares = F.interpolate(masks / masks.sum(0), size=tuple(extra["activations_shape"][-2:]), mode="nearest")
    return shares.flatten(2)[..., None].expand(-1, latents, -1, -1)


def joined(out: torch.Tensor, slots: Sequence[int], latents: int, shares: torch.Tensor) -> torch.Tensor:
    """The blocks of positive slots added up by the shares of their regions."""
    found, start = [], 0
    for slot in slots:
        count = 1 if slot == 1 else len(shares)
        blocks = out[start * latents : (start + count) * latents].unflatten(0, (count, latents))
        found.append(blocks[0] if slot == 1 else (blocks * shares).sum(0))
        start += count
    return torch.cat(found)


def coupled(model, base: torch.Tensor, others: Sequence[Region]):
    """ppm's attention couple: the model's own prompt in the region ``base``, and those of others."""
    regions = [(None, base), *others]
    state = {}

    def patch(q, k, v, extra):
        slots = state["slots"] = list(extra["cond_or_uncond"])
        latents = state["latents"] = len(q) // len(slots)
        length = math.lcm(k.shape[1], *(conditioning[0][0].shape[1] for conditioning, _ in others))

        def whole(rows):
            return rows.repeat(1, length // rows.shape[1], 1)

        theirs = [whole(conditioning[0][0].to(k)).expand(latents, -1, -1) for conditioning, _ in others]
        qs, ks, vs = [], [], []
        for slot, *parts in zip(slots, q.split(latents), k.split(latents), v.split(latents), strict=True):
            count = 1 if slot == 1 else len(regions)
            qs.append(parts[0].repeat(count, 1, 1))
            ks += [whole(parts[1]), *(theirs if count > 1 else ())]
            vs += [whole(parts[2]), *(theirs if count > 1 else ())]
        return torch.cat(qs), torch.cat(ks), torch.cat(vs)

    def output(out, extra):
        return joined(out, state["slots"], state["latents"], weights(regions, extra, state["latents"]))

    clone = model.clone()
    clone.set_model_attn2_patch(patch)
    clone.set_model_attn2_output_patch(output)
    return clone


def with_region_masks(model, regions: Sequence[Region]):
    """The region masks of tooling-nodes: prompts of their own in all regions, and the slots told in ComfyUI's list."""
    state = {}

    def patch(q, k, v, extra):
        assert k.mean() == v.mean(), "k and v must be the same."
        slots = extra["cond_or_uncond"]
        latents = state["latents"] = len(q) // len(slots)
        state["slots"] = list(slots)
        length = math.lcm(k.shape[1], *(conditioning[0][0].shape[1] for conditioning, _ in regions))
        own = [
            conditioning[0][0].to(k).repeat(latents, length // conditioning[0][0].shape[1], 1)
            for conditioning, _ in regions
        ]
        qs, ks = [], []
        for place, slot in reversed(list(enumerate(list(slots)))):
            part = q.split(latents)[place]
            if slot == 1:
                qs.insert(0, part)
                ks.insert(0, k.split(latents)[place].repeat(1, length // k.shape[1], 1))
            else:
                qs.insert(0, part.repeat(len(regions), 1, 1))
                ks.insert(0, torch.cat(own))
                slots[place + 1 : place + 1] = [0] * (len(regions) - 1)
        together = torch.cat(ks)
        return torch.cat(qs), together, together

    def output(out, extra):
        extra["cond_or_uncond"][:] = state["slots"]
        return joined(out, state["slots"], state["latents"], weights(regions, extra, state["latents"]))

    clone = model.clone()
    clone.set_model_attn2_patch(patch)
    clone.set_model_attn2_output_patch(output)
    return clone
