"""Attention Guidance in runs of the real ComfyUI: what is moved, how often, and what is left alone."""

import pytest
import torch

from gradients import slowly
from guiding import LOSSES, STRONG, Shifting, watched_moves, watched_totals
from merge import close


@pytest.fixture
def moves(part, monkeypatch):
    return watched_moves(part, monkeypatch)


@pytest.fixture
def totals(part, monkeypatch):
    return watched_totals(part, monkeypatch)


@pytest.mark.parametrize("loss", slowly(LOSSES, ["syngen"]))
@pytest.mark.parametrize("layout", slowly(["sd1", "sd2", "sdxl"], ["sd1", "sdxl"]))
def test_guided_run(bench, loss, layout, moves):
    """The picture is another, and after the run everything is as it was."""
    one = bench(layout)
    plain = one.run().latent
    model = one.guide(loss, **STRONG[loss])
    with torch.inference_mode(), one.unchanged(model):
        first = one.run(model)
    assert len(moves) == 1 and moves[0].abs().amax((1, 2, 3)).min() > 0
    assert first.latent.is_inference() and first.latent.isfinite().all()
    assert (first.latent - plain).abs().max() > 1e-4 * plain.abs().max()
    assert torch.equal(one.run(model).latent, first.latent)
    assert torch.equal(one.run().latent, plain)


@pytest.mark.parametrize("loss", LOSSES)
def test_steps_of_size_0_give_the_same_bits(sd1, loss):
    model = sd1.guide(loss, **{**STRONG[loss], "step_size": 0.0})
    run = {"batch": 2, "size": (8, 12), "steps": 3}
    ran = sd1.run(model, **run)
    assert [call.ours for call in ran.calls] == [True, False, True, False, False]
    assert torch.equal(ran.latent, sd1.run(**run).latent)


SAMPLERS = ["heun", "lms", "uni_pc", "dpmpp_2s_ancestral", "sa_solver_pece", "ddim"]


@pytest.mark.parametrize("sampler", slowly(SAMPLERS, ["heun", "uni_pc"]))
def test_size_0_with_other_samplers(sd1, lines, sampler):
    """Each step has its one update."""
    run = {"sampler_name": sampler, "steps": 4}
    still = sd1.guide("syngen", step_size=0.0, end=1.0)
    assert torch.equal(sd1.run(still, **run).latent, sd1.run(**run).latent)
    assert lines.updates == [(step, 1) for step in (1, 2, 3, 4)]


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2s_ancestral"])
def test_samplers_that_look_ahead(sd1, sampler):
    """They ask the model at the next step's noise level first, about a latent that they only try: no update there."""
    ran = sd1.run(sd1.guide("syngen", step_size=0.0, end=1.0), sampler_name=sampler, steps=3)
    first, ahead, update, own = (True, 0), (False, 1), (True, 1), (False, 1)
    assert [(call.ours, call.step) for call in ran.calls] == [
        *[first, (False, 0), ahead, update, own],
        *[(False, 2), (True, 2), (False, 2)],
    ]
    for before, after in zip(ran.calls, ran.calls[1:], strict=False):
        if before.ours:
            assert torch.equal(before.x, after.x[:1]), "it is made at the latent that the step begins with"


def one_by_one(one, model, batch, **run):
    """The latents of a batch, each from a run of its own."""
    return torch.cat([one.run(model, images=[number], **run).latent for number in range(batch)])


@pytest.mark.parametrize(
    ("loss", "changes"),
    [
        ("attend and excite", {"thresholds": "0: 0.115, 0.5: 0.13", "refinements": 6, "end": 1.0}),
        pytest.param("layout", {"threshold": 0.25, "iterations": 6}, marks=pytest.mark.slow),
        *(pytest.param(loss, {}, marks=pytest.mark.slow) for loss in LOSSES),
    ],
)
def test_latents_of_a_batch_go_their_own_way(sd1, lines, loss, changes):
    """Also where one has reached a target before the other."""
    model = sd1.guide(loss, **{**STRONG[loss], **changes})
    run = {"size": (16, 16)}
    together = sd1.run(model, batch=2, **run).latent
    count = len(lines)
    lines.clear()
    alone = one_by_one(sd1, model, 2, **run)
    assert close(together, alone)
    plain = sd1.run(batch=2, **run).latent
    assert (together - plain).abs().amax((1, 2, 3)).min() > 1e-3 * plain.abs().max()
    if changes:
        assert count < len(lines) < 2 * count, "one goes on longer than the other"


