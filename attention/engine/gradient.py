"""Gradients through the model inside a sampling run, where ComfyUI executes everything in inference mode.

The tensors of an inference run cannot take part in a backward pass. Inside ``differentiable`` the weights are wrapped
as ordinary tensors on the same storage, so that nothing is copied, and all is put back on every way out. Tensors that
others keep outside of the module (bypass adapters, injections, patches) are wrapped where an operation meets them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import comfy.model_management
import torch
from comfy.ldm.modules.attention import attention_pytorch
from torch.overrides import TorchFunctionMode

from .calls import Attention, Call, Layer
from .frame import grid_of, patches_on_grid
from .others import blaming_others
from .regional import without_cross_patches

FLAG = "semantic_binding_gradient"
"""True in the ``transformer_options`` of passes that are differentiated, for other packs to see."""
MEMORY_OF_A_CELL = 0.2 * 2**20
"""Bytes that a forward and backward pass through the whole network needs for each cell of a latent and each byte of
the model's type, times ComfyUI's factor of the model's memory. Measured: 0.09 MiB for SD1.5, 0.19 for SDXL."""
SIZE_EMBEDDINGS = 6 * 256
"""Columns of SDXL's vector conditioning, behind the pooled text, that hold sizes and crops."""


@contextmanager
def differentiable(module: torch.nn.Module) -> Iterator[None]:
    """Outside inference mode, with gradients on, and with ordinary tensors in the place of inference tensors."""
    replaced = []
    with torch.inference_mode(False), torch.enable_grad():
        try:
            for each in module.modules():
                for tensors in (each._parameters, each._buffers):
                    for name, tensor in tensors.items():
                        if type(tensor) in (torch.nn.Parameter, torch.Tensor) and tensor.is_inference():
                            replaced.append((tensors, name, tensor))
                            tensors[name] = _wrapped(tensor)
            with _OrdinaryOperands():
                yield
        finally:
            for tensors, name, tensor in replaced:
                tensors[name] = tensor


class _OrdinaryOperands(TorchFunctionMode):
    """Wraps the inference tensors that operations are given."""

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if kwargs:
            return function(*map(_operand, args), **{name: _operand(value) for name, value in kwargs.items()})
        return function(*map(_operand, args))


def _operand(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return _wrapped(value) if value.is_inference() else value
    if type(value) in (list, tuple):
        return type(value)(map(_operand, value))
    return value


def _wrapped(tensor: torch.Tensor) -> torch.Tensor:
    ordinary = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    ordinary.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())
    return torch.nn.Parameter(ordinary, requires_grad=False) if isinstance(tensor, torch.nn.Parameter) else ordinary


def memory_of_a_row(model, shape: Sequence[int]) -> float:
    """Bytes that a row of latents ``(B, C, H, W)`` needs for a forward and a backward pass through ComfyUI's model."""
    bytes_of_a_number = comfy.model_management.dtype_size(model.get_dtype_inference())
    return MEMORY_OF_A_CELL * math.prod(shape[2:]) * bytes_of_a_number * model.memory_usage_factor


class Seen(NamedTuple):
    """The attention of one layer in a differentiated pass, on its usual ``grid``: probabilities ``(B, N, groups)``, or
    for each head ``(B, heads, N, groups)``."""

    layer: Layer
    grid: tuple[int, int]
    probabilities: torch.Tensor


class _Enough(Exception):
    """All layers asked for have been seen; the rest of the forward pass is not needed."""


