"""Token Optimization: composite tokens that are improved while sampling."""

import inspect
import math

from comfy_api.latest import io

from ...attention.engine.sampling import with_technique
from ...attention.token_merge.composite import composites_of
from ...attention.token_merge.loss_history import TokenLosses
from ...attention.token_merge.optimization import OptimizationSettings, Plan
from ...attention.token_merge.presets import ATTRIBUTE_BINDING, PLANS
from ..shared import wires
from ..shared.inputs import binding_input, model_input, model_output, one_of
from ..shared.progress import reporter
from .common import ALIASES, CATEGORY, encoded

PAPER, PUBLISHED = "paper", "published code"
CUSTOM = "custom"


def _plan_inputs() -> list:
    plan = ATTRIBUTE_BINDING

    def count(name: str, tooltip: str):
        return io.Int.Input(name, default=getattr(plan, name), min=0, max=1000, tooltip=tooltip)

    def size(name: str, most: float, tooltip: str):
        return io.Float.Input(name, default=getattr(plan, name), min=0.0, max=most, step=0.1, tooltip=tooltip)

    return [
        count("token_steps", "In how many of the first steps the semantic binding loss updates the composite tokens."),
        count("token_iterations", "How many updates each of these steps makes."),
        size(
            "token_step_size", 1e6, "How far an update goes down the gradient of the semantic binding loss, per pixel."
        ),
        count("entropy_steps", "In how many of the first steps the entropy loss gathers the attention maps."),
        count("entropy_iterations", "How many updates each of these steps makes at most."),
        size(
            "row_step_size",
            1000.0,
            "How far an update of the entropy loss moves the tokens; falls to 0 over the run.",
        ),
        size(
            "latent_step_size",
            1000.0,
            (
                "How far an update of the entropy loss moves what the network sees of the noisy picture; falls to 0 "
                "over the run. At 0 only the tokens are moved."
            ),
        ),
        io.String.Input(
            "thresholds",
            default=", ".join(f"{threshold:g}" for threshold in plan.thresholds),
            tooltip=(
                "When the entropy loss is low enough, step by step, separated by commas; the last one holds for all "
                "steps that follow. In the published code's numbers for two entities: each entity has half of it "
                "minus 1."
            ),
        ),
    ]


class SBTokenOptimization(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBTokenOptimization",
            display_name="Token Optimization",
            category=CATEGORY,
            description=(
                "Improves the composite tokens of Semantic Token Merge while the sampler runs its first steps: each "
                "token alone is to mean what its entity's own phrase means (semantic binding loss), and is to act in "
                "one compact place (entropy loss). Takes gradients through the model, so these steps take several "
                "times longer. From ToMe (arXiv 2411.07132)."
            ),
            search_aliases=[*ALIASES, "semantic binding loss", "entropy loss", "guidance", "optimize prompt"],
            inputs=[
                model_input(),
                io.Clip.Input("clip", tooltip="The text encoder of the BINDING; it encodes each entity's own phrase."),
                binding_input(),
                io.DynamicCombo.Input(
                    "settings",
                    options=[
                        *(io.DynamicCombo.Option(name, []) for name in PLANS),
                        io.DynamicCombo.Option(CUSTOM, _plan_inputs()),
                    ],
                    tooltip=(
                        "attribute binding and object binding: the two configurations of the published code, for "
                        "colours and the like, and for things that are worn or held. demo model: found for the model "
                        "that comes with this pack. custom: your own numbers."
                    ),
                ),
                io.Combo.Input(
                    "mode",
                    options=[PAPER, PUBLISHED],
                    default=PAPER,
                    tooltip=(
                        "published code: with its slips in the guidance of the anchors, one threshold for the sum of "
                        "all entities, and all tokens moved by the entropy loss. paper: without them; only composite "
                        "tokens are moved, each entity up to its own threshold."
                    ),
                ),
                io.Boolean.Input(
                    "pose_loss",
                    default=False,
                    tooltip=(
                        "For exactly two entities with attributes or sub-objects: pulls the first to the left and the "
                        "second to the right."
                    ),
                ),
            ],
            outputs=[
                model_output(),
                wires.TokenLosses.Output(
                    display_name="losses",
                    tooltip="Filled when the sampler has run. Connect it to Preview Token Losses.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, model, clip, binding, mode, pose_loss, settings=None) -> io.NodeOutput:
        chosen = one_of("settings", settings, [*PLANS, CUSTOM])
        plan = PLANS.get(chosen["settings"]) or custom(chosen)
        rows = {}
        for entity in binding.entities:
            if len(entity.phrases) > 1:
                rows[entity.anchor_phrase] = encoded(clip, binding, entity.anchor_phrase)[1]
        composites = composites_of(binding, next(iter(rows.values())).shape[-1]) if rows else ()
        losses = TokenLosses()
        technique = OptimizationSettings(
            binding=binding,
            composites=composites,
            anchors=tuple(rows[composite.entity.anchor_phrase] for composite in composites),
            plan=plan,
            pose=pose_loss,
            published=mode == PUBLISHED,
            report=reporter(cls),
            losses=losses,
        )
        phrases = [f'{each.entity.name}: "{each.entity.anchor_phrase}"' for each in composites]
        text = "\n".join(phrases) or "No entity has attributes or sub-objects, so nothing is optimised."
        return io.NodeOutput(with_technique(model, technique), losses, ui={"text": (text,)})


def custom(chosen: dict) -> Plan:
    """The plan of the node's own inputs.

    Raises:
        ValueError: the thresholds are no numbers.
    """
    names = inspect.signature(Plan).parameters.keys() - {"thresholds"}
    try:
        thresholds = tuple(float(each) for each in chosen["thresholds"].split(","))
        if not all(map(math.isfinite, thresholds)):
            raise ValueError
    except ValueError:
        raise ValueError(
            f'thresholds must be numbers separated by commas, for example "26, 25, 24"; found "{chosen["thresholds"]}".'
        ) from None
    return Plan(**{name: chosen[name] for name in names}, thresholds=thresholds)
