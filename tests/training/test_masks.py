"""Pictures and masks in the sizes of a training, against torchvision, which the published code takes."""

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(scope="module")
def masks(part):
    return part("training.masks")


def test_one_pixel(masks):
    """methods.md, D.9.3."""
    one, line = torch.zeros(4, 4), torch.zeros(1, 1, 512)
    one[1, 1] = line[..., 100] = 1
    assert masks.resized(one, (2, 2)).tolist() == [[1, 1], [1, 1]]
    assert masks.resized(one, (2, 2), antialias=False).tolist() == [[1, 0], [0, 0]]
    assert masks.resized(line, (1, 16))[0, 0].nonzero().flatten().tolist() == [2, 3]
    assert not masks.resized(line, (1, 16), antialias=False).any()


@pytest.mark.parametrize("antialias", [True, False])
def test_resizing_is_torchvisions(masks, antialias):
    from torchvision.transforms.functional import InterpolationMode, resize

    mask = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0)) > 0.998
    for grid in ((12, 12), (6, 6), (7, 9)):
        expected = resize(mask.float(), list(grid), InterpolationMode.BILINEAR, antialias=antialias) > 0
        found = masks.resized(mask, grid, antialias)
        assert torch.equal(found, expected.float()) and 0 < found.mean() < 1


@pytest.mark.parametrize("shape", [(64, 64), (90, 61), (61, 90), (33, 100), (31, 32), (200, 129)])
def test_cropping_is_torchvisions(masks, shape):
    from torchvision import transforms

    published = transforms.Compose([transforms.Resize(64), transforms.CenterCrop(64)])
    pixels = np.random.default_rng(0).integers(0, 255, (shape[1], shape[0], 3), np.uint8)
    for picture in (Image.fromarray(pixels), Image.fromarray(pixels[..., 0])):
        found = masks.cropped(picture, 64)
        assert found.size == (64, 64) and np.array_equal(np.array(found), np.array(published(picture)))


def test_pictures_are_turned_as_people_see_them(masks, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "turned.jpg", exif=exif)
    assert masks.opened(tmp_path / "turned.jpg").size == (4, 8)


def test_a_coloured_mask_is_its_first_channel(masks, tmp_path):
    Image.new("RGBA", (4, 4), (200, 10, 10, 255)).save(tmp_path / "mask.png")
    assert masks.opened_mask(tmp_path / "mask.png").getextrema() == (200, 200)
