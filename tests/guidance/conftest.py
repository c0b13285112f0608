"""What all tests of guidance have."""

import functools

import pytest

from gradients import soft
from guiding import GuidanceBench, Lines


@pytest.fixture(scope="package")
def bench(comfy, part, tiny):
    """``bench("sd1")``: a GuidanceBench of that layout, on which rounding does not grow."""
    return functools.cache(lambda layout: GuidanceBench(comfy, part, soft(comfy, tiny, layout)))


@pytest.fixture(scope="package")
def sd1(bench):
    return bench("sd1")


@pytest.fixture
def lines(part, monkeypatch):
    return Lines(part, monkeypatch)
