"""The losses of attention guidance and the methods that use them, against published numbers and slow versions."""

import math
from types import SimpleNamespace

import pytest
import torch

from attention_reference import bind
from guiding import LOSSES, slow_losses, slow_misbinding
from methods import WEIGHTS, layers_of, made, run_of


@pytest.fixture(scope="module")
def losses(part):
    return part("attention.guidance.losses")


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).double()


def test_softmax_of_attend_and_excite(losses):
    found = losses.among_words(torch.tensor([[[0.02, 0.05, 0.03, 0.01]]]).double())
    assert found.flatten().tolist() == pytest.approx((0.041371, 0.830953, 0.112457, 0.015219), abs=1e-6)


def test_filter_of_attend_and_excite(losses):
    """A peak counts for 0.331911 wherever it is: a corner, too, since borders are reflected without themselves."""
    for y, x in ((1, 1), (0, 0), (3, 2)):
        one = torch.zeros(1, 1, 4, 4).double()
        one[0, 0, y, x] = 1
        assert losses.smoothed_peak(one.flatten(2), (4, 4)).item() == pytest.approx(WEIGHTS[0], abs=1e-6)


def test_neighbours_in_the_filter(losses):
    """What the maximum is made of is its gradient."""

    def parts(y, x):
        values = torch.zeros(1, 1, 25).double()
        values[0, 0, 5 * y + x] = 1
        values.requires_grad_()
        (found,) = torch.autograd.grad(losses.smoothed_peak(values, (5, 5)).sum(), values)
        return found.view(5, 5)

    middle, side, corner = WEIGHTS
    expected = torch.tensor([[corner, side, corner], [side, middle, side], [corner, side, corner]]).double()
    inner, outer = parts(2, 2), parts(0, 0)
    torch.testing.assert_close(inner[1:4, 1:4], expected, rtol=0, atol=1e-6)
    assert inner.sum().item() == pytest.approx(1) and inner.count_nonzero() == 9
    expected = torch.tensor([[middle, 2 * side], [2 * side, 4 * corner]]).double()
    torch.testing.assert_close(outer[:2, :2], expected, rtol=0, atol=1e-6)
    assert outer.sum().item() == pytest.approx(1) and outer.count_nonzero() == 4


@pytest.mark.parametrize("grid", [(1, 5), (5, 1), (1, 1)])
def test_filter_on_a_single_line(losses, grid):
    """There is nothing to reflect; the map stays a mean of its neighbours."""
    assert losses.smoothed_peak(torch.ones(2, 3, math.prod(grid)), grid).flatten().tolist() == pytest.approx([1] * 6)


def test_most_neglected_subject_counts(part, losses, bound, tiny):
    """The strongest patches have 0.9 and 0.4: the loss is 0.6. Each piece of a noun is a subject."""
    left, right = (0.9, 0.05, 0.05), (0.1, 0.4, 0.5)
    shares = torch.tensor([left] * 4 + [right] * 4).double().repeat(4, 1)
    each = losses.neglect(shares.log()[None] / 100, (4, 8), [0, 1])
    torch.testing.assert_close(each, torch.tensor([[0.1, 0.6]]).double())

    objective = made(part, "attend and excite").objective(bound.binding, run_of(part, layers_of(part, tiny, "sd1")))
    attended = random_attended(part, objective, 2, (8, 8))
    found = objective.losses(attended)
    assert found.each.shape == (2, len(bound.binding.positions([bound.binding.entities[0].noun])) + 1)
    assert torch.equal(found.total, found.each.amax(1))


def test_divergences(losses):
    """Kullback-Leibler both ways, 0.510826 and 0.368064."""
    attention = torch.tensor([[0.5, 0.9], [0.5, 0.1]]).double()[None]
    torch.testing.assert_close(
        losses.divergences(attention)[0], torch.tensor([[0, 0.439445], [0.439445, 0]]).double(), rtol=0, atol=1e-6
    )
    torch.testing.assert_close(losses.divergences(7 * attention), losses.divergences(attention))


def test_misbinding_of_a_red_car(losses):
    """Beside a sheep: red and car are 0.439445 apart, and 0.475405 from the others."""
    red, car, others, sheep = (0.5, 0.5), (0.9, 0.1), (0.5, 0.5), (0.2, 0.8)
    attention = torch.tensor([red, car, others, sheep]).double().T[None]
    apart = losses.divergences(attention)[0]
    assert apart[1, 2:].tolist() == pytest.approx((0.439445, 1.254232), abs=1e-6)
    assert apart[0, 2:].tolist() == pytest.approx((0, 0.207944), abs=1e-6)
    related = losses.Related((1,), ((0,),))
    assert losses.misbinding(attention, [related]).item() == pytest.approx(-0.035960, abs=1e-6)
    alone = losses.misbinding(attention[..., :2], [related])
    assert alone.item() == pytest.approx(0.439445, abs=1e-6), "there are no other words"


