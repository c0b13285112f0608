"""Segment Anything's families: told from tensors, the same numbers as the published code, and in ComfyUI's memory."""

from __future__ import annotations

import gc
import importlib
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from scenes import mobile_sam

SIZE = 128
"""Pixels of the square that the small models see."""
SMALL = {"img_size": SIZE, "embed_dim": 32, "depth": 3, "num_heads": 2, "window_size": 3, "global_attn_indexes": [1]}
PUBLISHED = {
    "vit_b": {"heads": 12, "blocks": 12, "whole": {2, 5, 8, 11}},
    "vit_l": {"heads": 16, "blocks": 24, "whole": {5, 11, 17, 23}},
    "vit_h": {"heads": 16, "blocks": 32, "whole": {7, 15, 23, 31}},
}
MOBILE_SAM_FEATURES = [-0.002363, 0.106936, -0.007174, -0.027639, -0.14216]
HIERA = {
    "model_type": "sam2_hiera_det_model",
    "hidden_size": 8,
    "image_size": [SIZE, SIZE],
    "embed_dim_per_stage": [8, 16, 32, 64],
    "num_attention_heads_per_stage": [1, 2, 4, 8],
    "blocks_per_stage": [1, 1, 2, 1],
    "global_attention_blocks": [3],
}
SAM2_SIZES = {
    "vision_config": {
        "backbone_config": HIERA,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        "fpn_hidden_size": 32,
    },
    "prompt_encoder_config": {"hidden_size": 32, "image_size": SIZE},
    "mask_decoder_config": {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 32},
}


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """The module with all weights drawn anew, those that start at zero too."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(0, 0.2)
    return module.eval()


def small_vit() -> torch.nn.Module:
    """Segment Anything with a small image encoder, by its own package."""
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    encoder = ImageEncoderViT(**SMALL, norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), use_rel_pos=True)
    grid = SIZE // 16
    transformer = TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8)
    return randomised(
        Sam(
            encoder,
            PromptEncoder(256, (grid, grid), (SIZE, SIZE), mask_in_chans=16),
            MaskDecoder(transformer_dim=256, transformer=transformer),
        )
    )


def write_sam2(folder: Path, video: bool = False) -> None:
    """A small random SAM 2 as published for transformers: the config and weights may be the video model's."""
    from transformers import Sam2Config, Sam2Model, Sam2VideoConfig, Sam2VideoModel

    if video:
        sizes = dict.fromkeys(("memory_attention_hidden_size", "memory_encoder_hidden_size"), 32)
        sizes |= dict.fromkeys(("mask_downsampler_embed_dim", "memory_fuser_embed_dim"), 32)
        config = Sam2VideoConfig(**SAM2_SIZES, **sizes, memory_encoder_output_channels=16, image_size=SIZE)
        model = Sam2VideoModel(config)
    else:
        model = Sam2Model(Sam2Config(**SAM2_SIZES))
    randomised(model).save_pretrained(folder)
    side = {"height": SIZE, "width": SIZE}
    preprocessor = {"image_processor_type": "Sam2ImageProcessorFast", "size": side}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    processor = {"processor_class": "Sam2VideoProcessor", "target_size": SIZE, "point_pad_value": -10}
    (folder / "processor_config.json").write_text(json.dumps(processor))


@pytest.fixture
def models(part):
    return part("segmentation.sam_models")


@pytest.fixture
def prompts(part):
    Point, Prompt = part("segmentation.prompts").Point, part("segmentation.prompts").Prompt
    box, points = (0.2, 0.3, 0.7, 0.9), (Point(0.4, 0.5), Point(0.6, 0.8), Point(0.9, 0.1, on=False))
    return {"box": Prompt(box), "points": Prompt(None, points), "both": Prompt(box, points[1:])}


