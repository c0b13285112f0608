"""Semantic token merge: composite tokens, end-token substitution, and their optimisation while sampling."""

import inspect
import math

from comfy_api.latest import io

from ...attention.engine.roles import check_rows
from ...attention.engine.sampling import with_technique
from ...attention.token_merge.composite import columns_of, composites_of, merged
from ...attention.token_merge.end_tokens import end_rows
from ...attention.token_merge.loss_history import TokenLosses
from ...attention.token_merge.merging import MergeSettings
from ...attention.token_merge.optimization import OptimizationSettings, Plan
from ...attention.token_merge.presets import ATTRIBUTE_BINDING, PLANS
from ...parsing.binding import CONDITIONING_KEY, MERGED_KEY
from ...parsing.simplified import simplified_prompt
from ...parsing.syntax import plain
from ...parsing.tokens import align
from .. import wires
from ..inputs import binding_input, model_input, model_output, not_of_binding, one_of
from ..parsing.prompt import encode, tokenized_for
from ..progress import reporter

CATEGORY = "semantic binding/token merge"
ALIASES = ["tome", "token merging", "semantic binding", "attribute binding", "object binding", "color bleed"]
SUBSTITUTED, KEPT = "substituted", "kept"
POOLED_KEPT, POOLED_SIMPLIFIED = "of the prompt", "of the simplified prompt"
PAPER, PUBLISHED = "paper", "published code"
CUSTOM = "custom"


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
        ends, extra = (), {}
        simplified = (end_tokens.get("simplified_prompt") or "").strip() or simplified_prompt(binding)
        if composites and (substitute or pooled == POOLED_SIMPLIFIED):
            encoders, rows, vector = encoded(clip, binding, simplified)
            if substitute:
                columns = columns_of(binding, rows.shape[-1])
                ends = end_rows(binding.encoders, encoders, columns, rows, binding.length)
            if pooled == POOLED_SIMPLIFIED:
                extra["pooled_output"] = vector
        fused = [
            [merged(rows, composites, noun_weight, attribute_weight), {**options, **extra, MERGED_KEY: True}]
            for rows, options in conditioning
        ]
        settings = MergeSettings(binding, ends, end_tokens.get("from_step", 0), fused[0][0])
        text = summary(binding, composites, simplified, substitute, settings.from_step)
        return io.NodeOutput(with_technique(model, settings), fused, ui={"text": (text,)})


def check_conditioning(conditioning, binding) -> None:
    """Raise ValueError unless this is the binding's conditioning, as it was before any merging."""
    for rows, options in conditioning:
        if options.get(CONDITIONING_KEY) != binding.key:
            raise not_of_binding(binding)
        if options.get(MERGED_KEY):
            raise ValueError("This conditioning has been merged already. Use one Semantic Token Merge for a prompt.")
        check_rows(binding, rows.shape[1])


def encoded(clip, binding, prompt: str):
    """A prompt's tokens in every encoder of the binding, its rows ``(1, T, D)``, and its pooled vector.

    Raises:
        ValueError: there is no text encoder, or it is that of another kind of model than the binding's.
    """
    tokens, vocabularies = tokenized_for(binding, clip, prompt)
    encoders = align(tokens, vocabularies, plain(prompt))
    rows, options = encode(clip, tokens)[0]
    return encoders, rows, options.get("pooled_output")


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
