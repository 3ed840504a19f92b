"""The path of a message, where no daemon is needed to walk it: what an answer says about the road to Google."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from mailerd.core.claims import Claim, WriteResult
from mailerd.core.decisions import RetryPolicy
from mailerd.core.replies import (
    Accepted,
    MalformedResponse,
    NoCredentials,
    NoResponse,
    NotSent,
    Refused,
    Reply,
    TokenRefused,
)
from mailerd.events.worker import RunnerEvents
from mailerd.gmail import Mailbox, MessageSemaphore
from mailerd.heartbeat import Heartbeats
from mailerd.store.queue.recovery import RecoveryQueries
from mailerd.worker.delivery import Delivery
from mailerd.worker.delivery_log import DeliveryLog, JobProgress, PauseLog
from mailerd.worker.in_flight import CircuitBreaker, InFlight
from tests.support.heard import Heard
from tests.support.ticking import Ticking
from tests.worker.test_in_flight import Store, message

SECOND = timedelta(seconds=1)


class Google:
    """Gives one answer to every message, and to every sign-in if it is told to."""

    def __init__(self, answer: Reply, *, at_sign_in: bool) -> None:
        self.answer, self.at_sign_in = answer, at_sign_in
        self.drafts = 0

    async def authenticate(self, sender: str) -> Mailbox | Reply:
        return self.answer if self.at_sign_in else Mailbox(sender, "draft", can_read_metadata=False, scopes=())

    async def create_draft(self, _: str, **__: object) -> Reply:
        self.drafts += 1
        return self.answer


class MessageBuilder:
    """Makes every message at once."""

    def __init__(self) -> None:
        self.built = asyncio.Event()

    async def build(self, _: object, **__: object) -> bytes:
        self.built.set()
        return b"message"


class Recorder:
    """Takes every record."""

    async def record(self, _: object) -> WriteResult:
        return WriteResult.STALE  # so that a draft is not sent


async def names_after(answer: Reply, *, at_sign_in: bool = False) -> list[str]:
    """What is said of the road when it was closed and then a message got that answer."""
    heard = Heard()
    delivery = delivery_to(Google(answer, at_sign_in=at_sign_in), MessageBuilder(), heard)
    delivery.breaker.failure("no route")
    delivery.semaphore.add([message(1)])
    await delivery.deliver(message(1))
    assert delivery.breaker.is_open == ("google_back" not in heard.names())
    return [name for name in heard.names() if name.startswith("google_")]


def delivery_to(google: Google, builder: MessageBuilder, heard: Heard) -> Delivery:
    """What delivers the message 1, one message at Google at a time."""
    clock = Ticking()
    events = RunnerEvents(heard)
    in_flight = InFlight(
        cast("RecoveryQueries", Store()), lease=timedelta(seconds=100), clock=clock, events=events,
        heartbeats=Heartbeats(),
    )  # fmt: skip
    in_flight.add(Claim("T", (message(1),), ()), asked_at=clock.monotonic())
    parts: Any = {"gmail": google, "limited_gmail": google, "builder": builder, "recorder": Recorder()}
    return Delivery(
        **parts, semaphore=MessageSemaphore(1), in_flight=in_flight, breaker=CircuitBreaker(clock=clock, events=events),
        log=DeliveryLog(events, PauseLog(clock=clock, events=events), JobProgress()),
        policy=RetryPolicy(max_attempts=5, base=SECOND, cap=SECOND, late_arrival=SECOND),
        request_timeout=30.0, clock=clock, events=events,
    )  # fmt: skip


@pytest.mark.parametrize(
    "answer", [Accepted("d1"), Refused(503), Refused(429, "rateLimitExceeded"), MalformedResponse(200, "?")]
)
async def test_google_is_back_when_it_has_answered(answer: Reply) -> None:
    assert await names_after(answer) == ["google_unreachable", "google_back"]


async def test_google_is_back_when_it_has_refused_a_sign_in() -> None:
    assert await names_after(TokenRefused(400, "invalid_grant"), at_sign_in=True) == [
        "google_unreachable",
        "google_back",
    ]


@pytest.mark.parametrize("answer", [NoResponse("no answer within 30 s"), NotSent("no route")])
async def test_google_is_not_back_while_nobody_answers(answer: Reply) -> None:
    assert await names_after(answer) == ["google_unreachable"]


async def test_google_is_not_back_because_nobody_was_asked() -> None:
    assert await names_after(NoCredentials("there is no file"), at_sign_in=True) == ["google_unreachable"]


async def test_a_message_is_made_while_it_waits_for_its_slot_and_starts_when_it_has_it() -> None:
    google, builder, heard = Google(Refused(503), at_sign_in=False), MessageBuilder(), Heard()
    delivery = delivery_to(google, builder, heard)
    delivery.semaphore.add([message(1), message(2)])
    async with asyncio.timeout(30):
        async with delivery.semaphore.slot(message(2)):
            delivering = asyncio.create_task(delivery.deliver(message(1)))
            await builder.built.wait()
            await asyncio.sleep(0)
            assert (google.drafts, heard.of("message_started")) == (0, [])
        await delivering
    assert (google.drafts, len(heard.of("message_started"))) == (1, 1)


class SlowRecorder(Recorder):
    """Takes a record when the test lets it."""

    def __init__(self) -> None:
        self.asked, self.free = asyncio.Event(), asyncio.Event()

    async def record(self, one: object) -> WriteResult:
        self.asked.set()
        await self.free.wait()
        return await super().record(one)


async def test_a_draft_whose_id_is_being_written_holds_no_slot() -> None:
    google, recorder = Google(Accepted("d1"), at_sign_in=False), SlowRecorder()
    delivery = replace(delivery_to(google, MessageBuilder(), Heard()), recorder=cast("Any", recorder))
    delivery.semaphore.add([message(1), message(2)])
    async with asyncio.timeout(30):
        delivering = asyncio.create_task(delivery.deliver(message(1)))
        await recorder.asked.wait()
        async with delivery.semaphore.slot(message(2)):
            recorder.free.set()
            await asyncio.sleep(0)
            assert not delivering.done(), "it waits until it has a slot again"
        await delivering
    assert google.drafts == 1
