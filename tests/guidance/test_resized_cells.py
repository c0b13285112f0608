"""Which patches are in a region by the published resizing of masks, which the token and pixel losses may take."""

import pytest
import torch

from attention_reference import bind
from guiding import slow_losses, widgets

BOX = (0.26, 0.13, 0.61, 0.87)


@pytest.fixture(scope="module")
def cells(part):
    """``cells(entities, size, area, grid)`` of latents whose cells are 8 pixels wide."""
    found = part("attention.engine.regions").resized_cells
    return lambda entities, size, area, grid: found(entities, size, 8, area, grid)


@pytest.fixture(scope="module")
def entity(part):
    module = part("parsing.binding")
    return lambda **region: module.Entity("dog", module.Phrase("dog", ()), **region)


def test_one_pixel(cells, entity):
    """methods.md, D.9.3: any patch that the resized mask has anything in."""
    mask, line = torch.zeros(1, 4, 4), torch.zeros(1, 1, 512)
    mask[0, 1, 1] = line[..., 100] = 1
    assert cells([entity(mask=mask)], (2, 2), None, (2, 2)).all()
    assert cells([entity(mask=line)], (1, 16), None, (1, 16))[0, 0, 0].nonzero().flatten().tolist() == [2, 3]


@pytest.mark.parametrize("latents", [1, 2])
@pytest.mark.parametrize("grid", [(16, 16), (32, 24), (64, 64)])
def test_masks_and_boxes(part, cells, entity, latents, grid):
    """Against torchvision, whose Resize the published code takes; the area of a conditioning is cut out first."""
    from torchvision.transforms.functional import InterpolationMode, resize

    masks = (torch.rand(latents, 512, 512, generator=torch.Generator().manual_seed(3)) > 0.9995).float()
    box = torch.zeros(latents, 512, 512)
    box[:, 67:445, 133:312] = 1
    pixels, entities = torch.stack([masks, box], 1), [entity(mask=masks), entity(box=BOX)]
    for area, cut in (
        (None, pixels),
        (part("attention.engine.rows").Area(32, 48, 16, 8), pixels[..., 128:384, 64:448]),
    ):
        expected = resize(cut, list(grid), InterpolationMode.BILINEAR, antialias=True) > 0
        assert torch.equal(cells(entities, (64, 64), area, grid), expected)


def test_losses_by_resized_cells(part, tiny, cells):
    """By loops, for an entity with a box; all that is touched is fewer patches."""
    loaded = tiny("sd1")
    binding = bind(part, loaded.clip, "a red cat and a blue dog", "cat: red | dog: blue").binding
    binding = binding.with_entity("dog", box=BOX)
    layers = part("attention.engine.layers").layers_of(loaded.model)
    run = part("attention.engine.run").Run(layers, tuple(range(10, -1, -1)), 1, 32, 32, 8)
    found, counts = {}, {}
    for kind in ("touched", "resized"):
        method = part("nodes.guidance.guidance").method_of(**widgets("token and pixel", cells=kind))
        objective = method.objective(binding, run)
        grids = {layer: (32 >> layer.level, 32 >> layer.level) for layer in objective.layers}
        generator = torch.Generator().manual_seed(0)
        maps = {
            layer: torch.rand(1, 2, height * width, 77, generator=generator).softmax(-1)
            for layer, (height, width) in grids.items()
        }
        attended = part("attention.guidance.objective").Attended(maps, grids, None, [0])
        found[kind] = objective.losses(attended).each[0].tolist()
        counts[kind] = int(objective.cells(attended, objective.layers[-1]).sum())

    def inside(y, x, grid):
        return float(cells([binding.entity("dog")], (32, 32), None, grid)[0, 0, y, x])

    rows = type("Rows", (), {"nouns": [binding.positions([binding.entity("dog").noun])]})
    expected = slow_losses(
        "token and pixel", {layer: each[0].double() for layer, each in maps.items()}, grids, rows, [inside]
    )
    assert found["resized"] == pytest.approx(expected, rel=1e-5)
    assert found["resized"] != pytest.approx(found["touched"], rel=1e-2) and counts["resized"] > counts["touched"]
