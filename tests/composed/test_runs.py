"""Composed noise: the formula, and runs held against separate model calls that are added up by hand."""

import pytest
import torch

from attention_reference import in_threads, record, sample
from compose import CAT, DOG, ComposeBench, assert_close, assert_other
from merge import unet_calls
from modulate import PROMPT
from modulation_reference import Focus

BOTH = [(CAT, 1.0), (DOG, 1.0)]
SLOW = pytest.mark.slow
SMALL = {"batch": 2, "size": (8, 8)}


@pytest.fixture(scope="module")
def plain(bench):
    """Small latents without the node."""
    return bench.composed(bench.model, bench.positive, **SMALL)


def test_formula(part):
    """As published, with guidance scales for weights; and with shares of the sampler's scale."""
    composed, one = part("attention.engine.composing").composed, torch.ones(1, 1, 1, 1)
    predictions = [2 * one, 0.5 * one]
    assert composed(one, predictions, [7.5, 7.5]).item() == 4.75
    shares = composed(one, predictions, [1.0, 1.0])
    assert (one + 7.5 * (shares - one)).item() == 4.75
    assert composed(one, predictions, [1.0, -1.0]).item() == 2.5, "NOT"


@pytest.mark.parametrize(
    ("inputs", "prompts"),
    [
        ({}, BOTH),
        ({"weights": "cat: 0.5 | 2: 1.5"}, [(CAT, 0.5), (DOG, 1.5)]),
        ({"weights": "dog: 0"}, [(CAT, 1.0)]),
        ({"weights": "dog: -0.5"}, [(CAT, 1.0), (DOG, -0.5)]),
        ({"prompt_weight": 0.7}, [*BOTH, (PROMPT, 0.7)]),
        ({"exclude": "a (red) dog | fog"}, [*BOTH, ("a (red) dog", -1.0), ("fog", -1.0)]),
        ({"exclude": "fog", "exclude_weight": 2.0, "weights": "dog: 0"}, [(CAT, 1.0), ("fog", -2.0)]),
    ],
    ids=["plain", "weights", "one left out", "negated", "prompt", "excluded", "weights that sum to less than 0"],
)
def test_parts_are_added_up(bench, plain, inputs, prompts):
    out = bench.compose(**inputs)
    found = bench.composed(*out.args, **SMALL)
    assert_close(found, bench.by_hand(bench.parts(*prompts), **SMALL))
    assert_other(found, plain)


def test_it_is_no_average(sd1):
    """As Conditioning (Combine) would have it, which is what a sampler without the node's model does."""
    _, conditioning = sd1.compose().args
    averaged = sd1.composed(sd1.model, conditioning)
    assert_close(averaged, sd1.by_hand(sd1.parts((CAT, 0.5), (DOG, 0.5))))
    assert_other(averaged, sd1.composed(*sd1.compose().args))


def test_ksampler(comfy, sd1):
    model, conditioning = sd1.compose().args
    found = sample(comfy, model, conditioning, sd1.negative)["samples"]
    assert torch.equal(found, sd1.composed(model, conditioning))


def test_cfg_1_takes_the_negative_prompt(bench):
    """ComfyUI leaves it away then."""
    assert_close(bench.composed(*bench.compose().args, cfg=1.0), bench.by_hand(bench.parts(*BOTH), cfg=1.0))


@pytest.mark.parametrize("sampler", ["euler_ancestral", "heun", "dpmpp_2m", "dpmpp_sde", "uni_pc", "lms"])
def test_samplers(sd1, sampler):
    run = {"sampler": sampler, "steps": 3, "size": (8, 8)}
    assert_close(sd1.composed(*sd1.compose().args, **run), sd1.by_hand(sd1.parts(*BOTH), **run))


def test_all_parts_are_one_model_call(sd1):
    """Others are told of positive and negative rows, as always."""
    told = []

    def keep(n, context, value, extra):
        told.append(tuple(extra["cond_or_uncond"]))
        return n, context, value

    model, conditioning = sd1.compose(prompt_weight=1.0, exclude="fog").args
    model.set_model_attn2_patch(keep)
    with unet_calls(model) as calls:
        sd1.composed(model, conditioning)
        assert [len(call.x) for call in calls] == [5, 5]
        sd1.composed(model, conditioning, cfg=1.0)
        assert [len(call.x) for call in calls] == [5] * 4
    assert {tuple(sorted(slots)) for slots in told} == {(0, 0, 0, 0, 1)}


