"""Recorded maps against a brute-force softmax of the same queries and keys, in everything a graph can do to them."""

from types import SimpleNamespace

import pytest
import torch

from attention_reference import Reference, bind, encode, record, sample
from recorded import ENTITIES, TOLERANCE, check, prepared, recorded, stock_nodes

SAMPLERS = ["euler", "euler_ancestral", "heun", "dpm_2", "dpmpp_2m", "dpmpp_sde", "dpmpp_2m_sde", "uni_pc", "lcm"]


@pytest.mark.parametrize("layout", ["sd1", "sd2", "sdxl"])
def test_layouts(comfy, part, tiny, layout):
    loaded = prepared(tiny, part, layout)
    recording, reference = recorded(comfy, part, loaded)
    levels = [grid.level for grid in recording.grids]
    assert levels == ([1, 2] if layout == "sdxl" else [0, 1, 2, 3])
    layers = sum(len(grid.layers) for grid in recording.grids)
    assert layers == {"sd1": 16, "sd2": 16, "sdxl": 34}[layout]
    assert recording.labels == ("cat", "dog")
    assert recording.steps == ((0, 1),)
    check(recording, reference, loaded.bound)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers(comfy, part, sd1, sampler):
    run = {"size": (8, 8), "sampler": sampler, "steps": 3}
    recording, reference = recorded(comfy, part, sd1, settings={"resolution": "latent"}, **run)
    assert recording.steps == ((0, 1, 2),)
    check(recording, reference, sd1.bound)


def test_batch_and_odd_sizes(comfy, part, sd1):
    recording, reference = recorded(comfy, part, sd1, size=(18, 26), batch=2)
    assert [tuple(grid.maps.shape[-2:]) for grid in recording.grids] == [(18, 26), (9, 13), (5, 7), (3, 4)]
    check(recording, reference, sd1.bound, batch=2)
    first, second = recording.grids[0].maps[0]
    assert (first - second).abs().max() > 1e-3


def test_prompt_of_two_chunks(comfy, part, sd1):
    prompt = "a red cat " + "in a park " * 30 + "and a blue dog"
    long = SimpleNamespace(**vars(sd1))
    long.bound = bind(part, sd1.clip, prompt, ENTITIES)
    assert long.bound.embedding.shape[1] == 154
    assert long.bound.groups[1][0] > 77
    recording, reference = recorded(comfy, part, long)
    assert reference.calls[0].context.shape[:2] == (2, 154)
    check(recording, reference, long.bound)


def test_prompt_repeated_to_the_length_of_the_negative(comfy, part, sd1):
    recording, reference = recorded(comfy, part, sd1, negative=encode(sd1.clip, "bad " * 80))
    assert reference.calls[0].context.shape[:2] == (2, 154)
    check(recording, reference, sd1.bound)


def test_cond_and_uncond_in_separate_calls(comfy, part, sd1, monkeypatch):
    monkeypatch.setattr(sd1.model.model, "memory_required", lambda shape, **_: 1e30 if shape[0] > 1 else 0)
    recording, reference = recorded(comfy, part, sd1)
    assert [len(call.context) for call in reference.calls] == [1] * 4
    check(recording, reference, sd1.bound)


def test_cond_before_uncond(comfy, part, sd1):
    """Another node computes the conditionings in the other order, so that the cond chunk is first and in slot 1."""
    from comfy.samplers import calc_cond_batch

    def swapped(args):
        conds = args["conds"][::-1]
        return calc_cond_batch(args["model"], conds, args["input"], args["sigma"], args["model_options"])[::-1]

    model = sd1.model.clone()
    model.set_model_sampler_calc_cond_batch_function(swapped)
    recording, reference = recorded(comfy, part, sd1, model=model)
    assert reference.rows(reference.calls[0], sd1.bound.embedding) == [0]
    check(recording, reference, sd1.bound)


def test_cfg_1_has_no_uncond(comfy, part, sd1):
    recording, reference = recorded(comfy, part, sd1, cfg=1.0)
    assert len(reference.calls[0].context) == 1
    check(recording, reference, sd1.bound)


def test_two_regional_prompts(comfy, part, sd1):
    """Two bound prompts with masks, each recorded by its own recorder on one model."""
    other = SimpleNamespace(**vars(sd1))
    other.bound = bind(part, sd1.clip, "a green bird and a cat", "bird: green | cat")
    mask = torch.zeros(1, 128, 128)
    mask[..., :64] = 1
    append = comfy.nodes.ConditioningSetMask().append
    (left,) = append(sd1.bound.conditioning, mask, "default", 1.0)
    (right,) = append(other.bound.conditioning, 1 - mask, "default", 1.0)
    model, maps = record(part, sd1.model, sd1.bound)
    model, other_maps = record(part, model, other.bound)
    with Reference(sd1.model).watching() as reference:
        latent = sample(comfy, model, left + right, sd1.negative)
    assert len(reference.calls[0].context) == 3
    check(maps.find(latent), reference, sd1.bound)
    check(other_maps.find(latent), reference, other.bound)


