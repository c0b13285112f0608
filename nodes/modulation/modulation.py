"""Attention modulation: self-attention temperature, object-focused attention, and all of it in one node."""

from comfy_api.latest import io

from ...attention.engine.sampling import with_technique
from ...attention.modulation.object_focus import CLOSED, SCORES, FocusSettings
from ...attention.modulation.presets import PRESETS, techniques
from ...attention.modulation.temperature import LEVELS, TemperatureSettings
from ..inputs import MODULATION, MODULATION_ALIASES, binding_input, model_input, model_output, one_of, range_inputs
from .stage_weights import drawing, reporter, sampled

BOTH, POSITIVE = "positive and negative", "positive only"
PREVIOUS_STEP, SAME_LAYER = "previous step", "same layer"
SEES_ALL, SEES_NO_ENTITY = "sees everything", "sees no entity"
OPEN, CLOSED_TO_ENTITIES = "open", "closed"
MODES = ["hard", "soft"]


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


class SBObjectFocusedAttention(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBObjectFocusedAttention",
            display_name="Object-Focused Attention",
            category=MODULATION,
            description=(
                "Each patch of the image may look only at the words of its own entity and at words of no entity, so "
                "that colours and things do not leak to another entity. Which entity a patch belongs to is found while "
                "sampling, or comes from masks on the BINDING. From the attention modulation paper (arXiv 2404.13899)."
            ),
            search_aliases=[
                *MODULATION_ALIASES,
                "cross attention mask",
                "masked attention",
                "regional prompt",
                "focus",
            ],
            inputs=[
                model_input(),
                binding_input(),
                io.Combo.Input(
                    "patches_from",
                    options=[PREVIOUS_STEP, SAME_LAYER],
                    default=PREVIOUS_STEP,
                    tooltip=(
                        "How a patch finds its entity: by the highest attention in the previous step, smoothed (same "
                        "for all layers), or in each layer for itself. Masks or boxes on the BINDING come before "
                        "both: then an entity's patches are those of its mask, and entities without one may be "
                        "anywhere outside of them."
                    ),
                ),
                io.Float.Input(
                    "min_share",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip=(
                        "An entity gets a patch only if it has at least this share of the patch's attention to all "
                        "entities (with masks: if its mask covers this part of the patch). Other patches are "
                        "background. At 0 every patch belongs to an entity, with masks every patch they touch."
                    ),
                ),
                io.Combo.Input(
                    "background",
                    options=[SEES_ALL, SEES_NO_ENTITY],
                    default=SEES_ALL,
                    tooltip=(
                        "What patches of no entity may look at. With masks, sees no entity keeps entities from "
                        "appearing outside their masks."
                    ),
                ),
                io.DynamicCombo.Input(
                    "mode",
                    options=[
                        io.DynamicCombo.Option(MODES[0], []),
                        io.DynamicCombo.Option(
                            MODES[1],
                            [
                                io.Float.Input(
                                    "penalty",
                                    default=4.0,
                                    min=0.0,
                                    max=100.0,
                                    step=0.1,
                                    tooltip=(
                                        "Taken off the attention logits of other entities' tokens: at 1 their weight "
                                        "falls to 37 %, at 4 to 2 %. 0 changes nothing."
                                    ),
                                )
                            ],
                        ),
                    ],
                    tooltip="hard: tokens of other entities are closed. soft: they are only weakened, by the penalty.",
                ),
                io.Combo.Input(
                    "end_and_padding",
                    options=[OPEN, CLOSED_TO_ENTITIES],
                    default=OPEN,
                    tooltip=(
                        "The tokens behind the prompt, which hold a summary of the whole sentence. closed: patches of "
                        "an entity cannot look at them; this separates more and may break pictures. The start token "
                        "is always open."
                    ),
                ),
                *range_inputs(0.1, 1.0),
                io.Combo.Input(
                    "score",
                    options=list(SCORES),
                    default="sum",
                    advanced=True,
                    tooltip=(
                        "An entity's attention in a patch: the sum over its tokens, as in the paper, or their mean, "
                        "which does not favour entities of many words."
                    ),
                ),
            ],
            outputs=[model_output()],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls, model, binding, patches_from, min_share, background, end_and_padding, start, end, score, mode=None
    ) -> io.NodeOutput:
        mode = one_of("mode", mode, MODES)
        settings = FocusSettings(
            binding,
            same_layer=patches_from == SAME_LAYER,
            score=score,
            min_share=min_share,
            close_background=background == SEES_NO_ENTITY,
            close_end=end_and_padding == CLOSED_TO_ENTITIES,
            penalty=mode["penalty"] if mode["mode"] == "soft" else CLOSED,
            start=start,
            end=end,
        )
        return io.NodeOutput(with_technique(model, settings), ui={"text": (settings.summary,)})


class SBAttentionModulation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        def part(name: str, tooltip: str):
            return io.Boolean.Input(name, default=True, tooltip=tooltip)

        return io.Schema(
            node_id="SBAttentionModulation",
            display_name="Attention Modulation",
            category=MODULATION,
            description=(
                "Gives each entity of the prompt its own attributes, without training: Self-Attention Temperature, "
                "Object-Focused Attention and Stage Weights in one node, with settings that were tried together. From "
                "the attention modulation paper (arXiv 2404.13899)."
            ),
            search_aliases=[*MODULATION_ALIASES, "multiple subjects", "semantic binding", "regional prompt"],
            inputs=[
                model_input(),
                binding_input(),
                io.Combo.Input(
                    "preset",
                    options=list(PRESETS),
                    default="paper",
                    tooltip=(
                        "paper: as the paper describes it, for SDXL and Stable Diffusion 1 and 2; it gives no numbers, "
                        "so they are ours. demo model: found for the model that comes with this pack."
                    ),
                ),
                part("self_attention_temperature", "Sharper self-attention in the first steps."),
                part("object_focused_attention", "Each patch looks only at its own entity and at words of none."),
                part("stage_weights", "Words of no entity count more early, the entities' own words late."),
            ],
            outputs=[model_output()],
            hidden=[io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls, model, binding, preset, self_attention_temperature, object_focused_attention, stage_weights
    ) -> io.NodeOutput:
        chosen = PRESETS[preset]
        curves = sampled(chosen.weights["words"], chosen.weights["entities"])
        for settings in techniques(
            chosen,
            binding,
            reporter(cls, curves),
            temperature=self_attention_temperature,
            focus=object_focused_attention,
            weights=stage_weights,
        ):
            model = with_technique(model, settings)
        if not stage_weights:
            return io.NodeOutput(model, ui={"semantic_binding_weights": ()})
        return io.NodeOutput(model, ui=drawing(curves, model, binding))
