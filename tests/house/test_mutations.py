"""The mutation check must not rot: what it breaks still stands in the code, once, and the test that it names exists."""

import pytest

from tests.chaos.mutation import Mutation
from tests.chaos.mutations import MUTATIONS, ROOT


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what)
def test_a_mutation_finds_its_line_and_its_test(mutation: Mutation) -> None:
    sound = (ROOT / mutation.file).read_text("utf-8")
    assert mutation.apply(sound) != sound
    path, _, name = mutation.test.partition("::")
    assert f"def {name}" in (ROOT / path).read_text("utf-8")


def test_a_mutation_finds_its_line_however_it_is_formatted() -> None:
    mutation = Mutation("what", "file", "of(a, b) == c", "of(b, a) == c", "test")
    assert mutation.apply("x = of(\n    a,\n    b,\n) == c\n") == "x = of(b, a) == c\n"
    with pytest.raises(ValueError, match="2 times"):
        mutation.apply("of(\n    a, b\n) == c; of(\n    a,\n    b,\n) == c")
