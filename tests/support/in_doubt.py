"""Transactions whose COMMIT is carried out, and whose answer is lost."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mailerd.errors import DatabaseAwayError
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database


@contextmanager
def in_doubt(database: Database, monkeypatch: pytest.MonkeyPatch, *, tries: int = 1) -> Iterator[None]:
    """Lose the answers to the first `tries` transactions meanwhile."""
    transaction, left = database.transaction, [tries]

    async def answerless(work: Callable[[Cursor], Awaitable[Any]], *, what: str, **how: bool) -> object:
        done = await transaction(work, what=what, **how)
        if left[0]:
            left[0] -= 1
            lost = ConnectionError("lost")
            raise DatabaseAwayError(what, phase="commit", cause=lost, errno=2013, retry=True, in_doubt=True)
        return done

    with monkeypatch.context() as patched:
        patched.setattr(database, "transaction", answerless)
        yield
    assert left == [0], "fewer transactions were made"
