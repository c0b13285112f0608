"""Passes with gradients beside other packs' nodes and the pack's own: kernels, replaced attention, nested guidance."""

import pytest
import torch

from attention_reference import in_threads, record
from gradients import STILL, GradientBench, slowly
from merge import GRADIENT, unet_calls
from modulation_reference import Focus

KERNELS = ["attention_basic", "attention_sub_quad", "attention_split", "attention_pytorch", "without gradient"]
REFUSED = "Another node takes gradients through the sampler's model calls"


@pytest.fixture(scope="module")
def sd1(comfy, part, tiny):
    return GradientBench(comfy, part, tiny("sd1"))


@pytest.fixture(scope="module")
def merged(sd1):
    """The latents of a run with the merged prompt."""
    return sd1.merged_latent()


@pytest.mark.parametrize("name", slowly(KERNELS, ["attention_split", "without gradient"]))
def test_attention_kernels(sd1, part, monkeypatch, name):
    """Whatever ComfyUI computes attention with: passes with gradients take PyTorch's, all others are left alone."""
    from comfy.ldm.modules import attention as core

    kernel = getattr(core, name, core.attention_pytorch)
    with_gradient, without = [], []

    @core.wrap_attn
    def chosen(q, k, v, heads, *args, **kwargs):
        (with_gradient if kwargs["transformer_options"].get(GRADIENT) else without).append(q.shape)
        with torch.no_grad():
            return kernel(q, k, v, heads, *args, **kwargs)

    model = sd1.optimized()
    expected = sd1.merged_latent(model)
    for module in (core, part("attention.engine.patching")):
        monkeypatch.setattr(module, "optimized_attention", chosen)
    latent = sd1.merged_latent(model)
    assert not with_gradient
    assert len(without) == 2 * 2 * 16, "self- and cross-attention, 16 blocks, two steps"
    assert (latent - expected).abs().max() < 1e-3 * expected.abs().max()


def test_attention_override_of_another_pack(sd1, merged):
    """It sees every attention of every pass, and what it does has a gradient."""
    calls = []

    def override(function, q, k, v, *args, **kwargs):
        options = kwargs["transformer_options"]
        calls.append((bool(options.get(GRADIENT)), function.__name__))
        return function(q, k, 1.1 * v, *args, **kwargs)

    def overridden(model):
        model = model.clone()
        model.model_options["transformer_options"]["optimized_attention_override"] = override
        return model

    without = sd1.merged_latent(overridden(sd1.merged.model))
    count = len(calls)
    assert (without - merged).abs().max() > 1e-3
    calls.clear()
    assert torch.equal(sd1.merged_latent(overridden(sd1.optimized(**STILL))), without)
    assert [ours for ours, _ in calls].count(False) == count
    assert {name for ours, name in calls if ours} == {"attention_pytorch"}
    assert len({ours for ours, _ in calls}) == 2
    moved = sd1.merged_latent(overridden(sd1.optimized()))
    assert (moved - without).abs().max() > 1e-3


@pytest.mark.parametrize("key", slowly(["pair", "triple"], ["pair"]))
@pytest.mark.parametrize("before", [True, False], ids=["theirs first", "theirs last"])
def test_another_pack_replaces_cross_attention(sd1, merged, key, before):
    """As IPAdapter packs do: it is called in passes with gradients as well, and they go through it."""
    from comfy.ldm.modules.attention import optimized_attention

    called = []

    def adapter(q, k, v, extra):
        called.append(bool(extra.get(GRADIENT)))
        return 0.5 * optimized_attention(q, k, v, extra["n_heads"], transformer_options=extra)

    def adapted(model):
        model = model.clone()
        for number in (4, 5, 7):
            model.set_model_attn2_replace(adapter, "input", number, 0 if key == "triple" else None)
        return model

    without = sd1.merged_latent(adapted(sd1.merged.model))
    assert (without - merged).abs().max() > 1e-3
    models = [
        sd1.optimized(adapted(sd1.merged.model), **plan) if before else adapted(sd1.optimized(**plan))
        for plan in (STILL, {})
    ]
    called.clear()
    assert torch.equal(sd1.merged_latent(models[0]), without)
    assert called.count(False) == 2 * 3
    with unet_calls(sd1.model) as calls:
        assert (sd1.merged_latent(models[1]) - without).abs().max() > 1e-3
    assert called.count(True) == 2 * 3 * sum(call.ours for call in calls)


