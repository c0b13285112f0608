"""Which entity each patch belongs to: by scores, by masks and boxes."""

import pytest
import torch


@pytest.fixture(scope="module")
def patches(part):
    return part("attention.modulation.patches")


def test_smoothing_is_the_mean_of_the_neighbours_that_there_are(patches):
    scores = torch.zeros(1, 2, 3, 4)
    scores[0, 0, 0, 0] = 36
    scores[0, 1, 1, 1] = 36
    found = patches.smoothed(scores)[0]
    assert found[0].tolist() == [[9, 6, 0, 0], [6, 4, 0, 0], [0, 0, 0, 0]]
    assert found[1].tolist() == [[9, 6, 6, 0], [6, 4, 4, 0], [9, 6, 6, 0]]


def test_smoothing_of_a_single_patch(patches):
    assert patches.smoothed(torch.full((1, 1, 1, 1), 3.0)).item() == 3


def test_resizing_is_bilinear(part):
    resized = part("attention.engine.frame").on_grid
    scores = torch.tensor([[[[0.0, 4.0]]]])
    assert resized(scores, (1, 4)).tolist() == [[[[0, 1, 3, 4]]]]
    assert resized(scores, (1, 2)) is scores


def test_highest_score_has_the_patch_and_the_first_of_equals(patches):
    scores = torch.tensor([[[0.2, 0.5, 0.3], [0.4, 0.5, 0.1], [0.4, 0.5, 0.3]]])[..., None]
    assert patches.entity_of_patches(scores, 0.0).tolist() == [[1, 0, 0]]
    assert patches.entity_of_patches(scores.flip(1), 0.0).tolist() == [[0, 0, 0]]


def test_least_share(patches):
    scores = torch.tensor([[[0.3, 0.2, 0.05], [0.1, 0.2, 0.1]]])[..., None]
    assert patches.entity_of_patches(scores, 0.0).tolist() == [[0, 0, 1]]
    assert patches.entity_of_patches(scores, 0.5).tolist() == [[0, 0, 1]]
    assert patches.entity_of_patches(scores, 0.7).tolist() == [[0, -1, -1]]
    assert patches.entity_of_patches(scores, 1.0).tolist() == [[-1, -1, -1]]
    assert patches.entity_of_patches(torch.zeros(1, 2, 1, 1), 0.1).tolist() == [[-1]]


def test_batch_is_told_apart(patches):
    scores = torch.tensor([[[[1.0]], [[2.0]]], [[[2.0]], [[1.0]]]])
    assert patches.entity_of_patches(scores, 0.0).tolist() == [[1], [0]]


def test_covered_patches(patches):
    """The one that covers more, the first of equals, and nobody where nothing is covered."""
    coverage = torch.tensor([[[0.0, 0.1, 0.6, 1.0], [0.0, 0.0, 0.7, 1.0]]])[..., None]
    assert patches.entity_of_covered(coverage, 0.0).tolist() == [[-1, 0, 1, 0]]
    assert patches.entity_of_covered(coverage, 0.5).tolist() == [[-1, -1, 1, 0]]


@pytest.mark.parametrize("size", [(4, 8), (2, 2), (16, 32)])
def test_mask_of_any_size_is_stretched(patches, size):
    mask = torch.zeros(2, *size)
    mask[0, : size[0] // 2] = 1
    mask[1, :, size[1] // 2 :] = 1
    found = patches.region(mask, None, (4, 8))
    assert found.shape == (2, 4, 8)
    assert found[0].tolist() == [[1] * 8] * 2 + [[0] * 8] * 2
    assert found[1].tolist() == [[0] * 4 + [1] * 4] * 4


def test_mask_comes_before_a_box(patches):
    assert patches.region(torch.ones(1, 2, 2), (0, 0, 0.5, 0.5), (2, 2)).tolist() == [[[1, 1], [1, 1]]]


def test_box(patches):
    """Left, top, right, bottom; a cell that it covers in part counts in part."""
    found = patches.region(None, (0.25, 0.5, 0.625, 1.0), (2, 4))
    assert found.tolist() == [[[0, 0, 0, 0], [0, 1, 0.5, 0]]]
    assert patches.region(None, (0.0, 0.0, 1.0, 1.0), (3, 5)).eq(1).all()
    fine = torch.zeros(700, 900)
    fine[210:560, 90:405] = 1
    slow = fine.view(7, 100, 9, 100).mean((1, 3))
    assert torch.allclose(patches.region(None, (0.1, 0.3, 0.45, 0.8), (7, 9))[0], slow, atol=1e-5)


def test_regions_on_the_grid_of_a_layer(part, patches):
    area = part("attention.engine.rows").Area
    regions = torch.zeros(1, 1, 4, 6)
    regions[..., :3, 2:] = 1
    assert patches.coverage_in(regions, None, (2, 3)).tolist() == [[[[0, 1, 1], [0, 0.5, 0.5]]]]
    assert patches.coverage_in(regions, area(2, 4, 1, 2), (1, 2)).tolist() == [[[[1, 1]]]]
    assert patches.coverage_in(regions, area(2, 4, 2, 0), (2, 4)).tolist() == [[[[0, 0, 1, 1], [0, 0, 0, 0]]]]
    assert patches.coverage_in(regions[..., :3, :5], None, (2, 3)).shape == (1, 1, 2, 3)
