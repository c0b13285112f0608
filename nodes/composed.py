"""Composed noise: every entity is predicted alone, and the predictions are added up."""

import math
import re
from typing import NamedTuple
from uuid import uuid4

from comfy_api.latest import io

from ..attention.composed import ComposeSettings
from ..attention.engine.composing import PART_KEY, Part
from ..attention.engine.sampling import with_technique
from ..parsing.encoding import encode, tokenized_for, with_key
from ..parsing.syntax import escaped
from .shared.inputs import binding_input, model_input


class SBComposeNoise(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBComposeNoise",
            display_name="Compose Noise",
            category="semantic binding/guidance",
            description=(
                "Has the model predict each entity of the prompt alone and adds the predictions up, so that no word "
                "can act on another entity; also takes things away. Each part takes as long as a prompt of its own. "
                "Both outputs have to go to the sampler. From Composable Diffusion (arXiv 2206.01714)."
            ),
            search_aliases=[
                "composable diffusion",
                "AND",
                "NOT",
                "conjunction",
                "negation",
                "conditioning combine",
                "attribute binding",
            ],
            inputs=[
                model_input(),
                io.Clip.Input("clip", tooltip="The text encoder of the BINDING; it encodes each part."),
                binding_input(),
                io.String.Input(
                    "weights",
                    default="",
                    tooltip=(
                        'How much each entity counts, by name or number: "cat: 1 | dog: 0.8". Those not named have 1, '
                        "which is the sampler's whole guidance (CFG). At 0 an entity is left out."
                    ),
                ),
                io.Float.Input(
                    "prompt_weight",
                    default=0.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip=(
                        "How much the whole prompt counts, as one more part. At 0 only the entities are drawn, without "
                        "the scene around them."
                    ),
                ),
                io.String.Input(
                    "exclude",
                    default="",
                    tooltip='What is to be kept out, as phrases separated by |: "a red square | text".',
                ),
                io.Float.Input(
                    "exclude_weight",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    tooltip="How much each phrase to exclude is taken away.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="The model that adds up the parts. Connect it to the sampler."
                ),
                io.Conditioning.Output(
                    display_name="conditioning",
                    tooltip="The parts. Connect it to the positive input of the sampler that has the model.",
                ),
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, model, clip, binding, weights, prompt_weight, exclude, exclude_weight) -> io.NodeOutput:
        parts = parts_of(binding, weights_of(weights, binding), prompt_weight, exclude, exclude_weight)
        composition = uuid4().hex
        conditioning = []
        for number, part in enumerate(parts):
            tokens, _ = tokenized_for(binding, clip, part.prompt)
            encoded = encode(clip, tokens)
            if part.whole:
                encoded = with_key(encoded, binding)
            own = Part(composition, number, part.weight)
            conditioning += [[rows, {**options, PART_KEY: own}] for rows, options in encoded]
        text = "\n".join(f'{part.weight:+g}  "{part.prompt}"' for part in parts)
        clone = with_technique(model, ComposeSettings(composition, binding.text))
        return io.NodeOutput(clone, conditioning, ui={"text": (text,)})


class Prompt(NamedTuple):
    """What is predicted alone, with its weight; ``whole`` for the bound prompt itself."""

    prompt: str
    weight: float
    whole: bool = False


def parts_of(binding, weights: list[float], prompt_weight: float, exclude: str, exclude_weight: float) -> list[Prompt]:
    """All parts that have a weight: the entities' anchor phrases, the whole prompt, and what is excluded.

    Raises:
        ValueError: there is none.
    """
    entities = [
        Prompt(escaped(entity.anchor_phrase), weight) for entity, weight in zip(binding.entities, weights, strict=True)
    ]
    excluded = [Prompt(phrase, -exclude_weight) for phrase in filter(None, map(str.strip, exclude.split("|")))]
    found = [*entities, Prompt(binding.prompt, prompt_weight, whole=True), *excluded]
    parts = [part for part in found if part.weight]
    if not parts:
        raise ValueError(
            f'There is nothing to compose: no entity of "{binding.text}" has a weight, and nor has the whole prompt. '
            "Name entities in the node the BINDING comes from, or set prompt_weight."
        )
    return parts


def weights_of(text: str, binding) -> list[float]:
    """The weight of each entity; 1 for those that the text does not name.

    Raises:
        ValueError: something in the text is no weight of an entity, or an entity is named twice.
    """
    given: dict[str, float] = {}
    for entry in filter(None, map(str.strip, re.split(r"[|\n]", text))):
        name, _, number = entry.rpartition(":")
        entity = binding.entity(name) if name.strip() else None
        weight = number_in(number)
        if entity is None or weight is None:
            raise ValueError(
                f'weights must give entities numbers, like "cat: 1 | dog: 0.8". Found: "{entry}". The entities are: '
                f"{', '.join(each.name for each in binding.entities) or 'none'}."
            )
        if entity.name in given:
            raise ValueError(f"{entity.name} has two weights. Write each entity once in weights.")
        given[entity.name] = weight
    return [given.get(entity.name, 1.0) for entity in binding.entities]


def number_in(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
