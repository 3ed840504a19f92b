"""Searching the sent mail for a message: as far back as it can have been sent, all of it read once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailerd.core.claims import Resolution, UnresolvedSend
from mailerd.core.replies import Accepted, Reply
from mailerd.core.states import Transition
from mailerd.gmail import Mailbox
from mailerd.worker import recovery as reconcile_module
from mailerd.worker.recovery import Reconciler

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


class Google:
    """A mailbox with so much sent mail, one each second, of which one has the message's key."""

    def __init__(self, messages: int, *, ours: int | None = None) -> None:
        self.messages, self.ours = messages, ours
        """The newest is number 0."""
        self.reads: list[str] = []

    async def authenticate(self, sender: str) -> Mailbox | Reply:
        return Mailbox(sender, "direct", can_read_metadata=True, scopes=())

    async def list_sent(self, _: str, *, page_token: str = "") -> Reply:
        start = int(page_token or 0)
        end = min(start + 100, self.messages)
        more: dict[str, Any] = {"nextPageToken": str(end)} if end < self.messages else {}
        return Accepted(body={"messages": [{"id": str(number)} for number in range(start, end)], **more})

    async def get_message(self, _: str, *, message_id: str) -> Reply:
        self.reads.append(message_id)
        number = int(message_id)
        header = {"name": "X-Mailerd-Key", "value": "J-0" if number == self.ours else f"other-{number}"}
        sent_at = NOW - timedelta(seconds=number)
        millis = str(int(sent_at.timestamp() * 1000))
        return Accepted(id=message_id, body={"internalDate": millis, "payload": {"headers": [header]}})


def doubt(
    *, since: datetime, nothing_found_for: timedelta | None = DAY, came_back: frozenset[str] = frozenset()
) -> UnresolvedSend:
    return UnresolvedSend(
        id=1, job_id="J", seq=0, sender="me@example.com", to_email="ada@example.com", token="T", attempt=1, checks=0,
        mode="direct", draft_id=None, thread_id=None, unanswered=True, discarding=False, known_message_id=None,
        nothing_found_for=nothing_found_for, since=since, came_back=came_back,
    )  # fmt: skip


async def checks(google: Google, it: UnresolvedSend) -> list[Resolution]:
    """One check after the other, until nobody shall look again soon."""
    parts: Any = google
    reconciler, found = Reconciler(parts, late_arrival=timedelta(minutes=1)), list[Resolution]()
    while not found or (found[-1].retry_in is not None and len(found) < 100):
        found.append(await reconciler.reconcile(it))
    return found


async def test_a_search_goes_on_over_several_checks_until_it_has_found_the_message() -> None:
    google = Google(10_000, ours=4_321)
    found = await checks(google, doubt(since=NOW - DAY))
    assert (found[-1].transition, found[-1].message_id) == (Transition.FOUND, "4321")
    assert len(google.reads) == len(set(google.reads)) == 4_322
    assert len(found) == 9
    for each in found[:-1]:
        assert each.retry_in == timedelta(seconds=1)
        assert "the search continues" in (each.error or "")


async def test_a_message_that_came_back_does_not_prove_that_the_message_was_sent_again() -> None:
    google = Google(100, ours=7)
    (found,) = await checks(google, doubt(since=NOW, came_back=frozenset({"7"})))
    assert (found.transition, found.forgets) == (Transition.MISSING, True)


async def test_a_search_reaches_back_to_an_hour_before_the_message_was_handed_over() -> None:
    google = Google(10_000)
    found = await checks(google, doubt(since=NOW - timedelta(minutes=10)))
    assert (found[-1].transition, found[-1].forgets) == (Transition.MISSING, True)
    assert len(google.reads) == 4_202


async def test_a_search_that_reads_no_further_back_asks_for_a_person_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconcile_module, "_MAX_MESSAGES", 1_000)
    google = Google(10_000, ours=4_321)
    (*_, last) = await checks(google, doubt(since=NOW - DAY))
    assert (last.transition, last.retry_in) == (None, None)
    for words in (
        "the last 1,000 sent messages",
        "a message to ada@example.com since 2026-11-24 12:00",
        "confirm it manually",
    ):
        assert words in (last.error or "")
    assert len(google.reads) == 1_000
