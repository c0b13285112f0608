"""Training with CoMat."""

from comfy_api.latest import io

from ...training.comat import options
from ...training.comat.options import INPUTS, Networks, task_of
from ..shared import wires
from ..shared.inputs import one_of
from ..shared.progress import reporter
from .data import CATEGORY
from .inputs import RATE_STEP, input_of, training_inputs
from .running import HIDDEN, WRITTEN, check_name, trained, training_outputs

TOOLTIPS = {
    "steps": "How often the LoRA is changed. Published: 2000. A finished training goes on when this is raised "
    "(schedule: constant).",
    "batch": "How many pictures are drawn with gradients at once. Memory grows with it.",
    "accumulate": "How many batches make one step. Published: 32 pictures for SD 1.5, 48 for SDXL, on 8 GPUs.",
    "learning_rate": "How far a step goes. Published: 5e-5 for SD 1.5, 2e-5 for SDXL.",
    "clip_norm": "The gradient of a step is cut to this norm; 0 for no limit. Published: 0.1.",
    "rank": "Width of the LoRA: how much it can learn, and the size of its file. Published: 128.",
    "seed": "Same seed, same LoRA: order of the prompts, noise, and what the LoRA begins with follow from it.",
}


def own_input(name: str, tooltip: str, step: float | None = None, advanced: bool = False):
    return input_of(name, INPUTS[name], tooltip, step, advanced)


def masks_input():
    weights = [
        own_input("token_weight", "What the share of attention beside the masks counts. As published.", step=1e-4),
        own_input("pixel_weight", "What it counts how unlike the mask the attention is. As published.", step=1e-5),
    ]
    detector = [
        io.Combo.Input(
            "detector",
            options=options.detectors(),
            default=INPUTS["detector"].default,
            tooltip="The detector, as in Detect Entities. The published code takes Grounding DINO.",
        ),
        own_input("box_threshold", "How sure the detector has to be of a box. As published.", step=0.01),
        own_input("text_threshold", "How well the noun has to fit a box. As published.", step=0.01),
        own_input("download", "Let the detector be downloaded if it is one of the hub's and not there.", advanced=True),
    ]
    return io.DynamicCombo.Input(
        "masks",
        options=[
            io.DynamicCombo.Option(options.DETECTOR, [*detector, *weights]),
            io.DynamicCombo.Option(options.ATTENTION, weights),
            io.DynamicCombo.Option(options.DEMO_WORLD, weights),
            io.DynamicCombo.Option(options.NONE, []),
        ],
        tooltip=(
            "Attribute concentration: attention to a noun and its attributes is held to where the noun is in the "
            "picture that was drawn. detector: it is found by its word, and cut out by the segmenter, as published. "
            "attention: it is where the model itself looked for it; needs no other model. demo world: shapes, for the "
            "demo model. off: no such loss."
        ),
    )


def fidelity_input():
    pictures = own_input(
        "untrained_pictures",
        "How many pictures the untrained model draws first, to be compared with; 0 for one of each prompt, as "
        "published. They are kept with the checkpoint.",
    )
    custom = [
        own_input("fidelity_weight", "What the discriminator's verdict counts.", step=0.05),
        own_input("discriminator_rate", "How far the discriminator's steps go.", step=RATE_STEP),
    ]
    return io.DynamicCombo.Input(
        "fidelity",
        options=[
            io.DynamicCombo.Option(options.PUBLISHED, [pictures]),
            io.DynamicCombo.Option(options.CUSTOM, [*custom, pictures]),
            io.DynamicCombo.Option(options.OFF, []),
        ],
        tooltip=(
            "Fidelity preservation: a discriminator, trained beside the LoRA, keeps pictures like those of the "
            "untrained model, so that it does not merely learn to please the captioner. as published: weight 1 and "
            "rate 2e-5 for SD, weight 0.5 and rate 5e-5 for SDXL."
        ),
    )


