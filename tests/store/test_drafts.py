"""Drafts of the console: what is saved is found again by its key alone, whole, until it is old or sent."""

import random
from datetime import timedelta

import pytest

from mailerd.events.webhooks import WebhookEvents
from mailerd.store.db.database import Database
from mailerd.store.write import drafts
from mailerd.store.write.drafts import AGE, FILE, PEOPLE, Draft, Drafts, DraftTooLargeError
from mailerd.store.write.new_jobs import PIECE
from mailerd.store.write.retention import rules
from tests.support.dialect import plan
from tests.support.heard import Heard
from tests.support.rows import query

LARGE = random.Random(7).randbytes(2 * PIECE + 1)


def store(database: Database, keep: timedelta = AGE) -> Drafts:
    return Drafts(database, 5.0, keep)


async def made(it: Drafts, api_key_id: int = 1, **parts: bytes) -> Draft:
    given = {PEOPLE: parts.get("people", b"p"), FILE: parts.get("file", b"f")}
    id_ = await it.create(api_key_id, {"name": "a.csv"}, {"template": "welcome"}, given)
    draft = await it.find(api_key_id, id_)
    assert draft
    return draft


async def test_a_draft_is_found_whole_by_its_own_key_alone(database: Database) -> None:
    it = store(database)
    draft = await made(it, people=LARGE)
    assert (draft.mapping, draft.message, draft.options) == ({"name": "a.csv"}, {"template": "welcome"}, {})
    assert await it.read(draft, PEOPLE) == LARGE
    assert await it.read(draft, FILE) == b"f"
    assert await it.find(2, draft.id) is None
    assert [each.id for each in await it.newest(1, limit=9)] == [draft.id]
    assert await it.newest(2, limit=9) == []


async def test_what_is_saved_replaces_what_was_there_and_nothing_else(database: Database) -> None:
    it = store(database)
    draft = await made(it, people=LARGE)
    draft.message["subject"] = "李白"
    assert await it.save(draft, {PEOPLE: b"new"})
    found = await it.find(1, draft.id)
    assert found == draft
    assert (await it.read(draft, PEOPLE), await it.read(draft, FILE)) == (b"new", b"f")
    await it.delete(draft)
    assert not await it.save(draft, {PEOPLE: b"new"}), "it is not there any more"
    assert await query(database, "SELECT COUNT(*) FROM job_drafts") == [(0,)]


async def test_a_part_that_is_too_large_changes_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    it = store(database)
    draft = await made(it)
    monkeypatch.setattr(drafts, "MAX_PART", 10)
    draft.message["subject"] = "new"
    with pytest.raises(DraftTooLargeError):
        await it.save(draft, {PEOPLE: b"x" * 11})
    found = await it.find(1, draft.id)
    assert found
    assert "subject" not in found.message
    assert await it.read(draft, PEOPLE) == b"p"


async def test_a_draft_ends_with_its_age_or_with_what_is_known_of_its_key(database: Database) -> None:
    it = store(database, timedelta(hours=1))
    draft = await made(it)
    await it.press(draft)
    await query(database, "UPDATE job_drafts SET pressed_at = pressed_at - INTERVAL 61 MINUTE WHERE part = 0")
    assert await it.find(1, draft.id) is None, "its job may be stored, and its key is forgotten"
    await it.release(draft)
    assert await it.find(1, draft.id)
    await query(database, "UPDATE job_drafts SET kept_from = kept_from - INTERVAL 8 DAY")
    assert (await it.find(1, draft.id), await it.newest(1, limit=9)) == (None, [])


async def test_of_too_many_drafts_of_a_key_the_oldest_goes(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts, "MAX_DRAFTS", 2)
    it = store(database)
    other, first, second, third = [await made(it, key) for key in (2, 1, 1, 1)]
    assert await it.find(1, first.id) is None
    assert [each.id for each in await it.newest(1, limit=9)] == [third.id, second.id]
    assert await it.find(2, other.id)


async def test_drafts_are_found_by_an_index(database: Database) -> None:
    it = store(database)
    for _ in range(20):
        await made(it)
    assert [each["key"] for each in await plan(database, drafts._LIST, (1, 60, 10))] == ["api_key"]


async def test_a_draft_that_is_sent_is_not_found_until_an_undo_reopens_it(database: Database) -> None:
    it = store(database)
    draft = await made(it, people=LARGE)
    assert await it.reopen(1, draft.id) is None, "it is not sent"
    await it.sent(draft)
    assert (await it.find(1, draft.id), await it.newest(1, limit=9)) == (None, [])
    assert await it.reopen(2, draft.id) is None, "another key's"
    new = await it.reopen(1, draft.id)
    assert new
    found = await it.find(1, new)
    assert found
    assert (await it.read(found, PEOPLE), found.message, found.once) == (LARGE, draft.message, f"draft-{new}")
    assert await it.find(1, draft.id) is None


async def test_a_draft_that_is_sent_goes_minutes_later(database: Database) -> None:
    it = store(database)
    await it.sent(await made(it))
    await query(database, "UPDATE job_drafts SET kept_from = kept_from - INTERVAL 11 MINUTE")
    (rule,) = [
        each for each in rules(event_days=0, answers=AGE, events=WebhookEvents(Heard())) if "job_drafts" in str(each)
    ]
    assert (await rule.delete(database)).rows == 3
