"""Prompt text to tagged words, by spaCy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .binding import Span
from .lexicon import PRONOUNS
from .picture_tags import SUBJECT, SUBJECT_WORD
from .syntax import PlainPrompt

EMBEDDING_WORD = "object"
"""What the tagger reads in place of an ``embedding:name``: a noun that fits anywhere."""

KINDS = {
    "NOUN": "noun",
    "PROPN": "noun",
    "ADJ": "adjective",
    "ADV": "adverb",
    "VERB": "verb",
    "AUX": "auxiliary",
    "DET": "determiner",
    "NUM": "number",
    "ADP": "preposition",
    "CCONJ": "conjunction",
    "PUNCT": "punctuation",
    "PRON": "pronoun",
    "X": "noun",
}


@dataclass(frozen=True)
class Word:
    """A word of the prompt. ``lower`` and ``lemma`` are in lower case; ``head`` is the index of its syntactic head;
    ``proper`` says that it is tagged and written as a name; ``weight`` is the prompt's."""

    span: Span
    lower: str
    lemma: str
    kind: str
    tag: str
    head: int
    relation: str
    proper: bool
    weight: float


def tag(pipeline: Any, prompt: PlainPrompt, readable: str) -> list[Word]:
    """Tags the prompt's words; hyphenated words stay whole, an embedding is one noun, white space is no word.

    Args:
        readable: the prompt's text, of the same length, without what is not to be read.
    """
    spans = _word_spans(pipeline, prompt, readable)
    if not spans:
        return []
    embeddings = set(prompt.embeddings)
    words = [EMBEDDING_WORD if span in embeddings else _spelled(readable[slice(*span)]) for span in spans]
    spaces = [after.start > span.end for span, after in pairwise(spans)] + [False]
    doc = pipeline(_document(pipeline, words, spaces))
    for token in doc:
        if spans[token.i] in embeddings:
            token.tag_, token.pos_ = "NN", "NOUN"
    return [
        _word(token, span, readable[slice(*span)], prompt.weights[span.start])
        for token, span in zip(doc, spans, strict=True)
    ]


def _spelled(word: str) -> str:
    """The word as the tagger reads it: "1girl" as "girl"."""
    return word.lstrip("0123456789+") if SUBJECT_WORD.fullmatch(word) else word


def _document(pipeline: Any, words: list[str], spaces: list[bool]) -> Any:
    from spacy.tokens import Doc

    return Doc(pipeline.vocab, words=words, spaces=spaces)


def _word_spans(pipeline: Any, prompt: PlainPrompt, readable: str) -> list[Span]:
    """spaCy's tokens, with embeddings, hyphenated words and the like of "1girl" put together again."""
    whole_words = re.finditer(rf"[^\W_]+(?:-[^\W_]+)+|{SUBJECT}", readable)
    joined = [*prompt.embeddings, *(Span(*match.span()) for match in whole_words)]
    spans: list[Span] = []
    for token in pipeline.make_doc(readable):
        span = Span(token.idx, token.idx + len(token))
        whole = next((j for j in joined if j.overlaps(span)), span)
        if not token.is_space and whole not in spans[-1:]:
            spans.append(whole)
    return spans


def _word(token: Any, span: Span, written: str, weight: float) -> Word:
    kind = KINDS.get(token.pos_, "other")
    if kind == "pronoun" and token.lower_ not in PRONOUNS or SUBJECT_WORD.fullmatch(written):
        kind = "noun"
    if token.tag_ in ("PRP$", "WP$"):
        kind = "determiner"
    if token.tag_ == "POS":
        kind = "possessive"
    proper = token.pos_ == "PROPN" and written[:1].isupper()
    lower, lemma = written.lower(), token.lemma_.lower()
    return Word(span, lower, lemma, kind, token.tag_, token.head.i, token.dep_, proper, weight)
