"""Attention modulation against a brute-force softmax of the same queries and keys, in everything a graph can do."""

import pytest
import torch

from modulate import ALL, Workbench
from modulation_reference import Focus, Temperature, Weights

SAMPLERS = ["euler", "euler_ancestral", "heun", "dpm_2", "dpmpp_2m", "dpmpp_sde", "uni_pc", "lcm"]


@pytest.fixture(scope="module")
def sd1(comfy, part, tiny):
    return Workbench(comfy, part, tiny("sd1"))


def self_attention(call, layer):
    return layer.endswith("attn1")


@pytest.mark.parametrize("layout", ["sd1", "sd2", "sdxl"])
def test_layouts(comfy, part, tiny, layout):
    found, _ = Workbench(comfy, part, tiny(layout)).checked(batch=2)
    assert found.changed == {("self", 0), ("self", 1), ("cross", 0), ("cross", 1)}
    layers = [patches.layer for patches in found.patches if patches.step == 1]
    assert len(layers) == {"sd1": 16, "sd2": 16, "sdxl": 34}[layout]


def test_demo_model(comfy, part):
    Workbench.on_demo_model(comfy, part).checked(batch=2, steps=3)


def test_batch_has_patches_of_its_own_for_each_image(sd1):
    found, _ = sd1.checked(batch=2, steps=2)
    for patches in found.patches:
        assert patches.entity.shape[0] == 2
    last = found.patches[-1].entity
    assert (last[0] != last[1]).any()


@pytest.mark.parametrize("size", [(18, 10), (11, 9)])
def test_sizes_that_are_not_square_nor_even(sd1, size):
    sd1.checked(size=size, batch=2)


def test_coarse_layers_decide_for_all(sd1):
    """At 32 x 32 those of 16 x 16; finer and coarser layers get theirs resized."""
    found, reference = sd1.checked(size=(32, 32), settings={"focus": Focus(start=0.5)}, check={"skip": self_attention})
    by_size = {patches.entity.shape[1]: patches.entity for patches in found.patches}
    assert set(by_size) == {32 * 32, 16 * 16, 8 * 8, 4 * 4}
    assert {patches.step for patches in found.patches} == {1}


def test_each_layer_for_itself(sd1):
    found, _ = sd1.checked(settings={"focus": Focus(0.0, 1.0, same_layer=True)})
    finest = [patches.entity for patches in found.patches if patches.entity.shape[1] == 256 and patches.step == 1]
    assert any((one != finest[0]).any() for one in finest)


@pytest.mark.parametrize(
    "focus",
    [
        Focus(penalty=1.0),
        Focus(min_share=0.55),
        Focus(min_share=0.55, close_background=True),
        Focus(close_end=True),
        Focus(mean=True, min_share=0.55, close_background=True, close_end=True, penalty=2.0),
    ],
    ids=["soft", "background", "closed background", "closed end", "all of it"],
)
def test_settings_of_focus(sd1, focus):
    found, _ = sd1.checked(settings={"focus": focus}, batch=2)
    background = any((patches.entity == -1).any() for patches in found.patches)
    assert background == (focus.min_share > 0)


def test_end_and_padding_weighed_as_words(sd1):
    sd1.checked(settings={"weights": Weights((2.0, 0.5), (0.25, 1.0), end_as_words=True)})


def test_weight_zero_takes_words_out(sd1):
    sd1.checked(settings={"weights": Weights((0.0, 1.0), (1.0, 0.0))})


@pytest.mark.parametrize(
    "temperature",
    [
        Temperature(0.5, 0.5, 1.0),
        Temperature(2.0, 0.0, 0.3, (4,)),
        Temperature(0.7, 0.0, 1.0, (2, 4)),
    ],
    ids=["late", "one grid", "two grids"],
)
def test_settings_of_temperature(sd1, temperature):
    found, reference = sd1.checked(settings={"temperature": temperature}, steps=3)
    steps = {step for kind, step in found.changed if kind == "self"}
    assert steps == {0.5: {1, 2}, 2.0: {0}, 0.7: {0, 1, 2}}[temperature.tau]


