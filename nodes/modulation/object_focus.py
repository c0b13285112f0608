"""Object-Focused Attention."""

from comfy_api.latest import io

from ...attention.engine.sampling import with_technique
from ...attention.modulation.object_focus import CLOSED, SCORES, FocusSettings
from ..shared.inputs import (
    MODULATION,
    MODULATION_ALIASES,
    binding_input,
    model_input,
    model_output,
    one_of,
    range_inputs,
)

PREVIOUS_STEP, SAME_LAYER = "previous step", "same layer"
SEES_ALL, SEES_NO_ENTITY = "sees everything", "sees no entity"
OPEN, CLOSED_TO_ENTITIES = "open", "closed"
MODES = ["hard", "soft"]


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
