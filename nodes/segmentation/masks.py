"""Where in the picture each entity is to be: masks from elsewhere, and a look at what entities have."""

import torch
from comfy_api.latest import io, ui

from ...segmentation.assigning import KEEP, NEW_MASK, by_entity, named, resized, size_of, with_mask
from ...segmentation.entity_masks import KEPT, with_masks, without_overlaps
from ...segmentation.pictures import drawn, regions
from .mask_inputs import CATEGORY, binding_input, binding_output, overlaps_input, report_of

ALIASES = ["region", "regional prompt", "segment", "layout", "mask to entity"]
GROUND = 0.18
GROUND_SIZE = 512


class SBAssignMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBAssignMask",
            display_name="Assign Mask",
            category=CATEGORY,
            description=(
                "Gives an entity of the prompt its region of the picture, from any MASK: painted, from a segmentation "
                "node, or made of an image. Nodes that confine entities, such as Object-Focused Attention, use it. "
                "Repeat for the other entities, or use Assign Masks for all at once."
            ),
            search_aliases=ALIASES,
            inputs=[
                binding_input(),
                io.Mask.Input(
                    "mask",
                    tooltip=(
                        "White where the entity is to be; one for all pictures of a batch, or one for each. Any size: "
                        "it is stretched over the picture. It replaces a mask that the entity had."
                    ),
                ),
                io.String.Input(
                    "entity",
                    default="1",
                    tooltip="The entity's name or its number, as Bind Prompt shows them: cat, or 1 for the first.",
                ),
                io.Combo.Input(
                    "overlap",
                    options=list(NEW_MASK),
                    default=KEEP,
                    optional=True,
                    tooltip=(
                        "What happens where another entity has its mask already. keep both: nothing; a patch is then "
                        "of the entity that covers more of it. new in front: cut out of the others' masks. new "
                        "behind: cut out of this mask."
                    ),
                ),
            ],
            outputs=[binding_output()],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, binding, mask, entity, overlap=KEEP) -> io.NodeOutput:
        of_entity = binding.entity(entity)
        if not mask.any():
            name = of_entity.name
            raise ValueError(f"The mask for {name} is empty (black everywhere). Paint where {name} is to be in white.")
        size = size_of(binding, [of_entity])
        grown = with_mask(binding, of_entity, resized(mask.float().cpu(), size), overlap)
        covered = grown.entity(of_entity.name).mask
        parts = ", ".join(f"{part:.0%}" for part in covered.mean((-2, -1)).tolist())
        text = f"{of_entity.name}: {_size(covered)} mask, covers {parts} of the picture{_was(mask, size)}"
        return io.NodeOutput(grown, ui={"text": (text,)})


class SBAssignMasks(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBAssignMasks",
            display_name="Assign Masks",
            category=CATEGORY,
            description=(
                "Gives a whole batch of masks to the entities of the prompt, one to each in their order or in the one "
                "you say. For masks from segmentation nodes, SAM3, or Preview Attention."
            ),
            search_aliases=[*ALIASES, "mask batch", "sam3"],
            inputs=[
                binding_input(),
                io.Mask.Input(
                    "masks",
                    tooltip=(
                        "One mask for each entity, in their order. For several pictures: all masks of the first "
                        "picture, then those of the second. A black mask means that the entity is nowhere."
                    ),
                ),
                io.String.Input(
                    "entities",
                    default="",
                    tooltip=(
                        "Whose masks these are: names or numbers in the order of the masks, separated by commas, as "
                        "dog, cat or 2, 1. Empty: all entities, in the order of the prompt."
                    ),
                ),
                overlaps_input(KEPT),
            ],
            outputs=[binding_output()],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, binding, masks, entities, overlaps) -> io.NodeOutput:
        chosen = named(binding, entities)
        size = size_of(binding, chosen)
        found = without_overlaps(resized(by_entity(masks.cpu(), chosen), size), overlaps)
        lines = [f"{len(masks)} masks of {_size(found)}{_was(masks, size)}", *report_of(chosen, (), found)]
        return io.NodeOutput(with_masks(binding, chosen, found), ui={"text": ("\n".join(lines),)})


class SBPreviewMasks(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBPreviewMasks",
            display_name="Preview Masks",
            category=CATEGORY,
            description=(
                "Shows the region of each entity of a binding in its own colour, with its name and how much of the "
                "picture it covers: masks and boxes, over a picture or alone."
            ),
            search_aliases=["mask overlay", "show masks", "segmentation preview", "boxes", "regions", "legend"],
            inputs=[
                binding_input(),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="Pictures to draw over. Without them the regions are drawn on a dark ground.",
                ),
                io.Float.Input(
                    "opacity",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How strongly the colours cover the picture: 0 shows outlines only.",
                ),
            ],
            outputs=[io.Image.Output(display_name="images", tooltip="The pictures with regions, names and legend.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, binding, opacity, images=None) -> io.NodeOutput:
        pictures = images[..., :3].float().cpu() if images is not None else _ground(binding)
        entities, masks = regions(binding, tuple(pictures.shape[1:3]))
        without = [each for each in binding.entities if each not in entities]
        count = max(len(pictures), len(masks))
        if not {len(pictures), len(masks)} <= {1, count}:
            raise ValueError(
                f"There are {len(pictures)} pictures and masks for {len(masks)}. Connect the pictures that the masks "
                "were made for."
            )
        pictures, masks = pictures.expand(count, -1, -1, -1), masks.expand(count, -1, -1, -1)
        sheets = [
            drawn(picture, of_picture, entities, without, opacity)
            for picture, of_picture in zip(pictures, masks, strict=True)
        ]
        sheets = torch.stack(sheets)
        return io.NodeOutput(sheets, ui=ui.PreviewImage(sheets, cls=cls))


def _ground(binding) -> torch.Tensor:
    """A dark picture ``(1, H, W, 3)`` of the masks' size."""
    return torch.full((1, *(size_of(binding, ()) or (GROUND_SIZE, GROUND_SIZE)), 3), GROUND)


def _size(masks: torch.Tensor) -> str:
    return f"{masks.shape[-1]} x {masks.shape[-2]}"


def _was(masks: torch.Tensor, size: tuple[int, int] | None) -> str:
    """A note where masks were resized."""
    if size is None or tuple(masks.shape[-2:]) == size:
        return ""
    return f" (resized from {_size(masks)} to the size of the other masks)"
