"""Recording what the model attends to while it samples."""

from comfy_api.latest import io

from ...attention.engine.levels import RESOLUTIONS
from ...attention.engine.sampling import with_technique
from ...attention.maps.recorder import RecorderSettings
from ...attention.maps.recording import AttentionMaps
from ...attention.maps.targets import WHAT, targets_of
from ..shared import wires
from .watching import reporter

AGGREGATIONS = ("mean over steps", "keep steps")


class SBRecordAttention(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBRecordAttention",
            display_name="Record Attention",
            category="semantic binding/attention",
            description=(
                "Records where the model looks for each entity of the prompt while any sampler runs. Connect the "
                "model to the sampler and the maps to Preview Attention or Save Attention, which also need the "
                "sampler's LATENT. The images stay exactly the same. For Stable Diffusion 1, 2, SDXL and other UNet "
                "models."
            ),
            search_aliases=[
                "attention map",
                "cross attention",
                "self attention",
                "heat map",
                "heatmap",
                "daam",
                "visualize attention",
                "token map",
                "prompt debugging",
            ],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to watch. Other nodes may patch it before or after this one."
                ),
                wires.Binding.Input(
                    "binding",
                    tooltip=(
                        "The prompt's entities, from Bind Prompt or Bind Conditioning. The conditioning that belongs "
                        "to it has to go to the sampler."
                    ),
                ),
                io.Combo.Input(
                    "record",
                    options=list(WHAT),
                    default=WHAT[0],
                    tooltip=(
                        "entities: one map for each entity, over its noun, attributes and sub-objects. entities and "
                        "attributes: one map for each noun, each attribute and each sub-object. words: one map for "
                        "each of the words written below."
                    ),
                ),
                io.String.Input(
                    "words",
                    default="",
                    tooltip=(
                        "Used with words: words or phrases of the prompt, separated by commas; all places where one "
                        "stands count together. <start>, <end> and <padding> are the rows of the text encoder that "
                        "are no word, each added up."
                    ),
                ),
                io.Combo.Input(
                    "resolution",
                    options=list(RESOLUTIONS),
                    default=RESOLUTIONS[0],
                    tooltip=(
                        "Which attention layers, by their grid. For Stable Diffusion 1.5 at 512 x 512 pixels: latent "
                        "is 64 x 64, latent/2 is 32 x 32, latent/4 is 16 x 16, latent/8 is 8 x 8. all: every layer. "
                        "auto: the grid that carries meaning best, 16 x 16 for SD 1.5 at 512 pixels, 32 x 32 for SDXL "
                        "at 1024."
                    ),
                ),
                io.Float.Input(
                    "start",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Where recording starts, as a fraction of the sampler's steps.",
                ),
                io.Float.Input(
                    "end",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Where recording ends, as a fraction of the sampler's steps. Must be larger than start.",
                ),
                io.Combo.Input(
                    "aggregation",
                    options=list(AGGREGATIONS),
                    default=AGGREGATIONS[0],
                    tooltip=(
                        "mean over steps: one map for the whole range; memory does not grow with the number of steps. "
                        "keep steps: one map for every k-th step."
                    ),
                ),
                io.Int.Input(
                    "keep_every",
                    default=5,
                    min=1,
                    max=1000,
                    tooltip="Used with keep steps: 1 keeps every step of the range, 5 its first, sixth, eleventh, ...",
                ),
                io.Boolean.Input(
                    "self_attention",
                    default=False,
                    advanced=True,
                    tooltip="Also record what the patch of the image at the point below attends to, as one more map.",
                ),
                io.Float.Input(
                    "point_x",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="The point for self-attention: 0 is the left edge of the image, 1 the right edge.",
                ),
                io.Float.Input(
                    "point_y",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="The point for self-attention: 0 is the top edge of the image, 1 the bottom edge.",
                ),
                io.Boolean.Input(
                    "affinity",
                    default=False,
                    optional=True,
                    tooltip=(
                        "Also record how much all patches of the image attend to each other. Masks from Attention "
                        "needs it for sharp outlines. Slower, and grows with the square of the resolution."
                    ),
                ),
                io.Boolean.Input(
                    "live_preview",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "Show the maps of the step just done on this node while the sampler runs, for the first "
                        "picture of the batch. Quick steps are left out, so that it takes 3 % of the time at most."
                    ),
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="The same model with the recorder on. Connect it to the sampler."
                ),
                wires.AttentionMaps.Output(
                    display_name="maps",
                    tooltip="Filled when the sampler has run. Connect it to Preview Attention or Save Attention.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        binding,
        record,
        words,
        resolution,
        start,
        end,
        aggregation,
        keep_every,
        self_attention,
        point_x,
        point_y,
        affinity=False,
        live_preview=False,
    ) -> io.NodeOutput:
        maps = AttentionMaps()
        targets = targets_of(binding, record, words)
        settings = RecorderSettings(
            binding=binding,
            targets=targets,
            resolution=resolution,
            start=start,
            end=end,
            keep_every=keep_every if aggregation == "keep steps" else None,
            point=(point_x, point_y) if self_attention else None,
            affinity=affinity,
            maps=maps,
            what=record,
            on_step=reporter(cls, targets) if live_preview else None,
        )
        return io.NodeOutput(with_technique(model, settings), maps)
