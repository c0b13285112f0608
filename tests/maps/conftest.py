"""What all tests of maps have."""

import pytest

from recorded import prepared


@pytest.fixture(scope="module")
def sd1(tiny, part):
    return prepared(tiny, part, "sd1")
