"""A check that does not end in time: a template that costs too much is refused, a machine that is busy says so."""

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress

import pytest

from mailerd.mail.renderer import ThreadRenderer
from mailerd.mail.templates import Template
from tests.intake.site import Site, job

_COSTLY = "{% for a in range(90000) %}{% if a % 90001 == 90000 %}x{% endif %}{% endfor %}{{ name }}"
"""At least some hundredths of a second of CPU a letter."""


def _people(count: int) -> list[dict[str, object]]:
    return [{"email": f"a{n}@example.com", "variables": {"name": "Ada", "product": "X"}} for n in range(count)]


@pytest.mark.parametrize("limit", ["check_recipients.CHECK", "dry_run.DRY_RUN"])
async def test_a_template_that_costs_too_much_for_so_many_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    template, few = {"subject": "s", "html": _COSTLY}, _people(20)
    assert (await site.post(job(*few, template=template, dry_run=True)))[0] == 200, "it is slow, and no more"
    monkeypatch.setattr(f"mailerd.intake.{limit}_TIMEOUT", 0.2)
    status, answer = await site.post(job(*_people(400), template=template, dry_run=limit.startswith("dry_run")))

    assert (status, answer["error"]["code"]) == (422, "too_costly")
    assert "make the template simpler, or split the job; nothing was stored" in answer["error"]["message"]
    assert await site.stored() == (0, 0)


async def test_a_check_that_got_no_cpu_is_a_503_and_the_same_post_goes_through_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, head, stopped, compile_ = job(*_people(400)), {"Idempotency-Key": "once"}, list[int](), ThreadRenderer.compile

    def and_stand_still(renderer: ThreadRenderer, template: Template) -> Mapping[str, frozenset[str]]:
        names = compile_(renderer, template)
        stopped.append(renderer.renderer.pid or 0)
        os.kill(stopped[0], signal.SIGSTOP)
        return names

    with monkeypatch.context() as hurried:
        hurried.setattr("mailerd.intake.check_recipients.CHECK_TIMEOUT", 2.0)
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
