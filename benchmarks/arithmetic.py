"""Whether Token Arithmetic adds a mark to a thing, takes one off it, and exchanges its colour.

    .dev/venv/bin/python benchmarks/arithmetic.py [--prompts 60]

Each prompt is of two things, the first of which is changed: by a sum in the place of its token, and for comparison by
writing the prompt that says so. The same noise each time, picture by picture. Drawn pictures are kept under output/ and
not made again. The figures are of the demo model in its world of shapes, never of Stable Diffusion.
"""

from __future__ import annotations

import argparse
import json
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

SET = "two_fav"
GROUP = 4
"""Pictures of one prompt, made together."""
PLAIN, SUM, KEPT, WRITTEN = "plain", "sum", "sum, end tokens kept", "written"
SUMS = {
    "mark added": "a {colour} {shape} + a {shape} with a {mark} - a {shape}",
    "mark removed": "a {colour} {shape} with a {mark} - a {shape} with a {mark} + a {shape}",
    "colour exchanged": "a {colour} {shape} - {colour} + {other}",
}
"""What is put in the place of the first thing."""


@dataclass(frozen=True)
class Drawing:
    """What is drawn: a prompt, by its text, with a sum in the place of its first entity, or none; ``ends`` is the
    node's ``end_tokens``."""

    text: str
    expression: str = ""
    ends: str = "changed"


@dataclass(frozen=True)
class Change:
    """One change of one prompt: what it asks for then, and the drawings by the ways of changing it."""

    wanted: tuple
    drawings: dict[str, Drawing]


def changes_of(number: int) -> dict[str, Change]:
    """The changes of a prompt of the set: a mark, and a colour that is the favourite of none of its things."""
    prompts, names = host.part("evaluation.prompts"), host.part("world.names")
    first, second = prompts.draw_prompts(SET, number + 1)[number].wanted
    taken = {each.colour for each in (first, second)}
    free = [colour for colour in names.COLOURS if colour not in taken]
    other, mark = free[number % len(free)], names.MARKS[number % len(names.MARKS)]
    plain, marked, recoloured = (
        prompts.prompt_for(((first.shape, *own), (second.shape, second.colour)))
        for own in ((first.colour,), (first.colour, mark), (other,))
    )
    goals = {"mark added": (plain, marked), "mark removed": (marked, plain), "colour exchanged": (plain, recoloured)}
    words = {"shape": first.shape, "colour": first.colour, "mark": mark, "other": other}
    return {
        name: Change(
            goal.wanted,
            {
                PLAIN: Drawing(start.text),
                SUM: Drawing(start.text, SUMS[name].format(**words)),
                KEPT: Drawing(start.text, SUMS[name].format(**words), "kept"),
                WRITTEN: Drawing(goal.text),
            },
        )
        for name, (start, goal) in goals.items()
    }


def drawn(arguments: argparse.Namespace) -> dict[tuple[int, Drawing], list]:
    """The things found in each picture of all drawings that the changes of the prompts need: (shape, colour, mark)."""
    folder = arguments.kept / f"arithmetic-{model_digest()}"
    jobs = {}
    for number in range(arguments.prompts):
        drawings = (each for change in changes_of(number).values() for each in change.drawings.values())
        for each in dict.fromkeys(drawings):
            name = " ".join(filter(None, (each.text, each.expression, each.ends)))
            jobs[number, each] = folder / f"{number}-{name}.json"
    paths = kept_files.made(arguments, jobs, _work)
    return {job: json.loads(path.read_text()) for job, path in zip(jobs, paths, strict=True)}


def _work(jobs: Mapping[tuple[int, Drawing], Path]) -> None:
    host.start_comfyui("--cpu", SDPA)
    import torch
    from laboratory import Job, Laboratory, Sampling

    with torch.inference_mode():
        workflows = {each.expression + each.ends: _making(each) for _, each in jobs}
        laboratory = Laboratory(Sampling(**SAMPLING, model_sha256=model_digest()), workflows)
        for (number, each), path in jobs.items():
            seeds = tuple(range(number * GROUP, (number + 1) * GROUP))
            _, pictures = laboratory.images(Job(SET, each.text, seeds), each.expression + each.ends)
            found = [
                [(thing.shape, thing.colour, thing.mark) for thing in laboratory.detect(picture)]
                for picture in pictures
            ]
            kept_files.kept(path, lambda to, found=found: to.write_text(json.dumps(found)))


