"""Work shared among servers that die, in threads."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest


@pytest.fixture(scope="module")
def servers(part):
    return part("evaluation.bench.servers")


def test_a_server_that_dies_loses_nothing(servers):
    """One dies at its first job, while the other has done all the rest: it waits, as the job may come back."""
    begun, rest_is_done = threading.Event(), threading.Event()
    made = Counter()

    def do(server, job):
        if server == "dying":
            begun.set()
            assert rest_is_done.wait(10)
            raise ConnectionError("gone")
        assert begun.wait(10)
        made[job] += 1
        if sum(made.values()) == 9:
            rest_is_done.set()
        return job * job

    events = list(servers.share(range(10), ["dying", "living"], do, (ConnectionError,)))
    lost = [event for event in events if isinstance(event, servers.Lost)]
    assert [(event.server, str(event.error)) for event in lost] == [("dying", "gone")]
    done = {event.job: event.result for event in events if isinstance(event, servers.Done)}
    assert done == {job: job * job for job in range(10)} and set(made.values()) == {1} and len(events) == 11


def test_a_job_that_fails_is_not_tried_again(servers):
    def do(server, job):
        return 1 // job

    events = list(servers.share([2, 0, 1], ["a", "b"], do, (ConnectionError,)))
    assert {event.job: type(event.error) for event in events} == {
        0: ZeroDivisionError,
        1: type(None),
        2: type(None),
    }


def test_without_servers_it_ends(servers):
    def do(server, job):
        raise TimeoutError

    events = servers.share([1, 2, 3], ["a", "b"], do, (OSError,))
    assert {next(events).server, next(events).server} == {"a", "b"}
    with pytest.raises(servers.NoServerLeft, match="3 of 3"):
        next(events)


def test_closing_gives_out_no_more(servers):
    begun = []

    def do(server, job):
        begun.append(job)
        time.sleep(0.05)

    events = servers.share(range(100), ["a"], do, ())
    next(events)
    events.close()
    time.sleep(0.3)
    assert len(begun) <= 3


def test_no_jobs(servers):
    assert list(servers.share([], ["a"], print, ())) == []
