"""Token Arithmetic: a sum of phrases in the place of an entity."""

from comfy_api.latest import io

from ...attention.token_merge.arithmetic import (
    Encoded,
    added,
    end_changes,
    place_of,
    pooled_change,
    replaced,
    total_row,
)
from ...parsing.binding import ENDS_KEY, REPLACED_KEY
from ...parsing.expression import Term, parse, written
from ...parsing.syntax import escaped
from ..shared.inputs import binding_input, parts_of
from .common import CATEGORY, encoded

CHANGED, KEPT = "changed", "kept"


class SBTokenArithmetic(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBTokenArithmetic",
            display_name="Token Arithmetic",
            category=CATEGORY,
            description=(
                "Puts a sum of phrases in the place of an entity: adds something to it, takes something off it, or "
                "exchanges it for something else. Text encoders of the CLIP kind are nearly additive, so that such a "
                "sum is a token that the model can draw. From ToMe (arXiv 2411.07132)."
            ),
            search_aliases=[
                "tome",
                "prompt arithmetic",
                "embedding arithmetic",
                "word vectors",
                "king queen",
                "add concept",
                "remove concept",
                "replace concept",
                "negative concept",
            ],
            inputs=[
                io.Conditioning.Input(
                    "conditioning",
                    tooltip=(
                        "The conditioning of the BINDING, from Bind Prompt, Semantic Token Merge or another Token "
                        "Arithmetic."
                    ),
                ),
                io.Clip.Input(
                    "clip", tooltip="The text encoder the conditioning was made with; it encodes each phrase."
                ),
                binding_input(),
                io.String.Input(
                    "entity",
                    default="1",
                    tooltip="The entity's name or its number, as Bind Prompt shows them: dog, or 1 for the first.",
                ),
                io.String.Input(
                    "expression",
                    default="",
                    placeholder="a dog + a dog with a hat - a dog",
                    tooltip=(
                        "What stands in the entity's place: phrases with + and - between them, and weights before them "
                        "as in 0.8 * a hat. Name the entity too: its own words count for nothing any more. Signs need "
                        "a space on both sides."
                    ),
                ),
                io.Combo.Input(
                    "end_tokens",
                    options=[CHANGED, KEPT],
                    default=CHANGED,
                    tooltip=(
                        "The tokens behind the prompt, which hold a summary of the sentence, and the pooled vector of "
                        "SDXL. changed: the sum is added to them, less the entity's own phrase. kept: they still tell "
                        "of the entity as it was."
                    ),
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning",
                    tooltip="The conditioning with the sum. Connect it to the sampler's positive input.",
                ),
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, conditioning, clip, binding, entity, expression, end_tokens) -> io.NodeOutput:
        terms, entity = parse(expression), binding.entity(entity)
        own = parts_of(binding, conditioning)
        mine = [part for part, is_own in zip(conditioning, own, strict=True) if is_own]
        check_free(entity, [options for _, options in mine], end_tokens)
        width = mine[0][0].shape[-1]
        place = place_of(binding, entity, width)
        phrases = [(weight, alone(clip, binding, phrase, width)) for weight, phrase in terms]
        total, changes, pooled = total_row(place, phrases), (), None
        if end_tokens == CHANGED:
            difference = [*phrases, (-1.0, alone(clip, binding, escaped(entity.anchor_phrase), width))]
            changes, pooled = end_changes(binding, place, difference), pooled_change(binding, place, difference)

        def computed(rows, options):
            options = {**options, REPLACED_KEY: (*options.get(REPLACED_KEY, ()), entity.name)}
            if pooled is not None and options.get("pooled_output") is not None:
                options["pooled_output"] = options["pooled_output"] + pooled.to(options["pooled_output"])
            return [added(replaced(rows, place, total), changes), options]

        result = [computed(*part) if is_own else part for part, is_own in zip(conditioning, own, strict=True)]
        return io.NodeOutput(result, ui={"text": (summary(entity, terms, end_tokens),)})


def alone(clip, binding, phrase: str, width: int) -> Encoded:
    """A phrase encoded by itself.

    Raises:
        ValueError: the phrase cannot be read, or this is the text encoder of another model than the conditioning's.
    """
    try:
        encoders, rows, pooled = encoded(clip, binding, phrase)
    except ValueError as error:
        raise ValueError(f'The phrase "{phrase}" cannot be encoded. {error}') from error
    if rows.shape[-1] != width:
        raise ValueError(
            f"This CLIP makes rows of {rows.shape[-1]} columns, the conditioning has {width}. Connect the CLIP that "
            "the prompt was encoded with."
        )
    return Encoded(phrase, encoders, rows, pooled)


def check_free(entity, marked: list[dict], end_tokens: str) -> None:
    """Raise ValueError if the entity has a sum in its place already, or end tokens are to be changed that are replaced
    while sampling."""
    if any(entity.name in options.get(REPLACED_KEY, ()) for options in marked):
        raise ValueError(
            f"Token Arithmetic has replaced {entity.name} in this conditioning already. Write the whole sum in one "
            "expression."
        )
    if end_tokens == CHANGED and any(ENDS_KEY in options for options in marked):
        raise ValueError(
            "Semantic Token Merge replaces the end tokens of this conditioning while sampling, so there is no use in "
            f'changing them. Set end_tokens to "{KEPT}", here or there.'
        )


def summary(entity, terms: tuple[Term, ...], end_tokens: str) -> str:
    """What the node has done, for people."""
    lines = [f"{entity.name}: {written(terms)}"]
    if end_tokens == CHANGED:
        lines.append(f"End tokens: + ({written(terms)}) - ({entity.anchor_phrase})")
    return "\n".join(lines)