def test_each_part_in_a_call_of_its_own(comfy, part, tiny, monkeypatch):
    bench = ComposeBench(comfy, part, tiny("sd1"))
    bench.apart(monkeypatch)
    model, conditioning = bench.compose().args
    with unet_calls(model) as calls:
        found = bench.composed(model, conditioning)
    assert [len(call.x) for call in calls] == [1] * 6
    assert_close(found, bench.by_hand(bench.parts(*BOTH)))


def test_model_calls_in_threads(sd1):
    model, conditioning = sd1.compose().args
    assert_close(sd1.composed(in_threads(model), conditioning), sd1.by_hand(sd1.parts(*BOTH)))


def test_prompts_of_different_lengths(sd1):
    long = "fog, " * 60
    found = sd1.composed(*sd1.compose(exclude=long).args)
    assert_close(found, sd1.by_hand(sd1.parts(*BOTH, (long, -1.0))))


def test_controlnet(sd1, tmp_path):
    control, apply = sd1.controlnet(tmp_path, "sd1")
    model, conditioning = sd1.compose().args
    positive, negative = apply(conditioning, sd1.negative)
    found = sd1.composed(model, positive, negative)
    by_hand = sd1.parts(*BOTH, around=lambda cond: apply(cond, sd1.negative)[0])
    assert_close(found, sd1.by_hand(by_hand, negative=apply(sd1.positive, sd1.negative)[1]))
    assert_other(found, sd1.composed(model, conditioning))


def test_inpainting(sd1):
    mask, latent = torch.zeros(1, 16, 16), torch.full((1, 4, 16, 16), 0.5)
    mask[..., :8] = 1
    run = {"mask": mask, "latent": latent, "denoise": 0.5}
    found = sd1.composed(*sd1.compose().args, **run)
    assert_close(found, sd1.by_hand(sd1.parts(*BOTH), **run))
    torch.testing.assert_close(found[..., 8:], latent[..., 8:])


def test_lora(sd1):
    model = sd1.with_lora(".attn2.to_k", ".attn2.to_v")
    found = sd1.composed(*sd1.compose(model).args)
    assert_close(found, sd1.by_hand(sd1.parts(*BOTH), model=model))


def left_half(comfy, cond, strength=1.0):
    return comfy.nodes.ConditioningSetArea().append(cond, 64, 128, 0, 0, strength)[0]


def test_area(comfy, sd1):
    """The composition on the left, where it counts twice and fades towards the seam, and another prompt everywhere."""
    model, conditioning = sd1.compose().args
    other = sd1.encode("a green bird")
    found = sd1.composed(model, left_half(comfy, conditioning, 2.0) + other)
    share = torch.zeros(1, 1, 16, 16, dtype=torch.double)
    share[..., :8] = 2
    share[..., 7] = 1
    parts = sd1.parts(*BOTH, around=lambda cond: left_half(comfy, cond, 2.0))
    assert_close(found, sd1.by_hand(parts, sd1.parts(("a green bird", 1.0)), shares=[share, 1.0]))


def test_area_alone(comfy, sd1):
    """What lies outside has no prediction, as with any conditioning."""
    model, conditioning = sd1.compose().args
    found = sd1.composed(model, left_half(comfy, conditioning), steps=1)
    inside = sd1.by_hand(sd1.parts(*BOTH, around=lambda cond: left_half(comfy, cond)), steps=1)
    assert_close(found[..., :8], inside[..., :8])
    plain = sd1.composed(sd1.model, left_half(comfy, sd1.encode(CAT)), steps=1)
    assert_close(found[..., 8:], plain[..., 8:])


