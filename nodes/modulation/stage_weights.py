"""Stage weights: the node, and what it shows of the curves and of a run's steps."""

import logging
from collections.abc import Callable
from dataclasses import asdict

from comfy_api.input import CurveInput
from comfy_api.latest import io

from ...attention.engine.sampling import techniques_on, with_technique
from ...attention.modulation.stage_weights import Shape, StagePlan, WeightSettings, has_focus
from ..shared.inputs import MODULATION, MODULATION_ALIASES, binding_input, model_input, model_output, one_of

SHAPES = ["linear", "cosine", "step", "drawn"]
WEIGHT_1, AS_WORDS = "weight 1", "as the other words"
PLAN_EVENT = "semantic_binding.stage_weights"
POINTS = 33


def _weight_inputs(*more) -> list:
    def weight(name: str, default: float, tooltip: str):
        return io.Float.Input(name, default=default, min=0.0, max=5.0, step=0.01, tooltip=tooltip)

    return [
        weight("global_start", 1.2, "Weight of the words of no entity in the first step. 1 changes nothing."),
        weight("global_end", 0.8, "Weight of the words of no entity in the last step."),
        weight("entity_start", 0.8, "Weight of the entities' own words in the first step."),
        weight("entity_end", 1.2, "Weight of the entities' own words in the last step."),
        *more,
    ]


class SBStageWeights(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        curve_height = "The bottom is weight 0, the middle 1, the top 2; from the first step at the left to the last."
        return io.Schema(
            node_id="SBStageWeights",
            display_name="Stage Weights",
            category=MODULATION,
            description=(
                "Weighs the words of the prompt over the run: words of no entity (on, in front of, running) more in "
                "early steps, where the layout is made, the entities' own words more in late ones. To be used together "
                "with Object-Focused Attention: alone it made pictures worse in the paper it is from "
                "(arXiv 2404.13899)."
            ),
            search_aliases=[*MODULATION_ALIASES, "prompt scheduling", "token weights", "dynamic weights", "curve"],
            inputs=[
                model_input(),
                binding_input(),
                io.DynamicCombo.Input(
                    "shape",
                    options=[
                        io.DynamicCombo.Option(SHAPES[0], _weight_inputs()),
                        io.DynamicCombo.Option(SHAPES[1], _weight_inputs()),
                        io.DynamicCombo.Option(
                            SHAPES[2],
                            _weight_inputs(
                                io.Float.Input(
                                    "switch_at",
                                    default=0.5,
                                    min=0.0,
                                    max=1.0,
                                    step=0.01,
                                    tooltip="Where in the run the weights change: 0 is the first step, 1 the last.",
                                )
                            ),
                        ),
                        io.DynamicCombo.Option(
                            SHAPES[3],
                            [
                                io.Curve.Input(
                                    "global_curve",
                                    default=[(0.0, 0.6), (1.0, 0.4)],
                                    tooltip=f"Weight of the words of no entity. {curve_height}",
                                ),
                                io.Curve.Input(
                                    "entity_curve",
                                    default=[(0.0, 0.4), (1.0, 0.6)],
                                    tooltip=f"Weight of the entities' own words. {curve_height}",
                                ),
                            ],
                        ),
                    ],
                    tooltip=(
                        "How the weights go from start to end. linear: the paper's shape, a straight line. cosine: "
                        "slow at both ends. step: at once. drawn: curves that you draw in the Nodes 2.0 view, the "
                        "upper one for words of no entity, the lower one for the entities' words."
                    ),
                ),
                io.Combo.Input(
                    "end_and_padding",
                    options=[WEIGHT_1, AS_WORDS],
                    default=WEIGHT_1,
                    tooltip=(
                        "The weight of the tokens behind the prompt, which hold a summary of the whole sentence. The "
                        "start token always keeps weight 1."
                    ),
                ),
            ],
            outputs=[model_output()],
            hidden=[io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, model, binding, end_and_padding, shape=None) -> io.NodeOutput:
        shape = one_of("shape", shape, SHAPES)
        kind = shape["shape"]
        if kind == "drawn":
            words, entities = (drawn(shape[name]) for name in ("global_curve", "entity_curve"))
        else:
            switch = {"switch_at": shape["switch_at"]} if kind == "step" else {}
            words = Shape(kind, shape["global_start"], shape["global_end"], **switch)
            entities = Shape(kind, shape["entity_start"], shape["entity_end"], **switch)
        curves = sampled(words, entities)
        settings = WeightSettings(binding, words, entities, end_and_padding == AS_WORDS, reporter(cls, curves))
        changed = with_technique(model, settings)
        return io.NodeOutput(changed, ui=drawing(curves, changed, binding))


def drawn(curve) -> Callable[[float], float]:
    """A curve of core's widget as weights: its height of 0 to 1 stands for 0 to 2."""
    interpolated = CurveInput.from_raw(curve).interp
    return lambda stage: 2 * interpolated(stage)


def sampled(words: Callable[[float], float], entities: Callable[[float], float]) -> dict[str, list[float]]:
    """Both curves as values at even distances, from the first step to the last."""
    stages = [point / (POINTS - 1) for point in range(POINTS)]
    return {"words": [*map(words, stages)], "entities": [*map(entities, stages)]}


def drawing(curves: dict, model, binding) -> dict:
    """What the node shows before a sampler has run: both curves, and whether the mask is there already."""
    return {"semantic_binding_weights": ({**curves, "focused": has_focus(techniques_on(model), binding)},)}


def reporter(node_class, curves: dict) -> Callable[[StagePlan], None]:
    """Tells the node in the browser what weights each step of a starting run gets, with the curves they are taken from,
    and warns where the mask is missing."""
    node_id = node_class.hidden.unique_id if node_class.hidden else None

    def report(plan: StagePlan) -> None:
        if not plan.focused:
            logging.warning(
                "Stage Weights (node %s) runs without Object-Focused Attention for the same BINDING; in the paper it "
                "made pictures worse then. Add that node to the model.",
                node_id,
            )
        from server import PromptServer

        instance = getattr(PromptServer, "instance", None)
        if instance is not None and node_id is not None:
            instance.send_sync(PLAN_EVENT, {"node": node_id, **asdict(plan), "curves": curves}, instance.client_id)

    return report
