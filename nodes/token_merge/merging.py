"""Semantic Token Merge: composite tokens and end-token substitution."""

from comfy_api.latest import io

from ...attention.engine.sampling import with_technique
from ...attention.token_merge.composite import columns_of, composites_of, merged
from ...attention.token_merge.end_tokens import end_rows
from ...attention.token_merge.merging import MergeSettings
from ...parsing.binding import ENDS_KEY, MERGED_KEY, REPLACED_KEY
from ...parsing.simplified import simplified_prompt
from ..shared.inputs import binding_input, model_input, model_output, not_of_binding, one_of, parts_of
from .common import ALIASES, CATEGORY, encoded

SUBSTITUTED, KEPT = "substituted", "kept"
POOLED_KEPT, POOLED_SIMPLIFIED = "of the prompt", "of the simplified prompt"


class SBTokenMerge(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBTokenMerge",
            display_name="Semantic Token Merge",
            category=CATEGORY,
            description=(
                "Fuses every noun of the prompt with its attributes and sub-objects into one token, so that they act "
                "in the same place of the picture, and takes the attributes out of the tokens behind the prompt, which "
                "leak them everywhere. From ToMe (arXiv 2411.07132). Both outputs have to go to the sampler."
            ),
            search_aliases=[*ALIASES, "composite token", "end token substitution", "attribute leakage"],
            inputs=[
                model_input(),
                io.Conditioning.Input(
                    "conditioning", tooltip="The conditioning that came with the BINDING, from Bind Prompt."
                ),
                io.Clip.Input("clip", tooltip="The text encoder the conditioning was made with."),
                binding_input(),
                io.Float.Input(
                    "noun_weight",
                    default=1.1,
                    min=0.0,
                    max=5.0,
                    step=0.01,
                    tooltip=(
                        "Weight of the noun in its composite token. 1.1 is the published code's; 1 for both weights is "
                        "the plain sum of the paper. Weights in the prompt come on top."
                    ),
                ),
                io.Float.Input(
                    "attribute_weight",
                    default=1.2,
                    min=0.0,
                    max=5.0,
                    step=0.01,
                    tooltip="Weight of attributes and sub-objects in the composite token; 1.2 is the published code's.",
                ),
                io.DynamicCombo.Input(
                    "end_tokens",
                    options=[
                        io.DynamicCombo.Option(
                            SUBSTITUTED,
                            [
                                io.String.Input(
                                    "simplified_prompt",
                                    default="",
                                    tooltip=(
                                        "The prompt the end and padding tokens are taken from. Leave empty to have it "
                                        "made: the prompt without attributes and sub-objects. The node shows it."
                                    ),
                                ),
                                io.Int.Input(
                                    "from_step",
                                    default=0,
                                    min=0,
                                    max=10000,
                                    tooltip="The sampler's step at which they are replaced; 0 is the first.",
                                ),
                            ],
                        ),
                        io.DynamicCombo.Option(KEPT, []),
                    ],
                    tooltip=(
                        "The tokens behind the prompt, which hold a summary of the sentence, attributes included. "
                        "substituted: those of a simplified prompt take their place. kept: they stay."
                    ),
                ),
                io.Combo.Input(
                    "pooled",
                    options=[POOLED_KEPT, POOLED_SIMPLIFIED],
                    default=POOLED_KEPT,
                    advanced=True,
                    tooltip=(
                        "SDXL only: the summary vector of the text. The published code keeps that of the whole prompt."
                    ),
                ),
            ],
            outputs=[
                model_output(),
                io.Conditioning.Output(
                    display_name="conditioning",
                    tooltip="The conditioning with composite tokens. Connect it to the sampler's positive input.",
                ),
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls, model, conditioning, clip, binding, noun_weight, attribute_weight, pooled, end_tokens=None
    ) -> io.NodeOutput:
        end_tokens = one_of("end_tokens", end_tokens, [SUBSTITUTED, KEPT])
        check_conditioning(conditioning, binding)
        composites = composites_of(binding, conditioning[0][0].shape[-1])
        substitute = end_tokens["end_tokens"] == SUBSTITUTED
        ends, extra = (), {MERGED_KEY: tuple(each.entity.name for each in composites)}
        simplified = (end_tokens.get("simplified_prompt") or "").strip() or simplified_prompt(binding)
        if composites and (substitute or pooled == POOLED_SIMPLIFIED):
            encoders, rows, vector = encoded(clip, binding, simplified)
            if substitute:
                columns = columns_of(binding, rows.shape[-1])
                ends = end_rows(binding.encoders, encoders, columns, rows, binding.length)
                extra[ENDS_KEY] = True
            if pooled == POOLED_SIMPLIFIED:
                extra["pooled_output"] = vector
        fused = [
            [merged(rows, composites, noun_weight, attribute_weight), {**options, **extra}]
            for rows, options in conditioning
        ]
        settings = MergeSettings(binding, ends, end_tokens.get("from_step", 0), fused[0][0])
        text = summary(binding, composites, simplified, substitute, settings.from_step)
        return io.NodeOutput(with_technique(model, settings), fused, ui={"text": (text,)})


def check_conditioning(conditioning, binding) -> None:
    """Raise ValueError unless this is the binding's conditioning, as it was before any merging."""
    if not all(parts_of(binding, conditioning)):
        raise not_of_binding(binding)
    if any(MERGED_KEY in options for _, options in conditioning):
        raise ValueError("This conditioning has been merged already. Use one Semantic Token Merge for a prompt.")
    replaced = {name for _, options in conditioning for name in options.get(REPLACED_KEY, ())}
    if replaced:
        raise ValueError(
            f"Token Arithmetic has replaced {', '.join(sorted(replaced))} in this conditioning, so there are no words "
            "left to merge. Put Token Arithmetic behind Semantic Token Merge."
        )


def summary(binding, composites, simplified: str, substitute: bool, from_step: int) -> str:
    """What the node has done, for people."""
    if not composites:
        return "No entity has attributes or sub-objects, so nothing is merged and pictures stay as they are."
    lines = [f"{each.entity.name}: {' + '.join(phrase.text for phrase in each.entity.phrases)}" for each in composites]
    left = [each.name for each in binding.entities if len(each.phrases) == 1]
    if left:
        lines.append(f"Left alone, as nothing belongs to them: {', '.join(left)}.")
    if substitute:
        start = f" from step {from_step} on" if from_step else ""
        lines.append(f'End tokens{start} are those of: "{simplified}"')
    return "\n".join(lines)
