"""What the tests of the workers hear."""

import pytest

from tests.support.heard import Heard


@pytest.fixture
def heard() -> Heard:
    return Heard()
