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
