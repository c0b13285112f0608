"""Recording beside other packs and nodes that patch the model."""

import pytest
import torch

from attention_reference import Reference, record, sample
from recorded import check, recorded, stock_nodes


@pytest.mark.parametrize("key", ["pair", "triple"])
@pytest.mark.parametrize("before", [True, False], ids=["theirs first", "theirs last"])
def test_another_pack_replaces_cross_attention(comfy, part, sd1, key, before):
    """As IPAdapter packs do: the attention to the prompt plus one to their own tokens, on every block."""
    from comfy.ldm.modules.attention import optimized_attention

    called = []

    def adapter(q, k, v, extra):
        called.append(extra["block"])
        own = torch.linspace(-1, 1, k.shape[-1]).expand(len(k), 4, -1)
        return optimized_attention(q, k, v, extra["n_heads"]) + 0.5 * optimized_attention(q, own, own, extra["n_heads"])

    def adapted(model):
        model = model.clone()
        blocks = [("input", n) for n in (1, 2, 4, 5, 7, 8)] + [("middle", 0)] + [("output", n) for n in range(3, 12)]
        for block, number in blocks:
            model.set_model_attn2_replace(adapter, block, number, 0 if key == "triple" else None)
        return model

    model = adapted(sd1.model) if before else sd1.model
    model, maps = record(part, model, sd1.bound)
    model = model if before else adapted(model)
    with Reference(sd1.model).watching() as reference:
        latent = sample(comfy, model, sd1.bound.conditioning, sd1.negative)
    assert len(called) == 2 * 16
    check(maps.find(latent), reference, sd1.bound)
    plain = sample(comfy, adapted(sd1.model), sd1.bound.conditioning, sd1.negative)
    assert torch.equal(latent["samples"], plain["samples"])


def test_another_pack_appends_tokens(comfy, part, sd1):
    """An attn2_patch that makes the context longer: our columns stay where they are."""

    def longer(n, context, value, extra):
        more = context[:, :4].flip(-1)
        return n, torch.cat([context, more], 1), torch.cat([value, more], 1)

    model = sd1.model.clone()
    model.set_model_attn2_patch(longer)
    recording, reference = recorded(comfy, part, sd1, model=model)
    assert next(iter(reference.calls[0].seen.values()))["to_k"].shape[1] != 77
    check(recording, reference, sd1.bound)


def test_lora(comfy, part, sd1):
    from comfy.sd import load_lora_for_models

    weights, generator = {}, torch.Generator().manual_seed(5)
    for name, weight in sd1.model.model.diffusion_model.state_dict().items():
        if ".attn2.to_q." in name or ".attn2.to_k." in name:
            name = f"diffusion_model.{name.removesuffix('.weight')}"
            weights[f"{name}.lora_up.weight"] = torch.randn(weight.shape[0], 2, generator=generator) * 0.1
            weights[f"{name}.lora_down.weight"] = torch.randn(2, weight.shape[1], generator=generator)
    model, _ = load_lora_for_models(sd1.model, None, weights, 1.0, 0.0)
    with_lora, reference = recorded(comfy, part, sd1, model=model)
    check(with_lora, reference, sd1.bound)
    without, _ = recorded(comfy, part, sd1)
    assert (with_lora.grids[0].maps - without.grids[0].maps).abs().max() > 1e-3


def test_controlnet(comfy, part, sd1, tmp_path):
    from comfy.controlnet import load_controlnet

    from tiny_controlnet import write_controlnet

    write_controlnet(tmp_path / "control.safetensors")
    with torch.inference_mode():
        control = load_controlnet(str(tmp_path / "control.safetensors"))
    hint = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(2))
    apply = comfy.nodes.ControlNetApplyAdvanced().apply_controlnet
    positive, negative = apply(sd1.bound.conditioning, sd1.negative, control, hint, 1.0, 0.0, 1.0)
    controlled, reference = recorded(comfy, part, sd1, positive=positive, negative=negative)
    check(controlled, reference, sd1.bound)
    plain, _ = recorded(comfy, part, sd1)
    assert (controlled.grids[0].maps - plain.grids[0].maps).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["HyperTile", "ToMe", "FreeU", "NAG"])
def test_stock_model_patches(comfy, part, sd1, name):
    patched = stock_nodes()[name](sd1.model)
    model = (patched.args if hasattr(patched, "args") else patched)[0]
    recording, reference = recorded(comfy, part, sd1, model=model)
    check(recording, reference, sd1.bound)


def test_layers_that_work_on_a_shrunken_grid(comfy, part, sd1):
    """PatchModelAddDownscale halves the grid of deep layers in early steps: their maps are brought to their own."""
    from comfy_extras.nodes_model_downscale import PatchModelAddDownscale

    model = PatchModelAddDownscale.execute(sd1.model, 3, 2.0, 0.0, 0.35, True, "bicubic", "bicubic").args[0]
    recording, reference = recorded(comfy, part, sd1, model=model, steps=3)
    sizes = [{seen["to_q"].shape[1] for seen in call.seen.values()} for call in reference.calls]
    assert min(sizes[0]) < min(sizes[-1])
    assert [tuple(grid.maps.shape[-2:]) for grid in recording.grids] == [(16, 16), (8, 8), (4, 4), (2, 2)]
    assert all(0 < grid.maps.min() <= grid.maps.max() < 1 for grid in recording.grids)


@pytest.mark.parametrize("name", ["PAG", "SAG"])
def test_extra_passes_of_guidance_are_not_recorded(comfy, part, sd1, name):
    """They run the model once more at the same noise level, with altered attention or on an altered latent."""
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance
    from comfy_extras.nodes_sag import SelfAttentionGuidance

    node = {"PAG": PerturbedAttentionGuidance, "SAG": SelfAttentionGuidance}[name]
    settings = {"PAG": (3.0,), "SAG": (0.5, 2.0)}[name]
    model = node.execute(sd1.model, *settings).args[0]
    recording, reference = recorded(comfy, part, sd1, model=model)
    assert [len(call.context) for call in reference.calls] == [2, 1, 2, 1]
    check(recording, reference, sd1.bound, calls=reference.calls[::2])
