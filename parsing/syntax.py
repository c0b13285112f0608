"""ComfyUI's prompt syntax (weights, nesting, escapes, ``embedding:name``), read as core's tokenizer reads it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from .binding import Span

EMBEDDING = "embedding:"
EMPHASIS = 1.1
ESCAPED = {"(": "\0open", ")": "\0close"}
"""Stand-ins while parentheses are matched; two characters or more, so that no character of a prompt equals one."""


@dataclass(frozen=True)
class PlainPrompt:
    """A ``prompt`` as typed, and its ``text`` without syntax.

    ``weights`` and ``origins`` have one item per character of ``text``; origins are indices into ``prompt``.
    ``embeddings`` are the spans of ``text`` that read ``embedding:name``. Where core tokenizes two adjoining words
    apart, as in "(red)car", ``text`` has a space between them.
    """

    prompt: str
    text: str
    weights: tuple[float, ...]
    origins: tuple[int, ...]
    embeddings: tuple[Span, ...]


Characters = list[tuple[str, int]]


def escaped(text: str) -> str:
    """The prompt that reads as this text: with its parentheses escaped."""
    return re.sub(r"([()])", r"\\\1", text)


def plain(prompt: str) -> PlainPrompt:
    """Strips the prompt syntax.

    Raises:
        ValueError: nothing is left, or an ``embedding:`` has no name (core's tokenizer fails on that).
    """
    characters: Characters = []
    weights: list[float] = []
    embeddings: list[Span] = []
    for segment, weight in weighted_segments(prompt):
        if characters and characters[-1][0].isalnum() and segment[0][0].isalnum():
            characters.append((" ", characters[-1][1] + 1))
            weights.append(1.0)
        offset = len(characters)
        characters += segment
        weights += [weight] * len(segment)
        embeddings += [Span(offset + a, offset + b) for a, b in embedding_spans("".join(c for c, _ in segment))]
    text = "".join(c for c, _ in characters)
    if not text.strip():
        raise ValueError("The prompt is empty. Write what the image shows, for example: a red car and a white sheep")
    return PlainPrompt(prompt, text, tuple(weights), tuple(origin for _, origin in characters), tuple(embeddings))


def weighted_segments(prompt: str) -> list[tuple[Characters, float]]:
    """The pieces of a prompt that core tokenizes one by one, each with its weight; escapes are resolved."""
    pieces = _weighted(_escaped(prompt), 1.0)
    shown = {stand_in: char for char, stand_in in ESCAPED.items()}
    return [([(shown.get(char, char), origin) for char, origin in piece], weight) for piece, weight in pieces]


def embedding_spans(segment: str) -> list[Span]:
    """Where one weighted segment names an embedding: at its start or after white space."""
    spans = []
    for start in (m.start() for m in re.finditer(rf"(?:(?<=\s)|\A){EMBEDDING}", segment)):
        rest = segment[start + len(EMBEDDING) :]
        following = re.split(rf"(?<=\s){EMBEDDING}", rest)[0]
        if not following.strip():
            raise ValueError(
                f'"{EMBEDDING}" in the prompt has no name after it. Write the file name, as in "{EMBEDDING}my_style".'
            )
        word = re.match(r"(\s*)(\S+)", rest)
        name = re.split(r"[<\[]", word[2])[0]
        spans.append(Span(start, start + len(EMBEDDING) + len(word[1]) + len(name.strip(","))))
    return spans


def _escaped(prompt: str) -> Characters:
    characters: Characters = []
    i = 0
    while i < len(prompt):
        escape = prompt[i] == "\\" and prompt[i + 1 : i + 2] in ("(", ")")
        characters.append((ESCAPED[prompt[i + 1]], i + 1) if escape else (prompt[i], i))
        i += 2 if escape else 1
    return characters


def _weighted(characters: Characters, weight: float) -> list[tuple[Characters, float]]:
    """Core's rule: a piece in parentheses is 1.1 times its surroundings, or exactly the number after its last colon."""
    pieces = []
    for piece in _split_at_groups(characters):
        if len(piece) < 2 or piece[0][0] != "(" or piece[-1][0] != ")":
            pieces.append((piece, weight))
            continue
        inside, inner_weight = piece[1:-1], weight * EMPHASIS
        colon = max((i for i, (char, _) in enumerate(inside) if char == ":"), default=0)
        number = _number("".join(char for char, _ in inside[colon + 1 :])) if colon > 0 else None
        if number is not None:
            inside, inner_weight = inside[:colon], number
        pieces += _weighted(inside, inner_weight)
    return pieces


def _split_at_groups(characters: Characters) -> list[Characters]:
    """Cuts before a parenthesis that opens at the outermost level and after the one that closes it.

    A surplus ")" makes the level negative, as in core, so that a later "(" only returns to the outermost level.
    """
    cuts, level = [0], 0
    for i, (char, _) in enumerate(characters):
        if char == "(":
            if level == 0:
                cuts.append(i)
            level += 1
        elif char == ")":
            level -= 1
            if level == 0:
                cuts.append(i + 1)
    cuts.append(len(characters))
    return [characters[a:b] for a, b in pairwise(cuts) if a < b]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
