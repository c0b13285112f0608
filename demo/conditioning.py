"""Context rows for the UNet's training: captions of a scene, with rows dropped, replaced or weighted now and then.

A user's nodes zero rows, take the end-token rows from another prompt and weight words. So that such contexts are not
foreign to the UNet, and so that the end token's row and the padding do not carry all of the prompt, a part of the
training contexts is changed in these ways.
"""

import numpy as np
import torch

from ..world.captions import bare_caption, sample_caption
from ..world.naming import sample_named
from ..world.scenes import Thing
from .text import TextEncoder

CAPTION_DROP_PROBABILITY = 0.12
END_ZERO_PROBABILITY = 0.12
END_REPLACE_PROBABILITY = 0.12
WORD_ZERO_PROBABILITY, WORD_ZERO_SHARE = 0.10, 0.3
WORD_WEIGHT_PROBABILITY, WORD_WEIGHT_RANGE = 0.15, (0.7, 1.5)


def training_contexts(rng: np.random.Generator, encoder: TextEncoder, scenes: list[tuple[Thing, ...]]) -> torch.Tensor:
    """One context (77, D) for each scene's things, and now and then more, stacked to (B, 77, D)."""
    named = [sample_named(rng, things) for things in scenes]
    captions = [sample_caption(rng, things) for things in named]
    captions = ["" if rng.random() < CAPTION_DROP_PROBABILITY else caption for caption in captions]
    rows, lengths = encoder.vocabulary.batch(captions)
    contexts = encoder(rows, lengths)[0].clone()
    fate = rng.random(len(scenes))
    replaced = [i for i in range(len(scenes)) if captions[i] and fate[i] < END_REPLACE_PROBABILITY]
    bare_rows, bare_lengths = encoder.vocabulary.batch([bare_caption(named[i]) for i in replaced] or [""])
    bare_contexts = encoder(bare_rows, bare_lengths)[0]
    for i, caption in enumerate(captions):
        if not caption:
            continue
        end = int(lengths[i]) - 1
        if i in replaced:
            source = replaced.index(i)
            replace_end(contexts[i], end, bare_contexts[source], int(bare_lengths[source]) - 1)
        elif fate[i] < END_REPLACE_PROBABILITY + END_ZERO_PROBABILITY:
            contexts[i, end:] = 0.0
        elif fate[i] < END_REPLACE_PROBABILITY + END_ZERO_PROBABILITY + WORD_ZERO_PROBABILITY:
            contexts[i, 1:end] *= contexts.new_tensor(rng.random((end - 1, 1)) >= WORD_ZERO_SHARE)
        if rng.random() < WORD_WEIGHT_PROBABILITY:
            contexts[i, 1:end] *= contexts.new_tensor(rng.uniform(*WORD_WEIGHT_RANGE, (end - 1, 1)))
    return contexts


def replace_end(context: torch.Tensor, end: int, other: torch.Tensor, other_end: int) -> None:
    """Put the end token's row and the padding of another prompt, in place, from position `end` of (77, D) rows on.

    The other prompt's last padding row is repeated if its end token comes later than this one's.
    """
    tail = other[other_end:]
    count = len(context) - end
    context[end:] = torch.cat([tail, tail[-1:].expand(max(count - len(tail), 0), -1)])[:count]