def test_area_is_put_where_it_belongs(comfy, part, sd1):
    """With an area, core copies the conditioning, key and uuid, into the negatives: the copy must not count."""
    (area,) = comfy.nodes.ConditioningSetArea().append(sd1.bound.conditioning, 64, 96, 32, 8, 1.0)
    positive = area + encode(sd1.clip, "a park")
    recording, reference = recorded(comfy, part, sd1, positive=positive, settings={"resolution": "latent"})
    assert any(call.size == (12, 8) for call in reference.calls)
    (grid,) = recording.grids
    expected = reference.maps(sd1.bound.embedding, sd1.bound.groups, (12, 8), 1)
    assert (grid.maps[0, :, :, 1:13, 4:12].double() - expected).abs().max() < TOLERANCE * expected.max()
    rest = grid.maps.clone()
    rest[..., 1:13, 4:12] = 0
    assert rest.abs().max() == 0


def test_denoise_below_1_counts_the_steps_that_run(comfy, part, sd1):
    latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    settings = {"resolution": "latent", "keep": 1}
    recording, reference = recorded(comfy, part, sd1, settings=settings, latent=latent, steps=4, denoise=0.5)
    assert recording.steps == ((0,), (1,), (2,), (3,))
    assert len(recording.sigmas) == 5
    assert recording.sigmas[0] < 5
    for step, call in enumerate(reference.calls):
        expected = reference.maps(sd1.bound.embedding, sd1.bound.groups, (8, 8), 1, [call])
        assert (recording.grids[0].maps[step].double() - expected).abs().max() < TOLERANCE * expected.max()


def test_every_third_step_of_a_range(comfy, part, sd1):
    settings = {"resolution": "latent", "keep": 3, "start": 0.2, "end": 0.9}
    recording, reference = recorded(comfy, part, sd1, settings=settings, size=(8, 8), steps=10)
    assert recording.steps == ((2,), (5,), (8,))
    for place, step in enumerate((2, 5, 8)):
        expected = reference.maps(sd1.bound.embedding, sd1.bound.groups, (8, 8), 1, [reference.calls[step]])
        assert (recording.grids[0].maps[place].double() - expected).abs().max() < TOLERANCE * expected.max()


def test_mean_over_a_range(comfy, part, sd1):
    settings = {"resolution": "latent", "start": 0.5, "end": 1.0}
    recording, reference = recorded(comfy, part, sd1, settings=settings, size=(8, 8), steps=4)
    assert recording.steps == ((2, 3),)
    check(recording, reference, sd1.bound, calls=reference.calls[2:])


def test_words_and_rows_that_are_no_words(comfy, part, sd1):
    settings = {"record": "words", "words": "RED, a, blue dog, <start>, <end>, <padding>", "resolution": "latent"}
    recording, reference = recorded(comfy, part, sd1, settings=settings, size=(8, 8))
    assert recording.labels == ("RED", "a", "blue dog", "<start>", "<end>", "<padding>")
    assert recording.entities == ("cat", "", "dog", "", "", "")
    groups = [[2], [1, 5], [6, 7], [0], [8], range(9, 77)]
    expected = reference.maps(sd1.bound.embedding, groups, (8, 8), 1)
    expected[:, 5] *= 68
    assert (recording.grids[0].maps[0].double() - expected).abs().max() < TOLERANCE
    everything = reference.maps(sd1.bound.embedding, [range(77)], (8, 8), 1) * 77
    assert torch.allclose(everything, torch.ones(1, 1, 8, 8, dtype=torch.double))


def test_entities_and_attributes(comfy, part, sd1):
    settings = {"record": "entities and attributes", "resolution": "latent"}
    recording, reference = recorded(comfy, part, sd1, settings=settings, size=(8, 8))
    assert recording.labels == ("cat", "cat: red", "dog", "dog: blue")
    assert recording.entities == ("cat", "cat", "dog", "dog")
    expected = reference.maps(sd1.bound.embedding, [[3], [2], [7], [6]], (8, 8), 1)
    assert (recording.grids[0].maps[0].double() - expected).abs().max() < TOLERANCE * expected.max()


def test_self_attention_of_a_point(comfy, part, sd1):
    settings = {"resolution": "latent/2", "point": (0.9, 0.3)}
    recording, reference = recorded(comfy, part, sd1, settings=settings, size=(16, 24), batch=2)
    assert recording.labels == ("cat", "dog", "point (0.9, 0.3)")
    expected = reference.self_map(sd1.bound.embedding, (8, 12), row=2, column=10)
    found = recording.grids[0].maps[0, :, 2]
    assert (found.double() - expected).abs().max() < TOLERANCE * expected.max()
    assert torch.allclose(found.sum((-2, -1)), torch.ones(2))


