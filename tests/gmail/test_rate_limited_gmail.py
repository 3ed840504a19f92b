"""A call beside the letters is made once its units are granted, waits for them up to a bound, and is else not made."""

import asyncio
from datetime import timedelta
from typing import cast

import pytest

from mailerd.core.replies import Accepted, NotSent, Reply
from mailerd.gmail import Gmail, Mailbox
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

    def __init__(self) -> None:
        self.made: list[str] = []

    async def authenticate(self, sender: str, **_: object) -> Mailbox:
        """Asked before every call, and free while it is known whose mailbox it is."""
        return Mailbox(sender, "draft", can_read_metadata=True, scopes=())

    def __getattr__(self, name: str) -> object:
        async def call(sender: str, **_: object) -> Reply:
            assert sender == "me"
            self.made.append(name)
            return Accepted(id=name)

        return call


def limited(limits: Limits, gmail: FakeGmail, clock: Ticking | None = None) -> RateLimitedGmail:
    return RateLimitedGmail(cast("Gmail", gmail), cast("RateLimits", limits), 30 * SECOND, clock or Ticking())


@pytest.mark.parametrize(
    "name, given, units",
    [
        ("get_draft", {"draft_id": "d"}, [20]),
        ("get_draft_headers", {"draft_id": "d"}, [20]),
        ("delete_draft", {"draft_id": "d"}, [10]),
        ("list_drafts", {}, [5]),
        ("list_sent", {}, [5]),
        ("get_message", {"message_id": "m"}, [20]),
        ("get_thread", {"thread_id": "t"}, [40]),
    ],
)
async def test_each_call_costs_its_units_once(name: str, given: dict[str, object], units: list[int]) -> None:
    limits, gmail = Limits(), FakeGmail()
    assert await getattr(limited(limits, gmail), name)("me", **given) == Accepted(id=name)
    assert (limits.asked, gmail.made) == (units, [name])


async def test_a_call_waits_for_its_units_and_is_then_made() -> None:
    limits, gmail, clock = Limits(10 * SECOND, 5 * SECOND), FakeGmail(), Ticking()
    call = asyncio.create_task(limited(limits, gmail, clock).get_draft("me", draft_id="d"))
    for seconds, asked in ((0, 1), (10, 2), (5, 3)):
        await clock.move(seconds)
        assert len(limits.asked) == asked
    assert await call == Accepted(id="get_draft")


async def test_a_call_that_would_wait_too_long_is_not_made() -> None:
    gmail = FakeGmail()
    reply = await limited(Limits(31 * SECOND), gmail).get_draft("me", draft_id="d")
    assert isinstance(reply, NotSent)
    assert gmail.made == []