def test_masks_and_strengths(comfy, sd1):
    """Two compositions, softly masked."""
    masks = [torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]

    def masked(number, strength):
        set_mask = comfy.nodes.ConditioningSetMask().append
        return lambda cond: set_mask(cond, masks[number], "default", strength)[0]

    other = sd1.bind("a green bird and a wet mouse", "bird: green | mouse: wet")
    model, one = sd1.compose().args
    model, two = sd1.compose(model, other).args
    found = sd1.composed(model, masked(0, 1.0)(one) + masked(1, 3.0)(two))
    shares = [masks[0].double(), 3 * masks[1].double()]
    parts = [
        sd1.parts(*BOTH, around=masked(0, 1.0)),
        sd1.parts(("a green bird", 1.0), ("a wet mouse", 1.0), around=masked(1, 3.0)),
    ]
    assert_close(found, sd1.by_hand(*parts, shares=shares))


def test_timestep_ranges(comfy, sd1):
    """The composition in the first part of the run, another prompt in the rest."""
    set_range = comfy.nodes.ConditioningSetTimestepRange().set_range
    model, conditioning = sd1.compose().args
    other = sd1.encode("a green bird")
    found = sd1.composed(
        model, set_range(conditioning, 0.0, 0.4)[0] + set_range(other, 0.4, 1.0)[0], steps=4, sampler="heun"
    )
    switch = sd1.model.get_model_object("model_sampling").percent_to_sigma(0.4)
    shares = [lambda sigma: float(sigma > switch), lambda sigma: float(sigma <= switch)]
    parts = [sd1.parts(*BOTH), sd1.parts(("a green bird", 1.0))]
    assert_close(found, sd1.by_hand(*parts, shares=shares, steps=4, sampler="heun"))


def test_compositions_are_averaged_with_others(sd1):
    """As Conditioning (Combine) does with any."""
    model, conditioning = sd1.compose().args
    found = sd1.composed(model, conditioning + sd1.encode("a green bird") + sd1.encode("fog"))
    parts = [sd1.parts(*BOTH), sd1.parts(("a green bird", 1.0)), sd1.parts(("fog", 1.0))]
    assert_close(found, sd1.by_hand(*parts, shares=[1.0, 1.0, 1.0]))


def test_negative_prompt_with_an_area(comfy, sd1):
    """ComfyUI gives the positive input a copy of its first conditioning for that area; it is no part."""
    negative = left_half(comfy, sd1.encode("fog")) + sd1.negative
    model, conditioning = sd1.compose().args
    with unet_calls(model) as calls:
        found = sd1.composed(model, conditioning, negative, steps=1)
    assert sum(len(call.x) for call in calls) == 4, "two parts and two negative prompts"
    assert_close(found, sd1.by_hand(sd1.parts(*BOTH), negative=negative, steps=1))


def test_perturbed_attention_guidance(sd1):
    """Its extra evaluation is composed as well."""
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    model, conditioning = sd1.compose(PerturbedAttentionGuidance.execute(sd1.model, 3.0).args[0]).args
    found = sd1.composed(model, conditioning, steps=1)
    perturbed = sd1.model.clone()
    perturbed.set_model_attn1_replace(lambda q, k, v, extra: v, "middle", 0)
    plain, other = (sd1.by_hand(sd1.parts(*BOTH), model=each, cfg=1.0, steps=1) for each in (sd1.model, perturbed))
    guided = sd1.by_hand(sd1.parts(*BOTH), steps=1)
    assert_close(found, guided + 3.0 * (plain - other))


@pytest.mark.parametrize("style", ["regular", "nested"])
def test_guider_of_two_conditionings(sd1, style):
    from comfy_extras.nodes_custom_sampler import DualCFGGuider

    model, conditioning = sd1.compose().args
    fog = sd1.encode("fog")
    guider = DualCFGGuider.execute(model, conditioning, fog, sd1.negative, 4.0, 2.0, style).args[0]
    found = sd1.sampled(guider, steps=1)
    composed, middle, base = (
        sd1.by_hand(parts, cfg=1.0, steps=1)
        for parts in (sd1.parts(*BOTH), sd1.parts(("fog", 1.0)), sd1.parts(("bad", 1.0)))
    )
    if style == "regular":
        expected = base + 2.0 * (middle - base) + 4.0 * (composed - middle)
    else:
        expected = base + 2.0 * (middle + 4.0 * (composed - middle) - base)
    assert_close(found, expected)


