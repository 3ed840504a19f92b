"""A sender whose template is slow, though it was accepted, holds up its own messages and nobody else's."""

import asyncio
import sys
from pathlib import Path

import pytest

from mailerd.config import Settings
from mailerd.sandbox.google import FakeGoogle, RunningServer
from mailerd.store.db.database import Database
from tests.daemon.test_neighbours import BAD, CONCURRENCY, OTHERS, busy, rate, sent
from tests.support.daemon import running, settings, sign_in
from tests.support.eventually import eventually
from tests.support.heard import PATIENCE, Heard
from tests.support.rows import post, query, states

LOOP = "{% for a in range(90000) %}{% if a is divisibleby 7 %}x{% endif %}{{ a }}{% endfor %}"
SLOW = LOOP * 4
"""Some 300 ms a message."""
BOMB = "{% set t = (1, 1) %}" + "{% set t = (t, t) %}" * 40 + "{{ {}[t] is defined }}"
"""A message that ends the child; a job with it can only be in the database, the check refuses it."""


@pytest.fixture
def known(database_url: str, served: RunningServer, google: FakeGoogle, tmp_path: Path) -> Settings:
    """A daemon with few slots."""
    google.change_rules(latency_s=0.05)
    for sender in (BAD, *OTHERS):
        sign_in(google, tmp_path / "credentials", sender)
    return settings(
        database_url, served, tmp_path / "credentials", runner={"concurrency": CONCURRENCY, "lease": 30}
    )  # fmt: skip


@pytest.mark.parametrize("template", [SLOW, BOMB], ids=["slow", "bomb"])
async def test_the_others_go_on_beside_a_sender_whose_template_is_slow(
    known: Settings, google: FakeGoogle, database: Database, heard: Heard, monkeypatch: pytest.MonkeyPatch,
    template: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("mailerd.mail.renderer._SLOW_FOR", 600.0)  # a busy machine makes a message for longer than that
    await busy(google, database)
    async with running(known, heard) as daemon:
        await eventually(lambda: asyncio.sleep(0, sum(sent(google).values()) > 20))
        alone = await rate(google, seconds=4)
        job = await post(database, sender=BAD, recipients=200, text=template)
        await eventually(lambda: asyncio.sleep(0, daemon.renderer._slow_worker.pid is not None))
        # It may have fewer in flight than there are slots by now, whatever it has.
        await eventually(
            lambda: asyncio.sleep(0, daemon.runner.semaphore.capacity_by_sender().get(BAD, CONCURRENCY) < CONCURRENCY)
        )
        beside = await rate(google, seconds=6)
        ended = await states(database, job)
        assert ended.get("waiting", 0) + ended.get("sending", 0) > 50, "it is slow indeed"

        async def one_has_ended() -> bool:
            return bool({"sent", "failed"} & (await states(database, job)).keys())

        await eventually(one_has_ended, within=4 * PATIENCE)  # it goes on all the same
    assert beside > 0.6 * alone, (beside, alone)


async def test_a_renderer_that_does_not_start_costs_no_message_an_attempt(
    known: Settings, database: Database, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    job = await post(database, sender=OTHERS[0], recipients=3)
    async with running(known, heard):
        await eventually(lambda: asyncio.sleep(0, len(heard.of("message_released")) >= 3))
        assert await query(database, "SELECT SUM(attempts), SUM(status = 'failed') FROM job_recipients") == [(0, 0)]
        monkeypatch.undo()

        async def all_sent() -> bool:
            return await states(database, job) == {"sent": 3}

        await eventually(all_sent)
