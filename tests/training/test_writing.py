"""Training data written by the pack is what it reads."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from attention_reference import bind

PROMPT, ENTITIES = "a red dog, a cat and a dog", "dog: red | cat | dog"


@pytest.fixture(scope="module")
def writing(part):
    return part("training.writing")


@pytest.fixture(scope="module")
def binding(part, tiny):
    return bind(part, tiny("sd1").clip, PROMPT, ENTITIES).binding


def masks(count):
    found = torch.zeros(count, 24, 32)
    for place in range(count):
        found[place, 2 : 10 + place, 3:20] = 1
    return found


def test_what_is_written_is_read(writing, part, binding, tmp_path):
    pictures = torch.rand(2, 24, 32, 3, generator=torch.Generator().manual_seed(0))
    cat = torch.stack([masks(1)[0] * 0.6 + 0.3, torch.full((24, 32), 0.4)])
    binding = binding.with_entity("dog 2", mask=masks(2)).with_entity("cat", mask=cat)
    found = writing.masks_of(binding, (24, 32))
    assert list(found) == ["cat", "dog 2"]
    written = writing.write(tmp_path / "new" / "folder", pictures, [binding.text], found)
    assert written == (("00001", "00002"), {"cat": 1, "dog 2": 2})
    read = part("training.data").read_folder(tmp_path / "new" / "folder")
    assert read.broken == ()
    assert [[noun for noun, _ in item.masks] for item in read.items] == [["cat", "dog 2"], ["dog 2"]]
    for item, picture, of_dog in zip(read.items, pictures, masks(2), strict=True):
        assert item.caption == PROMPT
        assert np.array_equal(np.array(Image.open(item.picture)), (picture * 255).round().byte().numpy())
        assert np.array_equal(np.array(Image.open(dict(item.masks)["dog 2"])), (of_dog * 255).byte().numpy())
    of_cat = np.array(Image.open(dict(read.items[0].masks)["cat"]))
    assert np.array_equal(of_cat, (masks(1)[0] * 255).byte().numpy())


def test_the_first_of_two_dogs_keeps_its_place(writing, binding):
    """Also where the binding has one of them alone."""
    first, _, second = binding.entities
    alone = replace(binding, entities=(replace(second, name="dog", box=(0.0, 0.0, 0.5, 0.5)),))
    assert list(writing.masks_of(alone, (8, 8))) == ["dog 2"]
    assert list(writing.masks_of(binding.with_entity("dog", mask=torch.ones(1, 8, 8)), (8, 8))) == ["dog 1"]


def test_a_name_that_no_file_can_have(writing, part, tmp_path):
    writing.write(tmp_path, torch.rand(1, 24, 32, 4), ["open 24/7"], {"24/7": masks(1)})
    ((item,), broken) = part("training.data").read_folder(tmp_path)
    assert broken == () and item.masks == (("24/7", tmp_path / "00001" / "24_7.png"),)


def test_nothing_is_overwritten(writing, tmp_path):
    for name in ("00003.png", "7.jpg", "2024 in rome.png", "00009.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "00008").mkdir()
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for expected in (("00010", "00011"), ("00012", "00013")):
        given = torch.rand(2, 8, 8, 3), ["one", "another"], {}
        assert writing.write(tmp_path, *given).names == expected
    assert all(path.read_bytes() == content for path, content in before.items())
    assert (tmp_path / "00013.txt").read_text() == "another"


def test_errors(writing, binding, tmp_path):
    pictures = torch.rand(3, 24, 32, 3)
    with pytest.raises(ValueError, match="There are 2 captions and 3 pictures"):
        writing.write(tmp_path, pictures, ["a cat", "a cat"], {})
    with pytest.raises(ValueError, match="There are 2 masks of cat and 3 pictures"):
        writing.write(tmp_path, pictures, ["a cat"], {"cat": masks(2)})
    with pytest.raises(ValueError, match='"a dog" does not have: cat'):
        writing.write(tmp_path, pictures, ["a cat", "a dog", "a cat"], {"cat": masks(1)})
    with pytest.raises(ValueError, match="does not have: any words"):
        writing.write(tmp_path, pictures, [" "], {})
    with pytest.raises(ValueError, match="No entity of the binding has a mask"):
        writing.masks_of(binding, (24, 32))
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_written_again(writing, tmp_path):
    pictures = torch.rand(2, 24, 32, 3, generator=torch.Generator().manual_seed(0))
    first = writing.write(tmp_path, pictures, ["a cat"], {"cat": masks(2)})
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert writing.write(tmp_path, pictures, ["a cat"], {"cat": masks(2)}) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    for changes in ({"captions": ["one cat"]}, {"masks": {}}, {"masks": {"cat": masks(2).flip(1)}}):
        given = {"captions": ["a cat"], "masks": {"cat": masks(2)}} | changes
        names = writing.write(tmp_path, pictures, **given).names
        assert not set(names) & set(first.names)
