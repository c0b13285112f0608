"""Work shared among servers, of which any may die."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Server, Job, Result = TypeVar("Server"), TypeVar("Job"), TypeVar("Result")


class NoServerLeft(RuntimeError):
    """All servers are lost, and there is work to do."""


@dataclass(frozen=True)
class Done(Generic[Server, Job, Result]):
    """What became of a job: its result, or the exception that it ended with."""

    server: Server
    job: Job
    result: Result | None
    error: Exception | None


@dataclass(frozen=True)
class Lost(Generic[Server]):
    """A server that is given no more work, and why."""

    server: Server
    error: Exception


class _Work(Generic[Job]):
    """Jobs that wait; ``take`` gives None when all are done, and not before, as one under way may come back."""

    def __init__(self, jobs: Sequence[Job]):
        self.waiting, self.open = deque(jobs), len(jobs)
        self.changed = threading.Condition()

    def take(self) -> Job | None:
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self.open <= 0)
            return self.waiting.popleft() if self.open > 0 else None

    def back(self, job: Job) -> None:
        with self.changed:
            self.waiting.appendleft(job)
            self.changed.notify()

    def done(self) -> None:
        with self.changed:
            self.open -= 1
            self.changed.notify_all()

    def stop(self) -> None:
        with self.changed:
            self.open = 0
            self.changed.notify_all()


def share(
    jobs: Sequence[Job],
    servers: Sequence[Server],
    do: Callable[[Server, Job], Result],
    losing: tuple[type[Exception], ...],
) -> Iterator[Done[Server, Job, Result] | Lost[Server]]:
    """Does the jobs, one at a time on each server, and gives what became of them as they end.

    A server on which a job ends with one of the exceptions ``losing`` is lost, and its job goes to another; any other
    exception is the job's own. Closing the iterator gives out no more jobs, and does not wait for those under way.

    Raises:
        NoServerLeft: all are lost before the jobs are done.
    """
    work, told = _Work(jobs), queue.SimpleQueue()

    def serve(server: Server) -> None:
        while (job := work.take()) is not None:
            try:
                result = do(server, job)
            except losing as error:
                work.back(job)
                told.put(Lost(server, error))
                return
            except Exception as error:
                told.put(Done(server, job, None, error))
            else:
                told.put(Done(server, job, result, None))
            work.done()

    for server in servers:
        threading.Thread(target=serve, args=[server], daemon=True).start()
    left, open_ = len(servers), len(jobs)
    try:
        while open_:
            if not left:
                raise NoServerLeft(f"No server is left, and {open_} of {len(jobs)} jobs are not done.")
            event = _next(told)
            left -= isinstance(event, Lost)
            open_ -= isinstance(event, Done)
            yield event
    finally:
        work.stop()


def _next(told: queue.SimpleQueue) -> Done | Lost:
    """The next event; in between, the main thread can be interrupted on every system."""
    while True:
        try:
            return told.get(timeout=0.5)
        except queue.Empty:
            continue
