"""The token and pixel losses on what a pass has shown, against loops in float64 and the examples of methods.md, D.9."""

from __future__ import annotations

import math
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch

Seen = namedtuple("Seen", "layer grid maps")
CONTEXT = 11


@pytest.fixture(scope="module")
def grounding(part):
    return part("training.grounding")


@pytest.fixture(scope="module")
def layers(part):
    """Those of a kind of model on latents of 16 x 16: by block, number, index and level."""
    Layer = part("attention.engine.calls").Layer
    sd1 = [("input", 1, 0, 0), ("middle", 0, 0, 3), *(("output", n, 0, 2 - (n - 3) // 3) for n in range(3, 12))]
    sdxl = [("middle", 0, i, 2) for i in range(4)]
    sdxl += [("output", n, i, 2) for n in (0, 1, 2) for i in range(4)] + [("output", 3, i, 1) for i in range(2)]
    return {"sd1": [Layer(*each) for each in sd1], "sdxl": [Layer(*each) for each in sdxl]}


def attention(layers, batch: int, heads: int = 2, dtype=torch.float64, seed: int = 0) -> dict:
    """Of each layer the probabilities ``(B, heads, N, T)`` over the whole context."""
    generator = torch.Generator().manual_seed(seed)
    side = {layer: 16 >> layer.level for layer in layers}
    return {
        layer: (3 * torch.randn(batch, heads, side[layer] ** 2, CONTEXT, generator=generator, dtype=dtype)).softmax(-1)
        for layer in layers
    }


def nouns_of(grounding, rows, seed: int = 0):
    masks = torch.rand(len(rows), 64, 64, generator=torch.Generator().manual_seed(seed)) > 0.999
    for place in range(len(rows)):
        masks[place, 10 + 4 * place : 40, 5 : 30 + 8 * place] = True
    return grounding.Nouns(tuple(rows), masks)


def shown(grounding, whole: dict, nouns) -> list:
    """What a pass that watches the rows of the nouns shows."""
    rows = grounding.watched_rows(nouns)
    found = []
    for layer, maps in whole.items():
        side = math.isqrt(maps.shape[2])
        chosen = torch.stack([of_sample[..., own] for of_sample, own in zip(maps, rows, strict=True)])
        found.append(Seen(layer, (side, side), chosen))
    return found


def slow(whole: dict, sample: int, nouns) -> tuple[float, float, float]:
    """Both losses of a sample as methods.md, D.3 has them, and the share within the masks, by loops."""
    from torchvision.transforms.functional import InterpolationMode, resize

    groups = {}
    for layer, maps in whole.items():
        groups.setdefault((layer.block == "middle", layer.level), []).append(maps[sample].tolist())
    token, pixel, by_layer = 0.0, 0.0, []
    for (middle, _), of_group in groups.items():
        cells = len(of_group[0][0])
        side, heads = math.isqrt(cells), range(len(of_group[0]))
        mask = resize(nouns.masks.float(), [side, side], InterpolationMode.BILINEAR, antialias=True) > 0
        inside = mask.flatten(1).tolist()
        for maps in of_group:
            layer_shares = []
            for noun, own in enumerate(nouns.rows):
                loss = 0.0
                for row in own:
                    shares = []
                    for head in heads:
                        values = [maps[head][cell][row] for cell in range(cells)]
                        within = sum(value for value, is_in in zip(values, inside[noun], strict=True) if is_in)
                        shares.append(within / sum(values))
                    loss += (1 - sum(shares) / len(shares)) ** 2 / len(own)
                    layer_shares.append(sum(shares) / len(shares) / len(own))
                # Each layer counts by how many there are in Stable Diffusion 1.
                token += loss / len(nouns.rows) / len(of_group) * (1 if middle else 3)
            by_layer.append(sum(layer_shares) / len(nouns.rows))
        for noun, own in enumerate(nouns.rows):
            entropy = 0.0
            for cell in range(cells):
                mean = 0.0
                for row in own:
                    mean += (
                        sum(maps[head][cell][row] for maps in of_group for head in heads) / len(of_group) / len(heads)
                    )
                entropy -= math.log(mean if inside[noun][cell] else 1 - mean) / cells
            pixel += entropy / len(nouns.rows)
    return token, pixel, sum(by_layer) / len(by_layer)


def test_the_examples(grounding, part):
    """methods.md, D.9.1 and D.9.2, in a middle layer, whose losses count once."""
    layer = part("attention.engine.calls").Layer("middle", 0, 0, 0)

    def losses(maps, mask):
        return grounding.losses_of([Seen(layer, mask.shape[-2:], maps)], [grounding.Nouns(((1,),), mask[None])])

    left = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    found = losses(torch.tensor([0.4, 0.1, 0.3, 0.2]).reshape(1, 1, 4, 1), left)
    assert found.token.tolist() == pytest.approx([0.09]) and found.share.tolist() == pytest.approx([0.7])
    heads = torch.tensor([[0.5, 0.0, 0.5, 0.0], [0.25, 0.25, 0.25, 0.25]]).reshape(1, 2, 4, 1)
    assert losses(heads, left).token.tolist() == pytest.approx([0.0625])
    maps = torch.tensor([0.9, 0.2, 0.6, 0.1]).reshape(1, 1, 4, 1)
    assert losses(maps, left).pixel.tolist() == pytest.approx([0.236173], abs=1e-6)
    empty = losses(maps, torch.zeros(2, 2))
    assert empty.pixel.tolist() == pytest.approx([0.886845], abs=1e-6) and empty.token.tolist() == [1.0]


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_against_loops(grounding, layers, kind):
    """Of two samples that have other nouns, of one and more pieces."""
    chosen = sorted(grounding.published_layers(layers[kind]))
    assert len(chosen) == {"sd1": 10, "sdxl": 18}[kind] and all(layer.block != "input" for layer in chosen)
    whole = attention(chosen, batch=2)
    nouns = [nouns_of(grounding, [(2,), (5, 6)]), nouns_of(grounding, [(4, 7, 8)], seed=1)]
    found = grounding.losses_of(shown(grounding, whole, nouns), nouns)
    for sample in (0, 1):
        assert [float(each[sample]) for each in found] == pytest.approx(slow(whole, sample, nouns[sample]), rel=1e-9)


def test_layers_of_a_group_beyond_sd1s_count_less(grounding, part):
    """Twelve equal layers of SDXL's decoder count as SD1's three."""
    Layer = part("attention.engine.calls").Layer
    of_three, of_many = ([Layer("output", 0, index, 2) for index in range(count)] for count in (3, 12))
    maps = attention(of_three[:1], batch=1)[of_three[0]]
    nouns = [nouns_of(grounding, [(2,), (5, 6)])]
    few, many = (
        grounding.losses_of(shown(grounding, dict.fromkeys(each, maps), nouns), nouns) for each in (of_three, of_many)
    )
    one = grounding.losses_of(shown(grounding, {Layer("middle", 0, 0, 2): maps}, nouns), nouns)
    assert torch.allclose(many.token, few.token) and torch.allclose(few.token, 3 * one.token)
    assert torch.allclose(many.pixel, one.pixel)


def test_rows_and_columns(grounding):
    nouns = [nouns_of(grounding, [(2,), (5, 6)]), nouns_of(grounding, []), nouns_of(grounding, [(9,)])]
    assert grounding.watched_rows(nouns).tolist() == [[2, 5, 6], [0, 0, 0], [9, 0, 0]]
    assert grounding.columns_of(nouns[0]) == [slice(0, 1), slice(1, 3)]
    assert grounding.watched_rows(nouns[1:2]).tolist() == [[0]]


def test_a_sample_without_nouns_adds_nothing(grounding, layers):
    chosen = sorted(grounding.published_layers(layers["sd1"]))
    whole = {layer: maps.requires_grad_() for layer, maps in attention(chosen, batch=2).items()}
    nouns = [nouns_of(grounding, []), nouns_of(grounding, [(3,)])]
    found = grounding.losses_of(shown(grounding, whole, nouns), nouns)
    assert found.token[0] == found.pixel[0] == 0 and found.share[0].isnan() and not found.share[1].isnan()
    (found.token + found.pixel).sum().backward()
    for maps in whole.values():
        assert not maps.grad[0].any() and maps.grad[1].any() and maps.grad.isfinite().all()


def test_gradients_by_finite_differences(grounding, part):
    layer = part("attention.engine.calls").Layer("output", 3, 0, 2)
    logits = torch.randn(1, 2, 16, CONTEXT, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    nouns = [nouns_of(grounding, [(2,), (5, 6)])]

    def losses(logits):
        found = grounding.losses_of(shown(grounding, {layer: logits.softmax(-1)}, nouns), nouns)
        return found.token + 0.05 * found.pixel

    assert torch.autograd.gradcheck(losses, logits.requires_grad_())


def test_nothing_seen_is_an_error(grounding):
    with pytest.raises(ValueError, match="no cross-attention"):
        grounding.losses_of([], [SimpleNamespace(rows=((1,),))])
