"""Storms about templates that end the process that renders them, beside messages of others and with kills in
between."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from mailerd.mail.cage import ANSWER_TIMEOUT
from mailerd.sandbox.google import COMPOSE
from tests.chaos.child import Child
from tests.chaos.place import POST_BOUND, SENDER, Place, Setting
from tests.chaos.scenario import Scenario, Size
from tests.support.own_time import at_this_speed

POISONER: Final = "poison@example.com"
SLOW: Final = "slow@example.com"
_AHEAD: Final = timedelta(seconds=5)
"""How long a job waits for its template to be exchanged in the database."""
_POISONS: Final = (
    ("{% set t = (1, 1) %}" + "{% set t = (t, t) %}" * 40 + "{{ {}[t] is defined }}", 0),
    ("{{ ('a' * 10 ** 9)|length }}", 0),
    ("{% set l = ['a' * 900000] %}" + "{% set l = l + l %}" * 40 + "{{ l|join|length }}", 0),
    ("<style>p{color:red}</style>" + "<div>" * 12_000, 1),
    ("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", 0),
)
"""Templates that the check refuses, and whether CSS is inlined: an older version may have stored them."""
_TURN: Final = "{% for a in range(90000) %}{% if a is divisibleby 7 and a % 9001 == 0 %}x{% endif %}{% endfor %}"
_LOOP: Final = _TURN * round(40 / at_this_speed(1.0))
"""Some 150 ms a message: slow, and accepted, and sent. A machine that computes slowly gets fewer turns for them, and
one that becomes six times slower meanwhile sends them still (`SEND_LIMITS`: 1 s)."""
_REASONS: Final = ("takes too long", "takes too much memory", "is nested too deeply")
_OPEN: Final = "SELECT COUNT(*) FROM job_recipients WHERE status NOT IN ('sent', 'failed')"
_LONGEST: Final = 300
"""Characters of a reason."""


async def _poison(place: Place, size: Size) -> int:
    """Every third blow kills a renderer's child, every third one stops it for ever, every third one kills a daemon."""
    await place.post(size.messages // 2)
    for template, css in _POISONS:
        await _plant(place, template, css=css, sender=POISONER, messages=size.rounds)
    await _plant(place, _LOOP, css=0, sender=SLOW, messages=5 * size.rounds)
    lives = len(place.daemons) + await _blows(place, size)
    while (await place.rows(_OPEN))[0][0]:  # noqa: ASYNC110 - a table
        await asyncio.sleep(0.3)
    await _judge(place, poisoned=len(_POISONS) * size.rounds, lives=lives)
    return 3 * size.rounds


async def _blows(place: Place, size: Size) -> int:
    """Three each round, with messages after each; the number of daemons that were killed."""
    killed = 0
    for n in range(3 * size.rounds):
        await asyncio.sleep(place.chance.uniform(0.5, 2.0))
        daemon = place.chance.choice(place.daemons)
        if n % 3 == 2:
            daemon.kill()
            daemon.start()
            killed += 1
        else:
            _blow(place, daemon, signal.SIGKILL if n % 3 == 0 else signal.SIGSTOP)
        await place.post(max(1, size.messages // 2 // (3 * size.rounds)))
    return killed


async def _plant(place: Place, template: str, *, css: int, sender: str, messages: int) -> None:
    job = await place.post(messages, sender=sender, send_at=datetime.now(UTC) + _AHEAD)
    await place.rows("UPDATE jobs SET html = %s, text = NULL, inline_css = %s WHERE id = %s", template, css, job)


def _blow(place: Place, daemon: Child, number: signal.Signals) -> None:
    if children := _children(daemon.pid):
        with suppress(ProcessLookupError):
            os.kill(place.chance.choice(children), number)


def _children(parent: int) -> list[int]:
    """The processes that this one has started: a daemon starts nothing but renderers."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it may have ended meanwhile
            if int(stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found


async def _judge(place: Place, *, poisoned: int, lives: int) -> None:
    failed = await place.rows(
        "SELECT j.sender_email, r.error FROM job_recipients r JOIN jobs j ON j.id = r.job_id WHERE r.status = 'failed'"
    )
    if len(failed) != poisoned or any(sender != POISONER for sender, _ in failed):
        place.breaches.append(f"{poisoned} messages are poisoned, {len(failed)} failed: {failed[:5]}")
    for _, error in failed:
        if not any(reason in error for reason in _REASONS) or len(error) > _LONGEST:
            place.breaches.append(f"a poisoned message is failed for another reason: {error[:500]}")
    if sum(len(child.runs) for child in place.daemons) != lives or not all(child.running for child in place.daemons):
        place.breaches.append("a daemon has ended by itself")


OF_RENDERER: Final = (
    Scenario(
        "poison", "templates that end the renderer, stored past the check; kills of its children and of daemons",
        _poison, Size(200, 1), Size(1500, 6),
        setting=Setting(
            senders=dict.fromkeys((SENDER, POISONER, SLOW), (COMPOSE,)),
            post_bound=POST_BOUND + ANSWER_TIMEOUT,  # a post may meet a stopped child, which is ended by then
        ), within=300,
        may_fail=frozenset({POISONER}), hits=("renderer_ended", "lease_lapsed"),
    ),
)  # fmt: skip
