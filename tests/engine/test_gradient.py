"""Gradients through the real ComfyUI inside a sampling run, against differences of losses."""

import functools

import pytest
import torch

from gradients import GradientBench
from modulation_reference import probabilities

SMALL = {"size": (8, 8), "batch": 2}
LAYOUTS = [pytest.param("sd1", marks=pytest.mark.slow), "sd2", "sdxl"]


@pytest.fixture(scope="module")
def bench(comfy, part, tiny):
    """``bench("sd1")``: a GradientBench of that layout."""
    return functools.cache(lambda layout: GradientBench(comfy, part, tiny(layout)))


def slope(loss, at, direction):
    """Of ``loss(at) (N,)`` along a direction: from four points."""
    near, far = (loss(at + size * direction) - loss(at - size * direction) for size in (1, 2))
    return (8 * near - far) / 12


def check_slopes(loss, at, gradient, change, rtol):
    """The gradient ``(N, ...)`` of ``loss(at) (N,)`` is right along itself, and along something random.

    ``change`` is how much of the loss the difference is taken over.
    """
    flat = gradient.flatten(1)
    random = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(0)) * (gradient != 0)
    for direction in (gradient, gradient + random * (flat.norm() / random.norm())):
        size = change * loss(at) / flat.square().sum(1)
        along = direction * size.view(-1, *[1] * (gradient.ndim - 1))
        expected = slope(loss, at, along)
        found = (gradient * along).flatten(1).sum(1)
        assert expected.abs().min() > 0
        torch.testing.assert_close(found, expected, rtol=rtol, atol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_of_the_binding_loss(bench, part, layout):
    """The tokens of both entities, in both latents."""
    one = bench(layout)
    composite, losses = part("attention.token_merge.composite"), part("attention.token_merge.binding_losses")
    anchors = [one.encode(phrase)[0][0] for phrase in ("a red cat", "a blue dog")]

    def look(call, chunk, found):
        index = composite.index_of(one.composites, found.shape[-1])
        tokens = composite.taken(found, index)
        targets = part("attention.token_merge.anchors").Anchors(anchors, call.x).predict(call, None, None, False)

        def loss(at):
            return targets.improved(at.unflatten(0, (2, 2)), 0.0, losses.binding_loss)[1].flatten()

        moved, before = targets.improved(tokens, 1.0, losses.binding_loss)
        each, gradient = tokens.flatten(0, 1), (tokens - moved).flatten(0, 1)
        assert torch.equal(before.flatten(), loss(each))
        check_slopes(loss, each, gradient, 0.006, 0.01)

    one.probed(look, **SMALL)


@pytest.fixture
def precise(comfy, part, tiny, monkeypatch):
    """``precise("sd1")``: a GradientBench whose network computes in float64, and observed attention with it."""

    def of(layout):
        one = GradientBench(comfy, part, tiny(layout, own=True))
        with torch.inference_mode():
            one.model.model.diffusion_model.double()
        one.model.model.diffusion_model.dtype = torch.float64
        return one

    def mean_probabilities(q, k, heads, groups, bias, per_head):
        assert bias is None and not per_head and q.dtype == torch.float64
        return probabilities(q, k, heads).mean(1) @ groups.double()

    monkeypatch.setattr(part("attention.engine.calls"), "mean_probabilities", mean_probabilities)
    return of


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_of_the_entropy_loss(precise, part, layout):
    """With regard to every row of the conditioning, and to the latent."""
    one = precise(layout)

    def look(call, chunk, found):
        call = call.with_(x=call.x.double(), context=call.context.double())
        loss = entropy_of(one, part, call)
        rows, x = (leaf.detach().requires_grad_() for leaf in (call.context, call.x))
        of_rows, of_x = torch.autograd.grad(loss(rows, x).sum(), (rows, x))
        assert (of_rows.abs().amax(2) > 0).all(), "every row has a part in the softmax"
        check_slopes(lambda at: loss(at, call.x).detach(), call.context, of_rows, 1e-6, 1e-3)
        check_slopes(lambda at: loss(call.context, at).detach(), call.x, of_x, 1e-6, 1e-3)

    one.probed(look, size=(8, 8), batch=2)


def entropy_of(one, part, call):
    """``loss(rows, x)``: the entropy loss of each latent, over both entities."""
    losses, rows_module = part("attention.token_merge.binding_losses"), part("attention.engine.rows")
    layers = part("attention.engine.layers").layers_of(one.model)
    chosen = part("attention.token_merge.refinement").entropy_layers(layers, *call.x.shape[-2:])
    groups = rows_module.membership([((row,), 1.0) for row in range(1, 8)], 77, 77, 77, torch.device("cpu"))

    def loss(rows, x):
        seen = call.with_(context=rows, x=x).attention(chosen, groups)
        maps = losses.composite_maps(torch.stack([layer.probabilities for layer in seen]).mean(0), [[2], [6]])
        return losses.entropy_loss(maps).sum(1)

    return loss
