"""Passes with gradients through all that core adds to a model: adapters beside the weights, hooks, injections, modules
in the place of others, patches with weights of their own. Their tensors are made in inference mode, as by loaders."""

import functools

import pytest
import torch

from gradients import STILL
from guiding import GuidanceBench

PROJECTIONS = (".attn2.to_q", ".attn2.to_k", ".attn1.to_v", ".proj_out")


@pytest.fixture(scope="module")
def sd1(comfy, part, tiny):
    return GuidanceBench(comfy, part, tiny("sd1"))


def random(*size: int, scale: float = 0.1) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(sum(size))) * scale


def adapter_weights(bench, kind: str) -> dict[str, torch.Tensor]:
    """Random tensors of a LoRA, LoHa or LoKr, of linear layers and of convolutions."""
    found = {}
    for name, weight in bench.model.model.diffusion_model.state_dict().items():
        linear = weight.ndim == 2 and name.removesuffix(".weight").endswith(PROJECTIONS)
        convolution = weight.ndim == 4 and ".in_layers.2" in name
        if not (linear or convolution):
            continue
        given, taken = weight.shape[0], weight[0].numel()
        name = f"diffusion_model.{name.removesuffix('.weight')}"
        tensors = {
            "lora": {"lora_up.weight": (given, 2), "lora_down.weight": (2, *weight.shape[1:])},
            "loha": {
                "hada_w1_a": (given, 2),
                "hada_w1_b": (2, taken),
                "hada_w2_a": (given, 2),
                "hada_w2_b": (2, taken),
            },
            "lokr": {"lokr_w1": (2, 2), "lokr_w2": (given // 2, weight.shape[1] // 2, *weight.shape[2:])},
        }[kind]
        found |= {f"{name}.{part}": random(*size) for part, size in tensors.items()}
    return found


def with_bypass(bench, model, kind: str):
    from comfy.sd import load_bypass_lora_for_models

    return load_bypass_lora_for_models(model, None, adapter_weights(bench, kind), 1.0, 0.0)[0]


def with_patches(bench, model):
    from comfy.sd import load_lora_for_models

    return load_lora_for_models(model, None, adapter_weights(bench, "lora"), 1.0, 0.0)[0]


def with_injection(bench, model):
    """A module of another pack's, put around a layer's forward function while the model is loaded."""
    from comfy.patcher_extension import PatcherInjection

    layer = bench.model.model.diffusion_model.middle_block[1].proj_in
    added, own = random(*layer.weight.shape[:2]), layer.forward

    def forward(x):
        found = own(x)
        return found + torch.einsum("oc,bchw->bohw", added, x) if x.ndim == 4 else found + x @ added.T

    def inject(patcher):
        layer.forward = forward

    def eject(patcher):
        layer.forward = own

    model = model.clone()
    model.set_injections("another", [PatcherInjection(inject, eject)])
    return model


def with_module(bench, model):
    """add_object_patch: a module in the place of another, with tensors that are no parameters."""
    name = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_q"
    own = bench.model.model.get_submodule(name)

    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.own, self.scales = own, [random(own.weight.shape[0]) + 1]

        def forward(self, x):
            return self.own(x) * self.scales[0]

    model = model.clone()
    model.add_object_patch(name, Scaled())
    return model


def with_weight_wrapper(bench, model):
    name = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"
    added = random(*bench.model.model.state_dict()[name].shape)
    model = model.clone()
    model.add_weight_wrapper(name, lambda weight: weight + added)
    return model


def with_hypernetwork(bench, model):
    """As core's loader of hypernetworks: layers of its own on keys and values."""
    width = bench.bound.embedding.shape[-1]
    layer = torch.nn.Linear(width, width)
    layer.load_state_dict({"weight": random(width, width), "bias": random(width)})

    def patch(q, k, v, extra):
        return q, k + layer(k), v + layer(v)

    model = model.clone()
    model.set_model_attn2_patch(patch)
    return model


def with_output_patch(bench, model):
    """A module on what a cross-attention gives, as grounding adapters have them."""
    scales = {}

    def patch(found, extra):
        width = found.shape[-1]
        return found * scales.setdefault(width, random(width) + 1)

    model = model.clone()
    model.set_model_attn2_output_patch(patch)
    return model


WAYS = {
    "LoRA": with_patches,
    **{f"bypass {kind}": functools.partial(with_bypass, kind=kind) for kind in ("lora", "loha", "lokr")},
    "injection": with_injection,
    "module": with_module,
    "weight wrapper": with_weight_wrapper,
    "hypernetwork": with_hypernetwork,
    "output patch": with_output_patch,
}


@pytest.mark.parametrize("way", WAYS)
def test_guidance(sd1, way):
    with torch.inference_mode():
        model = WAYS[way](sd1, sd1.model)
    plain, theirs = sd1.run().latent, sd1.run(model).latent
    assert not torch.equal(theirs, plain)
    with torch.inference_mode(), sd1.unchanged(model):
        still = sd1.run(sd1.guide("syngen", model, step_size=0.0)).latent
    assert torch.equal(still, theirs)
    moved = sd1.run(sd1.guide("syngen", model)).latent
    assert moved.isfinite().all() and (moved - theirs).abs().max() > 1e-4 * theirs.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_token_optimization(sd1, way):
    with torch.inference_mode():
        model = WAYS[way](sd1, sd1.merged.model)
    theirs = sd1.merged_latent(model)
    assert torch.equal(sd1.merged_latent(sd1.optimized(model, **STILL)), theirs)
    moved = sd1.merged_latent(sd1.optimized(model))
    assert moved.isfinite().all() and not torch.equal(moved, theirs)


@pytest.mark.parametrize("kind", ["lora", "model"])
def test_weight_hooks(sd1, kind):
    """Core's hooks, which change weights for one conditioning alone."""
    import comfy.hooks

    with torch.inference_mode():
        if kind == "lora":
            hooks = comfy.hooks.create_hook_lora(adapter_weights(sd1, "lora"), 1.0, 0.0)
        else:
            names = {
                name: sd1.model.model.state_dict()[name] * 1.1
                for name in sd1.model.model.state_dict()
                if ".attn2.to_q" in name
            }
            hooks = comfy.hooks.create_hook_model_as_lora(names, None, 1.0, 0.0)
        positive = comfy.hooks.set_hooks_for_conditioning(sd1.positive, hooks=hooks)
        model = sd1.model.clone()
        model.register_all_hook_patches(hooks, comfy.hooks.create_target_dict(comfy.hooks.EnumWeightTarget.Model))
    theirs = sd1.run(model, positive).latent
    assert not torch.equal(theirs, sd1.run().latent)
    assert torch.equal(sd1.run(sd1.guide("syngen", model, step_size=0.0), positive).latent, theirs)
    moved = sd1.run(sd1.guide("syngen", model), positive).latent
    assert moved.isfinite().all() and (moved - theirs).abs().max() > 1e-4 * theirs.abs().max()
