"""Inputs and outputs that several nodes have, and what the nodes of attention modulation share."""

from comfy_api.latest import io

from ...attention.engine.roles import check_rows
from ...parsing.binding import CONDITIONING_KEY
from . import wires

MODULATION = "semantic binding/attention modulation"
MODULATION_ALIASES = [
    "attention modulation",
    "attribute binding",
    "color bleed",
    "concept bleeding",
    "attribute leakage",
]


def model_input():
    return io.Model.Input("model", tooltip="The model to change. Other nodes may patch it before or after this one.")


def model_output():
    return io.Model.Output(display_name="model", tooltip="The changed model. Connect it to the sampler.")


def binding_input():
    return wires.Binding.Input(
        "binding",
        tooltip=(
            "The prompt's entities, from Bind Prompt or Bind Conditioning. The conditioning that belongs to it has to "
            "go to the sampler; no other conditioning is touched."
        ),
    )


def not_of_binding(binding) -> ValueError:
    """The error for a conditioning that was made with another binding, or with none."""
    return ValueError(
        f'This conditioning does not belong to the BINDING of "{binding.text}". Connect the CONDITIONING and '
        "the BINDING of the same Bind Prompt or Bind Conditioning node."
    )


def parts_of(binding, conditioning) -> list[bool]:
    """Which parts of a conditioning are the binding's.

    Raises:
        ValueError: none is, or one has lost rows.
    """
    own = [options.get(CONDITIONING_KEY) == binding.key for _, options in conditioning]
    if not any(own):
        raise not_of_binding(binding)
    for (rows, _), is_own in zip(conditioning, own, strict=True):
        if is_own:
            check_rows(binding, rows.shape[1])
    return own


def range_inputs(start: float, end: float) -> list:
    return [
        io.Float.Input(
            "start",
            default=start,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Where it starts, as a fraction of the sampler's steps.",
        ),
        io.Float.Input(
            "end",
            default=end,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Where it ends, as a fraction of the sampler's steps. Must be larger than start.",
        ),
    ]


def one_of(name: str, chosen: dict | None, choices: list[str]) -> dict:
    """The value of a dynamic combo; ComfyUI leaves it away where its choice is none of the options.

    Raises:
        ValueError: it was left away.
    """
    if chosen is None:
        raise ValueError(f"{name} must be one of: {', '.join(choices)}.")
    return chosen
