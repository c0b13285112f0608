"""What all tests of composed noise have."""

import pytest

from compose import ComposeBench
from gradients import soft


@pytest.fixture(scope="module", params=["sd1", pytest.param("sd2", marks=pytest.mark.slow), "sdxl"])
def bench(request, comfy, part, tiny):
    return ComposeBench(comfy, part, soft(comfy, tiny, request.param))


@pytest.fixture(scope="module")
def sd1(comfy, part, tiny):
    return ComposeBench(comfy, part, tiny("sd1"))
