"""Templates under the daemon's own unit: the renderer's children work, are bounded, and their end is nobody else's."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp

from mailerd.intake.job_reader import READ_LIMITS
from mailerd.mail.renderer import SEND_LIMITS
from tests.systemd.machine import expect, finished, job, journal, order, pid, post, sh, show, step, until

_BOMB = "{% set t = (1, 1) %}" + "{% set t = (t, t) %}" * 40 + "{{ {}[t] is defined }}"
_PAGE = "{% for a in [1, 2] %}<p>{{ name|upper }} {{ a }}</p>{% endfor %}"


def templates(key: str) -> None:
    step("a template is rendered by a child that is bounded; one that never ends is refused")
    before = pid()
    code, said = _post(key, _PAGE, messages=3)
    expect(code == 200, "a job with a template is accepted")
    expect(until(lambda: finished(key, said["job_id"])), "and is completed")
    expect(job(key, said["job_id"])["counts"]["sent"] == 3, "with all its messages sent")
    memory = sorted(_bounds(int(child)) for child in _children(before))
    show(f"address space of the renderer's children: {memory}")
    expect(memory == sorted((READ_LIMITS.memory, SEND_LIMITS.memory)), "two children, each with its bounds in force")
    code, said = _post(key, _BOMB, messages=1)
    show(code, said)
    expect(code == 422 and "takes too long" in str(said), "a template that never ends is a 422 with its reason")
    expect(until(lambda: "renderer checking ended" in journal("MAILERD_EVENT=renderer_ended")), "which the log tells")
    expect(pid() == before, "the daemon is the same process")
    code, said = _post(key, _PAGE, messages=2)
    expect(code == 200 and until(lambda: finished(key, said["job_id"])), "and sends the next job")


def _post(key: str, html: str, *, messages: int) -> tuple[int, dict[str, Any]]:
    body = order(messages)
    body["template"] = {"subject": "Hello", "html": html}

    async def once() -> tuple[int, dict[str, Any]]:
        async with aiohttp.ClientSession() as session:
            return await post(session, key, body)

    return asyncio.run(once())


def _children(parent: str) -> list[str]:
    return sh(f"ps -o pid= --ppid {parent}").split()


def _bounds(child: int) -> int:
    """Its bytes of address space; the other bounds are the same for all of them."""
    lines = Path(f"/proc/{child}/limits").read_text().splitlines()
    limits = {line[:26].strip(): line[26:].split()[:2] for line in lines[1:]}
    show(f"/proc/{child}/limits: {limits}")
    for name, most in (
        ("Max processes", "0"), ("Max open files", "0"), ("Max core file size", "0"), ("Max file size", "0"),
    ):  # fmt: skip
        expect(limits[name] == [most, most], f"{name} is {most}, for good")
    expect(limits["Max cpu time"][0] != "unlimited", "CPU time is bounded")
    return int(limits["Max address space"][1])
