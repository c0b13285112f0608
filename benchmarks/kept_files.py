"""Work that leaves a file for each job: done by several processes, and not done again."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import host
from judging import ONE_THREAD

Jobs = dict[Any, Path]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes of one thread each")
    parser.add_argument("--kept", type=Path, default=host.ROOT / "output" / "benchmarks", help="where files are kept")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)


def made(arguments: argparse.Namespace, jobs: Jobs, work: Callable[[Jobs], None]) -> Iterable[Path]:
    """The files of all jobs, of which ``work`` makes those that are not there. Each worker process runs the whole
    command once more, as far as this call: its jobs must follow from the command line alone."""
    if arguments.worker is not None:
        work(
            {job: path for job, path in list(jobs.items())[arguments.worker :: arguments.workers] if not path.exists()}
        )
        sys.exit()
    for folder in {path.parent for path in jobs.values()}:
        folder.mkdir(parents=True, exist_ok=True)
    if not all(path.exists() for path in jobs.values()):
        command, environment = [sys.executable, *sys.argv, "--worker"], {**os.environ, **ONE_THREAD}
        workers = [subprocess.Popen([*command, str(number)], env=environment) for number in range(arguments.workers)]
        if any([worker.wait() for worker in workers]):
            sys.exit("A worker failed.")
    return jobs.values()


def kept(path: Path, write: Callable[[Path], Any]) -> None:
    """Have a file written elsewhere and moved to its place, so that only whole ones are there; say which."""
    unfinished = path.with_suffix(f".{os.getpid()}")
    write(unfinished)
    unfinished.rename(path)
    print(path.stem, flush=True)
