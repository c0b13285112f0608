"""Attention modulation next to what else patches a model: the result is what both ask for, by a brute-force softmax."""

import pytest
import torch

from attention_reference import in_threads
from modulate import ALL, Workbench
from modulation_reference import Temperature, attention

BLOCKS = [("input", n) for n in (1, 2, 4, 5, 7, 8)] + [("middle", 0)] + [("output", n) for n in range(3, 12)]


@pytest.fixture(scope="module")
def sd1(comfy, part, tiny):
    return Workbench(comfy, part, tiny("sd1"))


def test_lora(sd1):
    _, with_lora = sd1.checked(model=sd1.with_lora(".attn2.to_q", ".attn2.to_k", ".attn2.to_v", ".attn1.to_q"))
    _, without = sd1.checked()
    layer = next(iter(with_lora.calls[0].seen))
    assert (with_lora.calls[0].seen[layer]["to_q"] - without.calls[0].seen[layer]["to_q"]).abs().max() > 1e-3


def test_controlnet(comfy, sd1, tmp_path):
    """Its own attention is not ours: only what the UNet does changes."""
    control, apply = sd1.controlnet(tmp_path, "sd1")
    positive, negative = apply(sd1.positive, sd1.negative)
    seen = []
    network = control.control_model
    handle = network.register_forward_hook(lambda module, args, output: seen.append(output["middle"][0].clone()))
    sd1.checked(positive=positive, negative=negative)
    sd1.latent(positive=positive, negative=negative)
    handle.remove()
    assert torch.equal(seen[0], seen[len(seen) // 2]), "the first call's input is the same, and so is the ControlNet"


def stock(name, model):
    from comfy_extras.nodes_freelunch import FreeU_V2
    from comfy_extras.nodes_hypertile import HyperTile
    from comfy_extras.nodes_nag import NAGuidance
    from comfy_extras.nodes_tomesd import TomePatchModel

    made = {
        "HyperTile": lambda: HyperTile.execute(model, 32, 2, 0, False),
        "ToMe": lambda: TomePatchModel.execute(model, 0.5),
        "FreeU": lambda: FreeU_V2.execute(model, 1.1, 1.2, 0.9, 0.2),
        "NAG": lambda: NAGuidance.execute(model, 3.0, 0.5, 2.0),
    }[name]()
    return (made.args if hasattr(made, "args") else made)[0]


@pytest.mark.parametrize("name", ["FreeU", "NAG"])
def test_stock_model_patches(sd1, name):
    sd1.checked(model=stock(name, sd1.model), batch=2)


@pytest.mark.parametrize("negative", [True, False], ids=["both", "positive"])
@pytest.mark.parametrize("name", ["HyperTile", "ToMe"])
@pytest.mark.parametrize("before", [True, False], ids=["theirs first", "theirs last"])
def test_tiled_or_merged_self_attention(sd1, name, negative, before):
    """Fewer or more rows and patches in self-attention; attention to the prompt is as always."""
    settings = {**ALL, "temperature": Temperature(0.5, 0.0, 1.0, negative=negative)}
    model = stock(name, sd1.model) if before else sd1.model
    model = sd1.modulated(model, **settings)
    model = model if before else stock(name, model)
    reference = sd1.watched(model, batch=2)
    seen = next(seen for layer, seen in reference.calls[0].seen.items() if layer.endswith("attn1"))
    assert seen["to_q"].shape[:2] == {"HyperTile": (4 * 16, 16), "ToMe": (4, 128)}[name]
    prompt = sd1.prompt(settings["focus"], settings["weights"])
    found = reference.check([prompt], settings["temperature"], batch=2, negative=sd1.negative[0][0])
    assert ("self", 1) in found.changed
    assert (("self", 1) in found.plain) == (not negative)


def test_perturbed_attention_guidance(sd1):
    """Its extra pass is modulated as well, or the difference it makes would be that of the modulation."""
    found = sd1.checked_with_perturbed_attention()
    assert len([patches for patches in found.patches if patches.step == 1]) == 2 * 16


@pytest.mark.parametrize("key", ["pair", "triple"])
@pytest.mark.parametrize("before", [True, False], ids=["theirs first", "theirs last"])
def test_another_pack_replaces_cross_attention(sd1, key, before):
    """As IPAdapter packs do: to their result comes what the mask and the weights change."""
    from comfy.ldm.modules.attention import optimized_attention

    called = []

    def own(k):
        return torch.linspace(-1, 1, k.shape[-1], dtype=k.dtype).expand(len(k), 4, -1)

    def adapter(q, k, v, extra):
        called.append(extra["block"])
        heads = extra["n_heads"]
        return optimized_attention(q, k, v, heads) + 0.5 * optimized_attention(q, own(k), own(k), heads)

    def adapted(model):
        model = model.clone()
        for block, number in BLOCKS:
            model.set_model_attn2_replace(adapter, block, number, 0 if key == "triple" else None)
        return model

    model = sd1.modulated(adapted(sd1.model), **ALL) if before else adapted(sd1.modulated(**ALL))
    reference = sd1.watched(model)
    assert len(called) == 2 * 16

    def expected(call, layer, plain, q, k, v, heads):
        return plain + 0.5 * attention(q, own(k), own(k), heads)

    found = reference.check([sd1.prompt(ALL["focus"], ALL["weights"])], ALL["temperature"], theirs=expected)
    assert {("cross", 0), ("cross", 1)} <= found.changed


def test_another_pack_replaces_self_attention(sd1):
    """It is given the changed queries."""
    from comfy.ldm.modules.attention import optimized_attention

    def halved(q, k, v, extra):
        return 0.5 * optimized_attention(q, k, v, extra["n_heads"])

    model = sd1.model.clone()
    model.set_model_attn1_replace(halved, "middle", 0)
    reference = sd1.watched(sd1.modulated(model, temperature=Temperature(0.5, 0.0, 1.0)))
    reference.check(temperature=Temperature(0.5, 0.0, 1.0), skip=lambda call, layer: layer.startswith("middle_block"))
    for call in reference.calls:
        (layer,) = (layer for layer in call.seen if layer.startswith("middle_block") and layer.endswith("attn1"))
        seen = call.seen[layer]
        heads = sd1.model.model.diffusion_model.get_submodule(layer).heads
        expected = 0.5 * attention(seen["to_q"] / 0.5, seen["to_k"], seen["to_v"], heads)
        assert (seen["result"] - expected).abs().max() < 1e-5


def test_another_pack_appends_tokens(sd1):
    """An attn2_patch that makes the context longer: its columns are open to every patch."""

    def longer(n, context, value, extra):
        more = context[:, :4].flip(-1)
        return n, torch.cat([context, more], 1), torch.cat([value, more], 1)

    model = sd1.model.clone()
    model.set_model_attn2_patch(longer)
    _, reference = sd1.checked(model=model)
    assert {seen["to_k"].shape[1] for seen in reference.calls[0].seen.values() if seen["to_k"].shape[1] < 90} >= {81}


def test_attention_override_of_another_pack_sees_every_call(sd1):
    calls = []

    def override(function, *args, **kwargs):
        calls.append((kwargs["transformer_options"]["block"], args[1].shape[1], "mask" in kwargs))
        return function(*args, **kwargs)

    overridden = sd1.model.clone()
    overridden.model_options["transformer_options"]["optimized_attention_override"] = override
    sd1.latent(overridden)
    without, calls[:] = calls[:], []
    sd1.checked(model=overridden)
    assert [call[:2] for call in calls] == [call[:2] for call in without]
    assert [masked for _, keys, masked in calls] == [keys == 77 for _, keys, _ in calls]


def test_replacement_that_comes_with_a_conditioning(comfy, sd1):
    """A hook puts an attn2 replacement into the calls of one conditioning: it is composed with as well."""
    from comfy import hooks as core

    def theirs(q, k, v, extra):
        return q * 0

    replace = {"patches_replace": {"attn2": {("input", 1): theirs}}}
    group = core.HookGroup()
    group.add(core.TransformerOptionsHook(replace, hook_scope=core.EnumHookScope.HookedOnly))
    positive = core.set_hooks_for_conditioning(sd1.positive, group)
    reference = sd1.watched(sd1.modulated(**ALL), positive=positive)
    hooked = {id(call) for call in reference.calls if reference.rows(call, sd1.bound.embedding)}

    def expected(call, layer, plain, *_):
        return plain * (layer != "input_blocks.1.1.transformer_blocks.0.attn2" or id(call) not in hooked)

    reference.check([sd1.prompt(ALL["focus"], ALL["weights"])], ALL["temperature"], theirs=expected)


def test_layers_that_work_on_a_shrunken_grid(sd1):
    """PatchModelAddDownscale halves the grid of deep layers in early steps."""
    from comfy_extras.nodes_model_downscale import PatchModelAddDownscale

    model = PatchModelAddDownscale.execute(sd1.model, 3, 2.0, 0.0, 0.35, True, "bicubic", "bicubic").args[0]
    _, reference = sd1.checked(model=model, steps=3, settings={"focus": ALL["focus"], "weights": ALL["weights"]})
    sizes = [min(call.grids.values()) for call in reference.calls]
    assert sizes[0] < sizes[-1]


def test_model_calls_in_threads(sd1):
    _, reference = sd1.checked(model=in_threads(sd1.model), size=(8, 8), steps=3)
    assert [len(call.context) for call in reference.calls] == [1] * 6


@pytest.mark.parametrize("name", ["attention_basic", "attention_sub_quad", "attention_split", "attention_pytorch"])
def test_attention_backends(sd1, part, monkeypatch, name):
    from comfy.ldm.modules import attention as core

    used = []

    def backend(*args, **kwargs):
        used.append(kwargs.get("mask") is not None)
        return getattr(core, name)(*args, **kwargs)

    for module in (core, part("attention.engine.patching")):
        monkeypatch.setattr(module, "optimized_attention", backend)
    sd1.checked(batch=2)
    assert used.count(True) == used.count(False) == 2 * 16
