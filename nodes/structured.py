"""Structured conditioning: what a phrase's words give to the picture is what they mean in the phrase alone."""

from comfy_api.latest import io

from ..attention.engine.sampling import with_technique
from ..attention.structured import StructuredSettings, value_mean
from ..attention.token_merge.composite import columns_of
from ..parsing.encoding import encode, tokenized_for
from ..parsing.noun_spans import noun_spans, phrase_tokens
from ..parsing.syntax import plain
from ..parsing.tokens import align
from .shared.inputs import binding_input, model_input, model_output, range_inputs


class SBStructuredConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBStructuredConditioning",
            display_name="Structured Conditioning",
            category="semantic binding/guidance",
            description=(
                "Encodes every noun phrase of the prompt also alone, so that its words know nothing of the other "
                "things in the prompt, and mixes that into what cross-attention passes on to the picture. Where each "
                "word acts stays as it was. Takes no time while sampling. From Structured Diffusion Guidance (arXiv "
                "2212.05032)."
            ),
            search_aliases=[
                "structured diffusion guidance",
                "structure diffusion",
                "noun phrases",
                "attribute binding",
                "color bleed",
                "attribute leakage",
            ],
            inputs=[
                model_input(),
                io.Clip.Input("clip", tooltip="The text encoder of the BINDING; it encodes each phrase."),
                binding_input(),
                *range_inputs(0.0, 1.0),
            ],
            outputs=[model_output()],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, model, clip, binding, start, end) -> io.NodeOutput:
        spans = [span for span in noun_spans(binding) if any(each.positions([span]) for each in binding.encoders)]
        mean = None
        if spans:
            rows = encoded_phrases(clip, binding, spans)
            mean = value_mean(binding, columns_of(binding, rows.shape[-1]), spans, rows)
        lines = [f'"{binding.text[slice(*span)]}"' for span in spans]
        text = "\n".join(lines) or (
            "No entity has attributes or sub-objects beside its noun, so there are no phrases and pictures stay as "
            "they are."
        )
        settings = StructuredSettings(binding, mean, start, end)
        return io.NodeOutput(with_technique(model, settings), ui={"text": (text,)})


def encoded_phrases(clip, binding, spans):
    """The rows of every phrase in a chunk of its own, ``(1, chunk * spans, D)``.

    Raises:
        ValueError: there is no text encoder, or it makes other tokens of the prompt than the binding's did.
    """
    tokens, vocabularies = tokenized_for(binding, clip, binding.prompt)
    encoders = align(tokens, vocabularies, plain(binding.prompt))
    if encoders != tuple(each.alone for each in binding.encoders):
        raise ValueError(
            f'This CLIP makes other tokens of "{binding.text}" than the one the BINDING was made with. Connect the '
            "CLIP that the prompt was encoded with."
        )
    empty, _ = tokenized_for(binding, clip, "")
    return encode(clip, phrase_tokens(tokens, empty, vocabularies, encoders, spans))[0][0]
