"""A check that does not end in time: a template that costs too much is refused, a machine that is busy says so."""

import asyncio
import json
import os
import signal
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from mailerd.http.errors import ApiError
from mailerd.intake.check_time import CheckTime
from mailerd.intake.job_reader import JobReading
from mailerd.mail.renderer import CpuTime
from mailerd.mail.templates import RecipientData, RendererError, Source, Template
from tests.intake.site import Site, job
from tests.support.rendering import reading, rendering

_COSTLY = Template(Source("s", "{% for a in range(90000) %}{% if a % 90001 == 90000 %}x{% endif %}{% endfor %}", None))
"""Some hundredths of a second of CPU a message."""


def _people(count: int) -> list[dict[str, object]]:
    return [{"email": f"a{n}@example.com", "variables": {"name": "Ada", "product": "X"}} for n in range(count)]


@pytest.mark.parametrize("used, code", [(20.0, 422), (0.1, 503)], ids=["by the template", "by others"])
async def test_whose_fault_it_is_goes_by_the_cpu_that_the_messages_took(
    monkeypatch: pytest.MonkeyPatch, used: float, code: int
) -> None:
    cpu = CpuTime(1_000.0)
    within = CheckTime(30.0, cpu=lambda: cpu.seconds, total=7)
    within.require(0)
    later = time.monotonic() + 31.0
    monkeypatch.setattr("mailerd.intake.check_time.time.monotonic", lambda: later)
    cpu.seconds += used
    with pytest.raises(ApiError if code == 422 else RendererError, match="only 3 of 7 recipients were checked in 30 s"):
        within.require(3)
    never = asyncio.Event()
    with pytest.raises(ApiError if code == 422 else RendererError, match="only 3 of 7 recipients were checked in 30 s"):
        await within.wait_for(never.wait(), done=3)
    monkeypatch.undo()


async def test_the_cpu_of_messages_is_counted() -> None:
    cpu = CpuTime()
    async with rendering() as renderer:
        people = [RecipientData("a@example.com", "Ada", None)]
        await renderer.render(_COSTLY, people * 20, origin="the test", content=False, cpu=cpu)
        once = cpu.seconds
        await renderer.render(_COSTLY, people * 60, origin="the test", content=False, cpu=cpu)
    assert cpu.seconds > 2 * once > 0.02


async def test_the_cpu_of_reading_is_counted_with_the_messages_that_are_rendered_on_the_way() -> None:
    used = list[float]()
    for template in (
        {"subject": "s", "text": "x"},
        {"subject": "s", "text": (_COSTLY.default.html or "").replace("90000)", "30000)")},
    ):
        async with reading() as reader:
            body = json.dumps(job(*_people(20), template=template)).encode()
            async with reader.reading(body, now=datetime.now(UTC), origin="the test", link="") as it:
                await it.head()
                assert [rows async for rows in it.rows()]
                assert it.rendered
                used.append(it.cpu)
    assert used[1] > used[0] + 0.03


@pytest.mark.parametrize("limit", ["parse_job.CHECK", "create_job.DRY_RUN"])
async def test_both_checks_end_in_time(site: Site, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(f"mailerd.intake.{limit}_TIMEOUT", 0.0)
    status, answer = await site.post(job(*_people(400), dry_run=limit.startswith("create_job")))

    assert (status, answer["error"]["code"]) == (422, "too_costly")
    assert "nothing was stored. Simplify the template or split the job" in answer["error"]["message"]
    assert await site.stored() == (0, 0)


async def test_of_a_job_that_is_refused_nothing_more_is_rendered(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its next messages were asked for already, and the key's next post waited for them."""
    monkeypatch.setattr("mailerd.intake.parse_job.CHECK_TIMEOUT", 240.0)  # its CPU is what refuses it
    monkeypatch.setattr("mailerd.mail.cage.ANSWER_TIMEOUT", 120.0)
    bomb = {"subject": "s", "html": "{% set t = (1, 1) %}" + "{% set t = (t, t) %}" * 40 + "{{ {}[t] is defined }}"}
    status, answer = await site.post(job(*_people(400), template=bomb))
    assert (status, answer["error"]["code"]) == (422, "too_costly")
    ended = len(site.heard.of("renderer_ended"))
    assert (await site.post(job()))[0] == 200
    assert len(site.heard.of("renderer_ended")) <= ended + 2, "those of the turn that was under way"


async def test_a_check_that_got_no_cpu_is_a_503_and_the_same_post_goes_through_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, head, stopped, turn = job(*_people(3_000)), {"Idempotency-Key": "once"}, list[int](), JobReading._turn

    async def and_stand_still(it: JobReading) -> dict[str, Any]:
        answer = await turn(it)
        if not stopped and it._child:
            stopped.append(it._child.pid)
            os.kill(stopped[0], signal.SIGSTOP)
        return answer

    with monkeypatch.context() as hurried:
        hurried.setattr("mailerd.intake.parse_job.CHECK_TIMEOUT", 2.0)
        hurried.setattr(JobReading, "_turn", and_stand_still)
        hurried.setattr("mailerd.mail.cage.ANSWER_TIMEOUT", 3.0)
        path = f"{site.url}/api/jobs/send_template_emails"
        async with site.client.post(path, json=body, headers=head) as response:
            status, answer, retry_after = response.status, await response.json(), response.headers.get("Retry-After")
    with suppress(ProcessLookupError):
        os.kill(stopped[0], signal.SIGCONT)

    assert (status, answer["error"]["code"]) == (503, "renderer_unavailable")
    assert "of 3,000 recipients were checked" in answer["error"]["message"]
    assert "used the CPU; nothing was stored" in answer["error"]["message"]
    assert retry_after is not None
    assert await site.stored() == (0, 0)
    async with asyncio.timeout(30):
        status, answer = await site.post(body, headers=head)
    assert (status, answer["accepted"]) == (200, 3_000)
