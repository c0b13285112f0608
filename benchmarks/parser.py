"""How many simple prompts the parser groups right.

    python benchmarks/parser.py [--model NAME] FILE [FILE ...]

Every line of every file is parsed; one that raises is an error of the parser and ends the run with status 1. A line
counts as simple if it reads "a ADJ N and a ADJ N" (a or an, single words, nothing else but a full stop), and as right
if exactly two entities are found, each with its noun as noun and its adjective as only attribute, in order. The rate
is over simple lines.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from parsing import models, syntax  # noqa: E402
from parsing.binding import Entity  # noqa: E402
from parsing.entities import find_entities  # noqa: E402
from parsing.excluded import DEFAULT_EXCLUDED, Excluded  # noqa: E402

SIMPLE = re.compile(r"an? ([\w-]+) ([\w-]+) and an? ([\w-]+) ([\w-]+)\.?", re.IGNORECASE)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("files", nargs="+", type=Path)
    options.add_argument("--model", default=models.AUTO, help="spaCy model (default: the best installed)")
    chosen = options.parse_args()
    pipeline = models.load(chosen.model, [])
    lines = [(file.name, line) for file in chosen.files for line in file.read_text().splitlines() if line.strip()]
    raised, wrong, simple = [], [], 0
    for name, line in lines:
        try:
            entities = parse(pipeline, line)
        except Exception as error:  # any exception is what this script counts
            raised.append(f"{name}: {line}: {type(error).__name__}: {error}")
            continue
        if expected := SIMPLE.fullmatch(line.strip()):
            simple += 1
            if [described(entity) for entity in entities] != pairs(expected.groups()):
                wrong.append(f"{name}: {line.strip()}  ->  {'; '.join(map(shown, entities)) or 'no entities'}")
    print(f"{models.label(pipeline)}: {len(lines)} lines, {len(raised)} raised")
    for heading, failures in (("raised", raised), ("wrong", wrong)):
        print("".join(f"  {heading}  {failure}\n" for failure in failures), end="")
    if simple:
        print(f"simple lines right: {simple - len(wrong)} of {simple} = {100 * (simple - len(wrong)) / simple:.1f} %")
    return 1 if raised else 0


def parse(pipeline, line: str) -> tuple[Entity, ...]:
    found, _ = find_entities(pipeline, syntax.plain(line), Excluded.parse(DEFAULT_EXCLUDED))
    return found


def pairs(words: tuple[str, ...]) -> list[tuple[str, tuple[str, ...], int]]:
    return [(noun, (adjective,), 0) for adjective, noun in (words[:2], words[2:])]


def described(entity: Entity) -> tuple[str, tuple[str, ...], int]:
    return entity.noun.text, tuple(attribute.text for attribute in entity.attributes), len(entity.sub_objects)


def shown(entity: Entity) -> str:
    belongs = ", ".join(phrase.text for phrase in entity.phrases[1:])
    return f"{entity.noun.text}: {belongs or 'nothing'}"


if __name__ == "__main__":
    sys.exit(main())
