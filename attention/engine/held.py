"""The latent that a sampler holds, and how it is moved, whatever sampler it is.

Most samplers go on with the very tensor that they hand to the model, so that it is moved in place. Others hand over a
copy or a latent that they only try, or go on with slopes of earlier steps, which a jump would spoil: there an offset is
added to all that they hand over. It shrinks with the noise level, as a difference of latents does in their solution
while the prediction stays the same; in SA-Solver faster, as far as that renews its noise.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch

SA_SOLVER = {"sample_sa_solver", "sample_sa_solver_pece"}
TO_LAST_LEVEL = {"dpm_fast_function", "dpm_adaptive_function"}
"""Samplers that choose their own noise levels, and stop at the last above 0."""
WITH_OFFSET = {
    "sample_unipc",
    "sample_unipc_bh2",
    "sample_lms",
    "sample_ipndm",
    "sample_ipndm_v",
    "sample_deis",
    "sample_gradient_estimation",
    "sample_gradient_estimation_cfg_pp",
    *SA_SOLVER,
    *TO_LAST_LEVEL,
}
LOOKING_AHEAD = {
    "sample_heun",
    "sample_heunpp2",
    "sample_exp_heun_2_x0",
    "sample_exp_heun_2_x0_sde",
    "sample_dpm_2_ancestral",
    "sample_dpmpp_2s_ancestral",
    "sample_dpmpp_2s_ancestral_cfg_pp",
}
"""ComfyUI's samplers that call the model at the next step's noise level before they get there."""


class HeldLatent:
    """The latent of one run. ``looking_ahead`` while the model is asked about a latent that the sampler only tries."""

    def __init__(self):
        self.looking_ahead = False
        self._sampler = ""
        self._sigmas: tuple[float, ...] = ()
        self._given: torch.Tensor | None = None
        self._mask: torch.Tensor | None = None
        self._sigma = 0.0
        self._offset: torch.Tensor | None = None
        self._renewed: Callable[[float], float] = lambda sigma: 0.0
        self._finished_steps = 0
        self._calls_since = 0

    def watching(self, sampler: Any) -> Any:
        """The sampler, watched; one of another pack's making, without a sampler function, as it is."""
        function = getattr(sampler, "sampler_function", None)
        if function is None:
            return sampler
        watched = copy.copy(sampler)
        watched.sampler_function = functools.wraps(function)(functools.partial(self._sample, function))
        return watched

    def move(self, x: torch.Tensor, shift: torch.Tensor) -> None:
        """Move the latent by ``shift (B, C, H, W)``, of a picture that is inpainted what is new in it; and ``x`` in
        place, which the model is about to be given: the latent itself, or its mixture with the picture."""
        if self._mask is not None:
            shift = shift * self._mask
        if self._given is not None and self._given is not x:
            self._given.add_(shift)
        x.add_(shift if self._mask is None else shift * self._mask)
        if self._sampler in WITH_OFFSET:
            self._offset = shift if self._offset is None else self._offset + shift

    def _sample(self, function: Callable, model: Any, x: torch.Tensor, sigmas: torch.Tensor, *args, **kwargs):
        self._sampler, self._sigmas = getattr(function, "__name__", ""), tuple(sigmas.tolist())
        if self._sampler in SA_SOLVER:
            self._renewed = kwargs.get("tau_func") or _default_renewal(model.inner_model.inner_model.model_sampling)
        callback = kwargs.get("callback")

        def finished(step: dict[str, Any]) -> None:
            self._finished_steps, self._calls_since = self._finished_steps + 1, 0
            if callback is not None:
                callback(step)

        found = function(_Watched(model, self), x, sigmas, *args, **{**kwargs, "callback": finished})
        if self._offset is None:
            return found
        last = self._sigmas[-1]
        return found + self._offset_at(self._sigmas[-2] if self._sampler in TO_LAST_LEVEL and last == 0 else last)

    def _offset_at(self, sigma: float) -> torch.Tensor:
        return self._offset * (sigma / self._sigma) ** (1 + self._renewed(sigma) ** 2)

    def given(self, model: Any, x: torch.Tensor, sigma: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        """The sampler hands over a latent; what the model is to get instead."""
        level = float(sigma.max())
        if self._offset is not None:
            self._offset, x = self._offset_at(level), x + self._offset_at(level)
        elif self._sampler in WITH_OFFSET:
            x = x.clone()
        self._given, self._sigma = x, level
        self._mask = options.get("denoise_mask")
        change = (options.get("model_options") or {}).get("denoise_mask_function")
        if self._mask is not None and change is not None:
            extra = {"model": model.inner_model, "sigmas": model.sigmas}
            self._mask = change(sigma, self._mask, extra_options=extra)
        scheduled = self._sigmas[min(self._finished_steps, len(self._sigmas) - 1)]
        ahead = self._calls_since == 0 or level < scheduled * (1 - 1e-4)
        self.looking_ahead = self._sampler in LOOKING_AHEAD and self._finished_steps > 0 and ahead
        self._calls_since += 1
        return x


def _default_renewal(sampling: Any) -> Callable[[float], float]:
    """How fast SA-Solver renews its noise at a noise level, by default."""
    first, last = map(sampling.percent_to_sigma, (0.2, 0.8))
    return lambda sigma: float(last <= sigma <= first)


class _Watched:
    """A sampler's model that tells of the latents it is given."""

    def __init__(self, model: Any, held: HeldLatent):
        self._model = model
        self._held = held

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, *args, **options) -> torch.Tensor:
        return self._model(self._held.given(self._model, x, sigma, options), sigma, *args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
