"""What all tests of guidance have."""

import functools

import pytest

from attention_reference import bind
from gradients import soft
from guiding import GuidanceBench, Lines

PROMPT, ENTITIES = "a multi-colored zorblax and a blue dog", "zorblax: multi-colored | dog: blue"
"""With words of several tokens."""


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


@pytest.fixture(scope="module")
def bound(part, tiny):
    return bind(part, tiny("sd1").clip, PROMPT, ENTITIES)
