"""The mutation check must not rot: what it breaks still stands in the code, once, and the test that it names exists."""

import pytest

from tests.chaos.mutation import Mutation
from tests.chaos.mutations import MUTATIONS, ROOT


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what)
def test_a_mutation_finds_its_line_and_its_test(mutation: Mutation) -> None:
    assert (ROOT / mutation.file).read_text("utf-8").count(mutation.old) == 1
    path, _, name = mutation.test.partition("::")
    assert f"def {name}" in (ROOT / path).read_text("utf-8")
