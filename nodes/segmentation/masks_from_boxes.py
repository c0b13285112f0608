"""Entity masks from boxes: of core's box nodes, written as text, or from splitting the picture."""

from comfy_api.latest import io

from ...segmentation import boxes
from ...segmentation.entity_masks import flat
from ...segmentation.layout_text import EXAMPLE, SIDE_BY_SIDE, SPLITS, arranged, write_layout
from .mask_inputs import CATEGORY, binding_input, binding_output, masks_output, skip_background_input


class SBMasksFromBoxes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBMasksFromBoxes",
            display_name="Masks from Boxes",
            category=CATEGORY,
            description=(
                "Gives the entities of the prompt rectangular regions of the picture: from boxes that were drawn or "
                "detected, from a layout written as text, or, with neither, by splitting the picture among them."
            ),
            search_aliases=["bounding box", "bbox", "layout", "regional prompt", "split", "box to mask", "grid"],
            inputs=[
                binding_input(),
                io.MultiType.Input(
                    "bboxes",
                    [io.BoundingBox, io.Array],
                    optional=True,
                    tooltip=(
                        "Boxes of Create Bounding Boxes, SAM3 Detect, RT-DETR or other nodes. Without labels the first "
                        "box is the first entity's, and so on. With labels a box is the entity's whose name, number or "
                        "noun is its label: those of RT-DETR, or of the elements of Create Bounding Boxes, whose "
                        "label is the description of a box. A list for each picture gives each picture masks of its "
                        "own."
                    ),
                ),
                io.String.Input(
                    "layout",
                    default="",
                    multiline=True,
                    tooltip=(
                        f'One box a line, "{EXAMPLE}": an entity\'s name or number, then left, top, right and bottom '
                        "as fractions of the picture. Several lines give an entity several boxes. If bboxes is "
                        "connected too, this counts for the entities that have none there."
                    ),
                ),
                io.Combo.Input(
                    "split",
                    options=list(SPLITS),
                    default=SIDE_BY_SIDE,
                    tooltip=(
                        "Without bboxes and layout the picture is split into equal parts, one for each entity in the "
                        "order of the prompt: from left to right, or from top to bottom."
                    ),
                ),
                io.Int.Input(
                    "width",
                    default=1024,
                    min=1,
                    max=16384,
                    tooltip=(
                        "Width of the masks, and of the picture that bboxes are pixels of: that of Create Bounding "
                        "Boxes, or of the detector's image (connect Get Image Size)."
                    ),
                ),
                io.Int.Input(
                    "height",
                    default=1024,
                    min=1,
                    max=16384,
                    tooltip="Height of the masks, and of the picture that bboxes are pixels of.",
                ),
                skip_background_input(),
            ],
            outputs=[
                binding_output(),
                masks_output(),
                io.BoundingBox.Output(
                    display_name="bboxes",
                    tooltip="The boxes in pixels, labelled with the entities' names, for Draw BBoxes and other nodes.",
                ),
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, binding, layout, split, width, height, skip_background, bboxes=None) -> io.NodeOutput:
        size = (height, width)
        given = None if bboxes is None else boxes.frames_of(bboxes, size)
        frames, ignored = arranged(binding, given, layout, split, skip_background)
        owners = [entity for entity in binding.entities if any(entity.name in frame for frame in frames)]
        others = [entity for entity in binding.entities if entity not in owners]
        found = [[boxes.Labelled(box, name) for name in frame for box in frame[name]] for frame in frames]
        return io.NodeOutput(
            boxes.with_boxes(binding, owners, frames, size),
            flat(boxes.masks_of(frames, owners, size)),
            boxes.to_core(found, size),
            ui={"text": ("\n".join(_report(frames, others, ignored)),)},
        )


def _report(frames, others, ignored) -> list[str]:
    """The boxes as lines of a layout, and what was not done."""
    lines = []
    for number, frame in enumerate(frames, 1):
        start = f"picture {number}, " if len(frames) > 1 else ""
        lines += [start + line for line in write_layout(frame)]
    for entity in others:
        has_region = entity.mask is not None or entity.box is not None
        lines.append(f"{entity.name}: no box, {'keeps the region it had' if has_region else 'so it has no region'}")
    if ignored:
        lines.append(f"Left out, as they are no entity's: boxes labelled {', '.join(ignored)}")
    return lines
