"""The workshop reads a job once, however many of its messages start together."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from mailerd.clock import Clock
from mailerd.config import DatabaseSettings
from mailerd.core.claims import ClaimedRecipient
from mailerd.events.process import StoreEvents
from mailerd.mail.renderer import RenderBatches, Rendered
from mailerd.mail.templates import RecipientData, Template
from mailerd.store.db.database import Database
from mailerd.store.queue.job_content import JobContent
from mailerd.store.write.new_jobs import StoredAttachment
from mailerd.worker import message_builder
from mailerd.worker.message_builder import (
    LARGE_BYTES,
    MAX_LARGE,
    AttachmentCache,
    MessageBuilder,
    UnsubscribeLinks,
)
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.rendering import rendering

CONTENTS = JobContent(
    from_email="me@example.com", sender_name=None, reply_to=None, subject="Hello {{ name }}", html=None,
    text="Dear {{ name }}", variables="{}",
)  # fmt: skip

Read = Callable[[Database, str], Awaitable[JobContent]]


async def built(it: MessageBuilder, message: ClaimedRecipient) -> bytes:
    async with AsyncExitStack() as room:
        return await it.build(message, room=room)


def message(id_: int) -> ClaimedRecipient:
    return ClaimedRecipient(
        id=id_, job_id="J", seq=id_, sender="me@example.com", to_email="r@example.org", to_name="Ada", variables=None,
        attempt=1, token="T",
    )  # fmt: skip


@asynccontextmanager
async def a_workshop(monkeypatch: pytest.MonkeyPatch, read: Read) -> AsyncIterator[MessageBuilder]:
    monkeypatch.setattr(message_builder, "job_content", read)
    unasked = Database(DatabaseSettings(url="mysql://mailerd@127.0.0.1:1/mailerd"), events=StoreEvents(Heard()))
    links = UnsubscribeLinks(unasked, base_url="", clock=Clock())
    async with rendering() as it:
        yield MessageBuilder(unasked, renderer=it, clock=Clock(), links=links)  # `read` has the job


async def test_messages_that_start_together_read_their_job_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def read(_: Database, job: str) -> JobContent:
        asked.append(job)
        await asyncio.sleep(0)
        return CONTENTS

    async with a_workshop(monkeypatch, read) as it:
        made = await asyncio.gather(*(built(it, message(n)) for n in range(5)))
        assert asked == ["J"]
        assert all(b"Dear Ada" in each for each in made)


async def test_a_reading_that_failed_fails_for_all_and_is_tried_again_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    async def read(_: Database, job: str) -> JobContent:
        asked.append(job)
        await asyncio.sleep(0)
        if len(asked) == 1:
            raise ConnectionError("away")
        return CONTENTS

    async with a_workshop(monkeypatch, read) as it:
        made = await asyncio.gather(*(built(it, message(n)) for n in range(3)), return_exceptions=True)
        assert [type(each) for each in made] == [ConnectionError] * 3
        assert b"Dear Ada" in await built(it, message(4))
        assert len(asked) == 2


async def test_a_message_that_is_cut_off_does_not_take_the_others_reading_away(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = asyncio.Event()

    async def read(_: Database, __: str) -> JobContent:
        await go_on.wait()
        return CONTENTS

    async with a_workshop(monkeypatch, read) as it:
        first, second, third = (asyncio.create_task(built(it, message(n))) for n in range(3))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait({second})
        go_on.set()
        assert b"Dear Ada" in await first
        assert b"Dear Ada" in await third


async def test_small_messages_of_a_job_that_nobody_has_read_yet_do_not_wait_for_one_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They did, two at a time, until the first claim of each job was through: its attachments were not known yet."""

    async def read(_: Database, __: str) -> JobContent:
        await asyncio.sleep(0)
        return CONTENTS

    async with a_workshop(monkeypatch, read) as it:
        everybody = asyncio.Barrier(5)

        async def hand_in(number: int) -> None:
            async with AsyncExitStack() as room:
                await it.build(message(number), room=room)
                await everybody.wait()

        async with asyncio.timeout(60):
            await asyncio.gather(*(hand_in(number) for number in range(5)))


@pytest.mark.parametrize("messages_before", [0, 1])
async def test_large_messages_go_two_at_a_time_from_the_first_on_and_later(
    messages_before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_workshop(monkeypatch, _read_large) as it:
        for number in range(messages_before):
            await built(it, message(number))
        inside, most = 0, 0

        async def hand_in(number: int) -> None:
            nonlocal inside, most
            async with AsyncExitStack() as room:
                await it.build(message(number), room=room)
                inside += 1
                most = max(most, inside)
                for _ in range(5):
                    await asyncio.sleep(0)
                inside -= 1

        await asyncio.gather(*(hand_in(number) for number in range(6)))
        assert most == MAX_LARGE


async def test_large_messages_that_are_being_rendered_hold_no_slot_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of one tenant, whose templates are slow, kept everybody's large messages waiting."""
    render = RenderBatches.render

    async def stuck(it: RenderBatches, template: Template, recipient: RecipientData, **how: Any) -> Rendered:
        if how["origin"] == "slow@example.com":
            await asyncio.Event().wait()
        return await render(it, template, recipient, **how)

    monkeypatch.setattr(RenderBatches, "render", stuck)
    async with a_workshop(monkeypatch, _read_large) as it, asyncio.timeout(60):
        slow = [
            asyncio.create_task(built(it, replace(message(n), sender="slow@example.com"))) for n in range(MAX_LARGE)
        ]
        await asyncio.sleep(0)
        assert b"Dear Ada" in await built(it, message(7))
        for each in slow:
            each.cancel()


async def _read_large(_: Database, __: str) -> JobContent:
    await asyncio.sleep(0)
    return replace(CONTENTS, attached_bytes=LARGE_BYTES)


async def test_jobs_with_large_variables_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_builder, "_MAX_CACHED_SIZE", 3_500, raising=False)
    asked = []

    async def read(_: Database, job: str) -> JobContent:
        asked.append(job)
        return replace(CONTENTS, variables='{"pad": "%s"}' % ("x" * 4_000 if job == "huge" else "x" * 1_000))

    async with a_workshop(monkeypatch, read) as it:
        for job in ("A", "B", "B", "C", "A", "huge", "huge", "A"):
            assert b"Dear Ada" in await built(it, replace(message(1), job_id=job))
    assert asked == ["A", "B", "C", "A", "huge", "A"], "two of 1,400 bytes fit, and a larger one is alone"


async def test_attachments_leave_the_memory_some_time_after_the_last_message_with_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(message_builder, "KEPT_FOR", 0.2)
    asked = []

    async def stored(_: Database, job: str, *, recipient: int | None) -> list[StoredAttachment]:
        asked.append((job, recipient))
        return [StoredAttachment("a.bin", "application/octet-stream", b"x" * 1000, b"digest")]

    monkeypatch.setattr(message_builder, "attachments", stored)
    it = AttachmentCache(Database(DatabaseSettings(), events=StoreEvents(Heard())))
    for job in ("A", "B", "A"):
        await it.of(job, seq=0, count=1)
    assert asked == [("A", None), ("B", None)]
    assert it._bytes > 2000

    async def is_empty() -> bool:
        return it._bytes == 0 and not it._kept and not it._used

    await eventually(is_empty)
    await it.of("A", seq=0, count=1)
    assert asked[2:] == [("A", None)]