@pytest.mark.parametrize("apart", [False, True], ids=["one call", "two calls"])
def test_temperature_of_the_positive_alone(sd1, monkeypatch, apart):
    if apart:
        sd1.apart(monkeypatch)
    settings = {"temperature": Temperature(0.5, 0.0, 1.0, negative=False)}
    found, reference = sd1.checked(settings=settings, batch=2, check={"negative": sd1.negative[0][0]})
    assert len(reference.calls) == (4 if apart else 2)
    assert ("self", 0) in found.changed & found.plain


def test_prompt_of_two_chunks(sd1):
    bound, prompt = sd1.two_chunks(ALL["focus"], ALL["weights"])
    model = sd1.modulated(bound=bound, **ALL)
    reference = sd1.watched(model, positive=bound.conditioning)
    assert reference.calls[0].context.shape[:2] == (2, 154)
    reference.check([prompt], ALL["temperature"])


def test_prompt_repeated_to_the_length_of_the_negative(sd1):
    settings = {**ALL, "focus": Focus(close_end=True), "weights": Weights(end_as_words=True)}
    found, reference = sd1.checked(negative=sd1.encode("bad " * 80), settings=settings)
    assert reference.calls[0].context.shape[:2] == (2, 154)


def test_cond_and_uncond_in_separate_calls(sd1, monkeypatch):
    sd1.apart(monkeypatch)
    found, reference = sd1.checked()
    assert [len(call.context) for call in reference.calls] == [1] * 4


def test_cond_before_uncond(sd1):
    from comfy.samplers import calc_cond_batch

    def swapped(args):
        conds = args["conds"][::-1]
        return calc_cond_batch(args["model"], conds, args["input"], args["sigma"], args["model_options"])[::-1]

    model = sd1.model.clone()
    model.set_model_sampler_calc_cond_batch_function(swapped)
    settings = {**ALL, "temperature": Temperature(0.5, 0.0, 1.0, negative=False)}
    _, reference = sd1.checked(model=model, settings=settings, check={"negative": sd1.negative[0][0]})
    assert reference.rows(reference.calls[0], sd1.bound.embedding) == [0]


def test_guider_with_three_conditionings_and_the_negative_first(sd1):
    from comfy.samplers import calculate_sigmas, sampler_object
    from comfy_extras.nodes_custom_sampler import Guider_DualCFG

    temperature = Temperature(0.5, 0.0, 1.0, negative=False)
    guider = Guider_DualCFG(sd1.modulated(temperature=temperature, focus=ALL["focus"], weights=ALL["weights"]))
    guider.set_conds(sd1.positive, sd1.encode("a park"), sd1.negative)
    guider.set_cfg(4.0, 2.0)
    sigmas = calculate_sigmas(sd1.model.get_model_object("model_sampling"), "normal", 2)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with sd1.watcher().watching() as reference, torch.inference_mode():
        guider.sample(noise, torch.zeros(1, 4, 8, 8), sampler_object("euler"), sigmas)
    assert [len(call.context) for call in reference.calls] == [3, 3]
    prompt = sd1.prompt(ALL["focus"], ALL["weights"])
    found = reference.check([prompt], temperature, negative=sd1.negative[0][0])
    assert {("self", 0), ("self", 1)} <= found.changed & found.plain


def test_cfg_1_has_no_uncond(sd1):
    found, reference = sd1.checked(cfg=1.0)
    assert len(reference.calls[0].context) == 1
    assert found.plain == set()


@pytest.fixture(scope="module")
def regions(comfy, sd1):
    """Two bound prompts, each with a half of the picture as its region."""
    other = sd1.bind("a green bird and a big cat", "bird: green | cat: big")
    mask = torch.zeros(1, 128, 128)
    mask[..., :64] = 1
    append = comfy.nodes.ConditioningSetMask().append
    (left,) = append(sd1.bound.conditioning, mask, "default", 1.0)
    (right,) = append(other.conditioning, 1 - mask, "default", 1.0)
    return other, left + right


def test_two_regional_prompts(sd1, regions):
    other, positive = regions
    here, there = Focus(close_end=True), Focus(0.0, 0.5, penalty=3.0)
    model = sd1.modulated(sd1.modulated(focus=here), other, focus=there)
    reference = sd1.watched(model, positive=positive)
    assert len(reference.calls[0].context) == 3
    prompts = [sd1.prompt(here), sd1.prompt(there, bound=other)]
    found = reference.check(prompts)
    assert {(patches.prompt.focus, patches.step) for patches in found.patches} == {(here, 0), (here, 1), (there, 0)}