@dataclass(frozen=True)
class ModelCall:
    """The model call of one bound conditioning's rows, to be made again with other latents and contexts.

    ``x (B, C, H, W)`` is the noisy latent as the sampler has it, ``sigma (B,)`` its noise level, ``context (B, T,
    D)`` the encoded prompt; ``patched`` puts the techniques of the run, and what watches the attention, into the
    options of a pass; ``regional`` if another pack makes regions of other prompts. To be used inside
    ``differentiable``; interrupts are raised at the beginning of every pass.
    """

    executor: Any
    x: torch.Tensor
    sigma: torch.Tensor
    c_concat: torch.Tensor | None
    context: torch.Tensor
    control: dict[str, list] | None
    options: dict[str, Any]
    extra: dict[str, Any]
    call: Call
    patched: Callable[[dict[str, Any], Call, dict[Layer, Callable]], dict[str, Any]]
    regional: bool = False

    @property
    def input_scale(self) -> torch.Tensor:
        """``(B, 1, 1, 1)``: the network's input is the latent times this."""
        return self._sampling.calculate_input(self.sigma, self.x.new_ones(len(self.x), 1, 1, 1))

    @property
    def output_scale(self) -> torch.Tensor:
        """``(B, 1, 1, 1)``: the denoised latent falls by this where the network's output grows by 1."""
        one = self.x.new_ones(len(self.x), 1, 1, 1)
        return -self._sampling.calculate_denoised(self.sigma, one, torch.zeros_like(one))

    @property
    def _sampling(self):
        return self.executor.class_obj.model_sampling

    def with_(self, **changes: Any) -> ModelCall:
        return dataclasses.replace(self, **changes)

    def without_pooled(self) -> ModelCall:
        """With the pooled text of SDXL's vector conditioning at 0; other models as they are."""
        y = self.extra.get("y")
        if y is None or y.shape[-1] <= SIZE_EMBEDDINGS:
            return self
        y = y.clone()
        y[..., :-SIZE_EMBEDDINGS] = 0
        return self.with_(extra={**self.extra, "y": y})

    def of_latents(self, latents: Sequence[int]) -> ModelCall:
        """A call with a row for each of the latents named, in this order."""
        if list(latents) == [*range(len(self.x))]:
            return self

        def chosen(value: Any) -> Any:
            of_rows = torch.is_tensor(value) and value.shape[:1] == self.x.shape[:1]
            return value[list(latents)] if of_rows else value

        return self.with_(
            x=chosen(self.x),
            sigma=chosen(self.sigma),
            c_concat=chosen(self.c_concat),
            context=chosen(self.context),
            control=self.control and {name: [*map(chosen, tensors)] for name, tensors in self.control.items()},
            call=self.call._replace(
                rows=len(latents),
                chunks=(self.call.chunks[0]._replace(start=0, stop=len(latents)),),
                latents=tuple(latents if self.call.latents is None else (self.call.latents[i] for i in latents)),
            ),
            extra={name: chosen(value) for name, value in self.extra.items()},
        )

    @property
    def rows_at_once(self) -> int:
        """How many rows a forward and backward pass can have in the memory that is free now; at least 1."""
        model = self.executor.class_obj
        free = model.current_patcher.get_free_memory(self.x.device)
        return max(1, int(free / memory_of_a_row(model, self.x.shape)))

    def denoised(self) -> torch.Tensor:
        """What the model makes of the latent, ``(B, C, H, W)``, without the techniques of the run.

        A context of one row gives every patch of the picture the same, so that one patch needs to ask for it. Other
        packs are given the row twice, which is the same: some take keys and values in turn (CLIP NegPip). Those that
        make regions of other prompts are left out.
        """
        options = without_cross_patches(self.options) if self.regional else self.options
        if self.context.shape[1] > 1:
            return self._run(options)
        patches = options.get("patches", {})
        theirs = patches.get("attn2_patch") or patches.get("attn2_output_patch")
        if theirs or options.get("patches_replace", {}).get("attn2"):
            return self.with_(context=self.context.repeat(1, 2, 1))._run(options)
        return self._run({**options, "patches": {**patches, "attn2_patch": [_first_query]}})

    def attention(self, layers: frozenset[Layer], groups: torch.Tensor, per_head: bool = False) -> tuple[Seen, ...]:
        """The attention that the layers give to groups of the context's rows, as the techniques of the run have changed
        it. The pass ends with the last of the layers.

        Args:
            groups: ``(T, G)``, the weight of each row of the context in each group.
            per_head: each head's own, not their mean.
        """
        found: list[Seen] = []

        def observe(call: Call, attention: Attention) -> None:
            attention.check_whole()
            grid = grid_of(*self.x.shape[-2:], attention.layer.level)
            appended = attention.k.shape[1] - len(groups)  # by other packs
            columns = torch.nn.functional.pad(groups, (0, 0, 0, appended))
            own = call.of(self.call.chunks[0].cond.key)
            if not own:
                raise ValueError(
                    f"Another node has put other prompts in the place of the bound one in layer {attention.layer.name}"
                    ", so that there is no attention to it. Give that node the bound conditioning for one of its "
                    "regions, or take it off this model."
                )
            probabilities = attention.probabilities(own[0], columns, per_head)
            found.append(Seen(attention.layer, grid, patches_on_grid(probabilities, attention.grid, grid)))
            if len(found) == len(layers):
                raise _Enough

        try:
            self._run(self.patched(self.options, self.call, dict.fromkeys(layers, observe)))
        except _Enough:
            return tuple(found)
        missing = ", ".join(sorted(layer.name for layer in layers - {seen.layer for seen in found}))
        raise ValueError(
            f"Another node keeps the attention layers {missing} from being computed, which the losses are made of. "
            "Take nodes that skip parts of the model off it."
        )

    def _run(self, options: dict[str, Any]) -> torch.Tensor:
        comfy.model_management.throw_exception_if_processing_interrupted()
        control = self.control and {name: list(tensors) for name, tensors in self.control.items()}
        options = {
            **options,
            FLAG: True,
            "optimized_attention_override": _differentiable_attention(options),
            # Patches that make regions add to this list, and take it off only behind the layer.
            "cond_or_uncond": list(options.get("cond_or_uncond", ())),
        }
        if control is not None:
            patches = options.get("patches", {})
            options["patches"] = {
                **patches,
                "input_block_patch_after_skip": [*patches.get("input_block_patch_after_skip", []), _detached_skip],
            }
        with blaming_others(self.options, "gradients were taken through it"):
            return self.executor(self.x, self.sigma, self.c_concat, self.context, control, options, **self.extra)


