"""What the localisation loss does to the subject adapter, by two that were trained with and without it.

    .dev/venv/bin/python benchmarks/subject_losses.py --with-loss FILE --without-loss FILE [--images 240]

Both come from demo/train_subjects.py, the same time side by side, the second with LOCALISATION_WEIGHT = 0.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import host
from report import write_report
from subject_cases import BY_ATTENTION, CASES, ONE_SUBJECT, TWO_SUBJECTS
from subject_pictures import add_arguments, measured_pictures
from subject_report import about, pairs, rates

ADAPTERS = ("with the loss", "without")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--with-loss", type=Path, required=True)
    parser.add_argument("--without-loss", type=Path, required=True)
    parser.add_argument("--about", default="", help="how they were trained, for the head of the table")
    parser.add_argument("--tables", type=Path, default=host.RESULTS / "subject-losses", help="without .md")
    arguments = parser.parse_args()
    adapters = (arguments.with_loss.resolve(), arguments.without_loss.resolve())
    cases = [case for case in CASES if case.name in (ONE_SUBJECT, TWO_SUBJECTS, BY_ATTENTION)]
    named, rows = [], {}
    for adapter, found in zip(ADAPTERS, measured_pictures(arguments, cases, adapters), strict=True):
        for case in cases:
            named.append(replace(case, name=f"{case.name}, {adapter}"))
            rows[named[-1].name] = found[case.name]
    table, records = rates(named, rows)
    by_loss = [tuple(f"{case.name}, {adapter}" for adapter in ADAPTERS) for case in cases]
    by_place = [(f"{BY_ATTENTION}, {adapter}", f"{TWO_SUBJECTS}, {adapter}") for adapter in ADAPTERS]
    compared, differences = pairs(rows, [*by_loss, *by_place])
    head = [line for line in (*about(adapters), arguments.about) if line]
    lines = ["# The localisation loss", "", *(line for each in head for line in (each, "")), *table]
    text = "\n".join([*lines, "", "Paired differences, picture by picture:", "", *compared]) + "\n"
    write_report(text, [*records, *differences], head, arguments.tables)
    print(text)


if __name__ == "__main__":
    main()
