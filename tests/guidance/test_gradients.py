"""The steps that Attention Guidance takes, against differences of losses and loops over the network's own attention."""

import math
from types import SimpleNamespace

import pytest
import torch

from attention_reference import Reference
from gradients import slowly
from guiding import LOSSES, STRONG, GuidanceBench, slow_losses, watched_totals, widgets
from modulation_reference import probabilities

LAYOUTS = [pytest.param("sd2", marks=pytest.mark.slow), "sd1", "sdxl"]
GROUPS = SimpleNamespace(
    words=[*range(1, 8)], all=[*range(1, 76)], nouns=[(3,), (7,)], groups=[(2, 3), (6, 7)], modifiers=[[(2,)], [(6,)]]
)
"""Rows of "a red cat and a blue dog"."""


@pytest.fixture
def totals(part, monkeypatch):
    return watched_totals(part, monkeypatch)


@pytest.fixture
def precise(comfy, part, tiny, monkeypatch):
    """``precise("sd1")``: a GuidanceBench whose network computes in float64, and observed attention with it."""

    def of(layout):
        one = GuidanceBench(comfy, part, tiny(layout, own=True))
        with torch.inference_mode():
            one.model.model.diffusion_model.double()
        one.model.model.diffusion_model.dtype = torch.float64
        return one

    def mean_probabilities(q, k, heads, groups, bias, per_head):
        assert bias is None and per_head and q.dtype == torch.float64
        return probabilities(q, k, heads) @ groups.double()

    monkeypatch.setattr(part("attention.engine.calls"), "mean_probabilities", mean_probabilities)
    return of


def in_float64(call):
    return call.with_(x=call.x.double(), context=call.context.double())


def check_slopes(loss, at, gradient):
    """The gradient ``(B, ...)`` of ``loss(at) (B,)`` is right along itself, and along something random."""
    noise = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(0)).to(gradient)
    for direction in (gradient, gradient + noise * (gradient.norm() / noise.norm())):
        size = 1e-6 * loss(at).abs() / gradient.flatten(1).square().sum(1)
        along = direction * size.view(-1, 1, 1, 1)
        near, far = (loss(at + times * along) - loss(at - times * along) for times in (1, 2))
        found = (gradient * along).flatten(1).sum(1)
        assert found.abs().min() > 0
        torch.testing.assert_close(found, (8 * near - far) / 12, rtol=1e-3, atol=0)


@pytest.mark.parametrize("loss", slowly(LOSSES, ["syngen", "token and pixel"]))
@pytest.mark.parametrize("layout", slowly(["sd1", "sd2", "sdxl"], ["sd1"]))
def test_step_is_down_the_gradient(precise, part, layout, loss):
    """For both latents at once, in ComfyUI's latents."""
    one, slope = precise(layout), part("attention.guidance.guidance").slope

    def look(call):
        call, due = in_float64(call), one.due(loss, call, **STRONG[loss])
        both = torch.arange(2)

        def total(x):
            return slope(call.with_(x=x), [due], both)[1][0].total

        step, (found,), (above,) = slope(call, [due], both)
        scale = due.update.size * (call.sigma**2 if loss == "layout" else 1 + call.sigma**2)
        check_slopes(total, call.x, step / scale.view(-1, 1, 1, 1))
        assert above.tolist() == [value > due.update.target for value in found.total.tolist()]

    one.in_a_pass(look, size=(8, 8), batch=2)


