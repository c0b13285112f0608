"""How often the best of several pictures is right, by each judge, against techniques that take as much time.

    .dev/venv/bin/python benchmarks/best_of.py [--prompts 12] [--sets two_counter ...]

Every workflow draws the same prompts from the same noise. Cost is the processor time of a picture, with its recording
and masks, as a multiple of a plain one's: the best of four plain pictures costs 4. Judged pictures are kept under
output/ and not made again. The figures are of the demo model in its world of shapes, never of Stable Diffusion.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import host
import kept_files
import numpy as np
import roc
from attention_pictures import SAMPLING, model_digest
from judging import SDPA
from report import number, table, with_error, write_report
from workflows import WORKFLOWS

SETS = ("two_fav", "two_counter", "two_swap", "three", "four", "two_marked")
GROUP = 8
"""Pictures of one prompt, made together."""
COUNTS = (1, 2, 4, 8)
PLAIN = "plain"
NAMES = (
    PLAIN,
    "object-focused attention",
    "A&E, found",
    "SynGen and object focus",
    "draft, masks from attention",
)
ATTENTION, JUDGE, ANY = "attention", "judge: demo world", "any of them"
"""How the best is found: as Score Attention does, as Judge Binding does, and by the truth."""


@dataclass(frozen=True)
class Group:
    """The pictures of one prompt by one workflow: whether each is wholly right, its scores by ATTENTION and JUDGE, and
    the processor seconds that all took."""

    prompt_set: str
    number: int
    workflow: str
    right: tuple[bool, ...]
    scores: dict[str, tuple[float, ...]]
    seconds: float


def groups_of(arguments: argparse.Namespace) -> list[Group]:
    """All groups that are asked for."""
    folder = arguments.kept / f"best-of-{model_digest()}"
    jobs = {
        (name, number, workflow): folder / f"{name}-{number}-{workflow}.json"
        for number in range(arguments.prompts)
        for name in arguments.sets
        for workflow in arguments.workflows
    }
    return [Group(**json.loads(path.read_text())) for path in kept_files.made(arguments, jobs, _work)]


def _work(jobs: Mapping[tuple[str, int, str], Path]) -> None:
    host.start_comfyui("--cpu", SDPA)
    import torch
    from laboratory import Laboratory, Sampling

    draw_prompts, maps = host.part("evaluation.prompts").draw_prompts, []

    def watched(make):
        def workflow_of(workflow):
            workflow = make(workflow)
            recorded = host.run_node("SBRecordAttention", model=workflow.model, binding=workflow.binding)
            maps.append(recorded["ATTENTION_MAPS"])
            return replace(workflow, model=recorded["MODEL"])

        return workflow_of

    with torch.inference_mode():
        laboratory = Laboratory(
            Sampling(**SAMPLING, model_sha256=model_digest()), {name: watched(WORKFLOWS[name]) for name in NAMES}
        )
        for (name, number, workflow), path in jobs.items():
            text = draw_prompts(name, number + 1)[number].text
            group = _drawn(laboratory, maps, Group(name, number, workflow, (), {}, 0.0), text)
            kept_files.kept(path, lambda to, group=group: to.write_text(json.dumps(asdict(group))))


def _drawn(laboratory: Any, maps: list, of: Group, text: str) -> Group:
    """The group of a prompt; the noise of each of its pictures is that of its own seed."""
    import torch
    from laboratory import Job

    prediction, judging = host.part("evaluation.prediction"), host.part("evaluation.judges.judging")
    shapes, questions = host.part("evaluation.judges.shapes"), host.part("evaluation.judges.questions")
    seeds = tuple(range(of.number * GROUP, (of.number + 1) * GROUP))
    begun = time.process_time()
    latents, pictures = laboratory.images(Job(of.prompt_set, text, seeds), of.workflow)
    seconds = time.process_time() - begun
    binding = laboratory.bound(text).binding
    predicted = prediction.predictions(maps[-1].find({"samples": latents}), binding)
    judged = judging.judge_pictures(
        shapes.ShapesJudge(), torch.from_numpy(pictures), text, questions.made_from(binding), "geometric mean"
    )
    maps.clear()
    right = [
        laboratory.judge(laboratory.wanted[text], laboratory.detect(picture)).verdict == "ok" for picture in pictures
    ]
    scores = {
        ATTENTION: tuple(each.score for each in predicted),
        JUDGE: tuple(each.score for each in judged.images),
    }
    return replace(of, right=tuple(right), scores=scores, seconds=seconds)


def records_of(groups: Sequence[Group]) -> list[dict]:
    """For each workflow and way to find the best: the cost of a picture, and by number of pictures drawn in how many
    groups the best is right, with the standard error over prompts."""
    mean_and_error = host.part("evaluation.score").mean_and_error
    by_workflow = {name: [group for group in groups if group.workflow == name] for name in NAMES}
    plain = {(each.prompt_set, each.number): each.seconds for each in by_workflow[PLAIN]}
    records = []
    for name, own in by_workflow.items():
        if not own:
            continue
        cost = median(each.seconds / plain[each.prompt_set, each.number] for each in own)
        for found_by in (ATTENTION, JUDGE, ANY):
            record = {"workflow": name, "best by": found_by, "prompts": len(own), "cost": cost}
            for count in COUNTS:
                shares = [_share(each, found_by, count) for each in own]
                record[f"best of {count}"], record[f"best of {count} error"] = mean_and_error(shares)
            records.append(record)
    return records


def _share(group: Group, found_by: str, count: int) -> float:
    right = np.array(group.right)
    if found_by == ANY:
        return roc.any_of(right, count)
    return roc.best_of(np.array(group.scores[found_by]), right, count)


def markdown(head: Sequence[str], records: Sequence[dict]) -> str:
    rows = [
        [
            each["workflow"],
            each["best by"],
            number(each["cost"], 2),
            *(with_error(each[f"best of {count}"], each[f"best of {count} error"]) for count in COUNTS),
        ]
        for each in records
    ]
    titles = ["workflow", "the best by", "cost of a picture", *(f"best of {count}" for count in COUNTS)]
    return "\n".join(["# Best of several", "", *(line for each in head for line in (each, "")), *table(titles, rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sets = host.part("evaluation.prompts").PROMPT_SETS
    parser.add_argument("--sets", nargs="+", choices=sets, default=list(SETS), help="prompt sets")
    parser.add_argument("--workflows", nargs="+", choices=NAMES, default=list(NAMES), help="with plain among them")
    parser.add_argument("--prompts", type=int, default=12, help=f"prompts of each set, {GROUP} pictures of each")
    kept_files.add_arguments(parser)
    parser.add_argument("--tables", type=Path, default=host.RESULTS / "best-of", help="where the tables go, no .md")
    arguments = parser.parse_args()
    records = records_of(groups_of(arguments))
    head = [
        "How often the best of so many pictures of a prompt is wholly right, with standard errors over prompts. These "
        "are no figures of Stable Diffusion.",
        "The judge of the demo world is told by the very detector that says what is right, but asks for the prompt's "
        "things only: what is there beside them it does not see. A judge that errs lies between it and chance.",
        f"{arguments.prompts} prompts of each of the sets {', '.join(arguments.sets)}, {GROUP} pictures of each; model "
        f"{model_digest()}, {SAMPLING['sampler']} {SAMPLING['scheduler']}, {SAMPLING['steps']} steps, CFG "
        f"{SAMPLING['cfg']:g}. {host.machine()}. {date.today().isoformat()}.",
    ]
    text = markdown(head, records) + "\n"
    write_report(text, records, head, arguments.tables)
    print(text)


if __name__ == "__main__":
    main()
