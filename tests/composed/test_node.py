"""Compose Noise as a node: what it shows, gives and refuses."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from attention_reference import record
from compose import CAT, DOG, assert_close
from modulate import PROMPT


def test_what_the_node_shows(sd1):
    out = sd1.compose(weights="dog: 0.5", prompt_weight=0.25, exclude="fog |  | a red dog")
    assert out.ui["text"][0].splitlines() == [
        '+1  "a red cat"',
        '+0.5  "a blue dog"',
        f'+0.25  "{PROMPT}"',
        '-1  "fog"',
        '-1  "a red dog"',
    ]


def test_conditionings_of_the_parts(bench):
    """Each is as CLIP Text Encode has it, with a pooled text of its own."""
    _, conditioning = bench.compose(prompt_weight=1.0, exclude="fog").args
    key = bench.part("parsing.binding").CONDITIONING_KEY
    for (rows, options), prompt in zip(conditioning, (CAT, DOG, PROMPT, "fog"), strict=True):
        ((expected, plain),) = bench.encode(prompt)
        assert torch.equal(rows, expected)
        assert (options["pooled_output"] is None) == (plain["pooled_output"] is None)
        assert plain["pooled_output"] is None or torch.equal(options["pooled_output"], plain["pooled_output"])
        assert options.get(key) == (bench.bound.binding.key if prompt == PROMPT else None)


def test_parentheses_that_are_meant_stay(sd1):
    bound = sd1.bind(r"a \(red\) cat", "cat: (red)")
    (part_of_it, *_) = sd1.compose(bound=bound).ui["text"][0].splitlines()
    assert part_of_it == r'+1  "a \(red\) cat"'


def test_a_binding_without_entities(sd1):
    bound = SimpleNamespace(binding=replace(sd1.bound.binding, entities=()))
    with pytest.raises(ValueError, match="nothing to compose.*set prompt_weight"):
        sd1.compose(bound=bound)
    found = sd1.composed(*sd1.compose(bound=bound, prompt_weight=1.0, exclude="fog").args)
    assert_close(found, sd1.by_hand(sd1.parts((PROMPT, 1.0), ("fog", -1.0))))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("cat", 'Found: "cat". The entities are: cat, dog'),
        ("cat: much", 'Found: "cat: much"'),
        ("cat: nan", 'Found: "cat: nan"'),
        (": 1", 'Found: ": 1"'),
        ("bird: 1", 'no entity "bird".*1 = cat, 2 = dog'),
        ("cat: 1 | 1: 2", "cat has two weights"),
        ("cat: 0 | dog: 0", "nothing to compose"),
    ],
)
def test_weights_that_are_none_are_refused(sd1, weights, message):
    with pytest.raises(ValueError, match=message):
        sd1.compose(weights=weights)


def test_a_guider_without_negative_is_refused(sd1):
    from comfy_extras.nodes_custom_sampler import BasicGuider

    with pytest.raises(ValueError, match="compares each part with the negative prompt, and this guider has none"):
        sd1.sampled(BasicGuider.execute(*sd1.compose().args).args[0])


def test_as_a_negative_prompt_it_is_refused(sd1):
    model, conditioning = sd1.compose().args
    with pytest.raises(ValueError, match="nothing to act on.*positive input.*input exclude"):
        sd1.composed(model, sd1.positive, conditioning)


def test_model_without_its_conditioning_is_refused(sd1):
    model, _ = sd1.compose().args
    _, other = sd1.compose().args
    with pytest.raises(ValueError, match="Compose Noise has nothing to act on.*Connect its CONDITIONING"):
        sd1.composed(model, sd1.positive)
    with pytest.raises(ValueError, match="but not its model, so that its parts would be averaged"):
        sd1.composed(model, other)


def test_conditioning_without_its_model_is_refused(sd1, part):
    """Where another node of the pack is on the model, that is noticed."""
    _, conditioning = sd1.compose(prompt_weight=1.0).args
    model, _ = record(part, sd1.model, sd1.bound)
    with pytest.raises(ValueError, match="not its model.*Connect the MODEL output"):
        sd1.composed(model, conditioning)


def test_default_conditionings_are_refused(sd1):
    model, conditioning = sd1.compose().args
    ((rows, options),) = sd1.encode("fog")
    with pytest.raises(ValueError, match="cannot share a sampler's input with Cond Set Default Combine"):
        sd1.composed(model, [*conditioning, [rows, {**options, "default": True}]])


def test_parts_are_not_merged(sd1):
    """The parts are not the bound prompt, so that Semantic Token Merge refuses them."""
    model, conditioning = sd1.compose().args
    with pytest.raises(ValueError, match="does not belong to the BINDING"):
        sd1.merge(model, conditioning=conditioning)


@pytest.mark.parametrize(("other", "message"), [("sdxl", "encoders l, this CLIP has l, g"), (None, "There is no CLIP")])
def test_another_text_encoder_is_refused(sd1, tiny, other, message):
    node = sd1.part("nodes.composed").SBComposeNoise
    with pytest.raises(ValueError, match=message):
        node.execute(sd1.model, other and tiny(other).clip, sd1.bound.binding, "", 0.0, "", 1.0)


def test_nothing_is_left_behind(sd1):
    """After a run with the node's model, the model itself samples as before."""
    before = sd1.composed(sd1.model, sd1.positive)
    sd1.composed(*sd1.compose().args)
    assert torch.equal(sd1.composed(sd1.model, sd1.positive), before)