def test_misbinding_of_words_of_several_pieces(losses):
    """By loops: of the pieces that one is counted which is furthest from a word, as in the published code."""
    attention = random(1, 6, 7).softmax(1)
    found = losses.misbinding(attention, [losses.Related((3, 4), ((1, 2), (5,)))])
    expected = slow_misbinding(attention[0], list(range(7)), [3, 4], [[1, 2], [5]])
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_attention_that_is_nowhere(losses):
    """Words that half precision has rounded to 0 in every patch: no loss or gradient that is no number."""
    attention = random(1, 6, 4)
    attention[..., 2] = 0
    attention.requires_grad_()
    loss = losses.misbinding(attention, [losses.Related((1,), ((0,),))]).sum()
    loss = loss + losses.outside([attention[:, None]], [torch.ones(1, 1, 6).double()], [[2]]).sum()
    (gradient,) = torch.autograd.grad(loss, attention)
    assert loss.isfinite() and gradient.isfinite().all()


def test_cells_of_a_box(part):
    cells = part("attention.engine.regions").cells_of_box
    box = (0.1, 0.2, 0.5, 0.8)
    sixteen, eight = cells(box, (16, 16)), cells(box, (8, 8))
    assert sixteen.sum() == 63 and sixteen[3:12, 1:8].all()
    assert eight.sum() == 20 and eight[1:6, 0:4].all()
    assert cells(box, (8, 16)).sum() == 5 * 7, "(height, width)"
    assert cells((0, 0, 1, 1), (5, 3)).all()


@pytest.mark.parametrize("box", [(0.4, 0.4, 0.41, 0.41), (0.99, 0.99, 1.0, 1.0), (1.0, 0.0, 1.0, 1.0)])
def test_box_within_a_cell(part, box):
    """An entity that would have no patch at all gets the one that it lies in."""
    assert part("attention.engine.regions").cells_of_box(box, (8, 8)).sum() >= 1


def halves(*shares):
    """Maps ``(1, H, 2, 1)`` of which each head has such a share in the first patch, and that region ``(1, 2)``."""
    maps = torch.tensor([[share, 1 - share] for share in shares]).double()
    return maps[None, ..., None], torch.tensor([[1.0, 0.0]]).double()


def test_layout_squares_each_head(losses, part):
    """Shares of 1 and 0.5: 0.125, which times 30 is 3.75, and low enough for the published threshold."""
    maps, region = halves(1, 0.5)
    loss = losses.outside([maps], [region[:, None]], [[0]])
    assert loss.item() == pytest.approx(0.125)
    method = made(part, "layout")
    assert method.step_size * loss.item() == pytest.approx(3.75)
    assert loss.item() < method.threshold == 0.2


def test_token_loss_squares_the_mean_of_the_heads(losses):
    maps, region = halves(1, 0.5)
    assert losses.token_loss(maps, region).item() == pytest.approx(0.0625)
    maps = torch.tensor([0.4, 0.1, 0.3, 0.2]).double().view(1, 1, 4, 1)
    left = torch.tensor([[1.0, 0, 1, 0]]).double()
    assert losses.share_within(maps, left).item() == pytest.approx(0.7)
    assert losses.token_loss(maps, left).item() == pytest.approx(0.09)


def test_pixel_loss(losses):
    maps = torch.tensor([0.9, 0.2, 0.6, 0.1]).double().view(1, 4, 1)
    assert losses.pixel_loss(maps, torch.tensor([[1, 0, 1, 0]])).item() == pytest.approx(0.236173, abs=1e-6)
    assert losses.pixel_loss(maps, torch.zeros(1, 4)).item() == pytest.approx(0.886845, abs=1e-6)
    split = torch.cat([0.25 * maps, 0.75 * maps], -1)
    assert losses.pixel_loss(split, torch.zeros(1, 4)).item() == pytest.approx(0.886845, abs=1e-6), "pieces add up"


def test_pixel_loss_of_certainty(losses):
    maps = torch.tensor([1.0, 0.0]).view(1, 2, 1).requires_grad_()
    loss = losses.pixel_loss(maps, torch.tensor([[0.0, 1.0]]))
    assert loss.item() == pytest.approx(-math.log(1e-6), rel=0.05)
    assert loss.isfinite()


