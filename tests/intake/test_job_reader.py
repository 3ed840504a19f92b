"""The process that reads jobs: it may end at any moment, and the job is read whole, each recipient once."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from mailerd.intake import job_reader
from mailerd.intake.job_reader import JobReader, JobReading
from mailerd.intake.parse_job import ParsedJob, parse_job
from tests.intake.site import job
from tests.support.heard import Heard
from tests.support.rendering import reading

LINKED = {"subject": "s", "text": "{{ name }}"}
BOMB = "{% if bomb %}{% set t = (1, 1) %}" + "{% set t = (t, t) %}" * 40 + "{{ {}[t] is defined }}{% endif %}x"
HUNGRY = "{% if bomb %}{% set t = ('x' * 1000000,) * 10 %}{{ (t|join * 24)|length }}{% endif %}x"


def people(count: int, **others: Any) -> list[dict[str, Any]]:
    return [
        {"email": f"a{n}@example.com", "name": f"N {n}", "variables": {"n": n, "bomb": 0, **others}}
        for n in range(count)
    ]


async def read(reader: JobReader, body: dict[str, Any], *, origin: str = "test") -> ParsedJob:
    return await parse_job(
        json.dumps(body).encode(), key=None, now=datetime.now(UTC), max_recipients=100_000, reader=reader, origin=origin
    )


def in_turn(monkeypatch: pytest.MonkeyPatch, do: Callable[[JobReading, int], None]) -> None:
    """Let something happen after each turn, which is told its number."""
    turn, count = JobReading._turn, 0

    async def and_do(it: JobReading) -> dict[str, Any]:
        nonlocal count
        answer = await turn(it)
        do(it, count := count + 1)
        return answer

    monkeypatch.setattr(JobReading, "_turn", and_do)


@pytest.mark.parametrize("large", [False, True])
async def test_a_job_whose_process_ends_is_read_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch, *, large: bool
) -> None:
    def kill(it: JobReading, turn: int) -> None:
        if turn == 2 and it._child:
            os.kill(it._child.pid, signal.SIGKILL)

    in_turn(monkeypatch, kill)
    heard = Heard()
    async with reading(heard) as reader:
        body = job(*people(3_000, filler="x" * (1_000 if large else 10)), template=LINKED)
        parsed = await read(reader, body)
    assert [each.email for each in parsed.job.recipients] == [each["email"] for each in body["recipients"]]
    assert [json.loads(each.variables or "")["n"] for each in parsed.job.recipients] == list(range(3_000))
    assert parsed.accepted == 3_000
    assert len(heard.of("renderer_ended")) == 1


async def test_two_small_jobs_share_a_process_and_a_large_one_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pids = list[int]()
    in_turn(monkeypatch, lambda it, _: pids.append(it._child.pid if it._child else 0))
    async with reading() as reader:
        for size in (10, 10, 1_200_000):
            await read(reader, job(*people(1, filler="x" * size), template=LINKED))
        assert reader.shared.pid == pids[0] == pids[1] != pids[-1]
        assert not reader.live


@pytest.mark.parametrize("template", [BOMB, HUNGRY], ids=["time", "memory"])
async def test_a_message_that_ends_the_process_is_the_only_one_that_is_blamed(template: str) -> None:
    recipients = people(40)
    recipients[17]["variables"]["bomb"] = 1
    async with reading() as reader:
        parsed = await read(reader, job(*recipients, template={"subject": "s", "text": template}, on_invalid="skip"))
    assert [each.index for each in parsed.rejected] == [17]
    assert "the template takes too" in parsed.rejected[0].reason


async def test_a_message_has_its_own_memory_however_large_the_body_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the check lets pass the sending makes: it has no more memory for a message of a large job."""
    monkeypatch.setattr(job_reader, "MEMORY_PER_BYTE", 1_000)
    recipients = people(3, filler="x" * 500_000)
    recipients[1]["variables"]["bomb"] = 1
    async with reading() as reader:
        parsed = await read(reader, job(*recipients, template={"subject": "s", "text": HUNGRY}, on_invalid="skip"))
    assert [each.index for each in parsed.rejected] == [1]
    assert "takes too much memory" in parsed.rejected[0].reason


async def test_a_bug_in_the_process_is_no_fault_of_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_reader, "_CHILD", "tests.intake.broken_reader")
    async with reading() as reader:
        with pytest.raises(RuntimeError, match="broke the renderer"):
            await read(reader, job())


@pytest.mark.parametrize("where", ["job", "recipient"])
async def test_a_text_that_takes_the_whole_body_is_read_however_it_is_escaped(where: str) -> None:
    text = '"\x01' * 4_000_000
    mine = {"text": text} if where == "recipient" else {}
    async with reading() as reader:
        parsed = await read(
            reader,
            job(*people(1, **mine), variables={"text": text}, template={"subject": "s", "text": "{{ text|length }}"}),
        )
    told = parsed.job.variables if where == "job" else parsed.job.recipients[0].variables or ""
    assert json.loads(told)["text"] == text


async def test_of_many_bodies_of_one_key_one_at_a_time_stands_before_those_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order = list[str]()
    in_turn(monkeypatch, lambda it, _: order.append(it._origin))
    async with reading(Heard()) as reader, reader.shared.lock:
        async with asyncio.TaskGroup() as bodies:
            for origin in ("busy", "busy", "busy", "busy", "other"):
                bodies.create_task(read(reader, job(*people(1), template=LINKED), origin=origin))
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            reader.shared.lock.release()
        await reader.shared.lock.acquire()
    assert order.index("other") <= 1
