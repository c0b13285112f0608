"""Whether Token Arithmetic adds a mark to a thing, takes one off it, and exchanges its colour.

    .dev/venv/bin/python benchmarks/arithmetic.py [--prompts 60 24]

The first thing of each prompt is changed: by a sum in the place of its token, and for comparison by writing the prompt
that says so. The same noise each time, picture by picture. What was found in a picture is kept under output/ and the
picture not drawn again: the command may be interrupted and repeated, or repeated with more prompts. The figures are of
the demo model in its world of shapes, never of Stable Diffusion.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import host
import kept_files
from attention_pictures import SAMPLING, model_digest
from judging import SDPA
from report import table, with_error, write_report

GROUP = 4
"""Pictures of one prompt, made together."""
PLAIN, SUM, KEPT, TWICE, WRITTEN = "plain", "sum", "sum, end tokens kept", "sum, change twice", "written"
WAYS = {"single_counter": (PLAIN, SUM, KEPT, WRITTEN), "two_fav": (PLAIN, SUM, TWICE, WRITTEN)}
"""The ways of making a change, for the sets of prompts."""
SUMS = {
    "mark added": "a {colour} {shape} + {weight}a {shape} with a {mark} - {weight}a {shape}",
    "mark removed": "a {colour} {shape} with a {mark} - {weight}a {shape} with a {mark} + {weight}a {shape}",
    "colour exchanged": "a {colour} {shape} - {weight}{colour} + {weight}{other}",
}
"""What is put in the place of the first thing; the weight is left out, or "2 * "."""


@dataclass(frozen=True)
class Drawing:
    """What is drawn: a `Prompt`, with a sum in the place of its first entity, or none; ``ends`` is the node's
    ``end_tokens``."""

    prompt: Any
    expression: str = ""
    ends: str = "changed"

    @property
    def name(self) -> str:
        """Also of its file."""
        return " ".join(filter(None, (self.prompt.text, self.expression.replace("*", "x"), self.ends)))


@dataclass(frozen=True)
class Change:
    """A change of a prompt: the things ``wanted`` then, and the drawing for each way of making it."""

    wanted: tuple
    drawings: dict[str, Drawing]


def changes_of(prompt_set: str, number: int) -> dict[str, Change]:
    """The changes of a prompt, by the names of SUMS. The new colour is no thing's own and no shape's favourite."""
    prompts, names = host.part("evaluation.prompts"), host.part("world.names")
    first, *others = prompts.draw_prompts(prompt_set, number + 1)[number].wanted
    taken = {colour for each in (first, *others) for colour in (each.colour, names.FAVOURITE_COLOUR[each.shape])}
    free = [colour for colour in names.COLOURS if colour not in taken]
    other, mark = free[number % len(free)], names.MARKS[number % len(names.MARKS)]
    plain, marked, recoloured = (
        prompts.prompt_for(((first.shape, *own), *((each.shape, each.colour) for each in others)))
        for own in ((first.colour,), (first.colour, mark), (other,))
    )
    goals = {"mark added": (plain, marked), "mark removed": (marked, plain), "colour exchanged": (plain, recoloured)}
    words = {"shape": first.shape, "colour": first.colour, "mark": mark, "other": other}
    found = {}
    for name, (start, goal) in goals.items():
        once, twice = (SUMS[name].format(weight=weight, **words) for weight in ("", "2 * "))
        ways = {
            PLAIN: Drawing(start),
            SUM: Drawing(start, once),
            KEPT: Drawing(start, once, "kept"),
            TWICE: Drawing(start, twice),
            WRITTEN: Drawing(goal),
        }
        found[name] = Change(goal.wanted, {way: ways[way] for way in WAYS[prompt_set]})
    return found


def prompts_of(arguments: argparse.Namespace) -> dict[str, int]:
    """How many prompts of each set."""
    return dict(zip(WAYS, arguments.prompts, strict=True))


def drawn(arguments: argparse.Namespace) -> dict[tuple[str, int, Drawing], list]:
    """What the changes of all prompts need: the things in each picture, as (shape, colour, mark)."""
    folder = arguments.kept / f"arithmetic-{model_digest()}"
    jobs = {
        (name, number, drawing): folder / f"{name}-{number}-{drawing.name}.json"
        for name, prompts in prompts_of(arguments).items()
        for number in range(prompts)
        for change in changes_of(name, number).values()
        for drawing in change.drawings.values()
    }
    paths = kept_files.made(arguments, jobs, _work)
    return {job: json.loads(path.read_text()) for job, path in zip(jobs, paths, strict=True)}


def _work(jobs: Mapping[tuple[str, int, Drawing], Path]) -> None:
    host.start_comfyui("--cpu", SDPA)
    import torch
    from laboratory import Job, Laboratory, Sampling

    sampling = Sampling(**SAMPLING, model_sha256=model_digest())
    with torch.inference_mode():
        laboratory = Laboratory(sampling, {drawing.name: _making(drawing) for _, _, drawing in jobs})
        for (name, number, drawing), path in jobs.items():
            seeds = tuple(range(number * GROUP, (number + 1) * GROUP))
            laboratory.wanted[drawing.prompt.text] = drawing.prompt.wanted
            _, pictures = laboratory.images(Job(name, drawing.prompt.text, seeds), drawing.name)
            things = [[(each.shape, each.colour, each.mark) for each in laboratory.detect(one)] for one in pictures]
            kept_files.kept(path, lambda to, things=things: to.write_text(json.dumps(things)))


def _making(drawing: Drawing) -> Callable:
    if not drawing.expression:
        return lambda workflow: workflow
    inputs = {"expression": drawing.expression, "end_tokens": drawing.ends}
    return lambda workflow: workflow.through("SBTokenArithmetic", **inputs)


MEASURES = ("changed", "first thing right", "second thing right")
"""Of a picture: whether the first thing is there with the mark or colour that the change asks for; with this and all
else as asked; and whether the second thing, where there is one, is as asked."""


def measured(wanted: Sequence[Any], found: Sequence[Sequence[str | None]], changed: str) -> tuple[float, ...]:
    """The MEASURES of a picture in which these things were found; ``changed`` is what changes, "mark" or "colour"."""
    things = [SimpleNamespace(shape=shape, colour=colour, mark=mark) for shape, colour, mark in found]
    outcomes = host.part("evaluation.score").judge(wanted, things).outcomes

    def as_asked(place: int, *what: str) -> float:
        if place >= len(wanted):
            return math.nan
        thing = outcomes[place].found
        return float(
            thing is not None and all(getattr(things[thing], each) == getattr(wanted[place], each) for each in what)
        )

    return as_asked(0, changed), as_asked(0, "colour", "mark"), as_asked(1, "colour", "mark")


def records_of(found: Mapping[tuple[str, int, Drawing], list], prompts: Mapping[str, int]) -> list[dict]:
    """For each set, change and way of making it: the share of pictures by each of the MEASURES, and its difference to
    the unchanged prompt's, with standard errors over prompts."""
    mean_and_error = host.part("evaluation.score").mean_and_error
    shares: dict[tuple[str, str, str], list[list[float]]] = {}
    for prompt_set, count in prompts.items():
        for number in range(count):
            for name, change in changes_of(prompt_set, number).items():
                for way, drawing in change.drawings.items():
                    pictures = found[prompt_set, number, drawing]
                    each = [measured(change.wanted, picture, name.partition(" ")[0]) for picture in pictures]
                    means = [sum(hits) / len(pictures) for hits in zip(*each, strict=True)]
                    shares.setdefault((prompt_set, name, way), []).append(means)
    records = []
    for (prompt_set, name, way), own in shares.items():
        record = {"set": prompt_set, "change": name, "by": way, "n": prompts[prompt_set] * GROUP}
        for measure, mine, plain in zip(
            MEASURES, zip(*own, strict=True), zip(*shares[prompt_set, name, PLAIN], strict=True), strict=True
        ):
            record[measure], record[f"{measure} error"] = mean_and_error(mine)
            if way != PLAIN:
                differences = [one - other for one, other in zip(mine, plain, strict=True)]
                record[f"{measure} difference"], record[f"{measure} difference error"] = mean_and_error(differences)
        records.append(record)
    return records


