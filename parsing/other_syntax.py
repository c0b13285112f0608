"""Syntax of other programs in a prompt: ``BREAK``, ``AND``, ``<lora:name:0.8>``, ``[a:b:0.5]``, ``ball:1.2``,
``--ar 2:3``.

ComfyUI has none of it and sends it to the model as words, so these keep their rows; but they are not read as words of
the prompt, and the user is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable

NUMBER = r"\d*\.?\d+"
PARAMETER = re.compile(rf"(?<!\S)--[a-z]+(?:[ ](?:{NUMBER}(?::\d+)?|raw)(?!\w))?")
NEGATIVE = re.compile(r"(?<!\S)--no\s(?:(?!\s--).)*", re.DOTALL)
LOADER = re.compile(r"<[\w-]+:[^<>]*>")
KEYWORD = re.compile(r"(?<!\w)(?:BREAK|AND)(?!\w)")
GROUP = re.compile(r"\[([^\[\]]*)\]|\{([^{}]*\|[^{}]*)\}")
LOOSE_WEIGHT = re.compile(rf"(?<=[\w\s]):{NUMBER}(?![\w.])")
STEP = re.compile(rf"\s*{NUMBER}\s*")
GOES_ON = re.compile(r"\s+(?!(?:on|in|at|with|and|or|near|under|by|of|is|are|next|beside|behind|above|\w+ing)\b)\w")

NOTES = {
    "loader": "{}: nothing is loaded by this; ComfyUI sends it to the model as words. Use a LoRA loader node.",
    "BREAK": "BREAK: ComfyUI starts no new chunk there; the model reads it as a word. "
    "Encode the parts one by one and use Conditioning (Concat).",
    "AND": "AND: ComfyUI does not split the prompt there; the model reads it as a word. "
    "Encode the parts one by one and use Conditioning (Combine).",
    "change": "{}: ComfyUI does not change words while it samples; the model reads all of them at every step. "
    "Use Conditioning (Set Timestep Range).",
    "brackets": "{}: square brackets lower no weight in ComfyUI. Write (words:0.9).",
    "parameter": "{}: a parameter of another program; the model reads it as words. Take it out.",
    "negative": "{}: ComfyUI has no negative words in a prompt; the model reads them. Use a negative prompt.",
    "weight": "{}: a number without parentheses is no weight in ComfyUI. Write (words:1.2).",
}


def masked(text: str) -> tuple[str, list[str]]:
    """The text with other programs' syntax blanked out, of the same length, and a note for each kind found.

    A keyword becomes a full stop. Alternatives in brackets are separated by commas, or by spaces where they are single
    words before a noun ("a [red:blue:0.5] car").
    """
    notes: list[str] = []

    def note(kind: str, *shown: str) -> None:
        line = NOTES[kind].format(*(f'"{each}"' for each in shown))
        if line not in notes:
            notes.append(line)

    def loader(match: re.Match[str]) -> str:
        note("loader", match[0])
        return _blank(match[0])

    def parameter(match: re.Match[str]) -> str:
        note("parameter", match[0])
        return _blank(match[0], ",")

    def negative(match: re.Match[str]) -> str:
        note("negative", match[0].strip())
        return _blank(match[0], ",")

    def keyword(match: re.Match[str]) -> str:
        note(match[0])
        return _blank(match[0], ".")

    def weight(match: re.Match[str]) -> str:
        note("weight", match[0])
        return _blank(match[0])

    text = NEGATIVE.sub(negative, text)
    text = PARAMETER.sub(parameter, LOADER.sub(loader, text))
    text = KEYWORD.sub(keyword, text)
    before = None
    while text != before:
        before, text = text, GROUP.sub(lambda match: _alternatives(match, note), text)
    return LOOSE_WEIGHT.sub(weight, text), notes


def _blank(text: str, first: str = " ") -> str:
    return first + " " * (len(text) - 1)


def _alternatives(match: re.Match[str], note: Callable[..., None]) -> str:
    """A bracketed group without its brackets, colons and steps."""
    whole, inside = match[0], match[0][1:-1]
    parts = re.split(r"[:|]", inside)
    note("change" if len(parts) > 1 else "brackets", whole)
    single = all(len(part.split()) <= 1 for part in parts)
    attributive = single and GOES_ON.match(match.string, match.end())
    mark = " " if attributive or len(parts) == 1 else ","
    shown = [_blank(part) if part and STEP.fullmatch(part) and n else part for n, part in enumerate(parts)]
    return mark + mark.join(shown) + mark
