"""Which characters of the prompt each row of a text encoder's sequence stands for.

Works on the tokenizer's own output, so it follows whatever core did about chunks, long words and embeddings.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .binding import EncoderTokens, Row, Span
from .syntax import PlainPrompt

ENCODERS = {"l": "CLIP-L", "g": "CLIP-G", "h": "CLIP-H"}
WORD_END = "</w>"
UNCURLED = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")

Token = tuple[Any, float, int]
"""Of ``clip.tokenize(text, return_word_ids=True)``: vocabulary id or embedding vector, weight, word id (0: special)."""


@dataclass(frozen=True)
class Vocabulary:
    """One encoder's vocabulary: id -> piece. ``width`` is the length of its token vectors, if known."""

    pieces: Mapping[int, str]
    width: int | None = None


def supported(encoders: Sequence[str]) -> None:
    """Raises:
    ValueError: the text encoders of a model this pack cannot bind; the message names them.
    """
    unknown = [key for key in encoders if key not in ENCODERS]
    if unknown or not encoders:
        raise ValueError(
            f"This CLIP has the text encoders: {', '.join(encoders) or 'none'}. Binding works on those of SD1.x (l), "
            "SD2.x (h) and SDXL (l, g); T5 and language-model encoders (SD3, Flux, ...) are not supported."
        )


def align(
    tokens: Mapping[str, list[list[Token]]], vocabularies: Mapping[str, Vocabulary], prompt: PlainPrompt
) -> tuple[EncoderTokens, ...]:
    """The rows of every encoder, each with the characters it stands for.

    Raises:
        ValueError: an unsupported encoder, or tokens that do not spell the prompt.
    """
    supported(list(tokens))
    order = [key for key in ENCODERS if key in tokens]
    return tuple(
        EncoderTokens(key, tuple(_rows(tokens[key], vocabularies[key], prompt, key)), vocabularies[key].width)
        for key in order
    )


def _rows(chunks: list[list[Token]], vocabulary: Vocabulary, prompt: PlainPrompt, encoder: str) -> list[Row]:
    walker = _Walker(prompt, encoder)
    kept = [without_misfits(chunk, vocabulary.width) for chunk in chunks]
    words = [token for chunk in kept for token in chunk if token[2] != 0]
    spans = iter(walker.walk([_Piece.of(token, vocabulary) for token in words]))
    rows = []
    for chunk in kept:
        last = max((i for i, (_, _, word) in enumerate(chunk) if word != 0), default=0)
        for i, (token, weight, word) in enumerate(chunk):
            if word != 0:
                piece = _Piece.of((token, weight, word), vocabulary)
                span = next(spans)
                text = prompt.text[slice(*span)] if piece.bytes is None else piece.bytes.decode("utf-8", "replace")
                rows.append(Row("embedding" if piece.bytes is None else "text", text, span, weight))
            else:
                rows.append(Row("start" if i == 0 else "end" if i == last + 1 else "padding"))
    return rows


def without_misfits(chunk: list[Token], width: int | None) -> list[Token]:
    """The chunk as core encodes it: an embedding made for another model is left out and padding added at the end."""
    kept = [t for t in chunk if width is None or isinstance(t[0], int) or t[0].shape[-1] == width]
    return kept + [(chunk[-1][0], 1.0, 0)] * (len(chunk) - len(kept))


class _Piece(NamedTuple):
    """A word piece as bytes, or (bytes is None) one vector of the embedding with this word id."""

    bytes: bytes | None
    word: int

    @classmethod
    def of(cls, token: Token, vocabulary: Vocabulary) -> _Piece:
        identity, _, word = token
        if not isinstance(identity, int):
            return cls(None, word)
        return cls(bytes(BYTE_OF[char] for char in vocabulary.pieces[identity].removesuffix(WORD_END)), word)


class _Walker:
    """Steps through the prompt's characters and the encoder's pieces side by side."""

    def __init__(self, prompt: PlainPrompt, encoder: str):
        self.prompt = prompt
        self.encoder = encoder
        self.embedding_at = {span.start: span for span in prompt.embeddings}

    def walk(self, pieces: list[_Piece]) -> list[Span]:
        """The span of every piece, in order."""
        text = self.prompt.text
        owners = [i for i, piece in enumerate(pieces) for _ in (piece.bytes or b"\0")]
        stream = b"".join(b"\0" if piece.bytes is None else piece.bytes for piece in pieces)
        spans: list[Span | None] = [None] * len(pieces)
        at = here = 0
        while at < len(text):
            embedding = self.embedding_at.get(at)
            if embedding and not self._spelled(text[slice(*embedding)], stream[here:]):
                if here < len(owners) and pieces[owners[here]].bytes is None:
                    word = pieces[owners[here]].word
                    while here < len(owners) and pieces[owners[here]] == (None, word):
                        spans[owners[here]] = embedding
                        here += 1
                at = embedding.end
                continue
            end = _cluster_end(text, at)
            form = next((f for f in written_forms(text[at:end]) if stream.startswith(f, here)), None)
            if form is None and not _silent(text[at:end]):
                break
            for owner in owners[here : here + len(form or b"")]:
                spans[owner] = Span(spans[owner].start if spans[owner] else at, end)
            here += len(form or b"")
            at = end
        if at < len(text) or here < len(stream):
            raise ValueError(
                f"The tokens of text encoder {self.encoder} do not spell the prompt: they stop matching at "
                f'"{text[at : at + 20]}". The CLIP was given another text, or its tokenizer is not a CLIP tokenizer.'
            )
        return spans

    def _spelled(self, text: str, stream: bytes) -> bool:
        """Whether ``embedding:name`` was tokenized as words, as core does when it has no embeddings folder."""
        spelled = b"".join(written_forms(cluster)[0] for cluster in text.split())
        return stream.startswith(spelled)


def _cluster_end(text: str, start: int) -> int:
    """End of the shortest run of characters from ``start`` that Unicode's NFC does not join to what follows."""
    end = start + 1
    while end < len(text) and _composed(text[start : end + 1]) != _composed(text[start:end]) + _composed(text[end]):
        end += 1
    return end


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def written_forms(text: str) -> tuple[bytes, ...]:
    """How the tokenizer may have written the characters: composed and lower-cased one by one; the second form is what
    older tokenizers with ftfy make of ligatures and curly quotes."""
    lowered = "".join(char.lower() for char in _composed(text))
    plain = "".join(char.lower() for char in unicodedata.normalize("NFKC", text.translate(UNCURLED)))
    return lowered.encode(), plain.encode()


def _silent(text: str) -> bool:
    """Characters that tokenizers drop: white space and control characters."""
    return all(char.isspace() or unicodedata.category(char).startswith("C") for char in text)


def _byte_of() -> dict[str, int]:
    """Inverse of byte-level BPE's alphabet (Radford et al. 2019): printable Latin-1 bytes are themselves, the others
    follow in order from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + i): b for i, b in enumerate(others)}


BYTE_OF = _byte_of()