@pytest.fixture
def sams(comfy) -> Path:
    folder = comfy.base / "models" / "sams"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def loaded(part, sams):
    """``loaded(name)``: the Segmenter of a checkpoint, and MobileSAM's weights are there."""
    if not (sams / "mobile_sam.pt").exists():
        (sams / "mobile_sam.pt").symlink_to(mobile_sam())
    return part("segmentation.sam").load


def noise(height: int, width: int) -> torch.Tensor:
    """A picture ``(H, W, 3)`` of 8-bit colours in 0..1."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (height, width, 3), generator=generator) / 255


def published(sam: torch.nn.Module, image: torch.Tensor, prompt, three: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and scores by segment-anything's own predictor."""
    from segment_anything import SamPredictor

    height, width = image.shape[:2]
    predictor = SamPredictor(sam)
    predictor.set_image((image * 255).round().byte().numpy())
    pixels = np.array([width, height])
    logits, scores, _ = predictor.predict(
        point_coords=np.array([[point.x, point.y] for point in prompt.points]) * pixels if prompt.points else None,
        point_labels=np.array([int(point.on) for point in prompt.points]) if prompt.points else None,
        box=np.array(prompt.box) * np.tile(pixels, 2) if prompt.box else None,
        multimask_output=three,
        return_logits=True,
    )
    return torch.from_numpy(logits), torch.from_numpy(scores)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_vit_of_any_size_gives_the_numbers_of_the_published_predictor(models, prompts, tmp_path, suffix):
    from safetensors.torch import save_file

    sam = small_vit()
    path = tmp_path / f"named_after_nothing{suffix}"
    (torch.save if suffix == ".pth" else save_file)(sam.state_dict(), path)
    family, model = models.build(path)
    assert family == "segment-anything"
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    for size in ((SIZE, 96), (80, SIZE)):
        embedded = model.embed(noise(*size))
        for prompt in prompts.values():
            for three in (True, False):
                expected, scores = published(sam, noise(*size), prompt, three)
                found, found_scores = model.decode(embedded, prompt, three)
                assert found.shape == (3 if three else 1, *size)
                torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
                torch.testing.assert_close(found_scores, scores, rtol=1e-3, atol=1e-3)


def test_pictures_of_other_sizes_are_resized_as_published(models, prompts, tmp_path):
    """The published predictor rounds the resized picture to 8 bits; apart from that the numbers are the same."""
    sam = small_vit()
    torch.save(sam.state_dict(), tmp_path / "sam.pth")
    _, model = models.build(tmp_path / "sam.pth")
    for size in ((50, 77), (300, 211)):
        for prompt in prompts.values():
            expected, _ = published(sam, noise(*size), prompt, True)
            found, _ = model.decode(model.embed(noise(*size)), prompt, True)
            assert (found - expected).abs().max() < 0.02 * expected.std()
            assert ((found > 0) == (expected > 0)).float().mean() > 0.995


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_of_the_published_vits_are_read_from_their_tensors(part, name):
    from segment_anything import sam_model_registry

    with torch.device("meta"):
        weights = sam_model_registry[name]().state_dict()
        sam, _ = part("segmentation.sam_network").vit(weights)
    assert {key: value.shape for key, value in sam.state_dict().items()} == {
        key: value.shape for key, value in weights.items()
    }
    blocks = sam.image_encoder.blocks
    assert len(blocks) == PUBLISHED[name]["blocks"]
    assert {block.attn.num_heads for block in blocks} == {PUBLISHED[name]["heads"]}
    assert {place for place, block in enumerate(blocks) if block.window_size == 0} == PUBLISHED[name]["whole"]
    assert {block.window_size for block in blocks} == {0, 14}
    assert sam.image_encoder.img_size == 1024


