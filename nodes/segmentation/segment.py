"""Segment Anything: boxes, points or regions to the exact outlines of entities."""

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io

from ...segmentation import sam, sam_files
from ...segmentation.boxes import Assigned, frames_of, have_labels, of_entities
from ...segmentation.entity_masks import check_found, flat, missing, sought, with_masks, without_overlaps
from ...segmentation.prompts import POINTS_EXAMPLE, all_prompts, read_points
from ..shared import wires
from .mask_inputs import (
    CATEGORY,
    binding_input,
    binding_output,
    masks_output,
    not_found_input,
    overlaps_input,
    report_of,
    skip_background_input,
)


class SBLoadSAM(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBLoadSAM",
            display_name="Load SAM",
            category=CATEGORY,
            description=(
                "Loads a Segment Anything model from models/sams: segment-anything (ViT-B, L or H), MobileSAM, or SAM "
                "2. Which one it is, is told from the file's contents."
            ),
            search_aliases=["segment anything", "sam model loader", "mobile sam", "sam2", "sam_vit_h"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=sam_files.available(),
                    optional=True,
                    tooltip=(
                        "A file of models/sams (sam_vit_b, sam_vit_l, sam_vit_h, mobile_sam), or a folder there with "
                        "SAM 2 for transformers."
                    ),
                ),
            ],
            outputs=[
                wires.Segmenter.Output(
                    display_name="segmenter",
                    tooltip="Connect it to Segment Entities. Several nodes may share it; it is in memory once.",
                ),
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def validate_inputs(cls, checkpoint=None) -> bool | str:
        try:
            sam_files.path_of(checkpoint)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, checkpoint=None) -> tuple:
        return sam_files.fingerprint(sam_files.path_of(checkpoint))

    @classmethod
    def execute(cls, checkpoint=None) -> io.NodeOutput:
        segmenter = sam.load(checkpoint)
        megabytes = segmenter.patcher.model_size() / 1e6
        return io.NodeOutput(segmenter, ui={"text": (f"{checkpoint}: {segmenter.family}, {megabytes:,.0f} MB",)})


class SBSegmentEntities(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBSegmentEntities",
            display_name="Segment Entities",
            category=CATEGORY,
            description=(
                "Finds the exact outline of each entity in a picture with Segment Anything, from a box, from points on "
                "it, or from the rough region that it has already. Each entity gets its mask."
            ),
            search_aliases=["segment anything", "sam", "grounded sam", "mask from box", "mask from points", "cut out"],
            inputs=[
                wires.Segmenter.Input("segmenter", tooltip="From Load SAM."),
                io.Image.Input("image", tooltip="The picture, or several; each is segmented by itself."),
                binding_input(),
                io.BoundingBox.Input(
                    "bboxes",
                    optional=True,
                    force_input=True,
                    tooltip=(
                        "Boxes around entities, in pixels of the picture: from Detect Entities, or from any node that "
                        "gives bounding boxes. They belong to entities by label, without labels by order. An entity "
                        "may have several."
                    ),
                ),
                io.String.Input(
                    "points",
                    default="",
                    multiline=True,
                    tooltip=(
                        "Points on entities, one entity per line, as fractions of width and height from the top left; "
                        f'"not" marks a point that is not on it: "{POINTS_EXAMPLE}". May be given with boxes or '
                        "without. An entity with neither boxes nor points is found by the region that it has."
                    ),
                ),
                io.Combo.Input(
                    "masks_from",
                    options=list(sam.CHOICES),
                    default=sam.BEST,
                    tooltip=(
                        "Segment Anything has three answers to a box or point: part, thing and whole. best of three: "
                        "the one it is surest of. smallest, largest: when it takes too much or too little. single: the "
                        "one answer that it has for several points or an exact box."
                    ),
                ),
                skip_background_input(),
                not_found_input(),
                overlaps_input(),
            ],
            outputs=[binding_output(), masks_output()],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls,
        segmenter,
        image,
        binding,
        points,
        masks_from,
        skip_background,
        not_found,
        overlaps,
        bboxes=None,
    ) -> io.NodeOutput:
        batch, size = len(image), tuple(image.shape[1:3])
        on_entities = read_points(points, binding)
        boxes = entity_boxes(bboxes, binding, size, batch, skip_background)
        named = {*on_entities, *(name for frame in boxes.frames for name in frame)}
        entities, skipped = sought(binding, skip_background, named)
        prompts = all_prompts(entities, boxes.frames, on_entities)
        masks = segmented(segmenter, image, prompts, masks_from)
        check_found(missing(entities, masks), not_found)
        masks = without_overlaps(masks, overlaps)
        lines = report_of(entities, skipped, masks)
        unpointed = [entity.name for place, entity in enumerate(entities) if not any(frame[place] for frame in prompts)]
        if unpointed:
            lines.append(f"Nothing says where these are: {', '.join(unpointed)}")
        if boxes.ignored:
            lines.append(f"Left out, as they are no entity's: boxes labelled {', '.join(boxes.ignored)}")
        return io.NodeOutput(with_masks(binding, entities, masks), flat(masks), ui={"text": ("\n".join(lines),)})


def entity_boxes(bboxes, binding, size, batch, skip_background) -> Assigned:
    """The boxes of entities in each of ``batch`` pictures. Without labels, box n is that of the n-th entity that is not
    left out."""
    if bboxes is None:
        return Assigned([{} for _ in range(batch)])
    frames = frames_of(bboxes, size)
    entities = binding.entities if have_labels(frames) else sought(binding, skip_background).entities
    return of_entities(frames, binding, entities, batch)


def segmented(segmenter, image, prompts, choice) -> torch.Tensor:
    """The masks ``(B, E, H, W)``, with progress."""
    progress = comfy.utils.ProgressBar(sum(1 + sum(map(len, frame)) for frame in prompts if any(frame)))

    def step() -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        progress.update(1)

    return torch.stack(
        [segmenter.masks(picture, frame, choice, step) for picture, frame in zip(image, prompts, strict=True)]
    )
