"""Segment Anything's families: told from tensors, the same numbers as the published code, and in ComfyUI's memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sams import SIZE, noise, randomised, small_vit, write_sam2
from scenes import mobile_sam

PUBLISHED = {
    "vit_b": {"heads": 12, "blocks": 12, "whole": {2, 5, 8, 11}},
    "vit_l": {"heads": 16, "blocks": 24, "whole": {5, 11, 17, 23}},
    "vit_h": {"heads": 16, "blocks": 32, "whole": {7, 15, 23, 31}},
}
MOBILE_SAM_FEATURES = [-0.002363, 0.106936, -0.007174, -0.027639, -0.14216]


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


def test_the_masks_of_all_prompts_of_a_thing_are_put_together(sams, loaded, prompts):
    torch.save(small_vit().state_dict(), sams / "union.pth")
    segmenter = loaded("union.pth")
    both = [prompts["box"], prompts["points"]]
    single = segmenter.masks(noise(60, 40), [[each] for each in both], "best of three", lambda: None)
    together = segmenter.masks(noise(60, 40), [both], "best of three", lambda: None)
    assert torch.equal(together[0], single.amax(0))


@pytest.mark.slow
def test_vit_b_in_its_real_layout_runs(sams, loaded, prompts):
    from segment_anything import sam_model_registry

    torch.save(randomised(sam_model_registry["vit_b"]()).state_dict(), sams / "sam_vit_b_01ec64.pth")
    segmenter = loaded("sam_vit_b_01ec64.pth")
    assert segmenter.family == "segment-anything"
    masks = segmenter.masks(noise(96, 128), [[prompts["box"]]], "largest of three", lambda: None)
    assert masks.shape == (1, 96, 128)
