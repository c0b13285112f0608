"""What the viewer of recorded attention is sent: values, scales, sizes, files."""

import base64
import io
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from recordings import recording


@pytest.fixture(scope="module")
def maps(part):
    return part("attention.maps.recording")


@pytest.fixture(scope="module")
def atlases(part):
    return part("attention.maps.atlas")


def read(file: bytes, count: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The bytes ``(count, height, width)`` and the scales ``(count, 2)`` of an atlas, read as its description says."""
    picture = np.asarray(Image.open(io.BytesIO(file)))
    head = math.ceil(8 * count / picture.shape[1])
    scales = np.frombuffer(picture[:head].tobytes()[: 8 * count], "<f4").reshape(count, 2)
    columns = picture.shape[1] // width
    tiles = [
        picture[head + index // columns * height :, index % columns * width :][:height, :width]
        for index in range(count)
    ]
    return np.stack(tiles), scales


def test_an_atlas_holds_bytes_and_the_scale_of_each_map(atlases):
    made = torch.tensor([[[0.0, 0.1], [0.2, 0.5]], [[0.3, 0.3], [0.3, 0.3]], [[0.75, 0.5], [0.25, 0.25]]])
    tiles, scales = read(atlases.atlas(made), 3, 2, 2)
    assert tiles.tolist() == [[[0, 51], [102, 255]], [[0, 0], [0, 0]], [[255, 128], [0, 0]]]
    assert scales.tolist() == np.float32([[0, 0.5], [0.3, 0.3], [0.25, 0.75]]).tolist()


@pytest.mark.parametrize("size", [(3, 5), (32, 32), (1, 7), (12, 4)])
@pytest.mark.parametrize("count", [1, 2, 7, 200])
def test_values_come_back_to_half_a_byte(atlases, count, size):
    made = torch.rand(count, *size, generator=torch.Generator().manual_seed(count)) * 0.1
    file = atlases.atlas(made)
    tiles, scales = read(file, count, *size)
    low, high = scales[:, :1, None], scales[:, 1:, None]
    assert np.abs(low + tiles / 255 * (high - low) - made.numpy()).max() <= ((high - low) / 255).max() * 0.501
    width, height = Image.open(io.BytesIO(file)).size
    assert max(width, height) <= 8 * math.sqrt(count * math.prod(size)) + 8, "it is about square"


def test_who_looks_at_a_patch(atlases):
    affinity = torch.rand(6, 6).softmax(1)
    found = atlases.lookers(affinity, (2, 3))
    assert found.shape == (6, 2, 3)
    assert found[4, 1, 0] == affinity[3, 4], "patch 3 is at row 1, column 0"


def test_a_large_affinity_is_sent_on_a_coarser_grid(atlases, monkeypatch):
    monkeypatch.setattr(atlases, "MOST_PATCHES", 4)
    assert atlases.sent_size((4, 4)) == (2, 2)
    assert atlases.sent_size((2, 2)) == (2, 2)
    affinity = torch.rand(16, 16).softmax(1)
    found = atlases.lookers(affinity, (4, 4))
    assert found.shape == (4, 2, 2)
    right_above, left_below = [2, 3, 6, 7], [8, 9, 12, 13]
    expected = affinity[left_below][:, right_above].sum(1).mean()
    assert torch.allclose(found[1, 1, 0], expected)
    assert torch.allclose(found.sum(0), torch.ones(2, 2)), "of each patch that looks, all it looks at is 1"


def test_files_and_their_description(part, maps, tmp_path):
    pictures = part("attention.maps.pictures")
    made = recording(maps)
    images = torch.rand(2, 32, 32, 3)
    style = pictures.Style("grid", "shared", "ocean", 0.5, True)
    told = json.loads(json.dumps(part("attention.maps.viewer").write(made, images, style, tmp_path / "of a run")))
    assert (told["labels"], told["entities"]) == (["cat", "dog", "bird"], ["cat", "dog", ""])
    assert (told["steps"], told["steps_of_run"], told["latents"]) == ([[0, 0]], 3, 2)
    assert (told["latent_size"], told["image_size"], told["affinity"]) == ([4, 4], [32, 32], None)
    assert (told["normalisation"], told["opacity"]) == ("shared", 0.5)
    palette = np.frombuffer(base64.b64decode(told["palette"]), np.uint8).reshape(256, 3)
    assert np.abs(palette / 255 - part("attention.maps.colours").colour_table("ocean").numpy()).max() < 0.5 / 255 + 1e-6
    for grid, sent in zip(made.grids, told["grids"], strict=True):
        assert sent["layers"] == 1
        for latent, name in enumerate(sent["files"]):
            tiles, scales = read((tmp_path / "of a run" / name).read_bytes(), 3, *sent["size"])
            expected = grid.maps[0, latent].numpy()
            assert np.abs(scales[:, 1] - expected.max((1, 2))).max() == 0
            brightest = np.take_along_axis(expected.reshape(3, -1), tiles.reshape(3, -1).argmax(1)[:, None], 1)[:, 0]
            assert (brightest >= expected.max((1, 2)) - np.ptp(expected, (1, 2)) / 255).all()
    shown = np.asarray(Image.open(tmp_path / "of a run" / told["pictures"][1]))
    assert np.abs(shown / 255 - images[1].numpy()).max() <= 0.5 / 255 + 1e-6
    again = part("attention.maps.viewer").write(made, None, style, tmp_path / "of a run")
    assert again["pictures"] == []
    assert again["image_size"] == (32, 32)
    assert not set(again["grids"][0]["files"]) & set(told["grids"][0]["files"]), "no run's files replace another's"


def test_what_sdxl_sends_stays_small(part, maps, tmp_path):
    """20 words and 10 steps of the grid that "auto" takes, as noise, than which no map is larger; and with affinity."""
    noise = torch.rand(10, 1, 20, 32, 32)
    affinity = torch.rand(1, 1024, 1024)
    grid = maps.Grid(2, tuple(f"layer {number}" for number in range(60)), noise, affinity)
    made = maps.Recording(
        prompt="",
        labels=tuple(f"word {number}" for number in range(20)),
        entities=("",) * 20,
        latent_size=(128, 128),
        cell=8,
        steps=tuple((3 * step,) for step in range(10)),
        sigmas=(1.0,) * 31,
        grids=(grid,),
    )
    style = part("attention.maps.pictures").Style("grid", "shared", "ember", 0.5, True)
    told = part("attention.maps.viewer").write(made, None, style, tmp_path)
    [file] = told["grids"][0]["files"]
    assert (tmp_path / file).stat().st_size <= 215_000
    assert (tmp_path / file).stat().st_size + len(json.dumps(told)) <= 300_000
    assert len(json.dumps(told)) <= 5_000, "the message names files and holds none"
    [file] = told["affinity"]["files"]
    assert (tmp_path / file).stat().st_size <= 1_100_000, "fetched only where a pixel is pointed at"
