"""Techniques on a prompt that has a region of the picture by another pack's making, alone or beside others."""

import math
from types import SimpleNamespace

import pytest
import torch

from attention_reference import record, sample
from merge import unet_calls
from modulate import ALL, GROUPS
from modulation_reference import Focus, Weights
from regions import coupled, with_region_masks
from techniques import TECHNIQUES, TechniquesBench

KINDS = ["coupled", "masked"]
LEFT, RIGHT = torch.zeros(64, 64), torch.zeros(64, 64)
LEFT[:, :32], RIGHT[:, 32:] = 1, 1


@pytest.fixture(scope="module")
def bench(comfy, part, tiny):
    return TechniquesBench(comfy, part, tiny("sd1"))


@pytest.fixture(scope="module")
def park(bench):
    return bench.encode("a park")


def regional(kind: str, model, own: list, other: list):
    """The prompt ``own``, which the sampler has too, on the left, and another on the right."""
    if kind == "coupled":
        return coupled(model, LEFT + 0.2, [(other, RIGHT)])
    return with_region_masks(model, [(own, LEFT), (other, RIGHT)])


def beside(kind: str, model, own: list, other: list):
    """A prompt that the sampler does not have, on the right; its own, ``other``, on the left."""
    return regional(kind, model, other, own)


@pytest.mark.slow
@pytest.mark.parametrize("technique", [name for name in TECHNIQUES if name not in ("nothing", "recorder")])
@pytest.mark.parametrize("kind", KINDS)
def test_every_technique_acts(bench, park, technique, kind):
    """In both orders of the nodes, and in the same way."""
    plain = bench.run(regional(kind, bench.model, bench.positive, park)).latent
    model, positive = bench.with_technique(technique)
    last = bench.run(regional(kind, model, bench.positive, park), positive).latent
    assert last.isfinite().all() and not torch.equal(last, plain)
    bench.model, own = regional(kind, bench.model, bench.positive, park), bench.model
    try:
        model, positive = bench.with_technique(technique)
        if technique in ("merge", "optimization"):
            merged = bench.merge(bench.model)
            model = merged.model if technique == "merge" else bench.optimize(merged.model)[0]
            positive = merged.conditioning
    finally:
        bench.model = own
    first = bench.run(model, positive).latent
    assert (first - last).abs().max() < 1e-4 * last.abs().max()


def attentions(bench, run) -> list[dict]:
    """Queries and keys of every cross-attention in a run, a dict for each call."""
    found, handles = [], []
    unet = bench.model.model.diffusion_model

    def keep(layer, name):
        def hook(module, args, output):
            found[-1].setdefault(layer, {})[name] = output.double().clone()

        return hook

    handles.append(unet.register_forward_pre_hook(lambda *_: found.append({})))
    for name, module in unet.named_modules():
        for projection in ("to_q", "to_k"):
            if name.endswith(f"attn2.{projection}"):
                handles.append(module.register_forward_hook(keep(name.rpartition(".")[0], projection)))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["sampled too", "in a region alone"])
