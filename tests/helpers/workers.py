"""The processes that share a run of the tests, with pytest-xdist's ``-n auto``, and what it says about its files."""

from __future__ import annotations

import os
from collections import Counter

import pytest

MOST = 4
MEMORY = 4e9
"""Bytes that a worker and the servers and programs it starts may need."""


def one_thread_each() -> None:
    """In a worker, before anything imports torch: neither it nor what it starts computes in more threads than one."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def count() -> int:
    """One for each core, as far as the memory goes."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sysconf"):
        cores = min(cores, int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / MEMORY))
    return max(1, min(cores, MOST))


def slowest_files(reports: list[pytest.TestReport], most: int = 10) -> list[str]:
    """A line for each of the files in which the tests and their fixtures took longest."""
    seconds, tests = Counter(), Counter()
    for report in reports:
        file = report.nodeid.split("::")[0]
        seconds[file] += report.duration
        tests[file] += report.when == "setup"
    return [f"{took:7.1f} s  {tests[file]:4} tests  {file}" for file, took in seconds.most_common(most)]