def test_masks_of_each_latent(sd1):
    masks = torch.zeros(2, 2, 16, 16)
    masks[0, 0, :8], masks[0, 1, 8:], masks[1, 0, :, :8], masks[1, 1, :, 8:] = 1, 1, 1, 1
    binding = sd1.nodes.masked(sd1.bound.binding, masks)
    together = sd1.run(sd1.guide("layout", binding=binding, **STRONG["layout"]), batch=2, size=(16, 16)).latent
    for number in range(2):
        own = sd1.nodes.masked(sd1.bound.binding, masks[number : number + 1])
        model = sd1.guide("layout", binding=own, **STRONG["layout"])
        assert close(sd1.run(model, images=[number], size=(16, 16)).latent, together[number : number + 1])


@pytest.mark.slow
def test_short_of_memory(sd1, part, monkeypatch, lines):
    """Latents whose passes do not fit at a time are guided one after the other, and it makes no difference."""
    masks = torch.zeros(3, 2, 16, 16)
    masks[0, 0, :8], masks[1, 0, 8:], masks[2, 0, :4], masks[:, 1, :, :8] = 1, 1, 1, 1
    binding = sd1.nodes.masked(sd1.bound.binding, masks)
    changes = {"threshold": 0.25, "iterations": 6, "end": 1.0}
    model = sd1.guide("layout", sd1.guide("syngen"), binding, **changes)
    whole, told = sd1.run(model, batch=3, size=(16, 16)).latent, list(lines)
    lines.clear()
    monkeypatch.setattr(part("attention.engine.gradient").ModelCall, "rows_at_once", 1)
    ran = sd1.run(model, batch=3, size=(16, 16))
    assert {len(call.x) for call in ran.passes} == {1}
    assert close(ran.latent, whole)
    assert lines == told


def test_nodes_share_a_pass_and_add_up(sd1, moves, lines):
    """Two nodes of a binding, in either order; each has its size and its steps."""
    changes = {"syngen": {"step_size": 20.0, "end": 0.5}, "token and pixel": {"step_size": 40.0, "end": 1.0}}
    singles = {}
    for loss, own in changes.items():
        sd1.run(sd1.guide(loss, **own))
        singles[loss] = moves[0]
        moves.clear()
    for order in (list(changes), list(reversed(changes))):
        model = sd1.model
        for loss in order:
            model = sd1.guide(loss, model, **changes[loss])
        lines.clear()
        ran = sd1.run(model)
        assert [call.ours for call in ran.calls] == [True, False, True, False]
        torch.testing.assert_close(moves[0], sum(singles.values()), rtol=1e-3, atol=1e-4 * float(moves[0].abs().max()))
        assert lines[0].count("SynGen") == lines[0].count("token and pixel losses") == 1
        assert "SynGen" not in lines[1] and "token and pixel losses" in lines[1]
        moves.clear()


def test_other_bindings_have_their_own_pass(sd1, moves):
    """Two prompts, each with its node, in one sampler."""
    other = sd1.bind("a green bird", "bird: green")
    positive = sd1.comfy.nodes.ConditioningCombine().combine(sd1.positive, other.conditioning)[0]
    both = sd1.guide("syngen", sd1.guide("syngen"), other.binding)
    ran = sd1.run(both, positive, steps=2)
    assert [call.ours for call in ran.calls].count(True) == 2
    found = moves[0]
    moves.clear()
    for bound in (sd1.bound, other):
        sd1.run(sd1.guide("syngen", binding=bound.binding), positive)
    assert len(moves) == 2
    torch.testing.assert_close(found, sum(moves), rtol=1e-4, atol=1e-5 * float(found.abs().max()))


def test_negative_prompt_is_not_touched(sd1):
    """Passes with gradients have the rows of the positive prompt alone; what the sampler is given is as encoded."""
    ran = sd1.run(sd1.guide("syngen", end=1.0), batch=2)
    rows = sd1.bound.embedding
    assert len(ran.passes) == 2
    for call in ran.passes:
        ((slot, given_rows),) = call.chunks
        assert slot == 0 and torch.equal(given_rows, rows.expand(2, -1, -1))
    for call in ran.own:
        assert torch.equal(call.of(1), sd1.negative[0][0].expand(2, -1, -1))
        assert torch.equal(call.of(0), rows.expand(2, -1, -1))
        assert torch.equal(call.x[:2], call.x[2:]), "both prompts are asked about the moved latent"


def test_without_guidance_by_the_prompt(sd1, moves):
    """CFG 1: no negative prompt is computed."""
    model = sd1.guide("syngen")
    ran = sd1.run(model, cfg=1.0)
    assert all([slot for slot, _ in call.chunks] == [0] for call in ran.calls)
    sd1.run(model)
    torch.testing.assert_close(moves[0], moves[1], rtol=0, atol=0)
    assert (ran.latent - sd1.run(cfg=1.0).latent).abs().max() > 1e-3


