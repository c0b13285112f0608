"""The node Compose Noise on a bound prompt, and the same composition by hand: separate model calls, added up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from merge import MergeBench

CAT, DOG = "a red cat", "a blue dog"
"""The anchor phrases of the bench's entities."""

Parts = list[tuple[list, float]]
"""Conditionings and their weights."""


def adding_guider(model, compositions: Sequence[Parts], negative: list, cfg: float, shares: Sequence[Any]):
    """A guider that has every conditioning in a model call of its own and adds the predictions up as the formula says.

    ``shares`` weigh several compositions against each other in each place, or are functions of the noise level that do.
    """
    from comfy.samplers import CFGGuider, calc_cond_batch

    guider = CFGGuider(model)
    conds, weights = {"negative": negative}, {}
    for number, parts in enumerate(compositions):
        for place, (conditioning, weight) in enumerate(parts):
            conds[f"{number} {place}"] = conditioning
            weights[f"{number} {place}"] = (number, weight)
    guider.inner_set_conds(conds)
    own = {name: {cond["uuid"] for cond in found} for name, found in guider.original_conds.items()}

    def predict_noise(x, timestep, model_options, seed):
        def alone(name: str) -> torch.Tensor:
            """Without the copies that ComfyUI makes of areas in other inputs; the negative prompt has them."""
            found = [cond for cond in guider.conds[name] if name == "negative" or cond["uuid"] in own[name]]
            return calc_cond_batch(guider.inner_model, [found], x, timestep, model_options)[0].double()

        base = alone("negative")
        composed = [base.clone() for _ in shares]
        for name, (number, weight) in weights.items():
            composed[number] += weight * (alone(name) - base)
        now = [share(float(timestep[0])) if callable(share) else share for share in shares]
        total = sum(share * each for share, each in zip(now, composed, strict=True)) / sum(now)
        return (base + cfg * (total - base)).float()

    guider.predict_noise = predict_noise
    return guider


class ComposeBench(MergeBench):
    """A MergeBench with the node, and guiders that are run by SamplerCustomAdvanced."""

    def compose(self, model=None, bound=None, *, weights="", prompt_weight=0.0, exclude="", exclude_weight=1.0):
        """The node's output: ``args`` are the MODEL and the CONDITIONING, ``ui["text"]`` is what it shows."""
        node, binding = self.part("nodes.composed").SBComposeNoise, (bound or self.bound).binding
        with torch.inference_mode():
            return node.execute(
                model or self.model, self.clip, binding, weights, prompt_weight, exclude, exclude_weight
            )

    def parts(self, *prompts: tuple[str, float], around: Callable[[list], list] = lambda each: each) -> Parts:
        """``around`` is what a graph does to each conditioning before the sampler."""
        return [(around(self.encode(prompt)), weight) for prompt, weight in prompts]

    def composed(self, model, conditioning, negative=None, *, cfg=4.0, **run) -> torch.Tensor:
        """The latents with the node's outputs, by a CFGGuider."""
        from comfy.samplers import CFGGuider

        guider = CFGGuider(model)
        guider.set_conds(conditioning, negative or self.negative)
        guider.set_cfg(cfg)
        return self.sampled(guider, **run)

    def by_hand(self, *compositions: Parts, negative=None, shares=(1.0,), model=None, cfg=4.0, **run) -> torch.Tensor:
        """The latents of the same, by hand."""
        guider = adding_guider(model or self.model, compositions, negative or self.negative, cfg, shares)
        return self.sampled(guider, **run)

    def sampled(
        self, guider, *, sampler="euler", steps=2, size=(16, 16), batch=1, denoise=1.0, latent=None, mask=None
    ) -> torch.Tensor:
        """SamplerCustomAdvanced with this guider."""
        from comfy.samplers import calculate_sigmas, sampler_object
        from comfy_extras.nodes_custom_sampler import Noise_RandomNoise, SamplerCustomAdvanced

        sampling = guider.model_patcher.get_model_object("model_sampling")
        sigmas = calculate_sigmas(sampling, "normal", int(steps / denoise))[-(steps + 1) :]
        given = {"samples": torch.zeros(batch, 4, *size) if latent is None else latent}
        if mask is not None:
            given["noise_mask"] = mask
        with torch.inference_mode():
            out = SamplerCustomAdvanced.execute(Noise_RandomNoise(1), guider, sampler_object(sampler), sigmas, given)
        return out.args[0]["samples"]


def assert_close(one: torch.Tensor, other: torch.Tensor) -> None:
    """They are the same but for the order of sums and the batches."""
    assert one.isfinite().all()
    difference = (one - other).abs().max() / other.abs().max()
    assert difference < 2e-4, f"differs by {difference:.2g} of the largest value"


def assert_other(one: torch.Tensor, other: torch.Tensor) -> None:
    difference = (one - other).abs().max() / other.abs().max()
    assert difference > 1e-2, f"differs by only {difference:.2g} of the largest value"