def test_mobile_sam_has_the_published_embedding(models):
    """Numbers of the published encoder for the same picture: mean, deviation and three places of the features."""
    family, model = models.build(mobile_sam())
    assert family == "MobileSAM"
    ramp = torch.linspace(-2, 2, 1024)
    pixels = torch.stack([ramp[None].expand(1024, -1), ramp[:, None].expand(-1, 1024), -ramp[None] * ramp[:, None]])
    with torch.inference_mode():
        features = model.sam.image_encoder(pixels[None])
    assert features.shape == (1, 256, 64, 64)
    found = [features.mean(), features.std(), features[0, 0, 0, 0], features[0, 100, 20, 40], features[0, 255, 63, 63]]
    torch.testing.assert_close(torch.stack(found), torch.tensor(MOBILE_SAM_FEATURES), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("video", [False, True])
def test_sam2_in_transformers_folder_gives_the_numbers_of_its_model_and_processor(models, prompts, tmp_path, video):
    """Where pictures are resized the processor rounds them to 8 bits; apart from that the numbers are the same."""
    from transformers import Sam2Model, Sam2Processor

    write_sam2(tmp_path, video)
    family, model = models.build(tmp_path)
    assert family == "SAM 2"
    reference, processor = Sam2Model.from_pretrained(tmp_path), Sam2Processor.from_pretrained(tmp_path)
    for (height, width), tolerance in (((SIZE, SIZE), 1e-3), ((90, 130), 0.1)):
        image = noise(height, width)
        embedded = model.embed(image)
        for prompt in prompts.values():
            points = [[point.x * width, point.y * height] for point in prompt.points]
            box = [edge * side for edge, side in zip(prompt.box or (), (width, height) * 2, strict=False)]
            given = processor(
                images=(image * 255).round().byte().numpy(),
                input_boxes=[[box]] if box else None,
                input_points=[[points]] if points else None,
                input_labels=[[[int(point.on) for point in prompt.points]]] if points else None,
                return_tensors="pt",
            )
            sizes = given.pop("original_sizes")
            for three in (True, False):
                with torch.no_grad():
                    told = reference(**given, multimask_output=three)
                expected = processor.post_process_masks(told.pred_masks, sizes, binarize=False)[0][0]
                found, scores = model.decode(embedded, prompt, three)
                assert (found - expected).abs().max() < tolerance * expected.std()
                torch.testing.assert_close(scores, told.iou_scores[0, 0], rtol=tolerance, atol=tolerance)


def test_which_of_three_masks_is_taken(part):
    sam = part("segmentation.sam")
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[0, :2], masks[1, :3], masks[2, :1] = True, True, True
    scores = torch.tensor([0.9, 0.3, 0.5])
    taken = {choice: sam.chosen(masks, scores, choice).sum().item() for choice in sam.CHOICES[:3]}
    assert taken == {"best of three": 8, "largest of three": 12, "smallest of three": 4}
    masks[2] = False
    assert sam.chosen(masks, scores, sam.SMALLEST).sum() == 8, "an empty mask is not the smallest"
    assert sam.chosen(masks[:1], scores[:1], sam.SINGLE).sum() == 8


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


def test_the_masks_of_all_prompts_of_a_thing_are_put_together(sams, loaded, prompts):
    torch.save(small_vit().state_dict(), sams / "union.pth")
    segmenter = loaded("union.pth")
    both = [prompts["box"], prompts["points"]]
    single = segmenter.masks(noise(60, 40), [[each] for each in both], "best of three", lambda: None)
    together = segmenter.masks(noise(60, 40), [both], "best of three", lambda: None)
    assert torch.equal(together[0], single.amax(0))


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


@pytest.mark.slow
def test_vit_b_in_its_real_layout_runs(sams, loaded, prompts):
    from segment_anything import sam_model_registry

    torch.save(randomised(sam_model_registry["vit_b"]()).state_dict(), sams / "sam_vit_b_01ec64.pth")
    segmenter = loaded("sam_vit_b_01ec64.pth")
    assert segmenter.family == "segment-anything"
    masks = segmenter.masks(noise(96, 128), [[prompts["box"]]], "largest of three", lambda: None)
    assert masks.shape == (1, 96, 128)