@pytest.mark.parametrize("loss", slowly(LOSSES, ["layout", "syngen"]))
def test_area_of_a_conditioning(sd1, moves, loss):
    """Only its area is moved, in the passes as by the sampler."""
    nodes = sd1.comfy.nodes
    (area,) = nodes.ConditioningSetArea().append(sd1.positive, 64, 128, 48, 0, 1.0)
    (positive,) = nodes.ConditioningCombine().combine(sd1.encode("a house"), area)
    ran = sd1.run(sd1.guide(loss, **STRONG[loss]), positive, size=(16, 16))
    assert {tuple(call.x.shape[-2:]) for call in ran.passes} == {(16, 8)}
    moved = moves[0].abs().amax((0, 1))
    assert (moved[:, 6:14] > 0).all()
    assert not moved[:, :6].any() and not moved[:, 14:].any()


def test_two_areas_of_one_prompt(sd1, moves):
    """Each is guided by itself, and where they overlap the moves add up."""
    nodes = sd1.comfy.nodes
    areas = [nodes.ConditioningSetArea().append(sd1.positive, 80, 128, x, 0, 1.0)[0] for x in (0, 48)]
    model = sd1.guide("syngen")
    sd1.run(model, nodes.ConditioningCombine().combine(*areas)[0], size=(16, 16))
    both = moves[0]
    moves.clear()
    for area in areas:
        sd1.run(model, nodes.ConditioningCombine().combine(sd1.encode("a house"), area)[0], size=(16, 16))
    torch.testing.assert_close(both, moves[0] + moves[1], rtol=1e-4, atol=1e-5 * float(both.abs().max()))
    assert moves[0][..., 6:10].any() and moves[1][..., 6:10].any()


@pytest.mark.parametrize("loss", slowly(LOSSES, ["attend and excite", "layout"]))
@pytest.mark.parametrize("layout", slowly(["sd1", "sdxl"], ["sd1"]))
def test_long_prompt(bench, moves, layout, loss):
    """Entities in different chunks of a prompt of more than 75 tokens."""
    one = bench(layout)
    bound = one.bind("a red cat " + "in a park " * 30 + "and a blue dog", "cat: red | dog: blue")
    ran = one.run(one.guide(loss, binding=one.boxed(bound.binding), **STRONG[loss]), bound.conditioning)
    assert {call.chunks[0][1].shape[1] for call in ran.passes} == {154}
    assert moves[0].abs().max() > 0
    plain = one.run(positive=bound.conditioning).latent
    assert (ran.latent - plain).abs().max() > 1e-4 * plain.abs().max()


def refined(totals):
    """The losses of each update, of a single latent and node."""
    return [total for ((total,),) in totals]


def test_refinement_until_the_limit(sd1, lines):
    """A threshold of 1 is never reached: every repetition, and the ordinary update."""
    sd1.run(sd1.guide("attend and excite", thresholds="0.5: 1", refinements=4, end=1.0), steps=4)
    assert lines.updates == [(1, 1), (2, 1), *((3, update) for update in range(1, 6)), (4, 1)]


def test_refinement_until_the_target(sd1, lines, totals):
    """Repeated while the loss is above, and one update after it is not."""
    run = {"steps": 4, "size": (16, 16)}
    sd1.run(sd1.guide("attend and excite", thresholds="0: 1", refinements=6, end=0.25), **run)
    falling = refined(totals)
    assert len(falling) == len(lines) == 7
    assert all(now < before for before, now in zip(falling, falling[1:], strict=False))
    between = (falling[3] + falling[4]) / 2
    totals.clear()
    sd1.run(sd1.guide("attend and excite", thresholds=f"0: {1 - between}", refinements=6, end=0.25), **run)
    assert refined(totals) == falling[:5]


def test_refinement_that_is_not_needed(sd1, lines):
    """A threshold that is reached from the start: the ordinary update alone."""
    sd1.run(sd1.guide("attend and excite", thresholds="0: 0, 0.5: 0", end=1.0), steps=2)
    assert lines.updates == [(1, 1), (2, 1)]


def test_layout_stops_at_its_threshold(sd1, totals, moves):
    """No update once the loss is below; later steps look again."""
    run = {"steps": 2, "size": (16, 16)}
    every = {"iterations": 5, "end": 1.0}
    sd1.run(sd1.guide("layout", threshold=0.0, **every), **run)
    falling = refined(totals)
    assert len(falling) == 10 and all(falling[n + 1] < falling[n] for n in range(4))
    totals.clear(), moves.clear()
    sd1.run(sd1.guide("layout", threshold=(falling[2] + falling[3]) / 2, **every), **run)
    assert refined(totals)[:4] == falling[:4] and len(moves) == 2
    totals.clear(), moves.clear()
    sd1.run(sd1.guide("layout", threshold=1.0, **every), **run)
    assert len(totals) == 2 and not any(move.any() for move in moves)