def guided_from_outside(model, scale=0.1):
    """A node of another pack that takes gradients through a sampler's prediction."""
    from comfy.patcher_extension import WrappersMP

    def guided(executor, x, timestep, *args, **kwargs):
        with torch.inference_mode(False), torch.enable_grad():
            leaf = x.clone().requires_grad_()
            found = executor(leaf, timestep.clone(), *args, **kwargs)
        return found.detach() + scale

    clone = model.clone()
    clone.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "another", guided)
    return clone


def test_nested_guidance_is_refused(sd1, merged):
    model = guided_from_outside(sd1.optimized())
    with torch.inference_mode(), sd1.unchanged(model), pytest.raises(ValueError, match=REFUSED):
        sd1.merged_latent(model)
    assert torch.equal(sd1.merged_latent(), merged)


def test_guidance_around_a_model_call_is_refused(sd1, part, merged):
    """A node of another pack that takes gradients around every forward pass, as this pack does."""
    from comfy.patcher_extension import WrappersMP

    def guided(executor, x, *args, **kwargs):
        with part("attention.engine.gradient").differentiable(executor.class_obj):
            return executor(x.clone().requires_grad_(), *args, **kwargs).detach()

    model = sd1.optimized().clone()
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "another", guided)
    with torch.inference_mode(), sd1.unchanged(model), pytest.raises(ValueError, match=REFUSED):
        sd1.merged_latent(model)
    assert torch.equal(sd1.merged_latent(), merged)


def test_flagged_model_calls_are_left_alone(sd1, merged):
    """Another pack's own passes with gradients carry the flag: in them nothing is merged, optimised or recorded."""
    from comfy.samplers import calc_cond_batch

    found = {}

    def once_more(model, name):
        def pre_cfg(args):
            options = {**args["model_options"]}
            options["transformer_options"] = {**options["transformer_options"], GRADIENT: True}
            own = calc_cond_batch(args["model"], [args["conds"][0]], args["input"], args["timestep"], options)[0]
            found.setdefault(name, []).append(own)
            return args["conds_out"]

        clone = model.clone()
        clone.set_model_sampler_pre_cfg_function(pre_cfg)
        return clone

    sd1.latent(once_more(sd1.model, "plain"), sd1.merged.conditioning, size=(8, 8))
    optimized = sd1.optimized()
    assert torch.equal(sd1.merged_latent(once_more(optimized, "optimized")), sd1.merged_latent(optimized))
    assert torch.equal(found["optimized"][0], found["plain"][0])
    assert len(found["optimized"]) == 2


def test_model_calls_in_threads(sd1, monkeypatch):
    """As with several GPUs: the passes with gradients are made before, on the device of the sampler."""
    sd1.apart(monkeypatch)
    expected = sd1.merged_latent(sd1.optimized())
    with torch.inference_mode(), sd1.unchanged():
        latent = sd1.merged_latent(in_threads(sd1.optimized()))
    assert (latent - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("last", slowly([True, False], [True]), ids=["recorder last", "recorder first"])
def test_recorder_sees_the_sampler_alone(sd1, part, merged, last):
    """No pass with gradients is recorded; what is recorded is the attention to the optimised tokens."""

    def recorded(plan):
        model = sd1.merged.model
        if last:
            model = sd1.optimized(model, **plan) if plan is not None else model
            model, maps = record(part, model, sd1.bound, keep=1)
        else:
            model, maps = record(part, model, sd1.bound, keep=1)
            model = sd1.optimized(model, **plan) if plan is not None else model
        latent = sd1.merged_latent(model, steps=3)
        return maps.find({"samples": latent})

    without, still, moved = recorded(None), recorded(STILL), recorded({})
    assert without.steps == still.steps == moved.steps
    for one, other, third in zip(without.grids, still.grids, moved.grids, strict=True):
        assert torch.equal(one.maps, other.maps)
        assert not torch.equal(one.maps, third.maps)


@pytest.mark.parametrize("same_layer", slowly([True, False], [False]))
def test_object_focused_attention_in_the_same_run(sd1, merged, same_layer):
    """Its assignment of patches is that of the sampler's calls, whatever passes there were before them."""
    focus = Focus(0.0, 1.0, same_layer=same_layer)

    def focused(model):
        return sd1.modulated(model, focus=focus)

    without = sd1.merged_latent(focused(sd1.merged.model), steps=3)
    assert not torch.equal(without, sd1.merged_latent(steps=3))
    for models in (sd1.optimized(focused(sd1.merged.model), **STILL), focused(sd1.optimized(**STILL))):
        assert torch.equal(sd1.merged_latent(models, steps=3), without)
    moved = sd1.merged_latent(focused(sd1.optimized()), steps=3)
    assert (moved - without).abs().max() > 1e-3
