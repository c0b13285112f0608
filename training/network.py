"""The UNet of a MODEL, differentiated with respect to adapters beside its layers and to what it is given.

What is trained is the network with the weights and LoRAs that the MODEL has; attention patches of other nodes act when
pictures are sampled, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, NamedTuple

import comfy.model_management
import comfy.model_sampling
import comfy.utils
import torch
from comfy.ldm.modules.attention import BasicTransformerBlock, attention_pytorch
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from torch.utils.checkpoint import checkpoint

from ..attention.engine.calls import Layer
from ..attention.engine.gradient import differentiable
from ..attention.engine.layers import layers_of
from .lora import Adapters
from .noise import EPS, V

UNET = "diffusion_model."
"""How the names of its weights begin in ComfyUI's model."""


class Seen(NamedTuple):
    """The attention of one layer in a pass, on its ``grid``: of each sample the probabilities ``(B, heads, N, K)`` that
    its patches give to the rows looked at, among all rows of the context."""

    layer: Layer
    grid: tuple[int, int]
    maps: torch.Tensor


class Watch:
    """Which attention a pass is to show: of some layers, to the context's ``rows (B, K)``; a sample that has fewer
    repeats one. ``seen`` is filled in the order of the layers."""

    def __init__(self, layers: frozenset[Layer], rows: torch.Tensor):
        self.layers, self.rows = layers, rows
        self.seen: list[Seen] = []


class Network:
    """To be used within ``ready``.

    Args:
        model: a MODEL; it and its weights stay as they are.
        adapters: all that will ever be given to ``predict``.
        checkpointing: compute each block a second time in the backward pass instead of keeping what is within.

    Raises:
        ValueError: the model is no UNet with cross-attention, or predicts neither noise nor v.
    """

    def __init__(self, model, adapters: Sequence[Adapters] = (), checkpointing: bool = True):
        self.layers = layers_of(model)
        self.patcher = trainable(model)
        self.base = self.patcher.model
        self.sampling = self.patcher.get_model_object("model_sampling")
        self.prediction = prediction_of(self.sampling)
        self.unet = self.base.diffusion_model
        self.adapters, self.checkpointing = tuple(adapters), checkpointing
        self._watch: Watch | None = None

    @property
    def device(self) -> torch.device:
        return self.patcher.load_device

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.base.get_dtype_inference()

    @property
    def timesteps(self) -> int:
        """How many noise levels it was trained on."""
        return len(self.sampling.sigmas)

    def sigma(self, times: torch.Tensor) -> torch.Tensor:
        """The noise levels ``(B,)`` of timesteps ``(B,)`` from 0, the least noise, on."""
        return self.sampling.sigmas.cpu()[times].clone()

    @contextmanager
    def ready(self, memory: float = 0.0, others: Sequence = ()) -> Iterator[None]:
        """On its device, ``others`` (ModelPatchers) too, with room for ``memory`` bytes; with ordinary tensors for
        weights, and with the adapters."""
        patchers = [self.patcher, *others]
        comfy.model_management.load_models_gpu(patchers, memory_required=memory, force_full_load=True)
        before = comfy.model_management.in_training
        with ExitStack() as stack:
            comfy.model_management.in_training = True
            stack.callback(setattr, comfy.model_management, "in_training", before)
            stack.enter_context(differentiable(self.unet))
            stack.enter_context(self._attached())
            if self.checkpointing:
                stack.enter_context(self._checkpointed())
            yield

    @contextmanager
    def acting(self, adapters: Adapters) -> Iterator[None]:
        """The adapters in every use of the MODEL's UNet, by a sampler too."""
        with self._attached(), self._enabled(adapters):
            yield

    @contextmanager
    def _attached(self) -> Iterator[None]:
        with ExitStack() as stack:
            for each in self.adapters:
                stack.enter_context(each.attached(self.unet))
            yield

    @contextmanager
    def _enabled(self, adapters: Adapters | None) -> Iterator[None]:
        before = [each.enabled for each in self.adapters]
        try:
            for each in self.adapters:
                each.enabled = each is adapters
            yield
        finally:
            for each, enabled in zip(self.adapters, before, strict=True):
                each.enabled = enabled

    def predict(
        self,
        noisy: torch.Tensor,
        sigma: torch.Tensor,
        context: torch.Tensor,
        vector: torch.Tensor | None = None,
        adapters: Adapters | None = None,
        watch: Watch | None = None,
    ) -> torch.Tensor:
        """The network's own output, noise or v, ``(B, C, h, w)`` in float32.

        Args:
            noisy: ``(B, C, h, w)``, ``latent + sigma * noise``, latents scaled as a sampler has them.
            sigma: ``(B,)``.
            context: ``(B, T, D)``.
            vector: ``(B, Y)``, of models that have one (SDXL).
            adapters: those that act; none for the network as it is.
        """
        comfy.model_management.throw_exception_if_processing_interrupted()
        given = self.sampling.calculate_input(sigma, noisy).to(self.dtype)
        times = self.sampling.timestep(sigma).float()
        extra = {} if vector is None else {"y": vector.to(self.dtype)}
        options = self._options(watch)
        with self._enabled(adapters):
            self._watch = watch
            try:
                output = self.unet(given, times, context=context.to(self.dtype), transformer_options=options, **extra)
            finally:
                self._watch = None
        return output.float()

    def denoised(self, noisy: torch.Tensor, sigma: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """The latent that is in a noisy one by the network's output, ``(B, C, h, w)``."""
        return self.sampling.calculate_denoised(sigma, output, noisy)

    def _options(self, watch: Watch | None) -> dict[str, Any]:
        options: dict[str, Any] = {"optimized_attention_override": _attention_with_gradient}
        if watch is not None:
            watched = {layer.key: self._watched(layer, watch) for layer in self.layers if layer in watch.layers}
            options["patches_replace"] = {"attn2": watched}
        return options

    def _watched(self, layer: Layer, watch: Watch) -> Callable:
        def attend(q, k, v, extra):
            heads = extra["n_heads"]
            q, k, v = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (q, k, v))
            logits = (q.float() * q.shape[-1] ** -0.5) @ k.float().transpose(2, 3)
            probabilities = logits.softmax(-1)
            rows = watch.rows.to(q.device)[:, None, None].expand(-1, heads, q.shape[2], -1)
            maps = probabilities.gather(3, rows)
            # When a block is computed again in the backward pass, nobody is watching.
            if self._watch is watch:
                watch.seen.append(Seen(layer, tuple(extra["activations_shape"][-2:]), maps))
            return (probabilities.to(v.dtype) @ v).transpose(1, 2).flatten(2)

        return attend

    @contextmanager
    def _checkpointed(self) -> Iterator[None]:
        blocks = [each for each in self.unet.modules() if isinstance(each, (BasicTransformerBlock, ResBlock))]
        try:
            for block in blocks:
                block.forward = self._again(block.forward)
            yield
        finally:
            for block in blocks:
                del block.forward

    def _again(self, forward: Callable) -> Callable:
        """The forward of a block that is computed again in the backward pass, with the adapters of the first time."""

        def compute(*args, **kwargs):
            if "transformer_options" in kwargs:  # which says where in the network this is, until the next block
                kwargs["transformer_options"] = dict(kwargs["transformer_options"])
            acting = next((each for each in self.adapters if each.enabled), None)
            return checkpoint(
                forward,
                *args,
                use_reentrant=False,
                preserve_rng_state=False,
                context_fn=lambda: (nullcontext(), self._enabled(acting)),
                **kwargs,
            )

        return compute