def test_only_the_bound_of_two_regional_prompts_is_touched(sd1, regions):
    other, positive = regions
    model = sd1.modulated(bound=other, focus=Focus(), weights=Weights())
    reference = sd1.watched(model, positive=positive)
    reference.check([sd1.prompt(Focus(), Weights(), other)])


def test_area(comfy, sd1):
    """The patches are those of the area; core's copy of it in the negatives is left alone."""
    (area,) = comfy.nodes.ConditioningSetArea().append(sd1.bound.conditioning, 64, 96, 32, 8, 1.0)
    found, reference = sd1.checked(positive=area + sd1.encode("a park"), check={"size": (16, 16)})
    assert {call.size for call in reference.calls} == {(16, 16), (12, 8)}
    assert max(patches.entity.shape[1] for patches in found.patches) == 12 * 8


def test_conditioning_that_begins_in_the_middle_of_the_run(comfy, sd1):
    """There is no attention of the step before: in its first step each layer looks for itself."""
    late = comfy.nodes.ConditioningSetTimestepRange().set_range(sd1.positive, 0.3, 1.0)[0]
    early = comfy.nodes.ConditioningSetTimestepRange().set_range(sd1.encode("a park"), 0.0, 0.3)[0]
    found, reference = sd1.checked(positive=early + late, steps=4, settings={**ALL, "focus": Focus(0.0, 1.0)})
    bound = [call.step for call in reference.calls if reference.rows(call, sd1.bound.embedding)]
    assert 0 < min(bound) < max(bound)
    assert {patches.step for patches in found.patches} == set(bound)


def halves(height, width, latents=1):
    """Masks of two entities: the left and the right half; the other way round for a second latent."""
    left = torch.zeros(height, width)
    left[:, : width // 2] = 1
    return torch.stack([torch.stack([left, 1 - left]), torch.stack([1 - left, left])])[:latents]


@pytest.mark.parametrize("latents", [1, 2], ids=["one mask for all", "a mask for each"])
def test_masks_decide(sd1, latents):
    settings = {**ALL, "focus": Focus(0.0, 1.0, masks=halves(128, 192, latents))}
    found, _ = sd1.checked(size=(16, 24), batch=2, settings=settings)
    one, other = found.patches[0].entity.unflatten(1, (16, 24))
    assert one[:, :12].eq(0).all() and one[:, 12:].eq(1).all()
    assert torch.equal(other, one if latents == 1 else 1 - one)


def test_masks_with_a_closed_background(sd1):
    masks = torch.zeros(1, 2, 32, 32)
    masks[0, 0, :16, :12] = 1
    masks[0, 1, 8:24, 10:28] = 1
    settings = {"focus": Focus(0.0, 1.0, min_share=0.5, close_background=True, masks=masks)}
    found, _ = sd1.checked(settings=settings)
    assert {n for patches in found.patches for n in patches.entity.unique().tolist()} == {-1, 0, 1}


def test_masks_in_an_area(comfy, sd1):
    """A mask is one of the whole picture: the area sees its part of it."""
    (area,) = comfy.nodes.ConditioningSetArea().append(sd1.bound.conditioning, 64, 64, 32, 64, 1.0)
    upper = torch.zeros(1, 2, 128, 128)
    upper[:, 0, :64] = 1
    upper[:, 1, 64:] = 1
    model = sd1.modulated(focus=Focus(0.0, 1.0, masks=upper))
    reference = sd1.watched(model, positive=area + sd1.encode("a park"))
    inside = Focus(0.0, 1.0, masks=upper[..., 64:128, 32:96])
    found = reference.check([sd1.prompt(inside)])
    assert found.patches[0].entity.unique().tolist() == [1]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers(sd1, sampler):
    found, _ = sd1.checked(size=(8, 8), sampler=sampler, steps=3)
    assert {step for kind, step in found.changed if kind == "cross"} == {0, 1, 2}
    assert {step for kind, step in found.changed if kind == "self"} == {0, 1}


def test_denoise_below_1_counts_the_steps_that_run(sd1):
    latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    found, reference = sd1.checked(latent=latent, steps=4, denoise=0.5)
    assert [call.step for call in reference.calls] == [0, 1, 2, 3]
    assert {step for kind, step in found.changed if kind == "self"} == {0, 1, 2}