def test_record(bench, park, kind, where):
    """The maps are those of the bound rows: the block behind the negative prompt's, or the last."""
    model, maps = record(bench.part, bench.model, bench.bound, resolution="latent")
    if where == "sampled too":
        model, positive, block = regional(kind, model, bench.positive, park), bench.positive, 1
    else:
        model, positive, block = beside(kind, model, bench.positive, park), park, 2
    latents = []
    calls = attentions(bench, lambda: latents.append(sample(bench.comfy, model, positive, bench.negative, size=(8, 8))))
    found = []
    for call in calls:
        for layer, seen in call.items():
            if seen["to_q"].shape[1] == 64:
                assert len(seen["to_q"]) == 3
                heads = bench.model.model.diffusion_model.get_submodule(layer).heads
                q, k = (seen[name][block].unflatten(-1, (heads, -1)).transpose(0, 1) for name in ("to_q", "to_k"))
                shares = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1).mean(0)
                found.append(torch.stack([shares[:, group].mean(1) for group in GROUPS]).unflatten(1, (8, 8)))
    expected = torch.stack(found).mean(0)
    recorded = maps.find(latents[0]).grids[0].maps[0, 0].double()
    assert (recorded - expected).abs().max() < 2e-5 * expected.max()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_in_a_region(bench, park, kind):
    """Entities' words count double in the block of the bound prompt, and in no other: by a softmax of our own."""
    weights = Weights((1.0, 1.0), (2.0, 2.0))
    weighed = bench.modulated(weights=weights)
    found = bench.run(beside(kind, weighed, bench.positive, park), park).latent

    def biased(q, k, v, extra):
        heads = extra["n_heads"]
        q, k, v = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (q, k, v))
        logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        for row in [row for group in GROUPS for row in group]:
            logits[2, ..., row] += math.log(2)
        return (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)

    by_hand = beside(kind, bench.model, bench.positive, park)
    for layer in bench.part("attention.engine.layers").layers_of(bench.model):
        by_hand.set_model_attn2_replace(biased, layer.block, layer.number, layer.index)
    expected = bench.run(by_hand, park).latent
    assert (found - expected).abs().max() < 1e-3 * expected.abs().max()
    plain = bench.run(beside(kind, bench.model, bench.positive, park), park).latent
    assert (found - plain).abs().max() > 1e-2 * plain.abs().max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", ["as it was", "merged"])
def test_merged_prompt_in_a_region(bench, park, kind, given):
    """What is in the region is what the sampler would have been given, end tokens and all."""
    with unet_calls(bench.model) as calls:
        bench.run(bench.merged.model, bench.merged.conditioning)
    rows = next(rows for slot, rows in calls[0].chunks if slot == 0)
    expected = bench.run(regional(kind, bench.model, [[rows, {}]], park), [[rows, bench.positive[0][1]]]).latent
    own = bench.positive if given == "as it was" else bench.merged.conditioning
    found = bench.run(regional(kind, bench.merged.model, own, park), bench.merged.conditioning).latent
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    expected = bench.run(beside(kind, bench.model, [[rows, {}]], park), park).latent
    found = bench.run(beside(kind, bench.merged.model, bench.merged.conditioning, park), park).latent
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_two_prompts_in_two_regions(bench, kind):
    """Each has its own attributes bound: the focus of each changes the picture."""
    other = bench.bind("a green bird and a grey fish", "bird: green | fish: grey")
    focus = Focus(0.0, 1.0)
    both = bench.modulated(bench.modulated(focus=focus), other, focus=focus)
    one = bench.modulated(focus=focus)
    latents = [
        bench.run(regional(kind, model, bench.positive, other.conditioning)).latent
        for model in (bench.model, one, both)
    ]
    assert not torch.equal(latents[0], latents[1]) and not torch.equal(latents[1], latents[2])


def test_gradients_need_the_samplers_own_prompt(bench, park):
    model = bench.guide("attend and excite")
    with pytest.raises(ValueError, match="Attention Guidance has nothing to act on"):
        bench.run(beside("coupled", model, bench.positive, park), park)


def test_a_prompt_that_no_region_has_is_told(bench, park):
    """Object-Focused Attention for a prompt that neither the sampler nor a region has."""
    model = bench.modulated(**{"focus": ALL["focus"]})
    with pytest.raises(ValueError, match="Object-Focused Attention had no effect"):
        bench.run(regional("coupled", model, park, bench.encode("a wood")), park)


def test_batches_and_longer_prompts(bench, park):
    """Several latents, and prompts that are repeated to a common length."""
    long = bench.encode("a park " * 60)
    model = bench.modulated(**ALL)
    for kind in KINDS:
        found = bench.run(regional(kind, model, bench.positive, long), batch=2).latent
        plain = bench.run(regional(kind, bench.model, bench.positive, long), batch=2).latent
        assert SimpleNamespace(found=found).found.isfinite().all() and not torch.equal(found, plain)