def test_step_down_the_sum_of_losses(precise, part):
    """Of three methods, each with its size; latents that have reached a target are left alone by it."""
    one, slope = precise("sd1"), part("attention.guidance.guidance").slope

    def look(call):
        call, both = in_float64(call), torch.arange(2)
        excite, syngen = one.due("attend and excite", call), one.due("syngen", call, step_size=3.0)
        layout = one.due("layout", call)
        low, high = slope(call, [layout], both)[1][0].total.sort().values.tolist()
        reached = layout._replace(update=layout.update._replace(target=(low + high) / 2))
        below = slope(call, [layout], both)[1][0].total < reached.update.target
        alone = [slope(call, [due], both)[0] for due in (excite, syngen, layout)]
        step, losses, above = slope(call, [excite, syngen, reached], both)
        assert len(losses) == 3
        assert above[2].tolist() == (~below).tolist() and below.sum() == 1
        alone[2][below] = 0
        torch.testing.assert_close(step, sum(alone), rtol=1e-9, atol=0)
        idle = syngen._replace(going=~below)
        step, _, (above,) = slope(call, [idle], both)
        assert above.tolist() == (~below).tolist()
        torch.testing.assert_close(step[~below], alone[1][~below], rtol=1e-9, atol=0)
        assert not step[below].any()

    one.in_a_pass(look, size=(8, 8), batch=2)


def test_settling_update(precise, part):
    """Refinement goes down once more where the target has been reached, with other latents or alone."""
    one, slope = precise("sd1"), part("attention.guidance.guidance").slope

    def look(call):
        call, both = in_float64(call), torch.arange(2)
        due = one.due("attend and excite", call, thresholds="0: 0")
        assert due.update.settling
        step, _, (above,) = slope(call, [due], both)
        assert not above.any() and (step.flatten(1).norm(dim=1) > 0).all()
        never = due._replace(update=due.update._replace(settling=False))
        assert not slope(call, [never], both)[0].any()

    one.in_a_pass(look, size=(8, 8), batch=2)


def in_half(number):
    """Whether a patch is in the left or the right half; of a grid of one column, in both."""

    def inside(y, x, grid):
        middle = grid[1] // 2
        return float(grid[1] == 1 or (x < middle if number == 0 else x >= middle))

    return inside


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("layout", slowly(["sd1", "sd2", "sdxl"], ["sd1"]))
def test_losses_are_those_of_the_networks_attention(bench, part, layout, loss):
    """Against loops over the softmax of queries and keys, taken from the projections themselves."""
    one = bench(layout)

    def look(call):
        due, reference = one.due(loss, call), Reference(one.model)
        with reference.watching():
            _, (found,), _ = part("attention.guidance.guidance").slope(call, [due], torch.arange(2))
        (seen,) = reference.calls
        blocks = {"input": "input_blocks.{}", "middle": "middle_block", "output": "output_blocks.{}"}
        maps, grids = {}, {}
        for layer in due.objective.layers:
            name = f"{blocks[layer.block].format(layer.number)}.1.transformer_blocks.{layer.index}.attn2"
            projected = seen.seen[name]
            heads = reference.unet.get_submodule(name).heads
            maps[layer] = probabilities(projected["to_q"].detach(), projected["to_k"].detach(), heads)
            grids[layer] = tuple(math.ceil(count / 2**layer.level) for count in seen.size)
        for latent in range(2):
            own = {layer: each[latent] for layer, each in maps.items()}
            expected = slow_losses(loss, own, grids, GROUPS, [in_half(0), in_half(1)])
            assert found.each[latent].tolist() == pytest.approx(expected, rel=1e-3, abs=1e-5)

    one.in_a_pass(look, size=(8, 12), batch=2)


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_is_lower_after_a_guided_step(bench, totals, loss):
    """In the second of many steps, after a small update in the first alone."""
    one = bench("sd1")
    watching = one.guide(loss, **{**STRONG[loss], "step_size": 0.0, "end": 1.0})
    guided = one.guide(loss, watching, **STRONG[loss], step_size=0.1 * widgets(loss)["step_size"])
    run = {"steps": 50, "last_step": 2, "size": (16, 16), "batch": 2}
    one.run(watching, **run)
    before = [update[0] for update in totals]
    totals.clear()
    one.run(guided, **run)
    after = [update[0] for update in totals]
    assert [len(update) for update in totals] == [2, 1]
    assert after[0] == before[0]
    assert all(now < then for now, then in zip(after[1], before[1], strict=True))
