"""The path of a letter, where no daemon is needed to walk it: what an answer says about the road to Google."""

from datetime import timedelta
from typing import Any

import pytest

from mailerd.core.decisions import Policy
from mailerd.core.models import Claim, Written
from mailerd.core.replies import Accepted, Garbled, Lost, NoCredentials, Refused, Reply, TokenRefused, Unreachable
from mailerd.events.worker import RunnerEvents
from mailerd.gmail import Mailbox
from mailerd.worker.circuit_breaker import Reach
from mailerd.worker.concurrency import Slots
from mailerd.worker.delivery import Path
from mailerd.worker.in_flight import Hand
from mailerd.worker.pause_log import Holds
from mailerd.worker.progress import Progress
from tests.support.heard import Heard
from tests.support.ticking import Ticking
from tests.worker.test_in_flight import Store, letter

SECOND = timedelta(seconds=1)


class Google:
    """Gives one answer to every letter, and to every sign-in if it is told to."""

    def __init__(self, answer: Reply, *, at_sign_in: bool) -> None:
        self.answer, self.at_sign_in = answer, at_sign_in

    async def authenticate(self, sender: str) -> Mailbox | Reply:
        return self.answer if self.at_sign_in else Mailbox(sender, "draft", can_read_metadata=False, scopes=())

    async def create_draft(self, _: str, **__: object) -> Reply:
        return self.answer


class Workshop:
    """Makes every letter at once."""

    def room_for(self, _: object) -> "Workshop":
        return self

    async def __aenter__(self) -> None:
        """There is room."""

    async def __aexit__(self, *_: object) -> None:
        """There was."""

    async def make(self, _: object) -> bytes:
        return b"letter"

    def is_slow(self, _: object) -> bool:
        return False


class Recorder:
    """Takes every record."""

    async def record(self, _: object) -> Written:
        return Written.FENCED_OFF  # so that a draft is not sent


async def names_after(answer: Reply, *, at_sign_in: bool = False) -> list[str]:
    """What is said of the road when it was closed and then a letter got that answer."""
    clock, heard = Ticking(), Heard()
    events = RunnerEvents(heard)
    reach = Reach(clock=clock, events=events)
    hand = Hand(Store(), lease=timedelta(seconds=100), clock=clock, events=events)
    hand.take(Claim("T", (letter(1),), ()), asked_at=clock.monotonic())
    parts: Any = {"google": Google(answer, at_sign_in=at_sign_in), "workshop": Workshop(), "recorder": Recorder()}
    path = Path(
        **parts, slots=Slots(1), hand=hand, reach=reach, holds=Holds(clock=clock, events=events),
        progress=Progress(), policy=Policy(max_attempts=5, base=SECOND, cap=SECOND, in_flight=SECOND),
        request_timeout=30.0, clock=clock, events=events,
    )  # fmt: skip
    reach.lost("no route")
    path.slots.claimed([letter(1)])
    await path.deliver(letter(1))
    assert reach.closed == ("google_back" not in heard.names())
    return [name for name in heard.names() if name.startswith("google_")]


@pytest.mark.parametrize("answer", [Accepted("d1"), Refused(503), Refused(429, "rateLimitExceeded"), Garbled(200, "?")])
async def test_google_is_back_when_it_has_answered(answer: Reply) -> None:
    assert await names_after(answer) == ["google_away", "google_back"]


async def test_google_is_back_when_it_has_refused_a_sign_in() -> None:
    assert await names_after(TokenRefused(400, "invalid_grant"), at_sign_in=True) == ["google_away", "google_back"]


@pytest.mark.parametrize("answer", [Lost("no answer within 30 s"), Unreachable("no route")])
async def test_google_is_not_back_while_nobody_answers(answer: Reply) -> None:
    assert await names_after(answer) == ["google_away"]


async def test_google_is_not_back_because_nobody_was_asked() -> None:
    assert await names_after(NoCredentials("there is no file"), at_sign_in=True) == ["google_away"]
