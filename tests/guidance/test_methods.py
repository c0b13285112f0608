"""The methods of guidance: their layers, steps, sizes, and what they refuse."""

import math

import pytest
import torch

from attention_reference import bind
from guiding import LOSSES
from methods import layers_of, made, run_of


def keys(layers):
    return {layer.key for layer in layers}


SIXTEEN = {("input", 7, 0), ("input", 8, 0), ("output", 3, 0), ("output", 4, 0), ("output", 5, 0)}
DECODER = {("output", number, 0) for number in range(3, 12)}
MIDDLE = {("middle", 0, 0)}
OF_TOME = {("output", 1, 1), ("output", 1, 2), ("output", 1, 3)}


@pytest.mark.parametrize(
    ("layout", "size", "loss", "expected"),
    [
        ("sd1", (64, 64), "attend and excite", SIXTEEN),
        ("sd1", (64, 96), "syngen", SIXTEEN),
        ("sd2", (96, 96), "entropy", SIXTEEN),
        ("sd1", (32, 32), "syngen", {("input", 4, 0), ("input", 5, 0), *(("output", n, 0) for n in (6, 7, 8))}),
        ("sd1", (8, 8), "entropy", {("input", 1, 0), ("input", 2, 0), *(("output", n, 0) for n in (9, 10, 11))}),
        ("sd1", (64, 64), "layout", MIDDLE | {("output", n, 0) for n in (3, 4, 5)}),
        ("sd2", (32, 32), "layout", MIDDLE | {("output", n, 0) for n in (3, 4, 5)}),
        ("sd1", (64, 64), "token and pixel", MIDDLE | {("output", n, 0) for n in range(3, 9)}),
        *(("sdxl", (128, 128), loss, OF_TOME) for loss in LOSSES if loss != "token and pixel"),
        ("sdxl", (96, 160), "token and pixel", OF_TOME),
    ],
)
def test_layers_by_default(part, tiny, bound, layout, size, loss, expected):
    layers = layers_of(part, tiny, layout)
    objective = made(part, loss).objective(boxed(bound.binding), run_of(part, layers, size))
    assert keys(objective.layers) == expected


@pytest.mark.parametrize("loss", ["attend and excite", "layout", "token and pixel"])
def test_layers_that_were_chosen(part, tiny, bound, loss):
    """All on that grid, of the encoder too, whatever the method."""
    for layout in ("sd1", "sdxl"):
        layers = layers_of(part, tiny, layout)
        for name, level in {"latent/2": 1, "latent/4": 2}.items():
            objective = made(part, loss, layers=name).objective(boxed(bound.binding), run_of(part, layers))
            assert objective.layers == tuple(layer for layer in layers if layer.level == level)


def boxed(binding):
    return binding.with_entity("dog", box=(0.0, 0.0, 0.5, 1.0))


def test_steps_and_sizes_of_attend_and_excite(part, tiny, bound):
    """Falls with a square root; refinement at three steps to thresholds of attention, and one more update each."""
    run = run_of(part, layers_of(part, tiny, "sd1"))
    method = made(part, "attend and excite", thresholds="0: 0.05, 0.2: 0.5, 0.4: 0.8")
    objective = method.objective(bound.binding, run)
    updates = [objective.update(step) for step in range(50)]
    assert [step for step, update in enumerate(updates) if update] == [*range(25)]
    assert [updates[step].size for step in (0, 10, 20, 24)] == pytest.approx(
        (20, 18.952142, 17.842851, 17.379322), abs=1e-6
    )
    refined = {step: update for step, update in enumerate(updates) if update and update.most > 1}
    assert {step: update.target for step, update in refined.items()} == pytest.approx({0: 0.95, 10: 0.5, 20: 0.2})
    assert all(update.most == 21 and update.settling for update in refined.values())
    assert {update[1:] for update in updates[:25] if update.most == 1} == {(1, -math.inf, False)}
    last = made(part, "attend and excite", end=1.0).objective(bound.binding, run).update(49)
    assert last.size == pytest.approx(14.142136, abs=1e-6)
    single = made(part, "attend and excite").objective(bound.binding, run_of(part, run.layers, steps=1))
    assert single.update(0).size == 20


@pytest.mark.parametrize(
    ("loss", "steps", "expected"),
    [
        ("syngen", range(25), (20.0, 1, -math.inf, False)),
        ("layout", range(10), (30.0, 5, 0.2, False)),
        ("token and pixel", range(25), (20.0, 1, -math.inf, False)),
    ],
)
def test_steps_of_constant_size(part, tiny, bound, loss, steps, expected):
    objective = made(part, loss).objective(boxed(bound.binding), run_of(part, layers_of(part, tiny, "sd1")))
    updates = [objective.update(step) for step in range(50)]
    assert updates == [expected if step in steps else None for step in range(50)]


def test_entropy_falls_to_nothing(part, tiny, bound):
    run = run_of(part, layers_of(part, tiny, "sd1"))
    objective = made(part, "entropy", end=1.0).objective(bound.binding, run)
    sizes = [objective.update(step).size for step in range(50)]
    assert sizes == pytest.approx([1.5 * (1 - step / 49) for step in range(50)])


@pytest.mark.parametrize("loss", LOSSES)
def test_range_of_steps(part, tiny, bound, loss):
    run = run_of(part, layers_of(part, tiny, "sd1"), steps=10)
    objective = made(part, loss, start=0.2, end=0.45).objective(boxed(bound.binding), run)
    assert [step for step in range(10) if objective.update(step)] == [2, 3, 4]


def test_lengths_of_steps_in_latents_of_comfyui(part, tiny, bound):
    """Published latents keep their variance, but for layout guidance."""
    run, sigma = run_of(part, layers_of(part, tiny, "sd1")), torch.tensor([13.1204, 1.6237]).double()
    for loss in ("attend and excite", "syngen", "token and pixel", "entropy"):
        scale = made(part, loss).objective(boxed(bound.binding), run).scale(sigma)
        assert scale.tolist() == pytest.approx((173.145, 3.636), abs=1e-3)
    layout = made(part, "layout").objective(boxed(bound.binding), run)
    assert layout.scale(sigma).tolist() == pytest.approx((172.145, 2.636), abs=1e-3)


def test_syngen_needs_attributes(part, tiny):
    """Entities without any are words among the others."""
    three = bind(part, tiny("sd1").clip, "a red cat, a dog and a bird", "cat: red | dog | bird")
    method = made(part, "syngen")
    assert [entity.name for entity in method.entities(three.binding)] == ["cat"]
    objective = method.objective(three.binding, run_of(part, layers_of(part, tiny, "sd1")))
    assert len(objective.related) == 1
    assert [objective.rows[place] for place in objective.related[0].noun] == [3]


def test_sub_objects_are_modifiers(part, tiny):
    held = bind(part, tiny("sd1").clip, "a black cat wearing a hat", "cat: black, wearing a hat")
    objective = made(part, "syngen").objective(held.binding, run_of(part, layers_of(part, tiny, "sd1")))
    (related,) = objective.related
    words = [[objective.rows[place] for place in places] for places in related.modifiers]
    assert words == [[2], [4, 5, 6]]
