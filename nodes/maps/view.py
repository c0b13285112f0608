"""Looking at recorded attention."""

from comfy_api.latest import io, ui

from ...attention.maps import viewer
from ...attention.maps.colours import ARCS
from ...attention.maps.heatmaps import NORMALISATIONS, masks_of
from ...attention.maps.pictures import LAYOUTS, Style, overlays
from ..shared import wires
from .watching import PLACE, folder


class SBPreviewAttention(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBPreviewAttention",
            display_name="Preview Attention",
            category="semantic binding/attention",
            description=(
                "Shows recorded attention as labelled heat maps over the pictures, and gives one mask for each map. "
                "Connect the sampler's LATENT output, so that the recording of that very run is found."
            ),
            search_aliases=[
                "attention map",
                "heat map",
                "heatmap",
                "daam",
                "attention overlay",
                "attention mask",
                "saliency",
            ],
            inputs=[
                wires.AttentionMaps.Input("maps", tooltip="From Record Attention or Load Attention."),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip=(
                        "The LATENT output of the sampler that the recorded model went to: the maps of that very run "
                        "are shown. Required, except for maps from Load Attention, which need none."
                    ),
                ),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="The decoded pictures to lay the heat maps over. Without them the maps are shown alone.",
                ),
                io.Combo.Input(
                    "layout",
                    options=list(LAYOUTS),
                    default=LAYOUTS[0],
                    tooltip=(
                        "grid: one sheet for each picture, with one column for each map and one row for each kept "
                        "step. one by one: every heat map as a picture of its own, in the order picture, step, map."
                    ),
                ),
                io.Combo.Input(
                    "normalisation",
                    options=list(NORMALISATIONS),
                    default=NORMALISATIONS[0],
                    tooltip=(
                        "What the ends of the colour bar stand for. each map: that map's own smallest and largest "
                        "value. shared: the smallest and largest among all maps of the picture, so that they can be "
                        "compared. absolute: 0 and 1, the attention probability itself."
                    ),
                ),
                io.Combo.Input(
                    "colour_map",
                    options=list(ARCS),
                    default="ember",
                    tooltip="The colours from low to high attention. All of them grow steadily brighter.",
                ),
                io.Float.Input(
                    "opacity",
                    default=0.65,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How strongly the heat map covers the picture: 0 shows the picture, 1 only the heat map.",
                ),
                io.Float.Input(
                    "mask_threshold",
                    default=0.4,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip=(
                        "The masks are 1 where a map, scaled to 0..1 by its own smallest and largest value, is above "
                        "this threshold. 0 gives soft masks: the scaled map itself."
                    ),
                ),
                io.Boolean.Input(
                    "labels",
                    default=True,
                    tooltip="Write what each map shows above it, and draw the colour bar. Off gives the bare overlays.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="overlays",
                    tooltip="The heat-map overlays: one sheet for each picture (grid), or one image for each map.",
                ),
                io.Mask.Output(
                    display_name="masks",
                    tooltip=(
                        "One mask for each picture and map, in the pictures' size: first all maps of the first "
                        "picture in their order, then those of the second, and so on. Kept steps are averaged."
                    ),
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, maps, layout, normalisation, colour_map, opacity, mask_threshold, labels, latent=None, images=None
    ) -> io.NodeOutput:
        recording = maps.find(latent)
        style = Style(layout, normalisation, colour_map, opacity, labels)
        sheets = overlays(recording, images, style)
        size = recording.image_size if images is None else tuple(images.shape[1:3])
        masks = masks_of(recording, size, mask_threshold)
        described = viewer.write(recording, images, style, folder())
        return io.NodeOutput(
            sheets,
            masks,
            ui={**ui.PreviewImage(sheets, cls=cls).as_dict(), "semantic_binding_maps": [{**PLACE, **described}]},
        )