GRADIENTS = {
    "among_words": lambda losses, a: losses.among_words(a, 10.0),
    "smoothed_peak": lambda losses, a: losses.smoothed_peak(a.transpose(1, 2), (2, 3)),
    "neglect": lambda losses, a: losses.neglect(a, (2, 3), [0, 2]),
    "divergences": lambda losses, a: losses.divergences(a),
    "misbinding": lambda losses, a: losses.misbinding(a, [losses.Related((0, 1), ((2,), (3,)))]),
    "outside": lambda losses, a: losses.outside([a[:, None]], [random(2, 2, 6, seed=1)], [[0, 2], [4]]),
    "token_loss": lambda losses, a: losses.token_loss(a[:, None], random(2, 6, seed=2).round()),
    "pixel_loss": lambda losses, a: losses.pixel_loss(a[..., :2] / 2, random(2, 6, seed=3).round()),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(losses, name):
    attention = (0.1 + 0.8 * random(2, 6, 5)).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: GRADIENTS[name](losses, a), attention)


def test_gradient_of_the_entropy_loss(part):
    module = part("attention.token_merge.binding_losses")
    attention = random(2, 6, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: module.entropy_loss(module.composite_maps(a, [[0, 1], [3]])), attention)


def test_probabilities_of_each_head(part):
    """Against loops, and in slices; with a bias and groups of weighted keys."""
    module = part("attention.engine.probabilities")
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(2, n, 3 * 4, generator=generator) for n in (5, 7))
    groups, bias = torch.rand(7, 2, generator=generator), torch.randn(2, 1, 5, 7, generator=generator)
    found = module.mean_probabilities(q, k, 3, groups, bias, per_head=True)
    assert found.shape == (2, 3, 5, 2)
    for row in range(2):
        for head in range(3):
            part_of = slice(4 * head, 4 * head + 4)
            logits = q[row, :, part_of].double() @ k[row, :, part_of].double().T / 2 + bias[row, 0]
            expected = logits.softmax(-1) @ groups.double()
            torch.testing.assert_close(found[row, head], expected.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.mean(1), module.mean_probabilities(q, k, 3, groups, bias))


def test_probabilities_of_each_head_in_slices(part, monkeypatch):
    module = part("attention.engine.probabilities")
    q, k = (random(2, n, 12, seed=n).float() for n in (5, 7))
    whole = module.mean_probabilities(q, k, 3, per_head=True)
    monkeypatch.setattr(module, "WORKING_ELEMENTS", 2 * 3 * 7 * 2)
    torch.testing.assert_close(module.mean_probabilities(q, k, 3, per_head=True), whole)


def random_attended(part, objective, batch, finest, area=None, latents=None):
    """Random attention of all layers of an objective to 77 rows, on grids that halve from ``finest`` on."""
    maps, grids = {}, {}
    for number, layer in enumerate(sorted(objective.layers)):
        grids[layer] = tuple(max(1, math.ceil(count / 2**layer.level)) for count in finest)
        generator = torch.Generator().manual_seed(number)
        logits = torch.randn(batch, 3, math.prod(grids[layer]), 77, generator=generator)
        maps[layer] = logits.double().softmax(-1)
    return part("attention.guidance.objective").Attended(maps, grids, area, latents or range(batch))


def slow_rows(binding):
    """Which rows the slow losses are of, in SD1's layout of a prompt that fits one chunk."""
    (tokens,) = binding.encoders
    return SimpleNamespace(
        words=[i for i, row in enumerate(tokens.rows) if row.kind == "text"],
        all=[*range(1, 76)],
        nouns=[binding.positions([entity.noun]) for entity in binding.entities],
        groups=[binding.positions(entity.phrases) for entity in binding.entities],
        modifiers=[[binding.positions([each]) for each in entity.attributes] for entity in binding.entities],
    )


BOXES = (0.1, 0.2, 0.5, 0.8), (0.5, 0.0, 1.0, 1.0)


def in_box(number):
    """Whether a patch is in a box whose edges are rounded down."""
    left, top, right, bottom = BOXES[number]

    def inside(y, x, grid):
        rows, columns = grid
        return float(int(top * rows) <= y < int(bottom * rows) and int(left * columns) <= x < int(right * columns))

    return inside


@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_against_loops(part, tiny, bound, loss, size):
    """Each of two latents; three heads, several layers, entities of several tokens."""
    binding = bound.binding
    assert [len(group) for group in bound.groups] == [len(bound.groups[0]), 2] and len(bound.groups[0]) > 5
    for entity, box in zip(binding.entities, BOXES, strict=True):
        binding = binding.with_entity(entity.name, box=box)
    objective = made(part, loss).objective(binding, run_of(part, layers_of(part, tiny, "sd1"), size, batch=2))
    attended = random_attended(part, objective, 2, size)
    found = objective.losses(attended)
    for latent in range(2):
        maps = {layer: each[latent] for layer, each in attended.maps.items()}
        expected = slow_losses(loss, maps, attended.grids, slow_rows(binding), [in_box(0), in_box(1)])
        assert found.each[latent].tolist() == pytest.approx(expected, rel=1e-9)
        total = {"attend and excite": max(expected), "syngen": sum(expected), "entropy": sum(expected)}
        assert found.total[latent].item() == pytest.approx(total.get(loss, sum(expected) / 2))