@pytest.mark.parametrize("loss", slowly([loss for loss in LOSSES if loss != "syngen"], ["attend and excite"]))
@pytest.mark.parametrize("before", slowly([True, False], [True]), ids=["guidance first", "guidance last"])
def test_with_token_optimization(sd1, moves, loss, before):
    """Guidance is by the attention to the tokens that the sampler's own call of the step is given."""
    merged = sd1.merged
    if before:
        model, losses = sd1.optimize(sd1.guide(loss, merged.model, **STRONG[loss]))
    else:
        optimized, losses = sd1.optimize(merged.model)
        model = sd1.guide(loss, optimized, **STRONG[loss])
    with torch.inference_mode(), sd1.unchanged(model):
        ran = sd1.run(model, merged.conditioning)
    assert len(ran.entries(losses)) == 2 * (2 + 2)
    assert len(moves) == 1 and moves[0].abs().max() > 0
    last = [call for call in ran.passes if call.step == 0][-1]
    own = next(call for call in ran.own if call.step == 0)
    assert torch.equal(last.of(0), own.of(0)), "tokens are optimised first"
    assert (own.of(0) - merged.conditioning[0][0]).abs().max() > 1e-4
    without, _ = sd1.optimize(merged.model)
    assert (ran.latent - sd1.run(without, merged.conditioning).latent).abs().max() > 1e-4


def test_with_a_controlnet(sd1, tmp_path, moves):
    """It counts in the passes, and is there for the sampler's own calls."""
    _, apply = sd1.controlnet(tmp_path, "sd1", (64, 64))
    conds = apply(sd1.positive, sd1.negative)
    still = sd1.guide("syngen", step_size=0.0)
    ran = sd1.run(still, *conds)
    assert all(call.control for call in ran.calls)
    assert torch.equal(ran.latent, sd1.run(None, *conds).latent)
    model = sd1.guide("syngen")
    moves.clear()
    sd1.run(model, *conds)
    sd1.run(model)
    assert (moves[0] - moves[1]).abs().max() > 1e-3 * moves[1].abs().max()


def test_inpainting(sd1):
    """Outside of the mask the picture stays the given one."""
    mask = torch.zeros(1, 64, 64)
    mask[..., :32] = 1
    run = {"mask": mask, "latent": torch.full((1, 4, 8, 8), 0.3)}
    found, plain = sd1.run(sd1.guide("syngen"), **run).latent, sd1.run(**run).latent
    assert (found - plain)[..., :4].abs().max() > 1e-3
    torch.testing.assert_close(found[..., 4:], torch.full((1, 4, 8, 4), 0.3), rtol=0, atol=1e-5)


def test_part_of_the_steps(sd1, moves):
    """Fractions are of the steps that the sampler has; with denoise below 1 these are the last ones."""
    sd1.run(sd1.guide("syngen", start=0.25, end=0.75), steps=4, denoise=0.5)
    assert len(moves) == 2


def test_beside_another_technique_that_moves(sd1, part, moves):
    """Their moves add up before the model is asked."""
    shift = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    model = sd1.guide("syngen")
    sd1.run(model)
    alone = moves.pop()
    with torch.inference_mode():
        both = part("attention.engine.sampling").with_technique(model, Shifting(part, shift, [0]))
    sd1.run(both)
    torch.testing.assert_close(moves[0], alone + shift)


def test_conditioning_of_later_steps(sd1, lines):
    """Where the bound conditioning takes no part yet there is nothing to go by."""
    nodes = sd1.comfy.nodes
    (late,) = nodes.ConditioningSetTimestepRange().set_range(sd1.positive, 0.5, 1.0)
    (positive,) = nodes.ConditioningCombine().combine(sd1.encode("a house"), late)
    sd1.run(sd1.guide("syngen", end=1.0), positive, steps=4, scheduler="simple")
    assert lines.updates == [(3, 1), (4, 1)]


def test_one_update_beside_perturbed_attention(sd1):
    """PAG asks the model once more in every step: by then the latent has been moved."""
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    ran = sd1.run(PerturbedAttentionGuidance.execute(sd1.guide("syngen"), 3.0).args[0])
    first = [call for call in ran.calls if call.step == 0]
    assert [call.ours for call in first] == [True, False, False]
    assert torch.equal(first[2].x, first[1].x[:1])
