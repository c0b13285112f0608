"""Semantic token merge with optimisation in everything a graph can do: samplers, schedules, guiders, regions, masks."""

import itertools
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from attention_reference import in_threads
from merge import COMPOSITES, PLAN, MergeBench, close, expected_shapes, repeated, rows_of, shapes, values

SAMPLERS = ["euler_ancestral", "heun", "heunpp2", "dpmpp_2m", "dpmpp_sde", "uni_pc"]
SLOW = pytest.mark.slow
MODES = ["paper", pytest.param("published code", marks=SLOW)]
ONE = {"token_iterations": 1, "entropy_iterations": 1}


@pytest.fixture(scope="module")
def sd1(comfy, part, tiny):
    return MergeBench(comfy, part, tiny("sd1"))


@pytest.fixture(scope="module")
def demo(comfy, part):
    return MergeBench.on_demo_model(comfy, part)


@pytest.fixture(scope="module", params=[pytest.param("sdxl", marks=SLOW), "sd1"])
def bench(request, comfy, part, tiny):
    """Of one text encoder and of two; that the published numbers come out on each layout is in test_agreement.py."""
    return MergeBench(comfy, part, tiny(request.param))


@pytest.mark.parametrize("mode", ["paper", "published code"])
def test_a_run(bench, mode):
    ran, _ = bench.checked(mode=mode, batch=2, steps=3)
    assert ran.latent.shape == (2, 4, 8, 8)


@pytest.mark.parametrize("mode", MODES)
def test_step_sizes_of_0_change_no_bit(bench, mode):
    merged = bench.merge()
    model, losses = bench.optimize(
        merged.model, mode=mode, token_step_size=0.0, row_step_size=0.0, latent_step_size=0.0
    )
    ran = bench.run(model, merged.conditioning)
    assert torch.equal(ran.latent, bench.run(merged.model, merged.conditioning).latent)
    entries = ran.entries(losses)
    assert shapes(entries) == expected_shapes(PLAN, 2)
    for each in entries:
        (first,) = (x for x in entries if (x.loss, x.step, x.iteration) == (each.loss, each.step, 0))
        assert each.values == first.values


@pytest.mark.slow
def test_sizes_that_are_not_square(bench):
    bench.checked(size=(10, 18), batch=2)


def test_cfg_1_has_no_negative(bench):
    ran, _ = bench.checked(cfg=1.0)
    assert {slot for call in ran.own for slot, _ in call.chunks} == {0}


def test_negative_in_a_call_of_its_own(demo, monkeypatch):
    together, entries = demo.checked()
    demo.apart(monkeypatch)
    ran, found = demo.checked()
    assert [len(call.chunks) for call in ran.own] == [1] * 4
    assert close(ran.latent, together.latent)
    assert close(values(found), values(entries))


@pytest.mark.slow
def test_model_calls_in_threads(demo):
    together, entries = demo.checked()
    ran, found = demo.checked(model=in_threads(demo.model))
    assert [len(call.chunks) for call in ran.own] == [1] * 4
    assert close(ran.latent, together.latent)
    assert close(values(found), values(entries))


@pytest.mark.slow
def test_negative_prompt_of_two_chunks(bench):
    ran, _ = bench.checked(negative=bench.encode("bad " * 80))
    assert ran.own[0].of(0).shape[1] == 154


def threshold_between(losses, mode):
    """Thresholds that end the entropy iterations of two of four latents with these losses after the first one."""
    cells = 4 ** math.ceil(max(map(max, losses)) / 2 / math.log(4))
    each = sorted(2 * max(latent) if mode == "paper" else sum(latent) for latent in losses)
    return str(sum(each[1:3]) / 2 + 2 + 4 * math.log(1024 / cells))


@pytest.mark.parametrize("mode", MODES)
def test_every_image_of_a_batch_has_tokens_of_its_own(bench, mode):
    """No bit of an image depends on the others of its batch, also where thresholds end the iterations of some."""
    merged, four = bench.merge(), {"batch": 4, "images": [0, 1, 2, 3]}
    model, losses = bench.optimize(merged.model, mode=mode)
    entries = bench.run(model, merged.conditioning, steps=1, **four).entries(losses)
    first = next(each.values for each in entries if each.loss == "entropy")
    model, losses = bench.optimize(merged.model, mode=mode, thresholds=threshold_between(first, mode))
    ran = bench.run(model, merged.conditioning, **four)
    again = bench.run(model, merged.conditioning, batch=4, images=[0, 4, 5, 6])
    assert torch.equal(again.latent[0], ran.latent[0])
    assert not torch.equal(again.latent[1], ran.latent[1])
    composites = ran.own[0].of(0)[:, COMPOSITES]
    assert all((composites[0] - other).abs().max() > 1e-4 for other in composites[1:])


