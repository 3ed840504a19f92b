"""Google at the sender's pace: a look is made once it is granted, waits as long as it is patient, else is not made."""

import asyncio
from datetime import timedelta

import pytest

from mailerd.core.replies import Accepted, NotSent, Reply
from mailerd.gmail import Mailbox
from mailerd.worker.rate_limiter import Paced
from tests.support.ticking import Ticking

SECOND = timedelta(seconds=1)


class Ledger:
    def __init__(self, *waits: timedelta) -> None:
        self.waits = list(waits)
        self.asked: list[int] = []

    async def acquire(self, sender: str, *, units: int) -> timedelta:
        assert sender == "me"
        self.asked.append(units)
        return self.waits.pop(0) if self.waits else timedelta(0)


class Door:
    """Answers any call and remembers which."""

    def __init__(self) -> None:
        self.made: list[str] = []

    async def authenticate(self, sender: str, **_: object) -> Mailbox:
        """Asked before every look, and free while it is known whose mailbox it is."""
        return Mailbox(sender, "draft", can_read_metadata=True, scopes=())

    def __getattr__(self, name: str) -> object:
        async def call(sender: str, **_: object) -> Reply:
            assert sender == "me"
            self.made.append(name)
            return Accepted(id=name)

        return call


def paced(ledger: Ledger, door: Door, clock: Ticking | None = None) -> Paced:
    return Paced(door, ledger, 30 * SECOND, clock or Ticking())  # type: ignore[arg-type]  # it answers to every name


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
        ("create_draft", {"raw": b""}, []),
        ("send_draft", {"draft_id": "d"}, []),
        ("send_message", {"raw": b""}, []),
    ],
)
async def test_each_call_is_paid_once_by_its_look_or_by_the_claim(
    name: str, given: dict[str, object], units: list[int]
) -> None:
    ledger, door = Ledger(), Door()
    assert await getattr(paced(ledger, door), name)("me", **given) == Accepted(id=name)
    assert (ledger.asked, door.made) == (units, [name])


async def test_a_look_waits_for_its_turn_and_is_then_made() -> None:
    ledger, door, clock = Ledger(10 * SECOND, 5 * SECOND), Door(), Ticking()
    look = asyncio.create_task(paced(ledger, door, clock).get_draft("me", draft_id="d"))
    for seconds, asked in ((0, 1), (10, 2), (5, 3)):
        await clock.move(seconds)
        assert len(ledger.asked) == asked
    assert await look == Accepted(id="get_draft")


async def test_a_look_that_would_wait_too_long_is_not_made() -> None:
    door = Door()
    reply = await paced(Ledger(31 * SECOND), door).get_draft("me", draft_id="d")
    assert isinstance(reply, NotSent)
    assert door.made == []
