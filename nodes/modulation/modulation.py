"""Attention modulation: self-attention temperature, object-focused attention, and all of it in one node."""

from comfy_api.latest import io

from ...attention.engine.sampling import with_technique
from ...attention.modulation.presets import PRESETS, techniques
from ..shared.inputs import MODULATION, MODULATION_ALIASES, binding_input, model_input, model_output
from .stage_weights import drawing, reporter, sampled


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