@pytest.mark.parametrize("mode", MODES)
def test_image_of_a_batch_is_the_image_alone(demo, mode):
    merged, four = demo.merge(), {"batch": 4, "images": [0, 1, 2, 3]}
    model, losses = demo.optimize(merged.model, mode=mode)
    entries = demo.run(model, merged.conditioning, **four).entries(losses)
    first = next(each.values for each in entries if each.loss == "entropy")
    model, losses = demo.optimize(merged.model, mode=mode, thresholds=threshold_between(first, mode))
    together = demo.run(model, merged.conditioning, **four)
    of_all = {(each.loss, each.step, each.iteration): each.values for each in together.entries(losses)}
    counts = set()
    for number in range(4):
        alone = demo.run(model, merged.conditioning, images=[number])
        assert close(alone.latent[0], together.latent[number])
        entries = alone.entries(losses)
        counts.add(len([each for each in entries if each.step == 0]))
        for each in entries:
            assert each.values[0] == pytest.approx(of_all[each.loss, each.step, each.iteration][number], rel=1e-3)
    assert len(counts) == 2, "the thresholds end the iterations of some"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers(sd1, sampler):
    """Each step is optimised once, however often a sampler evaluates it."""
    sd1.checked(sampler_name=sampler, scheduler="karras", steps=4, plan={**ONE, "token_steps": 3, "entropy_steps": 3})


@pytest.mark.slow
def test_all_samplers_of_comfyui(sd1):
    from comfy.samplers import SAMPLER_NAMES

    for sampler in sorted({*SAMPLER_NAMES} - {*SAMPLERS, "dpm_fast", "dpm_adaptive"}):
        sd1.checked(sampler_name=sampler, steps=4, plan={**ONE, "token_steps": 3, "entropy_steps": 3})


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["dpm_fast", "dpm_adaptive"])
def test_samplers_with_steps_of_their_own(sd1, sampler):
    merged = sd1.merge()
    model, losses = sd1.optimize(merged.model, token_steps=4, entropy_steps=4, **ONE)
    ran = sd1.run(model, merged.conditioning, sampler_name=sampler, steps=4, cfg=1.0)
    made = [(each.loss, each.step, each.iteration) for each in ran.entries(losses)]
    assert len(set(made)) == len(made) > 2
    assert ran.latent.isfinite().all()


@pytest.mark.slow
def test_all_schedulers_of_comfyui(sd1):
    from comfy.samplers import SCHEDULER_NAMES

    for scheduler in SCHEDULER_NAMES:
        sd1.checked(scheduler=scheduler, steps=4, sampler_name="dpmpp_2m", plan=ONE)


@pytest.mark.parametrize("sampler", ["heunpp2", *(pytest.param(name, marks=SLOW) for name in ("heun", "dpm_2"))])
def test_shift_of_the_latent_is_that_of_the_step(sd1, sampler):
    """Every evaluation in a step sees the sampler's latent moved by the same shift, also where a sampler looks ahead
    and comes back."""
    from comfy.patcher_extension import WrappersMP

    latents = []

    def keep(executor, x, sigma, *args):
        latents.append(x / (sigma**2 + 1) ** 0.5)
        return executor(x, sigma, *args)

    merged = sd1.merge()
    model, _ = sd1.optimize(merged.model, token_steps=3, entropy_steps=3, **ONE)
    model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "test", keep)
    ran = sd1.run(model, merged.conditioning, sampler_name=sampler, steps=4)
    expected = {"heun": [0, 1, 1, 2, 2, 3, 3], "heunpp2": [0, 1, 2, 1, 2, 3, 2, 3, 3], "dpm_2": [0, 0, 1, 1, 2, 2, 3]}
    assert [call.step for call in ran.own] == expected[sampler]
    shifts = {}
    for call, latent in zip(ran.own, latents, strict=True):
        shift = call.x[:1] - latent
        assert (shift - shifts.setdefault(call.step, shift)).abs().max() < 1e-5
    moved = [step for step, shift in shifts.items() if shift.abs().max() > 1e-3]
    assert sorted(moved) == [0, 1, 2]


def test_more_steps_than_the_run_has(sd1):
    sd1.checked(plan={**ONE, "token_steps": 50, "entropy_steps": 50}, steps=3)


@pytest.mark.slow
def test_different_numbers_of_steps(sd1):
    sd1.checked(plan={"token_steps": 3, "entropy_steps": 1, "entropy_iterations": 1}, steps=4)
    sd1.checked(plan={"token_steps": 1, "token_iterations": 1, "entropy_steps": 2}, steps=4)


