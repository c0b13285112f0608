"""Context rows put together by hand, by which the card measures what single rows of the text encoder carry.

Contexts are (77, D); "a red circle and a blue square" has its words at positions 1 to 7 and its end token at 8. Rows
that are left out are zero.
"""

import torch

from ..world.captions import bare_caption, plain_caption
from ..world.scenes import Thing
from .conditioning import replace_end
from .text import TextEncoder, words_of

NOUN_WEIGHT, ADJECTIVE_WEIGHT = 1.1, 1.2
"""The weights of a merged token in ToMe (Hu et al. 2024, https://arxiv.org/abs/2411.07132)."""


def end_position(caption: str) -> int:
    """Position of the first end token."""
    return len(words_of(caption)) + 1


def whole(encoder: TextEncoder, things: tuple[Thing, ...]) -> torch.Tensor:
    """The prompt's own rows."""
    return encoder.encode([plain_caption(things)])[0]


def end_alone(encoder: TextEncoder, things: tuple[Thing, ...]) -> torch.Tensor:
    """The begin row, the end token's row and the padding: every word row is zero."""
    context = whole(encoder, things)
    context[1 : end_position(plain_caption(things))] = 0.0
    return context


def last_noun_alone(encoder: TextEncoder, things: tuple[Thing, ...]) -> torch.Tensor:
    """The begin row and that of the last noun."""
    context = whole(encoder, things)
    noun = words_of(plain_caption(things)).index(things[-1].shape) + 1
    context[1:noun] = 0.0
    context[noun + 1 :] = 0.0
    return context


def sum_of_words(encoder: TextEncoder, things: tuple[Thing, ...], end: str | None) -> torch.Tensor:
    """At position 1 the sum of the rows of a single thing's colour and shape, each encoded alone.

    `end` is the prompt whose end token and padding follow; with None nothing follows.
    """
    colour, shape = (encoder.encode([word])[0] for word in (things[0].colour, things[0].shape))
    context = torch.zeros_like(colour)
    context[0] = colour[0]
    context[1] = colour[1] + shape[1]
    if end is not None:
        replace_end(context, 2, encoder.encode([end])[0], end_position(end))
    return context


def merged(
    encoder: TextEncoder, things: tuple[Thing, ...], simple_end: bool, noun_weight: float, adjective_weight: float
) -> torch.Tensor:
    """Each noun's row becomes a weighted sum with its adjective's, whose own row becomes zero.

    With `simple_end` the end token's row and the padding come from the prompt without adjectives.
    """
    caption = plain_caption(things)
    context = whole(encoder, things)
    words = words_of(caption)
    for thing in things:
        noun = words.index(thing.shape) + 1
        context[noun] = noun_weight * context[noun] + adjective_weight * context[noun - 1]
        context[noun - 1] = 0.0
    if simple_end:
        bare = bare_caption(things)
        replace_end(context, end_position(caption), encoder.encode([bare])[0], end_position(bare))
    return context
