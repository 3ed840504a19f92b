"""The search for orphan drafts: a draft that is not ours is looked at once, however many there are."""

import pytest

from mailerd.core.replies import Reply
from mailerd.errors import DatabaseError
from mailerd.store.db.database import Database
from tests.support.heard import Heard
from tests.support.rows import post
from tests.worker.place import Place

ME = "me@example.com"


async def looks(place: Place) -> int:
    """How many drafts a search looks at."""
    place.google.asked.clear()
    await place.orphans.sweep(ME)
    return sum(what != ME for what in place.google.asked)


async def test_ten_thousand_foreign_drafts_and_more_are_looked_at_once(database: Database, heard: Heard) -> None:
    place = Place(database, heard)
    place.google.drafts = [f"f{number}" for number in range(10_100)]
    assert await looks(place) == 10_100
    assert await looks(place) == 0
    place.google.drafts[5] = "new"
    assert await looks(place) == 1


async def test_only_the_newest_list_is_remembered(database: Database, heard: Heard) -> None:
    place = Place(database, heard)
    place.google.drafts = ["f1", "f2"]
    assert await looks(place) == 2
    place.google.drafts = ["f2"]
    assert await looks(place) == 0
    place.google.drafts = ["f1", "f2"]
    assert await looks(place) == 1
    place.orphans.retain(set())
    assert await looks(place) == 2


STRANGE = [
    "job-" + "9" * 5000,
    "é-1",
    "😀-1",
    "J-٣",
    "J\ud800-1",
    "x" * 9000 + "-1",
    "'; DROP TABLE jobs; -- -1",
    "-",
    "1",
    "-1",
]


@pytest.mark.parametrize("key", STRANGE, ids=lambda key: ascii(key)[:20])
async def test_whatever_key_a_stranger_writes_into_a_draft_it_is_foreign(
    database: Database, heard: Heard, key: str
) -> None:
    place = Place(database, heard)
    place.google.drafts, place.google.keys = ["f1", "f2"], {"f1": key}

    assert await looks(place) == 2
    assert await looks(place) == 0


LOCKED = DatabaseError("drafts.find", phase="execute", cause=TimeoutError(), errno=1205, retry=True, in_doubt=False)


@pytest.mark.parametrize("met", [ZeroDivisionError(), LOCKED], ids=["a bug", "a locked row"])
async def test_what_is_met_in_one_mailbox_leaves_the_others_searched(
    database: Database, heard: Heard, monkeypatch: pytest.MonkeyPatch, met: Exception
) -> None:
    place = Place(database, heard)
    for sender in ("a@example.com", "b@example.com"):
        await post(database, sender=sender)

    async def headers(_: str, *, draft_id: str) -> Reply:
        place.google.asked.append(draft_id)
        raise met

    place.google.drafts = ["f1"]
    monkeypatch.setattr(place.google, "get_draft_headers", headers)

    assert not await place.rescue.sweep()

    assert place.google.asked.count("f1") == 2
    assert {told["what"] for told in heard.of("step_failed")} == {
        "drafts.sweep a@example.com", "drafts.sweep b@example.com",
    }  # fmt: skip