@pytest.mark.parametrize("loss", ["layout", "token and pixel"])
def test_mask_that_cuts_through_patches(part, tiny, bound, loss):
    """Layout guidance counts the part of a patch that is covered; token and pixel losses any patch that is touched."""
    mask = torch.zeros(1, 64, 64)
    mask[0, :10, 5:20] = 1

    def covered(y, x, grid):
        (rows, columns) = (64 / count for count in grid)
        down = max(0, min(10, (y + 1) * rows) - y * rows)
        across = max(0, min(20, (x + 1) * columns) - max(5, x * columns))
        return down * across / (rows * columns)

    binding = bound.binding.with_entity("dog", mask=mask)
    objective = made(part, loss).objective(binding, run_of(part, layers_of(part, tiny, "sd1")))
    attended, rows = random_attended(part, objective, 1, (64, 64)), slow_rows(binding)
    maps = {layer: each[0] for layer, each in attended.maps.items()}
    rows.nouns, rows.groups = rows.nouns[1:], rows.groups[1:]
    expected = slow_losses(loss, maps, attended.grids, rows, [covered])
    assert objective.losses(attended).each[0].tolist() == pytest.approx(expected, rel=1e-6)


def test_words_compete_without_end_tokens(part, tiny, bound):
    layers = layers_of(part, tiny, "sd1")
    objective = made(part, "attend and excite", softmax_over="words").objective(bound.binding, run_of(part, layers))
    attended, rows = random_attended(part, objective, 1, (16, 16)), slow_rows(bound.binding)
    rows.all = rows.words
    maps = {layer: each[0] for layer, each in attended.maps.items()}
    expected = slow_losses("attend and excite", maps, attended.grids, rows)
    assert objective.losses(attended).each[0].tolist() == pytest.approx(expected, rel=1e-9)
    assert len(rows.words) < 20


def test_rows_of_two_chunks(part, tiny):
    """Start tokens of both chunks are left out, and the very last row."""
    text = "a red cat " + "in a park " * 30 + "and a blue dog"
    long = bind(part, tiny("sd1").clip, text, "cat: red | dog: blue")
    run = run_of(part, layers_of(part, tiny, "sd1"))
    objective = made(part, "attend and excite").objective(long.binding, run)
    assert objective.rows == [row for row in range(153) if row not in (0, 77)]
    assert [objective.rows[place] for place in objective.subjects] == [3, 99]
    words = made(part, "syngen").objective(long.binding, run).rows
    assert words == [*range(1, 76), *range(78, 100)]


@pytest.mark.parametrize("masked", [True, False])
def test_regions(part, tiny, bound, masked):
    """Masks of each latent by how much of a patch they cover; boxes in an area of the picture likewise."""
    rows, area = part("attention.engine.rows"), None
    binding = bound.binding.with_entity("dog", box=(0.5, 0.0, 1.0, 1.0))
    if masked:
        mask = torch.zeros(3, 32, 32)
        mask[1, :8, :12], mask[2] = 1, 1
        binding = binding.with_entity("zorblax", mask=mask)
    else:
        area = rows.Area(32, 32, 0, 16)
        binding = binding.with_entity("zorblax", box=(0.25, 0.0, 0.625, 0.25))
    run = run_of(part, layers_of(part, tiny, "sd1"), batch=3)
    objective = made(part, "layout").objective(binding, run)
    attended = random_attended(part, objective, 2, (32, 32) if area else (64, 64), area, [2, 1])
    layer = next(each for each in objective.layers if each.level == 2)
    found = objective.regions(attended, layer).unflatten(2, attended.grids[layer])
    if masked:
        assert found.shape == (2, 2, 16, 16) and found[0, 0].all()
        assert found[1, 0].sum() == 4 * 6 and (found[1, 0, :4, :6] == 1).all()
        assert (found[:, 1, :, 8:] == 1).all() and not found[:, 1, :, :8].any()
    else:
        assert found.shape == (2, 2, 8, 8)
        assert found[0, 0, :4, :6].all() and found[0, 0].sum() == 4 * 6, "the box is cells 16 to 40 of 64, the area is"
        assert found[0, 1, :, 4:].all() and found[0, 1].sum() == 8 * 4
