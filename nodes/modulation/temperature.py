"""Self-Attention Temperature."""

from comfy_api.latest import io

from ...attention.engine.sampling import with_technique
from ...attention.modulation.temperature import LEVELS, TemperatureSettings
from ..shared.inputs import MODULATION, MODULATION_ALIASES, model_input, model_output, range_inputs

BOTH, POSITIVE = "positive and negative", "positive only"


class SBSelfAttentionTemperature(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBSelfAttentionTemperature",
            display_name="Self-Attention Temperature",
            category=MODULATION,
            description=(
                "Sharpens or softens how the patches of the image attend to each other, in the first steps by default. "
                "Below 1 every patch keeps to the patches most like it, which draws the borders of objects clearer. "
                "From the attention modulation paper (arXiv 2404.13899). Needs no BINDING."
            ),
            search_aliases=[*MODULATION_ALIASES, "self attention", "softmax temperature", "sharpen attention", "tau"],
            inputs=[
                model_input(),
                io.Float.Input(
                    "temperature",
                    default=0.8,
                    min=0.05,
                    max=5.0,
                    step=0.01,
                    tooltip=(
                        "Lower: each patch looks at fewer patches, those most like it, and objects get firmer borders. "
                        "Higher: patches mix. 1 changes nothing."
                    ),
                ),
                *range_inputs(0.0, 0.2),
                io.Combo.Input(
                    "layers",
                    options=list(LEVELS),
                    default="all",
                    tooltip=(
                        "Which self-attention layers, by their grid. For Stable Diffusion 1.5 at 512 x 512 pixels: "
                        "latent is 64 x 64, latent/2 is 32 x 32, latent/4 is 16 x 16, latent/8 is 8 x 8. SDXL has "
                        "latent/2 and latent/4."
                    ),
                ),
                io.Combo.Input(
                    "apply_to",
                    options=[BOTH, POSITIVE],
                    default=BOTH,
                    tooltip=(
                        "Whether the pass with the negative prompt gets the temperature too. With positive only, "
                        "guidance (CFG) makes the difference stronger."
                    ),
                ),
            ],
            outputs=[model_output()],
        )

    @classmethod
    def execute(cls, model, temperature, start, end, layers, apply_to) -> io.NodeOutput:
        settings = TemperatureSettings(temperature, layers, start, end, negative=apply_to == BOTH)
        return io.NodeOutput(with_technique(model, settings))
