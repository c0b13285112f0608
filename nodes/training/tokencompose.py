"""Training with TokenCompose."""

from comfy_api.latest import io

from ...training.tokencompose_task import INPUTS, task_of
from ..shared import wires
from ..shared.progress import reporter
from .data import CATEGORY
from .inputs import input_of, training_inputs
from .running import HIDDEN, WRITTEN, check_name, trained, training_outputs

TOOLTIPS = {
    "steps": (
        "How often the LoRA is changed. The published model had 24000 steps at a small learning rate. A finished "
        "training goes on when this is raised (schedule: constant)."
    ),
    "learning_rate": (
        "How far a step goes. Published: 5e-6, for all weights of the network; a LoRA needs about twenty times as much."
    ),
}


class SBTrainTokenCompose(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBTrainTokenCompose",
            display_name="Train TokenCompose",
            category=CATEGORY,
            description=(
                "Trains a LoRA on pictures whose captions have masks of their nouns: the model learns to attend to "
                "each noun where it is, and so draws more of what a prompt names, with nothing added to sampling. "
                "Shows losses and preview pictures while it runs; what was interrupted goes on when it is run again. "
                "From TokenCompose (arXiv 2312.03626)."
            ),
            search_aliases=["train lora", "fine-tune", "lora training", "tokencompose", "grounding", "attention loss"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip=(
                        "The model to train for: SD 1, SD 2 or SDXL, with the LoRAs on it. It stays as it is. Patches "
                        "of other nodes do not act in training."
                    ),
                ),
                io.Vae.Input("vae", tooltip="The model's VAE. It encodes the pictures, once, and decodes previews."),
                io.Clip.Input("clip", tooltip="The model's text encoder, which is not trained."),
                wires.TrainingData.Input("data", tooltip="Pictures, captions and masks, from Training Data."),
                *training_inputs(
                    INPUTS,
                    own=[
                        input_of(
                            "token_weight",
                            INPUTS["token_weight"],
                            "What the token loss counts beside the noise loss: the share of a noun's attention that "
                            "lies outside of its mask. As published.",
                            step=1e-4,
                        ),
                        input_of(
                            "pixel_weight",
                            INPUTS["pixel_weight"],
                            "What the pixel loss counts beside the noise loss: how far the attention to a noun is from "
                            "being its mask, patch by patch. As published.",
                            step=1e-5,
                        ),
                    ],
                    tooltips=TOOLTIPS,
                ),
            ],
            outputs=training_outputs(),
            hidden=HIDDEN,
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name=None) -> bool | str:
        return check_name(name)

    @classmethod
    def fingerprint_inputs(cls, **_) -> int:
        return WRITTEN.count_lost()

    @classmethod
    def execute(cls, model, vae, clip, data, **chosen) -> io.NodeOutput:
        task, notes = task_of(data, model, vae, clip, chosen, reporter(cls))
        return trained(cls, model, clip, vae, task, chosen, notes)
