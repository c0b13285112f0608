"""Nodes that join conditionings or merge models, and keep the settings of one of them."""

import logging

import pytest
import torch

from attention_reference import Reference, record, sample
from modulate import ALL
from techniques import TechniquesBench

OTHER = "an oil painting of a harbour"


@pytest.fixture(scope="module")
def bench(comfy, part, tiny):
    return TechniquesBench(comfy, part, tiny("sd1"))


def test_a_prompt_that_lost_its_binding_is_named(bench):
    """Core keeps the dict of conditioning_to."""
    (joined,) = bench.comfy.nodes.ConditioningConcat().concat(bench.encode(OTHER), bench.positive)
    with pytest.raises(ValueError, match=r"Conditioning \(Concat\).* of conditioning_to alone.*Bind Conditioning"):
        bench.run(bench.modulated(focus=ALL["focus"]), joined)
    model, maps = record(bench.part, bench.model, bench.bound)
    latent = sample(bench.comfy, model, joined, bench.negative, size=(8, 8))
    with pytest.raises(ValueError, match=r"Conditioning \(Concat\)"):
        maps.find(latent)


@pytest.mark.parametrize("first", [True, False], ids=["conditioning_to", "conditioning_from"])
def test_bound_after_it_was_joined(bench, first):
    """Maps are those of the prompt's own rows, and every technique works."""
    other = bench.encode(OTHER)
    pair = (bench.encode("a red cat and a blue dog"), other)
    (joined,) = bench.comfy.nodes.ConditioningConcat().concat(*(pair if first else reversed(pair)))
    node = bench.part("nodes.parsing.prompt").SBBindConditioning
    with torch.inference_mode():
        conditioning, binding, _ = node.execute(
            joined, bench.clip, "a red cat and a blue dog", "cat: red | dog: blue"
        ).args
    before = 0 if first else 77
    groups = [[before + row for row in group] for group in bench.bound.groups]
    assert [list(binding.group(entity)) for entity in binding.entities] == groups
    bound = type(bench.bound)(binding=binding)
    model, maps = record(bench.part, bench.model, bound, resolution="latent")
    with Reference(bench.model).watching() as reference:
        latent = sample(bench.comfy, model, conditioning, bench.negative, size=(8, 8))
    expected = reference.maps(joined[0][0], groups, (8, 8), 1)
    assert (maps.find(latent).grids[0].maps[0].double() - expected).abs().max() < 2e-5 * expected.max()
    plain = bench.run(positive=conditioning).latent
    for model in (
        bench.modulated(bound=bound, **ALL),
        bench.guide("attend and excite", binding=binding),
        bench.part("nodes.structured").SBStructuredConditioning.execute(bench.model, bench.clip, binding, 0, 1).args[0],
    ):
        assert not torch.equal(bench.run(model, conditioning).latent, plain)
    merged = bench.merge(bound=type(bench.bound)(binding=binding, conditioning=conditioning))
    optimized, losses = bench.optimize(merged.model, type(bench.bound)(binding=binding))
    assert bench.run(optimized, merged.conditioning).entries(losses)


def test_a_model_that_lost_a_technique_is_noted(bench, caplog):
    """ModelMergeSimple keeps the settings of model1; where another node is on it, a bound prompt without one shows."""
    from comfy_extras.nodes_model_merging import ModelMergeSimple

    temperature = bench.modulated(temperature=ALL["temperature"])
    focused = bench.modulated(focus=ALL["focus"])
    with torch.inference_mode():
        (merged,) = ModelMergeSimple().merge(temperature, focused, 0.5)
    with caplog.at_level(logging.INFO):
        bench.run(focused)
        assert "merged" not in caplog.text
        bench.run(merged)
    assert "no node on its model acts on" in caplog.text and "model1 alone" in caplog.text