def test_area_under_a_guider_of_two_conditionings(comfy, sd1):
    """ComfyUI gives the second one a copy of the first part for that area, with another text; it is no part."""
    from comfy_extras.nodes_custom_sampler import DualCFGGuider

    model, conditioning = sd1.compose().args
    fog, bad = sd1.encode("fog"), sd1.negative
    guider = DualCFGGuider.execute(model, left_half(comfy, conditioning), fog, bad, 4.0, 2.0, "regular").args[0]
    found = sd1.sampled(guider, steps=1)
    composed, middle, base = (
        sd1.by_hand(parts, cfg=1.0, steps=1)
        for parts in (
            sd1.parts(*BOTH, around=lambda cond: left_half(comfy, cond)),
            [(fog + left_half(comfy, fog), 1.0)],
            [(bad + left_half(comfy, bad), 1.0)],
        )
    )
    expected = base + 2.0 * (middle - base) + 4.0 * (composed - middle)
    assert_close(found[..., :8], expected[..., :8])


def test_perpendicular_negative_guider(sd1):
    from comfy_extras.nodes_perpneg import PerpNegGuider, perp_neg

    model, conditioning = sd1.compose().args
    fog = sd1.encode("fog")
    guider = PerpNegGuider.execute(model, conditioning, sd1.negative, fog, 4.0, 0.5).args[0]
    found = sd1.sampled(guider, steps=1)
    predictions = [sd1.by_hand(sd1.parts(*of), cfg=1.0, steps=1) for of in (BOTH, [("bad", 1.0)], [("fog", 1.0)])]
    assert_close(found, perp_neg(None, *predictions, 0.5, 4.0))


def test_the_whole_prompt_is_bound(sd1, part):
    """Other techniques act on it and on no other part."""
    model, conditioning = sd1.compose(sd1.modulated(focus=Focus(end=1.0)), prompt_weight=1.0).args
    model, maps = record(part, model, sd1.bound, resolution="latent/2")
    reference = sd1.watcher()
    with reference.watching():
        reference.latent = sd1.composed(model, conditioning)
    found = reference.check([sd1.prompt(Focus(end=1.0))])
    assert {("cross", 0), ("cross", 1)} <= found.changed
    assert [len(reference.rows(call, sd1.bound.embedding)) for call in reference.calls] == [1, 1]
    recorded = maps.find({"samples": reference.latent})
    assert recorded.labels == ("cat", "dog")
    plain, conditioning = sd1.compose(prompt_weight=1.0).args
    assert_other(reference.latent, sd1.composed(plain, conditioning))


def test_passes_with_gradients(sd1):
    """Token optimisation moves the rows of the whole prompt, and what the network is given for all parts."""
    told = []

    def keep(n, context, value, extra):
        told.append((len(extra["cond_or_uncond"]), *extra["cond_or_uncond"]))
        return n, context, value

    model, losses = sd1.optimize()
    model, conditioning = sd1.compose(model, prompt_weight=1.0).args
    model.set_model_attn2_patch(keep)
    ran = sd1.run(model, conditioning)
    assert (1, 0) in told and {max(slots) for _, *slots in told} == {0, 1}
    assert ran.entries(losses) and ran.latent.isfinite().all()
    for call in ran.own:
        rows = [rows for _, rows in call.chunks]
        assert not any(torch.equal(each, sd1.bound.embedding) for each in rows)
        for prompt in (CAT, DOG, "bad"):
            assert sum(torch.equal(each, sd1.encode(prompt)[0][0]) for each in rows) == 1
        assert all(torch.equal(each, call.x[0]) for each in call.x)


def test_a_recorder_without_the_whole_prompt_tells(sd1, part):
    model, maps = record(part, sd1.model, sd1.bound)
    model, conditioning = sd1.compose(model).args
    latent = sd1.composed(model, conditioning)
    with pytest.raises(ValueError, match="the sampler was not given the conditioning of"):
        maps.find({"samples": latent})
