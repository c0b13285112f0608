"""Attention modulation in the layouts of SD2 and SDXL and on the demo model, in what a graph can do to them."""

import pytest
import torch

from modulate import ALL, Workbench
from modulation_reference import Focus, Weights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["sd2", "sdxl", "demo"])
def bench(request, comfy, part, tiny):
    if request.param != "demo":
        return Workbench(comfy, part, tiny(request.param))
    return Workbench.on_demo_model(comfy, part)


def test_batch_that_is_not_square(bench):
    bench.checked(size=(16, 20), batch=2)


def test_prompt_of_two_chunks(bench):
    bound, prompt = bench.two_chunks(ALL["focus"], ALL["weights"])
    reference = bench.watched(bench.modulated(bound=bound, **ALL), positive=bound.conditioning)
    assert reference.calls[0].context.shape[1] == 154
    reference.check([prompt], ALL["temperature"])


def test_prompt_repeated_to_the_length_of_the_negative(bench):
    settings = {**ALL, "focus": Focus(close_end=True), "weights": Weights(end_as_words=True)}
    _, reference = bench.checked(negative=bench.encode("bad " * 80), settings=settings)
    assert reference.calls[0].context.shape[:2] == (2, 154)


def test_cond_and_uncond_in_separate_calls(bench, monkeypatch):
    bench.apart(monkeypatch)
    _, reference = bench.checked()
    assert [len(call.context) for call in reference.calls] == [1] * 4


def test_cfg_1_has_no_uncond(bench):
    _, reference = bench.checked(cfg=1.0)
    assert len(reference.calls[0].context) == 1


def test_only_the_bound_of_two_regional_prompts_is_touched(comfy, bench):
    mask = torch.zeros(1, 128, 128)
    mask[..., :64] = 1
    append = comfy.nodes.ConditioningSetMask().append
    (left,) = append(bench.positive, mask, "default", 1.0)
    (right,) = append(bench.encode("a green bird and a big cat"), 1 - mask, "default", 1.0)
    reference = bench.watched(bench.modulated(focus=Focus(), weights=Weights()), positive=left + right)
    assert len(reference.calls[0].context) == 3
    reference.check([bench.prompt(Focus(), Weights())])


@pytest.mark.parametrize("name", ["FreeU", "NAG"])
def test_stock_model_patches(bench, name):
    from comfy_extras.nodes_freelunch import FreeU_V2
    from comfy_extras.nodes_nag import NAGuidance

    node, settings = {"FreeU": (FreeU_V2, (1.1, 1.2, 0.9, 0.2)), "NAG": (NAGuidance, (3.0, 0.5, 2.0))}[name]
    bench.checked(model=node.execute(bench.model, *settings).args[0])


def test_lora(bench):
    _, with_lora = bench.checked(model=bench.with_lora(".attn2.to_q", ".attn2.to_k"))
    assert not torch.equal(with_lora.latent, bench.watched(bench.modulated(**ALL)).latent)


def test_perturbed_attention_guidance(bench):
    assert bench.checked_with_perturbed_attention().changed


@pytest.mark.parametrize("layout", ["sd2", "sdxl"])
def test_controlnet(comfy, part, tiny, tmp_path, layout):
    bench = Workbench(comfy, part, tiny(layout))
    positive, negative = bench.controlnet(tmp_path, layout)[1](bench.positive, bench.negative)
    _, controlled = bench.checked(positive=positive, negative=negative)
    assert not torch.equal(controlled.latent, bench.watched(bench.modulated(**ALL)).latent)


def test_another_pack_replaces_cross_attention(bench):
    """As IPAdapter packs do, on every block: what it adds stays, and what is modulated is the attention to the
    prompt."""
    from comfy.ldm.modules.attention import optimized_attention

    def adapter(q, k, v, extra):
        own = torch.linspace(-1, 1, k.shape[-1]).expand(len(k), 4, -1)
        return optimized_attention(q, k, v, extra["n_heads"]) + 0.5 * optimized_attention(q, own, own, extra["n_heads"])

    layers = bench.part("attention.engine.layers").layers_of(bench.model)
    model = bench.model.clone()
    for layer in layers:
        model.set_model_attn2_replace(adapter, layer.block, layer.number, layer.index)
    plain, adapted = (bench.latent(each, steps=1) for each in (bench.model, model))
    both = bench.latent(bench.modulated(model, focus=Focus(0.0, 1.0, same_layer=True)), steps=1)
    assert not torch.equal(both, adapted)
    assert not torch.equal(adapted, plain)
    nothing = bench.latent(bench.modulated(model, focus=Focus(0.0, 1.0, penalty=0.0)), steps=1)
    assert torch.equal(nothing, adapted)
