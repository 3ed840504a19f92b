"""A call beside the messages is made once its units are granted, waits for them up to a bound, and is else not made."""

import asyncio
from datetime import timedelta
from typing import cast

import pytest

from mailerd.core.replies import Accepted, Call, NotSent, Reply
from mailerd.gmail import Gmail, Mailbox
from mailerd.gmail.client import Endpoints
from mailerd.gmail.session import GmailRequest
from mailerd.rate_limited_gmail import RateLimitedGmail
from mailerd.store.queue.rate_limits import RateLimits
from tests.support.ticking import Ticking

SECOND = timedelta(seconds=1)


class Limits:
    def __init__(self, *waits: timedelta) -> None:
        self.waits = list(waits)
        self.asked: list[int] = []

    async def acquire(self, sender: str, *, units: int) -> timedelta:
        assert sender == "me"
        self.asked.append(units)
        return self.waits.pop(0) if self.waits else timedelta(0)


class FakeGmail:
    """Answers any call and remembers which."""

    endpoints = Endpoints("https://gmail.googleapis.com/")

    def __init__(self) -> None:
        self.made: list[Call] = []

    async def authenticate(self, sender: str, **_: object) -> Mailbox:
        """Asked before every call, and free while it is known whose mailbox it is."""
        return Mailbox(sender, "draft", can_read_metadata=True, scopes=())

    async def call(self, request: GmailRequest) -> Reply:
        assert request.sender == "me"
        self.made.append(request.call)
        return Accepted(id="made")


def limited(limits: Limits, gmail: FakeGmail, clock: Ticking | None = None) -> RateLimitedGmail:
    return RateLimitedGmail(cast("Gmail", gmail), cast("RateLimits", limits), 30 * SECOND, clock or Ticking())


@pytest.mark.parametrize(
    "name, given, call, units",
    [
        ("get_draft", {"draft_id": "d"}, Call.DRAFTS_GET, 20),
        ("get_draft_headers", {"draft_id": "d"}, Call.DRAFTS_GET, 20),
        ("delete_draft", {"draft_id": "d"}, Call.DRAFTS_DELETE, 10),
        ("list_drafts", {}, Call.DRAFTS_LIST, 5),
        ("list_sent", {}, Call.MESSAGES_LIST, 5),
        ("get_message", {"message_id": "m"}, Call.MESSAGES_GET, 20),
        ("get_thread", {"thread_id": "t"}, Call.THREADS_GET, 40),
    ],
)
async def test_each_call_costs_its_units_once(name: str, given: dict[str, object], call: Call, units: int) -> None:
    limits, gmail = Limits(), FakeGmail()
    assert await getattr(limited(limits, gmail), name)("me", **given) == Accepted(id="made")
    assert (limits.asked, gmail.made) == ([units], [call])


async def test_a_call_waits_for_its_units_and_is_then_made() -> None:
    limits, gmail, clock = Limits(10 * SECOND, 5 * SECOND), FakeGmail(), Ticking()
    call = asyncio.create_task(limited(limits, gmail, clock).get_draft("me", draft_id="d"))
    for seconds, asked in ((0, 1), (10, 2), (5, 3)):
        await clock.move(seconds)
        assert len(limits.asked) == asked
    assert await call == Accepted(id="made")


async def test_a_call_that_would_wait_too_long_is_not_made() -> None:
    gmail = FakeGmail()
    reply = await limited(Limits(31 * SECOND), gmail).get_draft("me", draft_id="d")
    assert isinstance(reply, NotSent)
    assert gmail.made == []
