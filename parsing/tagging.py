"""Prompt text to tagged words, by spaCy."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from .binding import Span
from .lexicon import COMPOUNDS, POSTURES, PRONOUNS
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
    ``proper`` says that it is tagged and written as a name."""

    span: Span
    lower: str
    lemma: str
    kind: str
    tag: str
    head: int
    relation: str
    proper: bool


def tag(pipeline: Any, prompt: PlainPrompt) -> list[Word]:
    """Tags the prompt's words; hyphenated words stay whole, an embedding is one noun, white space is no word."""
    spans = _word_spans(pipeline, prompt)
    embeddings = set(prompt.embeddings)
    words = [EMBEDDING_WORD if span in embeddings else prompt.text[slice(*span)] for span in spans]
    spaces = [after.start > span.end for span, after in pairwise(spans)] + [False]
    doc = pipeline(_document(pipeline, words, spaces))
    for token in doc:
        if spans[token.i] in embeddings:
            token.tag_, token.pos_ = "NN", "NOUN"
    return _repaired([_word(token, span, prompt.text) for token, span in zip(doc, spans, strict=True)])


def _repaired(words: list[Word]) -> list[Word]:
    """Corrects tags that knowledge of words settles.

    The last word of "fire hydrant" is a noun; "rest" is the verb of "a dog and a cat rest on ..." if nothing else is.
    """
    kinds = {word.kind for word in words}
    lacks_verb = "conjunction" in kinds and not kinds & {"verb", "auxiliary"}
    repaired = list(words)
    for i in range(1, len(words)):
        before, word = words[i - 1], words[i]
        kinds_here = tuple(other.kind for other in words[i - 1 : i + 2])
        if f"{before.lower} {word.lower}" in COMPOUNDS:
            repaired[i] = replace(word, kind="noun", tag="NN")
        elif lacks_verb and word.lower in POSTURES and kinds_here == ("noun", "noun", "preposition"):
            repaired[i] = replace(word, kind="verb", tag="VBP")
    return repaired


def _document(pipeline: Any, words: list[str], spaces: list[bool]) -> Any:
    from spacy.tokens import Doc

    return Doc(pipeline.vocab, words=words, spaces=spaces)


def _word_spans(pipeline: Any, prompt: PlainPrompt) -> list[Span]:
    """spaCy's tokens, with embeddings and hyphenated words put together again."""
    joined = [*prompt.embeddings, *(Span(*m.span()) for m in re.finditer(r"[^\W_]+(?:-[^\W_]+)+", prompt.text))]
    spans: list[Span] = []
    for token in pipeline.make_doc(prompt.text):
        span = Span(token.idx, token.idx + len(token))
        whole = next((j for j in joined if j.overlaps(span)), span)
        if not token.is_space and whole not in spans[-1:]:
            spans.append(whole)
    return spans


def _word(token: Any, span: Span, text: str) -> Word:
    kind = KINDS.get(token.pos_, "other")
    if kind == "pronoun" and token.lower_ not in PRONOUNS:
        kind = "noun"
    if token.tag_ in ("PRP$", "WP$"):
        kind = "determiner"
    if token.tag_ == "POS":
        kind = "possessive"
    written = text[slice(*span)]
    proper = token.pos_ == "PROPN" and written[:1].isupper()
    return Word(span, written.lower(), token.lemma_.lower(), kind, token.tag_, token.head.i, token.dep_, proper)
