"""How often the demo model draws what a prompt binds together, with and without the pack's techniques.

    .dev/venv/bin/python benchmarks/binding.py [--group token-merge | --workflows plain recorder ...]
        [--sets two_swap ...] [--images 240]

Every workflow gets the same prompts and the same noise, image by image. Judged images are kept under output/ and not
made again: the command may be interrupted and repeated, or repeated with more sets, workflows and images. The figures
are of the demo model in its world of shapes, never of Stable Diffusion.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import host
import judging
from binding_table import compare, markdown
from report import write_report
from workflows import GROUPS, WORKFLOWS

SETS = ("two_fav", "two_counter", "two_swap", "three", "two_marked")
"""Reported by default: what is left out, bound to the wrong thing, and marks. Settings are chosen on two_half
and two_first_marked."""
DEFAULT = [
    "plain",
    "recorder",
    "self-attention temperature",
    "object-focused attention",
    "stage weights",
    "attention modulation",
    "token merge, published settings",
    "token merge, simple end",
    "token merge, found",
    "token merge and entropy loss",
    "token merge, both losses",
    "Attend-and-Excite",
    "A&E, found",
    "SynGen",
    "layout",
    "layout, found",
    "token and pixel, found",
    "structured conditioning",
    "composed noise",
    "A&E, found, and object focus",
    "SynGen and object focus",
    "draft, masks from attention",
]
"""Every method in its published settings and in those found here, and the combinations."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sets", nargs="+", choices=host.part("evaluation.prompts").PROMPT_SETS, default=list(SETS), help="prompt sets"
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--workflows", nargs="+", choices=WORKFLOWS, default=DEFAULT, help="of workflows.py")
    chosen.add_argument("--group", choices=GROUPS, help="plain, and all workflows of a technique")
    judging.add_arguments(parser, images=240)
    parser.add_argument("--tables", type=Path, help="where the tables go, without .md")
    arguments = parser.parse_args()
    names = ["plain", *GROUPS[arguments.group]] if arguments.group else arguments.workflows
    workflows = {name: WORKFLOWS[name] for name in names}
    rows, rate = judging.judged_images(arguments, dict.fromkeys(arguments.sets, workflows))
    records = compare(rows, arguments.sets, names, range(arguments.first, arguments.images))
    head = [
        "How often the bundled demo model draws every thing of a prompt in its own colour and nothing else. These are "
        "no figures of Stable Diffusion. Prompts and noise are the same in every workflow; SE is the standard error.",
        "",
        judging.conditions(arguments, rate),
    ]
    text = markdown(records, head)
    write_report(text, records, head, arguments.tables or host.RESULTS / (arguments.group or "binding"))
    print(text)


if __name__ == "__main__":
    main()
