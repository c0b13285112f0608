"""What one picture is asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """A prompt, and what a benchmark says of it.

    ``objects`` are the things that a detector looks for, in the order of the prompt; ``relation`` is where the first of
    two is from the second, one of ``visor.RELATIONS``. Without ``objects`` those are looked for that the prompt is
    found to name.
    """

    text: str
    category: str = ""
    objects: tuple[str, ...] = ()
    relation: str = ""
