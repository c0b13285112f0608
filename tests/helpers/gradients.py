"""A merged prompt, a way into the passes with gradients of a run, and what has to be the same after them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from merge import MergeBench

STILL = {"token_step_size": 0.0, "row_step_size": 0.0, "latent_step_size": 0.0}
"""Changes of the plan: everything is computed, nothing is moved."""


def slowly(values, fast):
    """Parameters; all but the fast ones are for the slow tests."""
    return [pytest.param(value, marks=[] if value in fast else pytest.mark.slow) for value in values]


def soft(comfy: SimpleNamespace, tiny: Callable, layout: str) -> SimpleNamespace:
    """A tiny model from core's loader whose queries are a third as large: in it, rounding does not grow."""
    from comfy.sd import load_checkpoint_guess_config

    folder = comfy.base / "models" / "checkpoints"
    path = folder / f"soft-{layout}.safetensors"
    if not path.exists():
        weights = load_file(folder / tiny(layout).name)
        for name, weight in weights.items():
            if name.startswith("model.diffusion_model") and name.endswith(".to_q.weight"):
                weights[name] = 0.3 * weight
        save_file(weights, path)
    with torch.inference_mode():
        model, clip, _, _ = load_checkpoint_guess_config(str(path))
    return SimpleNamespace(model=model, clip=clip)


class GradientBench(MergeBench):
    """A MergeBench with its prompt ``merged``, by the node."""

    def __init__(self, comfy: SimpleNamespace, part: Callable, loaded: SimpleNamespace):
        super().__init__(comfy, part, loaded)
        self.merged = self.merge()

    @property
    def composites(self) -> tuple:
        """Of the bound prompt."""
        return self.part("attention.token_merge.composite").composites_of(
            self.bound.binding, self.bound.embedding.shape[-1]
        )

    def merged_latent(self, model=None, positive=None, negative=None, **run) -> torch.Tensor:
        """The latents of a small run with the merged prompt."""
        run = {"size": (8, 8), **run}
        return self.latent(model or self.merged.model, positive or self.merged.conditioning, negative, **run)

    def optimized(self, model=None, **plan):
        """The merged MODEL, or another, with Token Optimization."""
        return self.optimize(model or self.merged.model, **plan)[0]

    def probed(self, look: Callable, model=None, *conds, **run) -> torch.Tensor:
        """A run in whose first step ``look(call, chunk, found)`` has the pass with gradients of the merged prompt."""
        looked = []

        class Probe(self.part("attention.engine.run").Participant):
            gradient_rows = 1

            def guides(self, key, step):
                return not looked

            def guide(self, call, chunk, found):
                looked.append(call)
                look(call, chunk, found)

        settings = {"name": "probe", "differentiates": True, "check": lambda layers: None, "begin": lambda run: Probe()}
        technique = SimpleNamespace(**settings)
        with torch.inference_mode():
            model = self.part("attention.engine.sampling").with_technique(model or self.merged.model, technique)
        latent = self.merged_latent(model, *conds, **run)
        assert len(looked) == 1
        return latent

    @contextmanager
    def unchanged(self, *models) -> Iterator[None]:
        """Afterwards all is as before: each tensor of the model, the options of MODELs, and the modes of torch."""

        def tensors():
            modules = self.model.model.modules()
            return [
                tensor
                for module in modules
                for tensors in (module._parameters, module._buffers)
                for tensor in tensors.values()
                if tensor is not None
            ]

        def state():
            options = [dict(model.model_options["transformer_options"]) for model in (self.model, *models)]
            wrappers = [{kind: dict(each) for kind, each in model.wrappers.items()} for model in models]
            return torch.is_inference_mode_enabled(), torch.is_grad_enabled(), options, wrappers

        before, modes = tensors(), state()
        values = [tensor.clone() for tensor in before]
        assert sum(tensor.is_inference() for tensor in before) > 100
        try:
            yield
        finally:
            after = tensors()
            assert all(now is then for now, then in zip(after, before, strict=True))
            assert all(torch.equal(now, then) for now, then in zip(after, values, strict=True))
            assert state() == modes
