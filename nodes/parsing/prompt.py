"""Prompt → conditioning and binding: where the graph begins."""

import os
from dataclasses import replace

import folder_paths
from comfy_api.latest import io

from ...attention.engine.rows import place_of
from ...parsing import models
from ...parsing.bind import bind
from ...parsing.encoding import encode, tokenized, with_key
from ...parsing.excluded import DEFAULT_EXCLUDED
from ...parsing.report import summary, to_json
from ...parsing.syntax import plain
from ..shared import wires

FOLDER = "spacy"
folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))

CATEGORY = "semantic binding/prompt"


def parsing_inputs() -> list[io.Input]:
    """The options of reading a prompt, the same on every node that reads one."""
    return [
        io.String.Input(
            "entities",
            default="",
            multiline=True,
            optional=True,
            tooltip=(
                "Leave empty to have the prompt parsed. Or say yourself what belongs together, in words of the prompt: "
                f'"{models.MANUAL_EXAMPLE}". Of a repeated noun, "dog 2" is the second; "dogs x2" are two dogs. '
                "This always wins and needs no spaCy. Words that are moved on the node's chips are written here."
            ),
        ),
        io.Combo.Input(
            "parser",
            options=models.choices(folder_paths.get_folder_paths(FOLDER)),
            default=models.AUTO,
            optional=True,
            tooltip=(
                "The spaCy model that reads the prompt. auto takes the best one installed: trf, lg, md, sm. "
                "Models in the folder models/spacy are listed too."
            ),
        ),
        io.String.Input(
            "excluded",
            default=DEFAULT_EXCLUDED,
            multiline=True,
            optional=True,
            advanced=True,
            tooltip=(
                'Nouns that become no entities, separated by commas. After "of:", those left out before "of" '
                "(a pair of shoes). "
                'After "background:", those left out after a preposition or without an attribute of their own.'
            ),
        ),
    ]


def binding_outputs() -> list[io.Output]:
    return [
        wires.Binding.Output(
            display_name="BINDING",
            tooltip="The entities of the prompt, what belongs to each, and where their words are in the conditioning.",
        ),
        io.String.Output(display_name="JSON", tooltip="The same binding as JSON text, for scripts."),
    ]


class SBBindPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBBindPrompt",
            display_name="Bind Prompt",
            category=CATEGORY,
            description=(
                "Encodes a prompt exactly as CLIP Text Encode does, and finds out which words belong together: which "
                "attribute to which noun, who wears what. Shows what it understood."
            ),
            search_aliases=[
                "prompt parser",
                "attribute binding",
                "color bleed",
                "text encode",
                "entities",
                "tome",
                "syngen",
                "spacy",
            ],
            inputs=[
                io.Clip.Input("clip", tooltip="Text encoder of an SD1.x, SD2.x or SDXL model."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="The prompt, with weights such as (red:1.3) and embeddings as usual.",
                ),
                *parsing_inputs(),
            ],
            outputs=[
                io.Conditioning.Output(
                    tooltip="The encoded prompt. It carries the binding's key, so that nodes act on it alone."
                ),
                *binding_outputs(),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, clip, text, entities="", parser=models.AUTO, excluded=DEFAULT_EXCLUDED) -> io.NodeOutput:
        binding, tokens = read(clip, text, entities, parser, excluded)
        return shown(with_key(encode(clip, tokens), binding), binding, entities)


class SBBindConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBBindConditioning",
            display_name="Bind Conditioning",
            category=CATEGORY,
            description="Binds a conditioning that another node made, given the prompt it was made from.",
            search_aliases=["attribute binding", "prompt parser", "bind existing conditioning", "entities"],
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="A prompt encoded elsewhere, by this CLIP."),
                io.Clip.Input("clip", tooltip="The text encoder the conditioning was made with."),
                io.String.Input(
                    "text", multiline=True, tooltip="The prompt the conditioning was made from, word for word."
                ),
                *parsing_inputs(),
            ],
            outputs=[
                io.Conditioning.Output(tooltip="The conditioning with the binding's key; its numbers are unchanged."),
                *binding_outputs(),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, conditioning, clip, text, entities="", parser=models.AUTO, excluded=DEFAULT_EXCLUDED
    ) -> io.NodeOutput:
        binding, tokens = read(clip, text, entities, parser, excluded)
        if any(rows.shape[1] != binding.length for rows, _ in conditioning):
            own = encode(clip, tokens)[0][0]
            place = place_of(own, [rows for rows, _ in conditioning], own.shape[1] // binding.encoders[0].chunks)
            if place is None:
                counts = ", ".join(str(rows.shape[1]) for rows, _ in conditioning)
                raise ValueError(
                    f"The conditioning has {counts} token rows, but this text gives {binding.length} with this CLIP, "
                    "and they are not among them. Use the text and CLIP that it was made from; of prompts that were "
                    "concatenated, the text of one."
                )
            binding = binding.behind(place)
        return shown(with_key(conditioning, binding), binding, entities)


def read(clip, text, entities, parser, excluded):
    """The binding of a prompt, and its tokens with word ids."""
    tokens, vocabularies = tokenized(clip, text)
    folders = folder_paths.get_folder_paths(FOLDER)
    return bind(plain(text), tokens, vocabularies, entities, excluded, lambda: models.load(parser, folders)), tokens


def shown(conditioning, binding, entities) -> io.NodeOutput:
    """The node's outputs; ``text`` is for any frontend, the others are for the pack's own panel: what was understood,
    and from which ``entities``."""
    binding = replace(binding, encoded=conditioning[0][0])
    json_text = to_json(binding)
    ui = {"semantic_binding": (json_text,), "semantic_binding_entities": (entities,), "text": (summary(binding),)}
    return io.NodeOutput(conditioning, binding, json_text, ui=ui)
