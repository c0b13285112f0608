"""Regions of entities from where the model looks for them."""

from comfy_api.latest import io

from ...segmentation.attention_masks import HIGHEST, METHODS, Cutting, entity_maps, masks_of
from ...segmentation.entity_masks import check_found, flat, missing, sought, with_masks, without_overlaps
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


class SBMasksFromAttention(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBMasksFromAttention",
            display_name="Masks from Attention",
            category=CATEGORY,
            description=(
                "Makes a mask of each entity from where the model looked for it while sampling. Needs no download. "
                "Use it between a draft and a final picture, or between two samplers that share the steps of one."
            ),
            search_aliases=[
                "attention mask",
                "segment",
                "daam",
                "otsu",
                "cross attention segmentation",
                "two pass",
                "zero shot segmentation",
            ],
            inputs=[
                wires.AttentionMaps.Input(
                    "maps",
                    tooltip=(
                        "From Record Attention, set to record entities (with affinity, to sharpen), or Load Attention."
                    ),
                ),
                binding_input(),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip=(
                        "The LATENT output of the sampler that the recorded model went to: the maps of that very run "
                        "are used. Required, except for maps from Load Attention, which need none."
                    ),
                ),
                io.Combo.Input(
                    "method",
                    options=list(METHODS),
                    default=HIGHEST,
                    tooltip=(
                        "How maps become masks. highest: a pixel is of the entity with the highest map, and of none "
                        "where that is below the threshold. threshold: each map alone, where it is above. otsu: each "
                        "map alone, above a threshold found for it."
                    ),
                ),
                io.Float.Input(
                    "threshold",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip=(
                        "Used with highest and threshold: from which part of its largest value on a map counts, each "
                        "map being scaled to 0..1. Higher: smaller masks."
                    ),
                ),
                io.Int.Input(
                    "sharpen",
                    default=1,
                    min=0,
                    max=16,
                    tooltip=(
                        "How often maps are multiplied by the recorded affinity, which brings them to the outlines of "
                        "things. Too often: masks of neighbouring things run together. 0 needs no affinity."
                    ),
                ),
                io.Boolean.Input(
                    "clean_up",
                    default=True,
                    tooltip="Fill holes, and drop parts smaller than a fifth of an entity's largest part.",
                ),
                skip_background_input(),
                not_found_input(),
                overlaps_input(),
            ],
            outputs=[
                binding_output(),
                masks_output(),
                io.Mask.Output(display_name="background", tooltip="For each picture one mask of what is of no entity."),
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls,
        maps,
        binding,
        method,
        threshold,
        sharpen,
        clean_up,
        skip_background,
        not_found,
        overlaps,
        latent=None,
    ) -> io.NodeOutput:
        entities, skipped = sought(binding, skip_background)
        recording = maps.find(latent)
        found = masks_of(
            entity_maps(recording, entities, recording.image_size, sharpen), Cutting(method, threshold, clean_up)
        )
        check_found(missing(entities, found), not_found)
        found = without_overlaps(found, overlaps)
        background = 1 - found.amax(1)
        text = "\n".join(report_of(entities, skipped, found))
        return io.NodeOutput(with_masks(binding, entities, found), flat(found), background, ui={"text": (text,)})
