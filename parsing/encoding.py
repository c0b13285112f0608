"""Text encoders, as ComfyUI hands them around: tokens of a prompt, and its conditioning."""

from __future__ import annotations

from .binding import CONDITIONING_KEY
from .tokens import ENCODERS, Vocabulary, supported


def tokenized(clip, text: str):
    """Tokens with word ids, and the vocabulary of each encoder.

    Raises:
        ValueError: there is no text encoder, or one that this pack cannot bind.
    """
    if clip is None:
        raise ValueError("There is no CLIP: the checkpoint has no text encoder. Load one and connect it.")
    tokens = clip.tokenize(text, return_word_ids=True)
    supported(list(tokens))
    return tokens, {key: vocabulary(clip, key) for key in tokens}


def tokenized_for(binding, clip, text: str):
    """As ``tokenized``, by the text encoders that the binding was made with.

    Raises:
        ValueError: there is no text encoder, or it is that of another kind of model.
    """
    tokens, vocabularies = tokenized(clip, text)
    own = ", ".join(each.encoder for each in binding.encoders)
    given = ", ".join(key for key in ENCODERS if key in tokens)
    if given != own:
        raise ValueError(
            f"The BINDING was made with the text encoders {own}, this CLIP has {given}. Connect the CLIP that the "
            "prompt was encoded with."
        )
    return tokens, vocabularies


def encode(clip, tokens) -> list:
    """The conditioning of tokens with word ids.

    Raises:
        ValueError: it has another number of rows than there are tokens.
    """
    pairs = {key: [[(t, weight) for t, weight, _ in chunk] for chunk in chunks] for key, chunks in tokens.items()}
    conditioning = clip.encode_from_tokens_scheduled(pairs)
    expected = min(sum(map(len, chunks)) for chunks in tokens.values())
    if conditioning[0][0].shape[1] != expected:
        raise ValueError(
            f"This CLIP makes {conditioning[0][0].shape[1]} rows of {expected} tokens: another node has changed how it "
            "encodes, as CLIP NegPip does, which has keys and values in turn. There is no telling which row is which "
            "word, so connect a CLIP without it here."
        )
    return conditioning


def vocabulary(clip, encoder: str) -> Vocabulary:
    tokenizer, model = (getattr(side, f"clip_{encoder}") for side in (clip.tokenizer, clip.cond_stage_model))
    return Vocabulary(tokenizer.inv_vocab, model.transformer.get_input_embeddings().weight.shape[-1])


def with_key(conditioning, binding):
    return [[rows, {**options, CONDITIONING_KEY: binding.key}] for rows, options in conditioning]
