"""Prompts of every kind with right answers, from the batches of ``benchmarks/results/parser.md``.

A line of ``prompts_as_written.txt`` is a prompt, " => " and the answer as in ``answers``. What was wrong at first and
could not be read by a rule that holds in general is not in the file, so this is no measure of new prompts.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from answers import faults

LINES = Path(__file__).with_name("prompts_as_written.txt").read_text("utf-8").splitlines()


@pytest.mark.parametrize("line", LINES)
def test_prompt(find, line):
    prompt, answer = line.split(" => ")
    entities, _ = find(prompt)
    assert faults(entities, answer.strip()) == []
