"""A check that does not end in time: a template that costs too much is refused, a machine that is busy says so."""

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress

import pytest

from mailerd.http.errors import ApiError
from mailerd.intake.parse_job import CheckTime
from mailerd.mail.renderer import Rendered, ThreadRenderer
from mailerd.mail.templates import RecipientData, RendererError, Source, Template
from tests.intake.site import Site, job
from tests.support.rendering import rendering

_COSTLY = Template(Source("s", "{% for a in range(90000) %}{% if a % 90001 == 90000 %}x{% endif %}{% endfor %}", None))
"""Some hundredths of a second of CPU a letter."""


def _people(count: int) -> list[dict[str, object]]:
    return [{"email": f"a{n}@example.com", "variables": {"name": "Ada", "product": "X"}} for n in range(count)]


@pytest.mark.parametrize("used, code", [(20.0, 422), (0.1, 503)], ids=["by the template", "by others"])
async def test_whose_fault_it_is_goes_by_the_cpu_that_the_letters_took(
    monkeypatch: pytest.MonkeyPatch, used: float, code: int
) -> None:
    async with rendering() as renderer:
        renderer.cpu.seconds = 1_000.0
        within = CheckTime(30.0, renderer, total=7)
        within.require(0)
        later = time.monotonic() + 31.0
        monkeypatch.setattr("mailerd.intake.parse_job.time.monotonic", lambda: later)
        renderer.cpu.seconds += used
        with pytest.raises(ApiError if code == 422 else RendererError, match="after 30 s only 3 of 7 recipients"):
            within.require(3)
        never = Future[list[Rendered]]()
        with pytest.raises(ApiError if code == 422 else RendererError, match="after 30 s only 3 of 7 recipients"):
            within.wait_for(never, done=3)
        assert never.cancelled()
        monkeypatch.undo()


async def test_the_cpu_of_letters_is_counted() -> None:
    async with rendering() as renderer:
        assert renderer.cpu.seconds == 0.0
        await asyncio.to_thread(
            lambda: renderer.start(_COSTLY, [RecipientData("a@example.com", "Ada", None)] * 20, content=False).result()
        )
        once = renderer.cpu.seconds
        await asyncio.to_thread(
            lambda: renderer.start(_COSTLY, [RecipientData("a@example.com", "Ada", None)] * 60, content=False).result()
        )
        assert renderer.cpu.seconds > 2 * once > 0.02


@pytest.mark.parametrize("limit", ["parse_job.CHECK", "create_job.DRY_RUN"])
async def test_both_checks_end_in_time(site: Site, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(f"mailerd.intake.{limit}_TIMEOUT", 0.0)
    status, answer = await site.post(job(*_people(400), dry_run=limit.startswith("create_job")))

    assert (status, answer["error"]["code"]) == (422, "too_costly")
    assert "make the template simpler, or split the job; nothing was stored" in answer["error"]["message"]
    assert await site.stored() == (0, 0)


async def test_of_a_job_that_is_refused_nothing_more_is_rendered(site: Site) -> None:
    """Its next letters were asked for already, and the key's next post waited for them."""
    bomb = {"subject": "s", "html": "{% set t = (1, 1) %}" + "{% set t = (t, t) %}" * 40 + "{{ {}[t] is defined }}"}
    status, answer = await site.post(job(*_people(400), template=bomb))
    assert (status, answer["error"]["code"]) == (422, "too_costly")
    ended = len(site.heard.of("renderer_ended"))
    assert (await site.post(job()))[0] == 200
    assert len(site.heard.of("renderer_ended")) <= ended + 2, "those of the turn that was under way"


async def test_a_check_that_got_no_cpu_is_a_503_and_the_same_post_goes_through_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, head, stopped, compile_ = job(*_people(400)), {"Idempotency-Key": "once"}, list[int](), ThreadRenderer.compile

    def and_stand_still(renderer: ThreadRenderer, template: Template) -> Mapping[str, frozenset[str]]:
        names = compile_(renderer, template)
        stopped.append(renderer.renderer._worker.pid or 0)
        os.kill(stopped[0], signal.SIGSTOP)
        return names

    with monkeypatch.context() as hurried:
        hurried.setattr("mailerd.intake.parse_job.CHECK_TIMEOUT", 2.0)
        hurried.setattr(ThreadRenderer, "compile", and_stand_still)
        path = f"{site.url}/api/jobs/send_template_emails"
        async with site.client.post(path, json=body, headers=head) as response:
            status, answer, retry_after = response.status, await response.json(), response.headers.get("Retry-After")
    with suppress(ProcessLookupError):
        os.kill(stopped[0], signal.SIGCONT)

    assert (status, answer["error"]["code"]) == (503, "renderer_unavailable")
    assert "after 2 s only 0 of 400 recipients were checked" in answer["error"]["message"]
    assert "had the CPU; nothing was stored" in answer["error"]["message"]
    assert retry_after is not None
    assert await site.stored() == (0, 0)
    async with asyncio.timeout(30):
        status, answer = await site.post(body, headers=head)
    assert (status, answer["accepted"]) == (200, 400)