def _attention_with_gradient(_: Callable, *args, **kwargs) -> torch.Tensor:
    return attention_pytorch(*args, **kwargs)


def prediction_of(sampling) -> str:
    """What a network gives, by the MODEL's ``model_sampling``, which nodes can change.

    Raises:
        ValueError: neither noise nor v.
    """
    kinds = comfy.model_sampling
    if isinstance(sampling, kinds.V_PREDICTION) and not isinstance(sampling, kinds.EDM):
        return V
    if isinstance(sampling, kinds.EPS) and not isinstance(sampling, (kinds.X0, kinds.IMG_TO_IMG)):
        return EPS
    found = ", ".join(each.__name__ for each in type(sampling).__mro__ if each.__module__ == kinds.__name__)
    raise ValueError(
        f"This model is sampled by {found or type(sampling).__name__}; training knows models that predict noise (EPS) "
        "or v (V_PREDICTION). Take nodes that change its sampling off it, or connect another checkpoint."
    )


def trainable(model):
    """A clone of a MODEL whose weights stay in one place, and that computes in bfloat16 instead of float16, whose
    gradients vanish, or in float32 where there is no bfloat16."""
    clone = model.clone(disable_dynamic=True)
    if clone.model.get_dtype_inference() == torch.float16:
        usable = comfy.model_management.should_use_bf16(clone.load_device)
        clone.set_model_compute_dtype(torch.bfloat16 if usable else torch.float32)
    return clone


def kohya_names(model) -> dict[str, str]:
    """By the path of a layer in the UNet the name that kohya's trainers give it: of the diffusers layout for SD1 and
    SD2, of the original one for SDXL."""
    weights = [key for key in model.model.state_dict() if key.startswith(UNET) and key.endswith(".weight")]
    paths = [key.removeprefix(UNET).removesuffix(".weight") for key in weights]
    names = {path: path for path in paths}
    if model.model.adm_channels == 0:
        theirs = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
        for name, path in theirs.items():
            if path.endswith(".weight") and path.removesuffix(".weight") in names:
                names[path.removesuffix(".weight")] = name.removesuffix(".weight")
    return {path: f"lora_unet_{name.replace('.', '_')}" for path, name in names.items()}
