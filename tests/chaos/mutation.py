"""A way to break the code on purpose."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """A line that something depends on, what is put in its place, and the test that must fail then."""

    what: str
    file: str
    old: str
    new: str
    test: str


def noticed_by(test: str, file: str, *changes: tuple[str, str, str]) -> list[Mutation]:
    """Several ways to break one file, each what, line and what is put in its place, that one test must notice."""
    return [Mutation(what, file, old, new, test) for what, old, new in changes]
