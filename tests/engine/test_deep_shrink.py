"""PatchModelAddDownscale (Kohya's deep shrink) has layers work on a smaller grid in the first steps of a run."""

import pytest
import torch
import torch.nn.functional as F

from attention_reference import Reference, record, sample
from gradients import slowly
from techniques import TECHNIQUES, TechniquesBench

SIZE = (32, 32)
"""Large enough for the layers that techniques look at to be among the shrunk ones."""
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def bench(comfy, part, tiny):
    return TechniquesBench(comfy, part, tiny("sd1"))


def shrunk(model, block: int = 3, factor: float = 2.0, after_skip: bool = True):
    from comfy_extras.nodes_model_downscale import PatchModelAddDownscale

    return PatchModelAddDownscale.execute(model, block, factor, 0.0, 0.5, after_skip, "bicubic", "bicubic").args[0]


@pytest.mark.parametrize("technique", slowly(TECHNIQUES, ["modulation", "attend and excite"]))
def test_every_technique(bench, technique):
    model, positive = bench.with_technique(technique)
    found = bench.run(shrunk(model), positive, size=SIZE).latent
    assert found.isfinite().all()
    theirs = bench.run(shrunk(bench.model), size=SIZE).latent
    assert torch.equal(found, theirs) == (technique in ("nothing", "recorder"))


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "size", "after_skip"), [(1.7, (32, 32), True), (2.0, (36, 34), False)])
def test_other_sizes(bench, factor, size, after_skip):
    for technique in ("modulation", "attend and excite", "token and pixel", "optimization"):
        model, positive = bench.with_technique(technique)
        model = shrunk(model, factor=factor, after_skip=after_skip)
        assert bench.run(model, positive, size=size, steps=2).latent.isfinite().all()


def resized(maps: torch.Tensor, side: int) -> torch.Tensor:
    return F.interpolate(maps, size=(side, side), mode="bilinear", align_corners=False)


@pytest.fixture(scope="module")
def recorded(bench):
    """A recording of a shrunk and a usual step, step by step, and what was seen in its calls."""
    model, maps = record(
        bench.part, bench.model, bench.bound, resolution="latent/4", keep=1, affinity=True, point=(0.3, 0.6)
    )
    with Reference(bench.model).watching() as reference:
        latent = sample(bench.comfy, shrunk(model), bench.positive, bench.negative, size=(32, 32), steps=2)
    return maps.find(latent), reference


def of_layers(reference, kind: str, call):
    """Queries and keys of the bound row in the layers that work on a grid of 8 x 8 in the usual step, in one call."""
    usual = reference.calls[1].seen
    for layer, seen in call.seen.items():
        if layer.endswith(kind) and usual[layer]["to_q"].shape[1] == 64:
            yield reference.unet.get_submodule(layer).heads, seen["to_q"], seen["to_k"]


def test_recorded_maps(bench, recorded):
    recording, reference = recorded
    for step, call in enumerate(reference.calls):
        (row,) = reference.rows(call, bench.bound.embedding)
        found = []
        for heads, q, k in of_layers(reference, "attn2", call):
            shares = Reference._softmax(q[row : row + 1], k[row : row + 1], heads)
            maps = torch.stack([shares[..., list(group)].mean(-1) for group in bench.bound.groups], 1)
            found.append(resized(maps.unflatten(2, (int(maps.shape[2] ** 0.5),) * 2), 8))
        expected = torch.stack(found).mean(0)
        assert (recording.grids[0].maps[step, :, :2].double() - expected).abs().max() < TOLERANCE * expected.max()
    sides = [{q.shape[1] for _, q, _ in of_layers(reference, "attn2", call)} for call in reference.calls]
    assert sides == [{16, 64}, {64}] or sides == [{16}, {64}]


def test_recorded_self_attention(recorded):
    """Shares that add up to 1 on the usual grid, and with which each patch attends to where it did."""
    recording, reference = recorded
    of_point = recording.grids[0].maps[:, 0, -1].double()
    assert of_point.sum((1, 2)).tolist() == pytest.approx([1, 1], rel=0.05)
    affinity = recording.grids[0].affinity[0].double()
    assert affinity.shape == (64, 64) and affinity.sum(-1).tolist() == pytest.approx([1] * 64, rel=1e-4)