@pytest.mark.slow
def test_a_single_step(sd1):
    sd1.checked(steps=1)


def noisy_latent(batch=1):
    return torch.randn(batch, 4, 8, 8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    ("run", "steps"),
    [
        ({"steps": 3, "denoise": 0.5}, 3),
        pytest.param({"steps": 5, "start_step": 2, "last_step": 4}, 2, marks=SLOW),
        pytest.param(
            {"steps": 4, "start_step": 1, "last_step": 10, "disable_noise": True, "force_full_denoise": True},
            3,
            marks=SLOW,
        ),
    ],
    ids=["denoise", "from the second to the fourth step", "the rest of a run"],
)
def test_part_of_a_schedule_counts_the_steps_that_run(bench, run, steps):
    ran, _ = bench.checked(latent=noisy_latent(), ran_steps=steps, plan={**ONE, "token_steps": 9}, **run)
    assert {call.step for call in ran.own} == set(range(steps))


def test_inpainting_mask(bench):
    """What is outside of the mask stays as it was, and inside is another picture than without optimisation."""
    latent, mask = noisy_latent(), torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    ran, _ = bench.checked(latent=latent, mask=mask, steps=3)
    assert (ran.latent - latent)[..., 4:].abs().max() < 1e-4
    merged = bench.merge()
    without = bench.run(merged.model, merged.conditioning, latent=latent, mask=mask, steps=3).latent
    assert (ran.latent - without)[..., :4].abs().max() > 1e-3 * without.abs().max()


@pytest.mark.slow
def test_inpainting_model(comfy, part, tiny, tmp_path):
    """Its further channels reach the passes of the optimisation, as they do the sampler's."""
    from comfy.sd import load_checkpoint_guess_config
    from node_helpers import conditioning_set_values

    weights = load_file(comfy.base / "models" / "checkpoints" / tiny("sd1").name)
    name = "model.diffusion_model.input_blocks.0.0.weight"
    more = torch.randn(32, 5, 3, 3, generator=torch.Generator().manual_seed(1)) * 0.2
    save_file({**weights, name: torch.cat([weights[name], more], 1)}, tmp_path / "inpaint.safetensors")
    loaded = tiny("sd1")
    with torch.inference_mode():
        loaded.model, loaded.clip = load_checkpoint_guess_config(str(tmp_path / "inpaint.safetensors"))[:2]
    bench = MergeBench(comfy, part, loaded)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    painted = {"concat_latent_image": noisy_latent(), "concat_mask": mask}
    ran, entries = bench.checked(around=lambda conditioning: conditioning_set_values(conditioning, painted))
    (given,) = {call.x[-1, 4:].numpy().tobytes() for call in ran.own}
    assert {x[4:].numpy().tobytes() for call in ran.passes for x in call.x} == {given}
    _, otherwise = bench.checked()
    assert entries[0].values != otherwise[0].values


def test_area(comfy, bench):
    """A shift of the latent is confined to the area, and so is what the optimised rows do to a picture."""
    merged = bench.merge()
    append = comfy.nodes.ConditioningSetArea().append
    (inside,) = append(merged.conditioning, 64, 128, 0, 0, 1.0)
    (outside,) = append(bench.encode("a park"), 64, 128, 0, 64, 1.0)

    def one_step(model):
        return bench.run(model, inside + outside, size=(16, 16), steps=1)

    whole = (16, 16)
    plain = one_step(merged.model)
    model, losses = bench.optimize(merged.model, latent_step_size=0.0)
    rows = one_step(model)
    assert shapes(rows.entries(losses)) == expected_shapes(PLAN, 1)
    difference = (rows.latent - plain.latent).abs()
    assert difference[..., 8:].max() < 1e-5 * plain.latent.abs().max()
    assert difference[..., :8].max() > 1e-3 * plain.latent.abs().max()
    shifted = one_step(bench.optimize(merged.model)[0])
    (before,), (after,) = ([call.x for call in ran.own if call.x.shape[-2:] == whole] for ran in (plain, shifted))
    assert torch.equal(after[..., 8:], before[..., 8:])
    assert (after - before)[..., :8].abs().max() > 1e-4


