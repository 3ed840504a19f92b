"""What the rules have read is forgotten behind them."""

from collections.abc import Iterator

import pytest

from tests.house.source import tree


@pytest.fixture(scope="package", autouse=True)
def _forget_the_syntax_of_all_files() -> Iterator[None]:
    """Else each full garbage collection of the tests behind would walk over a million nodes, and hold up a loop."""
    yield
    tree.cache_clear()