def prompt_inputs() -> list:
    return [
        io.String.Input(
            "prompts",
            multiline=True,
            tooltip="What is drawn in training, one prompt a line, as in CLIP Text Encode. Published: 20000 of them.",
        ),
        own_input(
            "size",
            "Side of the pictures in pixels. Published: 512, for SDXL too. 128 for the demo model.",
            step=64,
        ),
    ]


def rollout_inputs() -> list:
    return [
        own_input("sampling_steps", "Steps in which a picture is drawn, by DDPM. Published: 50.", advanced=True),
        own_input("cfg", "Its guidance, away from the empty prompt. Published: 7.5.", 0.1, advanced=True),
        own_input(
            "gradient_steps",
            "How many of them keep what a gradient needs, evenly spread. Memory grows with it. Published: 5.",
            advanced=True,
        ),
        own_input("captured_steps", "At how many of those attention is held to masks. Published: 2.", advanced=True),
        own_input(
            "detached",
            "Keep gradients from going through the network from one step to an earlier one. as published: for SDXL "
            "only.",
            advanced=True,
        ),
    ]


def reading_inputs() -> list:
    return [
        io.String.Input(
            "entities",
            default="",
            multiline=True,
            advanced=True,
            tooltip=(
                "Leave empty to have prompts parsed. Or say yourself what belongs together, a line for each prompt: "
                '"cat: black | dog: white". Only masks need it.'
            ),
        ),
        io.Combo.Input(
            "parser",
            options=options.parsers(),
            default=INPUTS["parser"].default,
            advanced=True,
            tooltip="The spaCy model that reads the prompts, as in Bind Prompt. Only masks need it.",
        ),
    ]


class SBTrainCoMat(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        own = [*prompt_inputs(), masks_input(), fidelity_input(), *rollout_inputs(), *reading_inputs()]
        return io.Schema(
            node_id="SBTrainCoMat",
            display_name="Train CoMat",
            category=CATEGORY,
            description=(
                "Trains a LoRA on prompts alone: the model draws them, and learns from what a captioner recognises in "
                "the pictures, from whether its attention to nouns and attributes lies where the nouns are, and from a "
                "discriminator that keeps pictures as good as they were. Each of the three can be off. Shows losses "
                "and preview pictures while it runs; what was interrupted goes on when it is run again. From CoMat "
                "(arXiv 2404.03653)."
            ),
            search_aliases=["train lora", "fine-tune", "lora training", "comat", "reward", "captioner", "alignment"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip=(
                        "The model to train for: SD 1, SD 2 or SDXL, with the LoRAs on it. It stays as it is. Patches "
                        "of other nodes do not act in training."
                    ),
                ),
                io.Vae.Input("vae", tooltip="The model's VAE, through which gradients go from pictures to latents."),
                io.Clip.Input("clip", tooltip="The model's text encoder, which is not trained."),
                wires.Captioner.Input(
                    "captioner",
                    optional=True,
                    tooltip="From Load Captioner. Concept matching: how well it can tell the prompt from the picture. "
                    "Not connected: no such loss.",
                ),
                wires.Segmenter.Input(
                    "segmenter", optional=True, tooltip='From Load SAM. Needed for the masks of "detector".'
                ),
                *training_inputs(INPUTS, own=own, tooltips=TOOLTIPS),
            ],
            outputs=training_outputs(),
            hidden=HIDDEN,
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name=None, masks=None, fidelity=None) -> bool | str:
        """ComfyUI hands over dynamic combos unasked."""
        return check_name(name)

    @classmethod
    def fingerprint_inputs(cls, **_) -> int:
        return WRITTEN.count_lost()

    @classmethod
    def execute(
        cls, model, vae, clip, prompts, masks=None, fidelity=None, captioner=None, segmenter=None, **chosen
    ) -> io.NodeOutput:
        defaults = {name: option.default for name, option in INPUTS.items()}
        found = one_of("masks", masks, options.MASKS), one_of("fidelity", fidelity, options.FIDELITY)
        chosen = {**defaults, **chosen, **found[0], **found[1]}
        networks = Networks(model, vae, clip, captioner, segmenter)
        task, notes = task_of(prompts, networks, chosen, reporter(cls))
        return trained(cls, model, clip, vae, task, chosen, notes)
