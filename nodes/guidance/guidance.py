"""Guidance by losses on attention maps."""

from comfy_api.latest import io

from ...attention.engine.levels import RESOLUTIONS
from ...attention.engine.sampling import with_technique
from ...attention.guidance.attend_and_excite import ALL_ROWS, WORDS, AttendAndExcite
from ...attention.guidance.entropy import Entropy
from ...attention.guidance.guidance import GuidanceSettings
from ...attention.guidance.layout import Layout
from ...attention.guidance.syngen import SynGen
from ...attention.guidance.token_and_pixel import TokenAndPixel
from ..shared.inputs import binding_input, model_input, model_output, one_of, range_inputs
from ..shared.progress import reporter

CATEGORY = "semantic binding/guidance"
ALIASES = [
    "loss guidance",
    "attend and excite",
    "syngen",
    "layout guidance",
    "tokencompose",
    "comat",
    "attribute binding",
    "color bleed",
    "missing objects",
]
ATTEND_AND_EXCITE, SYNGEN, LAYOUT = "attend and excite", "syngen", "layout"
TOKEN_AND_PIXEL, ENTROPY = "token and pixel", "entropy"
TOUCHED, RESIZED = "touched", "resized"
THRESHOLDS = "0: 0.05, 0.2: 0.5, 0.4: 0.8"


def _step_size(default: float, tooltip: str):
    return io.Float.Input("step_size", default=default, min=0.0, max=10000.0, step=0.1, tooltip=tooltip)


def _layers(auto: str):
    return io.Combo.Input(
        "layers",
        options=[each for each in RESOLUTIONS if each != "all"],
        default="auto",
        advanced=True,
        tooltip=f"Whose attention is looked at, by their grid. auto: {auto}.",
    )


COARSE = "those of 16 x 16 or the next finer, and for SDXL three of 32 x 32"


def _options() -> list:
    return [
        io.DynamicCombo.Option(
            ATTEND_AND_EXCITE,
            [
                _step_size(20.0, "How far a step moves the latent; falls to 0.7 of it over the run. Published: 20."),
                *range_inputs(0.0, 0.5),
                io.Combo.Input(
                    "softmax_over",
                    options=[ALL_ROWS, WORDS],
                    default=ALL_ROWS,
                    tooltip=(
                        "Which tokens compete for a patch. The published code has the end and padding tokens compete, "
                        "which takes attention from the nouns; words leaves them out."
                    ),
                ),
                io.String.Input(
                    "thresholds",
                    default=THRESHOLDS,
                    tooltip=(
                        "Refinement: fractions of the run, and the attention that every noun is to have reached there. "
                        "Steps are repeated until it has. Empty for none."
                    ),
                ),
                io.Int.Input(
                    "refinements",
                    default=20,
                    min=1,
                    max=1000,
                    tooltip="How often a step is repeated at most for each threshold.",
                ),
                _layers(COARSE),
            ],
        ),
        io.DynamicCombo.Option(
            SYNGEN,
            [
                _step_size(20.0, "How far a step moves the latent. Published: 20."),
                *range_inputs(0.0, 0.5),
                _layers(COARSE),
            ],
        ),
        io.DynamicCombo.Option(
            LAYOUT,
            [
                _step_size(30.0, "How far a step moves the latent. Published: 30."),
                *range_inputs(0.0, 0.2),
                io.Float.Input(
                    "threshold",
                    default=0.2,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip=(
                        "The loss at which the entities are taken to be in place: the mean squared share of their "
                        "attention outside of their regions."
                    ),
                ),
                io.Int.Input(
                    "iterations",
                    default=5,
                    min=1,
                    max=1000,
                    tooltip="How many updates a step makes at most while the loss is above the threshold.",
                ),
                _layers("the middle of the network and the decoder's coarsest; for SDXL three of 32 x 32"),
            ],
        ),
        io.DynamicCombo.Option(
            TOKEN_AND_PIXEL,
            [
                _step_size(20.0, "How far a step moves the latent. Ours: the losses were published for training."),
                *range_inputs(0.0, 0.5),
                io.Float.Input(
                    "pixel_weight",
                    default=0.05,
                    min=0.0,
                    max=100.0,
                    step=0.01,
                    tooltip=(
                        "Weight of the pixel loss, which has attention fill the region, against the token loss, which "
                        "has it stay inside. Published: 0.05."
                    ),
                ),
                _layers("the middle of the network and the decoder without its finest; for SDXL three of 32 x 32"),
                io.Combo.Input(
                    "cells",
                    options=[TOUCHED, RESIZED],
                    default=TOUCHED,
                    tooltip=(
                        "Which patches are in a region. touched: all that it touches. resized: those in which the "
                        "published resizing of masks leaves anything, which are up to half a patch more on each side."
                    ),
                ),
            ],
        ),
        io.DynamicCombo.Option(
            ENTROPY,
            [
                _step_size(1.5, "How far a step moves the latent; falls to 0 over the run. ToMe's code has 1.5."),
                *range_inputs(0.0, 0.5),
                _layers(COARSE),
            ],
        ),
    ]


class SBAttentionGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBAttentionGuidance",
            display_name="Attention Guidance",
            category=CATEGORY,
            description=(
                "Moves the noisy picture while it is sampled, so that the model attends to each entity as it should: "
                "down the gradient of a loss on its attention maps. Several of these nodes in a row add up in one "
                "backward pass. Guided steps take about half as long again."
            ),
            search_aliases=ALIASES,
            inputs=[
                model_input(),
                binding_input(),
                io.DynamicCombo.Input(
                    "loss",
                    options=_options(),
                    tooltip=(
                        "attend and excite: no noun is missed. syngen: attributes go where their noun is. layout: "
                        "entities go into their masks or boxes. token and pixel: the same, and they fill them. "
                        "entropy: each noun keeps to one place."
                    ),
                ),
            ],
            outputs=[model_output()],
            hidden=[io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, model, binding, loss=None) -> io.NodeOutput:
        names = [ATTEND_AND_EXCITE, SYNGEN, LAYOUT, TOKEN_AND_PIXEL, ENTROPY]
        chosen = one_of("loss", loss, names)
        method = method_of(**chosen)
        clone = with_technique(model, GuidanceSettings(binding, method, reporter(cls)))
        acting = ", ".join(entity.name for entity in method.entities(binding))
        return io.NodeOutput(clone, ui={"text": (f"{method.name}: {acting}",)})


def method_of(loss: str, step_size: float, start: float, end: float, layers: str, **own):
    """The settings of a method from the values of its widgets."""
    common = {"step_size": step_size, "start": start, "end": end, "resolution": layers}
    if loss == ATTEND_AND_EXCITE:
        return AttendAndExcite(
            **common,
            softmax_over=own["softmax_over"],
            thresholds=thresholds(own["thresholds"]),
            refinements=own["refinements"],
        )
    if loss == LAYOUT:
        return Layout(**common, iterations=own["iterations"], threshold=own["threshold"])
    if loss == TOKEN_AND_PIXEL:
        return TokenAndPixel(**common, pixel_weight=own["pixel_weight"], resized=own["cells"] == RESIZED)
    return {SYNGEN: SynGen, ENTROPY: Entropy}[loss](**common)


def thresholds(text: str) -> tuple[tuple[float, float], ...]:
    """Pairs of a fraction of the run and what is to be reached there.

    Raises:
        ValueError: the text is something else.
    """
    found = []
    for pair in filter(None, map(str.strip, text.split(","))):
        at, _, reached = pair.partition(":")
        try:
            found.append((float(at), float(reached)))
        except ValueError:
            found.append((-1.0, -1.0))
    if not all(0 <= number <= 1 for pair in found for number in pair):
        raise ValueError(
            f'thresholds must be pairs of numbers from 0 to 1, like "{THRESHOLDS}": where in the run, and what '
            f'attention is to be reached. Found: "{text}".'
        )
    return tuple(found)