def _making(drawing: Drawing) -> Callable:
    if not drawing.expression:
        return lambda workflow: workflow
    inputs = {"expression": drawing.expression, "end_tokens": drawing.ends}
    return lambda workflow: workflow.through("SBTokenArithmetic", **inputs)


MEASURES = ("changed", "first thing right", "second thing right")
"""Of a picture: whether the first thing is there with the mark or colour that the change asks for; with this and all
else as asked; and whether the second thing is as asked."""


def measured(wanted: Sequence[Any], found: Sequence[Sequence[str | None]], marks: bool) -> tuple[bool, ...]:
    """The MEASURES of a picture in which these things were found; ``marks`` if it is the mark that changes."""
    things = [SimpleNamespace(shape=shape, colour=colour, mark=mark) for shape, colour, mark in found]
    outcomes = host.part("evaluation.score").judge(wanted, things).outcomes
    first, second = (None if outcome.found is None else things[outcome.found] for outcome in outcomes)
    changed = first is not None and (first.mark == wanted[0].mark if marks else first.colour == wanted[0].colour)
    right = [
        thing is not None and (thing.colour, thing.mark) == (each.colour, each.mark)
        for thing, each in zip((first, second), wanted, strict=True)
    ]
    return changed, *right


def records_of(found: Mapping[tuple[int, Drawing], list], prompts: int) -> list[dict]:
    """For each change and way of making it: the share of pictures by each of the MEASURES, and the difference to the
    plain prompt's, with standard errors over prompts."""
    mean_and_error = host.part("evaluation.score").mean_and_error
    shares: dict[tuple[str, str, str], list[float]] = {}
    for number in range(prompts):
        for name, change in changes_of(number).items():
            for way, drawing in change.drawings.items():
                of_pictures = [measured(change.wanted, each, "mark" in name) for each in found[number, drawing]]
                for measure, hits in zip(MEASURES, zip(*of_pictures, strict=True), strict=True):
                    shares.setdefault((name, way, measure), []).append(sum(hits) / GROUP)
    records = []
    for name, way in dict.fromkeys(key[:2] for key in shares):
        record = {"change": name, "by": way, "n": prompts * GROUP}
        for measure in MEASURES:
            own, plain = shares[name, way, measure], shares[name, PLAIN, measure]
            record[measure], record[f"{measure} error"] = mean_and_error(own)
            differences = [one - other for one, other in zip(own, plain, strict=True)]
            record[f"{measure} difference"], record[f"{measure} difference error"] = mean_and_error(differences)
        records.append(record)
    return records


def markdown(head: Sequence[str], records: Sequence[dict]) -> str:
    rows = [
        [
            each["change"],
            each["by"],
            str(each["n"]),
            *(with_error(each[measure], each[f"{measure} error"]) for measure in MEASURES),
            *(
                with_error(each[f"{measure} difference"], each[f"{measure} difference error"], sign="+")
                if each["by"] != PLAIN
                else ""
                for measure in MEASURES
            ),
        ]
        for each in records
    ]
    titles = ["change", "by", "n", *MEASURES, *(f"{measure}, − plain" for measure in MEASURES)]
    return "\n".join(["# Token arithmetic", "", *(line for each in head for line in (each, "")), *table(titles, rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=60, help=f"prompts, {GROUP} pictures of each")
    kept_files.add_arguments(parser)
    parser.add_argument("--tables", type=Path, default=host.RESULTS / "arithmetic", help="where the tables go, no .md")
    arguments = parser.parse_args()
    records = records_of(drawn(arguments), arguments.prompts)
    sums = "; ".join(f'{name}: "{expression}"' for name, expression in SUMS.items())
    head = [
        "How often a change of the first of two things is made by a sum of phrases in the place of its token, and how "
        "often by writing the changed prompt: rates and paired differences to the unchanged one, with standard errors "
        "over prompts. These are no figures of Stable Diffusion.",
        f"The sums, with the thing's own words. {sums}.",
        f"{arguments.prompts} prompts of the set {SET}, {GROUP} pictures of each; model {model_digest()}, "
        f"{SAMPLING['sampler']} {SAMPLING['scheduler']}, {SAMPLING['steps']} steps, CFG {SAMPLING['cfg']:g}. "
        f"{host.machine()}. {date.today().isoformat()}.",
    ]
    text = markdown(head, records) + "\n"
    write_report(text, records, head, arguments.tables)
    print(text)


if __name__ == "__main__":
    main()