def markdown(head: Sequence[str], records: Sequence[dict]) -> str:
    rows = [
        [
            *(str(each[column]) for column in ("set", "change", "by", "n")),
            *(with_error(each[measure], each[f"{measure} error"]) for measure in MEASURES),
            *(
                with_error(each.get(f"{measure} difference"), each.get(f"{measure} difference error"), sign="+")
                for measure in MEASURES
            ),
        ]
        for each in records
    ]
    titles = ["prompts", "change", "by", "n", *MEASURES, *(f"{measure}, − plain" for measure in MEASURES)]
    return "\n".join(["# Token arithmetic", "", *(line for each in head for line in (each, "")), *table(titles, rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told = f"prompts of {' and of '.join(WAYS)}, {GROUP} pictures of each"
    parser.add_argument("--prompts", type=int, nargs=len(WAYS), default=[60, 24], help=told)
    kept_files.add_arguments(parser)
    parser.add_argument("--tables", type=Path, default=host.RESULTS / "arithmetic", help="where the tables go, no .md")
    arguments = parser.parse_args()
    records = records_of(drawn(arguments), prompts_of(arguments))
    sums = "; ".join(f'{name}: "{expression.replace("{weight}", "")}"' for name, expression in SUMS.items())
    head = [
        "How often the first thing of a prompt is changed by a sum of phrases in the place of its token, and how often "
        "by writing the changed prompt: rates and paired differences to the unchanged prompt, with standard errors "
        "over prompts. These are no figures of Stable Diffusion.",
        f"The sums, of the thing's own words: {sums}. Change twice: what comes behind the first phrase "
        "with the weight 2.",
        f"{' and '.join(f'{count} prompts of {name}' for name, count in prompts_of(arguments).items())}, {GROUP} "
        f"pictures of each; model {model_digest()}, {SAMPLING['sampler']} {SAMPLING['scheduler']}, "
        f"{SAMPLING['steps']} steps, CFG {SAMPLING['cfg']:g}. {host.machine()}. {date.today().isoformat()}.",
    ]
    text = markdown(head, records) + "\n"
    write_report(text, records, head, arguments.tables)
    print(text)


if __name__ == "__main__":
    main()