@pytest.mark.parametrize("keep", [None, 1])
def test_affinity_of_all_patches(comfy, part, sd1, keep):
    settings = {"affinity": True, "keep": keep, "start": 0.5}
    recording, reference = recorded(comfy, part, sd1, settings=settings, size=(8, 12), batch=2, steps=4)
    for grid in recording.grids[:2]:
        cells = tuple(grid.maps.shape[-2:])
        expected = reference.affinity(sd1.bound.embedding, cells, reference.calls[2:])
        assert grid.affinity.shape == expected.shape
        assert (grid.affinity.double() - expected).abs().max() < TOLERANCE * expected.max()
    assert recording.labels == ("cat", "dog")


def test_no_affinity_unless_asked_for(comfy, part, sd1):
    recording, _ = recorded(comfy, part, sd1, size=(8, 8))
    assert all(grid.affinity is None for grid in recording.grids)


def test_affinity_of_a_part_of_the_picture_is_refused(comfy, part, sd1):
    area = [[each, {**options, "area": (8, 8, 0, 0), "strength": 1.0}] for each, options in sd1.bound.conditioning]
    with pytest.raises(ValueError, match="Affinity is recorded of whole pictures only.*Switch affinity off"):
        recorded(comfy, part, sd1, positive=area, settings={"affinity": True}, size=(16, 16))


@pytest.mark.parametrize("asked", [{"point": (0.5, 0.5)}, {"affinity": True}])
def test_self_attention_under_hypertile_is_refused(comfy, part, sd1, asked):
    model = stock_nodes()["HyperTile"](sd1.model)[0]
    model, _ = record(part, model, sd1.bound, resolution="latent", **asked)
    with pytest.raises(ValueError, match="tiled or merged the self-attention"):
        sample(comfy, model, sd1.bound.conditioning, sd1.negative)


def test_half_precision_is_recorded_in_single(part):
    probabilities = part("attention.engine.probabilities")
    generator = torch.Generator().manual_seed(1)
    q, k = (torch.randn(2, n, 64, generator=generator).half() * 4 for n in (300, 77))
    groups = torch.eye(77)[:, 3:5]
    found = probabilities.mean_probabilities(q, k, 4, groups)
    expected = Reference._softmax(q.double(), k.double(), 4)[:, :, 3:5]
    assert found.dtype == torch.float32
    assert (found.double() - expected).abs().max() < 1e-5


def test_slices_do_not_change_the_result(part, monkeypatch):
    probabilities = part("attention.engine.probabilities")
    generator = torch.Generator().manual_seed(1)
    q, k = (torch.randn(2, n, 64, generator=generator) for n in (300, 77))
    whole = probabilities.mean_probabilities(q, k, 4)
    monkeypatch.setattr(probabilities, "WORKING_ELEMENTS", 5000)
    assert torch.allclose(probabilities.mean_probabilities(q, k, 4), whole, atol=1e-7)


def test_memory_does_not_grow_with_the_steps(comfy, part, sd1, monkeypatch):
    """What a recorder holds at the end of its run: the same for 2 and for 9 steps."""
    recorder = part("attention.maps.recorder").Recorder
    held, finish = [], recorder.finish

    def spy(self, latent):
        tensors = [tensor for kept in self.sums.values() for tensor in (kept.total, kept.weight)]
        tensors += self.groups.values()
        held.append((len(tensors), sum(tensor.numel() for tensor in tensors)))
        finish(self, latent)

    monkeypatch.setattr(recorder, "finish", spy)
    for steps in (2, 9):
        recorded(comfy, part, sd1, size=(8, 8), steps=steps)
    assert held[0] == held[1]
    assert held[0][1] < 5000


def test_auto_resolution(part, sd1, tiny):
    levels, layers = part("attention.engine.levels").chosen_levels, part("attention.engine.layers").layers_of
    sdxl = layers(tiny("sdxl").model)
    sizes = {(64, 64): 2, (64, 96): 2, (48, 48): 1, (128, 128): 2, (16, 16): 0, (8, 8): 0}
    assert {size: levels("auto", layers(sd1.model), *size) for size in sizes} == {s: {n} for s, n in sizes.items()}
    assert levels("auto", sdxl, 128, 128) == {2}
    assert levels("auto", sdxl, 64, 64) == {2}
    assert levels("auto", sdxl, 16, 16) == {1}


def test_resolution_the_model_does_not_have(part, tiny):
    loaded = prepared(tiny, part, "sdxl")
    with pytest.raises(ValueError, match='no attention layers at resolution "latent".* latent/2, latent/4'):
        record(part, loaded.model, loaded.bound, resolution="latent")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"record": "words"}, "no words to record"),
        ({"record": "words", "words": "red, horse"}, '"horse" is not in the prompt'),
        ({"start": 0.5, "end": 0.5}, "start .* must be below end"),
    ],
)
def test_bad_input(part, sd1, settings, message):
    with pytest.raises(ValueError, match=message):
        record(part, sd1.model, sd1.bound, **settings)


def test_binding_without_entities(part, sd1):
    from dataclasses import replace

    empty = SimpleNamespace(binding=replace(sd1.bound.binding, entities=()))
    with pytest.raises(ValueError, match="no entities to record"):
        record(part, sd1.model, empty)
    record(part, sd1.model, empty, record="words", words="red")