@pytest.mark.slow
def test_two_regional_prompts(comfy, bench):
    """Each has an optimisation of its own, whose first step is as if the other was not there."""
    mask = torch.zeros(1, 64, 64)
    mask[..., :32] = 1
    append = comfy.nodes.ConditioningSetMask().append
    other = bench.bind("a green bird and a big cat", "bird: green | cat: big")
    one, both = bench.merge(), bench.merge(bench.merge().model, other, simplified="a bird and a cat")
    (left,) = append(one.conditioning, mask, "default", 1.0)
    (right,) = append(both.conditioning, 1 - mask, "default", 1.0)

    def losses_of(*bindings):
        model, losses = both.model, []
        for bound in bindings:
            model, filled = bench.optimize(model, bound)
            losses.append(filled)
        ran = bench.run(model, left + right)
        return ran, [ran.entries(filled) for filled in losses]

    ran, (first, second) = losses_of(bench.bound, other)
    assert shapes(first) == shapes(second) == expected_shapes(PLAN, 2)
    for bound, entries in ((bench.bound, first), (other, second)):
        _, (alone,) = losses_of(bound)
        assert [x.values for x in alone if x.step == 0] == [x.values for x in entries if x.step == 0]
        assert [x.values for x in alone if x.step == 1] != [x.values for x in entries if x.step == 1]
    for call, conditioning in itertools.product(ran.own, (one.conditioning, both.conditioning)):
        before = rows_of(conditioning)
        (rows,) = (rows for slot, rows in call.chunks if slot == 0 and torch.equal(rows[:, 4:6], before[:, 4:6]))
        assert (rows - before)[:, COMPOSITES].abs().amax((0, 2)).min() > 0


@pytest.mark.slow
def test_unbound_regional_prompt_is_left_alone(comfy, bench):
    merged = bench.merge()
    model, losses = bench.optimize(merged.model)
    park = bench.encode("a park")
    ran = bench.run(model, merged.conditioning + park)
    assert shapes(ran.entries(losses)) == expected_shapes(PLAN, 2)
    for call in ran.own:
        assert sum(torch.equal(rows, park[0][0]) for slot, rows in call.chunks if slot == 0) == 1


def test_conditioning_that_begins_in_the_middle_of_the_run(comfy, sd1):
    """It is optimised from its first step on, as long as the steps of the run are among the first ones."""
    merged = sd1.merge()
    model, losses = sd1.optimize(merged.model, token_steps=4, entropy_steps=3, **ONE)
    set_range = comfy.nodes.ConditioningSetTimestepRange().set_range
    (early,), (late,) = set_range(sd1.encode("a park"), 0.0, 0.3), set_range(merged.conditioning, 0.3, 1.0)
    ran = sd1.run(model, early + late, steps=5)
    bound = {call.step for call in ran.own for slot, rows in call.chunks if torch.equal(rows[0, 8:], sd1.ends[0])}
    assert 0 < min(bound) < 3
    made = {(each.loss, each.step) for each in ran.entries(losses)}
    assert made == {("binding", step) for step in bound if step < 4} | {("entropy", step) for step in bound if step < 3}


def test_guiders(bench):
    from comfy_extras.nodes_custom_sampler import BasicGuider, CFGGuider, DualCFGGuider

    merged = bench.merge()
    model, losses = bench.optimize(merged.model)
    positive, negative, park = merged.conditioning, bench.negative, bench.encode("a park")
    with_cfg = bench.guided(CFGGuider.execute(model, positive, negative, 4.0).args[0])
    assert torch.equal(with_cfg.latent, bench.run(model, positive).latent)
    basic = bench.guided(BasicGuider.execute(model, positive).args[0])
    assert torch.equal(basic.latent, bench.run(model, positive, cfg=1.0).latent)
    dual = bench.guided(DualCFGGuider.execute(model, positive, park, negative, 4.0, 2.0, "regular").args[0])
    for ran in (with_cfg, basic, dual):
        assert shapes(ran.entries(losses)) == expected_shapes(PLAN, 2)
        assert ran.latent.isfinite().all()
    for call in dual.own:
        assert torch.equal(call.of(0), repeated(negative[0][0], call.of(0)))
        assert torch.equal(call.of(1), repeated(park[0][0], call.of(1)))
        assert torch.equal(call.of(2)[:, 8:], bench.ends)
        assert (call.of(2) - positive[0][0])[:, COMPOSITES].abs().max() > 0


@pytest.mark.slow
def test_losses_fall_on_the_demo_model(demo):
    plan = {"token_step_size": 250.0, "token_iterations": 4, "entropy_iterations": 4}
    _, entries = demo.checked(size=(16, 16), batch=4, steps=8, plan=plan)
    falls = []
    for first, second in zip(entries, entries[1:], strict=False):
        if (first.loss, first.step) == (second.loss, second.step):
            falls.append(torch.tensor(second.values).mean() < torch.tensor(first.values).mean())
    assert len(falls) == 2 * 2 * 3
    assert all(falls)
