"""Folders of pictures, captions and masks: what is read, and what is told of the rest."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def data(part):
    return part("training.data")


def picture(path, size=(40, 30), colour=(120, 30, 200)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def mask(path, size=(40, 30), white=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0]), np.uint8)
    pixels[5:15, 5:20] = 255 * white
    Image.fromarray(pixels).save(path)


def test_pictures_with_captions_and_masks(data, tmp_path):
    picture(tmp_path / "b.jpg")
    (tmp_path / "b.txt").write_text("  A Tabby cat and a traffic light by the sofa, 24/7\n", "utf-8-sig")
    for noun in ("cat", "traffic_light", "24_7"):
        mask(tmp_path / "b" / f"{noun}.png")
    picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a dog and a dog")
    mask(tmp_path / "a" / "dog 2.png", (80, 60))
    found = data.read_folder(tmp_path)
    assert found.broken == ()
    first, second = found.items
    assert first == data.Item(tmp_path / "a.png", "a dog and a dog", (("dog 2", tmp_path / "a" / "dog 2.png"),))
    assert second.caption == "A Tabby cat and a traffic light by the sofa, 24/7"
    assert dict(second.masks) == {
        "24/7": tmp_path / "b" / "24_7.png",
        "cat": tmp_path / "b" / "cat.png",
        "traffic light": tmp_path / "b" / "traffic_light.png",
    }


def test_what_is_broken_is_told_and_left_out(data, tmp_path):
    for name in ("good", "silent", "empty", "cut"):
        picture(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text("a cat and a dog")
    (tmp_path / "silent.txt").unlink()
    (tmp_path / "empty.txt").write_text(" \n")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:4000])
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "text.txt").write_text("a cat")
    mask(tmp_path / "good" / "cat.png", (30, 30))
    mask(tmp_path / "good" / "dog.png", white=False)
    mask(tmp_path / "good" / "horse.png")
    (tmp_path / "good" / "a.jpg").write_text("")
    mask(tmp_path / "goods" / "cat.png")
    found = data.read_folder(tmp_path)
    assert found.items == (data.Item(tmp_path / "good.png", "a cat and a dog", (("cat", None), ("dog", None))),)
    told = "\n".join(found.broken)
    assert len(found.broken) == 9
    for line in (
        "goods/: there is no picture of that name",
        "silent.png: left out, there is no silent.txt",
        "empty.png: left out, its caption is empty",
        "cut.png: left out, it cannot be read",
        "text.jpg: left out, it cannot be read",
        "good/cat.png: the mask is left out, it is 30 x 30, of another shape than the picture's 40 x 30",
        "good/dog.png: the mask is left out, it is all black",
        'good.png: its caption has no "horse", whose mask is left out. It reads: a cat and a dog',
        "good/a.jpg: masks are .png files",
    ):
        assert line in told


def test_metadata_as_published(data, tmp_path):
    """In the folders that TokenCompose's download makes, given the outer folder or the inner."""
    folder = tmp_path / "coco_gsam_img" / "train"
    picture(folder / "000000000370.jpg")
    mask(tmp_path / "coco_gsam_seg" / "000000000370" / "mask_000000000370_girl.png")
    mask(folder / "own" / "segment.png")
    girl = "seg/000000000370/mask_000000000370_girl.png"
    attention = [
        ["Girl", girl],
        ["piece", None],
        ["broccoli", "own/segment.png"],
        ["sky", None],
        ["camera", "seg/x.png"],
    ]
    line = {"file_name": "000000000370.jpg", "text": "A little girl holds a piece of broccoli towards the camera."}
    lines = [json.dumps({**line, "attn_list": attention}), "", "{", json.dumps({"text": "a"}), json.dumps(line)]
    lines += [json.dumps({**line, "file_name": "lost.jpg"}), json.dumps({**line, "text": None})]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    for given in (folder, folder.parent):
        found = data.read_folder(given)
        masked, plain = found.items
        assert masked.caption == line["text"] and plain.masks == ()
        assert [(noun, path and path.resolve()) for noun, path in masked.masks] == [
            ("Girl", tmp_path / "coco_gsam_seg" / "000000000370" / "mask_000000000370_girl.png"),
            ("piece", None),
            ("broccoli", folder / "own" / "segment.png"),
            ("camera", None),
        ]
        told = "\n".join(found.broken)
        assert len(found.broken) == 5 and "line 3" in told and "line 4" in told and "KeyError('file_name')" in told
        assert "x.png: the mask is left out, it cannot be read: there is no such file" in told
        assert "lost.jpg: left out, it cannot be read: there is no such file" in told
        assert "000000000370.jpg: left out, its caption is empty" in told


def test_nothing_to_train_with(data, tmp_path):
    with pytest.raises(ValueError, match=r"nothing to train with.*Found: no pictures \(\.png.*metadata\.jsonl"):
        data.read_folder(tmp_path)
    picture(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"Found: a\.png: left out, there is no a\.txt"):
        data.read_folder(tmp_path)


def test_a_step_for_each_item(data, tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text("a cat")
    steps = []
    data.read_folder(tmp_path, lambda: steps.append(len(steps)))
    assert steps == [0, 1]


@pytest.mark.parametrize(
    ("written", "caption", "noun"),
    [
        ("Cat", "two cats and a cat", "Cat"),
        ("cat", "two cats", None),
        ("red_car", "a Red-car", "Red-car"),
        ("long_hair", "long_hair, smile", "long_hair"),
        ("fire_dog 2", "a fire dog, a fire dog", "fire dog 2"),
        ("fire_dog 3", "a fire dog, a fire dog", None),
        ("_", "a", "a"),
        (" ", "a", None),
    ],
)
def test_nouns_as_the_caption_has_them(data, written, caption, noun):
    assert data.noun_in(written, caption) == noun


def test_the_digest_tells_contents(data, tmp_path):
    found = []
    for number, colour in enumerate([(1, 2, 3), (1, 2, 3), (1, 2, 4)]):
        folder = tmp_path / str(number)
        picture(folder / "a.png", colour=colour)
        (folder / "a.txt").write_text("a cat")
        mask(folder / "a" / "cat.png")
        found.append(data.digest_of(data.read_folder(folder).items))
    assert found[0] == found[1] != found[2]
    mask(tmp_path / "1" / "a" / "cat.png", (80, 60))
    assert data.digest_of(data.read_folder(tmp_path / "1").items) != found[0]
    (tmp_path / "0" / "a.txt").write_text("a cat.")
    assert data.digest_of(data.read_folder(tmp_path / "0").items) != found[0]


def test_the_report(data, tmp_path):
    given = [(("cat", tmp_path), ("Dog", None)), (("dog", tmp_path),), ()]
    items = tuple(data.Item(tmp_path, "a cat and a dog", masks) for masks in given)
    lines = data.report(data.TrainingData(tmp_path, items, ("a.png: left out",) * 50, 512, "")).splitlines()
    assert lines[:4] == [
        f"3 pictures from {tmp_path.name}, cropped to 512 x 512",
        "2 masks for 3 nouns",
        "1 pictures have no mask: they train by the noise loss alone",
        "dog: 1 of 2, cat: 1 of 1",
    ]
    assert lines[4] == "50 broken:" and lines[-1] == "and 10 more" and len(lines) == 46
