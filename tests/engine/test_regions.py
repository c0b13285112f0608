"""Regions of entities, masks and boxes, in the patches of a layer."""

import pytest
import torch


@pytest.fixture(scope="module")
def regions(part):
    return part("attention.engine.regions")


@pytest.mark.parametrize("size", [(4, 8), (2, 2), (16, 32)])
def test_mask_of_any_size_is_stretched(regions, size):
    mask = torch.zeros(2, *size)
    mask[0, : size[0] // 2] = 1
    mask[1, :, size[1] // 2 :] = 1
    found = regions.region(mask, None, (4, 8))
    assert found.shape == (2, 4, 8)
    assert found[0].tolist() == [[1] * 8] * 2 + [[0] * 8] * 2
    assert found[1].tolist() == [[0] * 4 + [1] * 4] * 4


def test_mask_comes_before_a_box(regions):
    assert regions.region(torch.ones(1, 2, 2), (0, 0, 0.5, 0.5), (2, 2)).tolist() == [[[1, 1], [1, 1]]]


def test_box(regions):
    """Left, top, right, bottom; a cell that it covers in part counts in part."""
    found = regions.region(None, (0.25, 0.5, 0.625, 1.0), (2, 4))
    assert found.tolist() == [[[0, 0, 0, 0], [0, 1, 0.5, 0]]]
    assert regions.region(None, (0.0, 0.0, 1.0, 1.0), (3, 5)).eq(1).all()
    fine = torch.zeros(700, 900)
    fine[210:560, 90:405] = 1
    slow = fine.view(7, 100, 9, 100).mean((1, 3))
    assert torch.allclose(regions.region(None, (0.1, 0.3, 0.45, 0.8), (7, 9))[0], slow, atol=1e-5)


def test_regions_on_the_grid_of_a_layer(part, regions):
    area = part("attention.engine.rows").Area
    cells = torch.zeros(1, 1, 4, 6)
    cells[..., :3, 2:] = 1
    assert regions.coverage_in(cells, None, (2, 3)).tolist() == [[[[0, 1, 1], [0, 0.5, 0.5]]]]
    assert regions.coverage_in(cells, area(2, 4, 1, 2), (1, 2)).tolist() == [[[[1, 1]]]]
    assert regions.coverage_in(cells, area(2, 4, 2, 0), (2, 4)).tolist() == [[[[0, 0, 1, 1], [0, 0, 0, 0]]]]
    assert regions.coverage_in(cells[..., :3, :5], None, (2, 3)).shape == (1, 1, 2, 3)