def _first_query(n: torch.Tensor, context: torch.Tensor, value: torch.Tensor | None, _: dict[str, Any]):
    return n[:, :1], context, value


def _detached_skip(h: torch.Tensor, _: dict[str, Any]) -> torch.Tensor:
    """ControlNet adds to the skip connections in place, which a backward pass does not survive: go on with a copy."""
    return h.clone()


def _differentiable_attention(options: dict[str, Any]) -> Callable:
    """PyTorch's attention for every layer, as several of ComfyUI's kernels have no gradient; within another pack's
    override where there is one."""
    theirs = options.get("optimized_attention_override")

    def attend(_: Callable, *args, **kwargs) -> torch.Tensor:
        if theirs is not None:
            return theirs(attention_pytorch, *args, **kwargs)
        return attention_pytorch(*args, **kwargs)

    return attend


def with_copies(options: dict[str, Any]) -> dict[str, Any]:
    """Options whose patches may change tensors in place (FreeU's do): they are given copies, and what a backward pass
    needs of their own operations is copied too."""

    def with_copy(patch: Any) -> Any:
        if not callable(patch):
            return patch

        @functools.wraps(patch, updated=())
        def patched(*args, **kwargs) -> Any:
            args = [each.clone() if torch.is_tensor(each) else each for each in args]
            with torch.autograd.graph.saved_tensors_hooks(ordinary, lambda saved: saved):
                return patch(*args, **kwargs)

        return patched

    patches = {name: [*map(with_copy, found)] for name, found in options.get("patches", {}).items()}
    return {**options, "patches": patches}


def ordinary(value: Any) -> Any:
    """A copy that can take part in a backward pass; what is no tensor stays as it is. Lists and dicts are gone
    through."""
    if torch.is_tensor(value):
        return value.detach().clone()
    if isinstance(value, list):
        return [ordinary(each) for each in value]
    if type(value) is dict:
        return {name: ordinary(each) for name, each in value.items()}
    return value
