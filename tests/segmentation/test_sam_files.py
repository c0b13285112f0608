"""Checkpoints of Segment Anything: listed, shared, told apart, refused."""

from __future__ import annotations

import gc
import importlib
import sys

import pytest
import torch

from sams import noise, small_vit, write_sam2
from scenes import mobile_sam


def test_checkpoints_are_shared_between_nodes_and_dropped_with_the_last(part, sams, loaded):
    torch.save(small_vit().state_dict(), sams / "shared.pth")
    first = loaded("shared.pth")
    assert loaded("shared.pth") is first
    torch.save(small_vit().state_dict(), sams / "shared.pth")
    assert loaded("shared.pth") is not first, "a file that was written anew is another one"
    path = sams / "shared.pth"
    path.unlink()
    del first
    gc.collect()
    assert not [key for key in part("segmentation.sam")._loaded if str(path) in str(key)]


def test_models_are_in_the_hands_of_comfyuis_memory_management(part, sams, loaded, prompts):
    from comfy import model_management

    torch.save(small_vit().state_dict(), sams / "managed.pth")
    segmenter = loaded("managed.pth")

    def is_loaded() -> bool:
        return any(each.model is segmenter.patcher for each in model_management.current_loaded_models)

    assert not is_loaded()
    steps = []
    masks = segmenter.masks(
        noise(60, 40), [[prompts["box"]], [], [prompts["points"]]], "single", lambda: steps.append(0)
    )
    assert masks.shape == (3, 60, 40) and set(masks.unique().tolist()) <= {0.0, 1.0}
    assert not masks[1].any() and len(steps) == 3
    assert is_loaded()
    assert segmenter.patcher.load_device == model_management.get_torch_device()
    model_management.free_memory(1e30, segmenter.patcher.load_device)
    assert not is_loaded()
    again = segmenter.masks(noise(60, 40), [[prompts["box"]], [], [prompts["points"]]], "single", lambda: None)
    assert torch.equal(masks, again)


def test_sam2_is_held_by_comfyui_too(sams, loaded, prompts):
    from comfy import model_management

    write_sam2(sams / "small-sam2")
    segmenter = loaded("small-sam2")
    masks = segmenter.masks(noise(60, 40), [[prompts["both"]]], "best of three", lambda: None)
    assert segmenter.family == "SAM 2" and masks.shape == (1, 60, 40)
    assert any(each.model is segmenter.patcher for each in model_management.current_loaded_models)


def test_the_list_has_files_and_folders_and_disturbs_no_other_pack(part, comfy, sams):
    files = part("segmentation.sam_files")
    for name in ("sub/b.safetensors", "sam2/config.json", "sam2/model.safetensors", "notes.txt"):
        (sams / name).parent.mkdir(exist_ok=True)
        (sams / name).touch()
    listed = files.available()
    assert {"sub/b.safetensors", "sam2"} <= set(listed)
    assert not {"sam2/model.safetensors", "notes.txt"} & set(listed)
    assert str(sams) in comfy.folder_paths.get_folder_paths("sams")

    paths = comfy.folder_paths.folder_names_and_paths
    before = paths["sams"]
    paths["sams"] = (["elsewhere"], {".pth"})
    try:
        importlib.reload(files)
        assert paths["sams"] == (["elsewhere", str(sams)], {".pth"})
    finally:
        paths["sams"] = before


