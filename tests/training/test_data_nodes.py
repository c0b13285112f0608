"""Training data as nodes: written by one, read by the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attention_reference import bind

PROMPT, ENTITIES = "a red cat and a blue dog", "cat: red | dog: blue"


@pytest.fixture(scope="module")
def nodes(part):
    return part("nodes.training.data"), part("nodes.training.save")


@pytest.fixture
def folders(comfy, tmp_path, monkeypatch):
    """ComfyUI's input and output folder, empty."""
    made = tmp_path / "in", tmp_path / "out"
    for path in made:
        path.mkdir()
    monkeypatch.setattr(comfy.folder_paths, "input_directory", str(made[0]))
    monkeypatch.setattr(comfy.folder_paths, "output_directory", str(made[1]))
    return made


@pytest.fixture
def binding(part, tiny):
    bound = bind(part, tiny("sd1").clip, PROMPT, ENTITIES).binding
    mask = torch.zeros(2, 32, 48)
    mask[0, 4:20, 5:30] = 1
    return bound.with_entity("cat", mask=mask).with_entity("dog", box=(0.5, 0.5, 1.0, 1.0))


def test_written_and_read(nodes, folders, binding):
    data, save = nodes
    pictures = torch.rand(2, 32, 48, 3)
    for below, root in zip(("input folder", "output folder"), folders, strict=True):
        output = save.SBSaveTrainingData.execute(pictures, "cats/tabby", below, "", binding)
        (folder,) = output.args
        assert folder == str(root / "cats" / "tabby")
        (told,) = output.ui["text"]
        assert told.splitlines() == [
            f"00001 to 00002 in {Path(folder).name}",
            "cat: 1 of 2 pictures have a mask",
            "dog: 2 of 2 pictures have a mask",
        ]
        output = data.SBTrainingData.execute(folder, 64)
        read, report = output.args
        assert [item.caption for item in read.items] == [PROMPT] * 2 and read.size == 64 and read.broken == ()
        assert report == output.ui["text"][0]
        assert "2 pictures" in report and "cat: 1 of 1" in report and "dog: 2 of 2" in report
    assert data.SBTrainingData.execute("cats/tabby", 64).args[0].folder == folders[0] / "cats" / "tabby"


def test_captions_by_hand(nodes, folders, binding):
    data, save = nodes
    pictures = torch.rand(2, 32, 48, 3)
    captions = "a dog by a cat\n\n a cat on a dog "
    (folder,) = save.SBSaveTrainingData.execute(pictures, "pets", "input folder", captions, binding).args
    read, _ = data.SBTrainingData.execute("pets", 64).args
    assert [item.caption for item in read.items] == ["a dog by a cat", "a cat on a dog"]
    (folder,) = save.SBSaveTrainingData.execute(pictures[:1], "plain", "input folder", "a horse").args
    assert data.SBTrainingData.execute(folder, 64).args[0].items[0].masks == ()
    with pytest.raises(ValueError, match="no captions"):
        save.SBSaveTrainingData.execute(pictures, "plain", "input folder", " ")


@pytest.mark.parametrize("name", ["", ".", "../elsewhere", "/elsewhere", "a/../.."])
def test_nothing_is_written_elsewhere(nodes, folders, name):
    with pytest.raises(ValueError, match="is no name of a folder in"):
        nodes[1].SBSaveTrainingData.execute(torch.rand(1, 8, 8, 3), name, "output folder", "a cat")


def test_folders_that_are_not_there(nodes, folders):
    node = nodes[0].SBTrainingData
    (folders[0] / "cats").mkdir()
    for name in ("", "dogs"):
        with pytest.raises(ValueError, match=f'There is no folder "{name}".*In there: cats'):
            node.execute(name, 64)
        assert "There is no folder" in node.validate_inputs(name)
    assert node.validate_inputs("cats") is True and node.validate_inputs(None) is True


def test_read_again_when_files_change(nodes, folders):
    node = nodes[0].SBTrainingData
    folder = folders[0] / "cats"
    folder.mkdir()
    (folder / "a.txt").write_text("a cat")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "a.png")
    first = node.fingerprint_inputs("cats", 64)
    assert node.fingerprint_inputs("cats", 64) == first
    (folder / "a.txt").write_text("a cat.")
    assert node.fingerprint_inputs("cats", 64) != first
    assert node.fingerprint_inputs(None, 64) == node.fingerprint_inputs(None, 64)


def test_the_schemas(nodes):
    for node in (nodes[0].SBTrainingData, nodes[1].SBSaveTrainingData):
        schema = node.GET_SCHEMA()
        assert schema.description and schema.search_aliases
        assert all(each.tooltip for each in (*schema.inputs, *schema.outputs))
