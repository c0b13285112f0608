"""What the nodes of token merge share."""

from ...parsing.encoding import encode, tokenized_for
from ...parsing.syntax import plain
from ...parsing.tokens import align

CATEGORY = "semantic binding/token merge"
ALIASES = ["tome", "token merging", "semantic binding", "attribute binding", "object binding", "color bleed"]


def encoded(clip, binding, prompt: str):
    """A prompt's tokens in every encoder of the binding, its rows ``(1, T, D)``, and its pooled vector.

    Raises:
        ValueError: there is no text encoder, or it is that of another kind of model than the binding's.
    """
    tokens, vocabularies = tokenized_for(binding, clip, prompt)
    encoders = align(tokens, vocabularies, plain(prompt))
    rows, options = encode(clip, tokens)[0]
    return encoders, rows, options.get("pooled_output")