@pytest.mark.parametrize("name", ["nothing.pth", "../sams/nothing.pth", "", None])
def test_a_checkpoint_that_is_not_there(part, sams, name):
    with pytest.raises(
        ValueError, match=r"(?s)There is no Segment Anything checkpoint.*sams\. Put one there: sam_vit_b"
    ):
        part("segmentation.sam_files").path_of(name)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["sam_mask_decoder.iou_token.weight"], "SAM 2 in the form of its own program"),
        (["model.diffusion_model.input_blocks.0.0.weight"], "belongs into models/checkpoints"),
        (["vision_encoder.backbone.pos_embed"], "put it there with its config.json"),
        (
            ["mask_decoder.iou_token.weight", "image_encoder.blocks.0.attn.qkv.weight", "mask_decoder.hf_token.weight"],
            "HQ",
        ),
        (["a", "b", "c", "d"], r"its tensors are: a, b, c, ... \(4 in all\)"),
    ],
)
def test_other_checkpoints_are_told_apart(models, tmp_path, names, told):
    torch.save({name: torch.zeros(1) for name in names}, tmp_path / "sam_vit_b.pth")
    with pytest.raises(
        ValueError, match=f"(?s)sam_vit_b.pth is no checkpoint of Segment Anything.*{told}.*Put one there"
    ):
        models.build(tmp_path / "sam_vit_b.pth")


def test_checkpoints_that_are_not_whole(models, tmp_path):
    weights = small_vit().state_dict()
    path = tmp_path / "sam.pth"
    changed = dict(weights)
    changed["extra.weight"] = changed.pop("mask_decoder.mask_tokens.weight")
    changed["image_encoder.neck.3.bias"] = torch.zeros(7)
    torch.save(changed, path)
    told = "missing: mask_decoder.mask_tokens.weight; unknown: extra.weight; of another size: image_encoder.neck.3.bias"
    with pytest.raises(ValueError, match=told):
        models.build(path)
    torch.save({name: value for name, value in weights.items() if "pos_embed" not in name}, path)
    with pytest.raises(
        ValueError, match="not a whole segment-anything checkpoint: it has no 'image_encoder.pos_embed'"
    ):
        models.build(path)
    path.write_bytes(b"<html>")
    with pytest.raises(ValueError, match="is damaged or no checkpoint"):
        models.build(path)


def test_a_checkpoint_with_a_program_in_it_is_not_run(models, tmp_path):
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return open, (str(ran), "w")

    torch.save({"mask_decoder.iou_token.weight": Trap()}, tmp_path / "sam.pth")
    with pytest.raises(ValueError, match="no checkpoint with tensors alone"):
        models.build(tmp_path / "sam.pth")
    assert not ran.exists()


def test_folders_that_are_no_sam2(models, tmp_path):
    from safetensors.torch import load_file, save_file

    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    with pytest.raises(ValueError, match='a model of type "sam", not sam2 or sam2_video'):
        models.build(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="not the config of a model"):
        models.build(tmp_path)
    write_sam2(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["extra.weight"] = weights.pop("mask_decoder.mask_tokens.weight")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="missing: mask_decoder.mask_tokens.weight; unknown: extra.weight"):
        models.build(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"is not a whole SAM 2: .*model\.safetensors"):
        models.build(tmp_path)


@pytest.mark.parametrize(
    ("blocked", "error", "told"),
    [
        ("segment_anything", None, "not installed: segment-anything. .* -m pip install segment-anything timm$"),
        ("timm", None, "not installed: timm. .* -m pip install segment-anything timm$"),
        (
            "torchvision",
            RuntimeError("operator torchvision::nms does not exist"),
            r"nms does not exist.*torchvision \(\d+\.\d+.*\) does not fit torch \(\d+\.\d+",
        ),
        ("torchvision", OSError("undefined symbol"), "undefined symbol.*does not fit torch"),
    ],
)
def test_packages_that_are_missing_or_do_not_fit(models, monkeypatch, blocked, error, told):
    import timm.models.tiny_vit  # noqa: F401
    from segment_anything import modeling  # noqa: F401

    class Blocked:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == blocked:
                raise error or ModuleNotFoundError(f"No module named '{name}'", name=name)

    importing = ("segment_anything", "timm", "torchvision") if blocked == "torchvision" else (blocked,)
    for name in list(sys.modules):
        if name.split(".")[0] in importing:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Blocked(), *sys.meta_path])
    with pytest.raises(ValueError, match=told):
        models.build(mobile_sam())
