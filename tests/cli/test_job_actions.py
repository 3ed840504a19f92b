"""`mailerd jobs cancel|pause|resume|retry|priority`: the same as the API's, said in sentences, noted by who asked."""

import asyncio
import re
import sys

from mailerd.sandbox.google import Fault
from tests.cli.conftest import Shop
from tests.support.daemon import running
from tests.support.heard import PATIENCE, Heard
from tests.support.rows import post, query, states


async def test_a_job_is_paused_resumed_and_cancelled_and_each_may_be_said_twice(shop: Shop) -> None:
    job = await post(shop.database, recipients=3)
    assert f"pause: done\nJob {job} from me@example.com: paused, 3 recipients: 3 waiting." in await shop.say(
        "jobs", "pause", job
    )
    assert "pause: nothing to change" in await shop.say("jobs", "pause", job)
    assert "resume: done" in await shop.say("jobs", "resume", job)
    assert "priority: done" in await shop.say("jobs", "priority", job, "7")
    assert "cancel: done, 3 messages" in await shop.say("jobs", "cancel", job)
    assert await states(shop.database, job) == {"cancelled": 3}
    [(reason,)] = await query(shop.database, "SELECT DISTINCT error FROM job_recipients")
    assert re.fullmatch(r"the job was cancelled by \S+ on the command line", reason)
    assert "Now: cancelled at " in (told := await shop.say("explain", "r0@example.org"))
    assert f": {reason}. Nothing more happens." in told
    assert f"job {job} is cancelled: resume is not possible" in await shop.say("jobs", "resume", job, code=1)
    noted = await query(shop.database, "SELECT action, actor FROM job_actions ORDER BY id")
    assert [action for action, _ in noted] == ["pause", "pause", "resume", "priority", "cancel"]
    assert all(actor.startswith("command, ") for _, actor in noted)


async def test_a_sender_whose_messages_take_long_to_google_is_listed_with_that(shop: Shop) -> None:
    await post(shop.database, recipients=1)
    await query(shop.database, "UPDATE senders SET latency = 2.34, latency_at = UTC_TIMESTAMP(6) - INTERVAL 2 MINUTE")
    listed = await shop.say("senders", "list")
    assert all(part in listed for part in ("slowed down", "Google took up to 2.3 s per message"))
    assert '"latency": 2.34' in await shop.say("senders", "list", "--json")
    await query(shop.database, "UPDATE senders SET latency_at = UTC_TIMESTAMP(6) - INTERVAL 10 MINUTE")
    assert "slowed down" not in await shop.say("senders", "list")


async def test_failed_messages_are_tried_anew_by_a_daemon_that_runs(shop: Shop) -> None:
    heard = Heard()
    async with running(shop.settings, heard):
        shop.google.fault(Fault(kind="status", status=400, body="{}", method="drafts.create"))
        job = await post(shop.database, recipients=1)
        await heard.wait_for("job_finished")
        assert "retry: done, 1 message\n" in await shop.say("jobs", "retry", job)
        await heard.wait_for("job_finished", times=2)
    assert await states(shop.database, job) == {"sent": 1}
    assert "retry requested" in await shop.say("explain", "r0@example.org")


async def test_unsure_messages_are_looked_for_and_an_unknown_job_is_named(shop: Shop) -> None:
    job = await post(shop.database, recipients=1)
    assert "retry: nothing to change" in await shop.say("jobs", "retry", job, "--unsure")
    for unknown in ("X", "01M87GGY08RDJ1…", "01ARZ3NDEKTSV4RRFFQ69G5FAV"):
        for word in ("show", "cancel"):
            said = await shop.say("jobs", word, unknown, code=1)
            assert f"job {unknown} not found: `mailerd jobs list` shows the newest jobs" in said


async def test_whoever_watches_is_told_why_nothing_moves(shop: Shop) -> None:
    job = await post(shop.database, recipients=1)
    await query(
        shop.database,
        "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR, pause_cause = 'throttled', "
        "pause_reason = 'Google answered 429'",
    )
    await query(
        shop.database,
        "INSERT INTO daemons (id, host, pid, version, started_at, heartbeat_at) "
        "SELECT 'one', 'h', 1, '0', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) + INTERVAL 1 HOUR",
    )
    watching = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mailerd", "jobs", "watch", job, "--config", str(shop.config),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert watching.stdout is not None
    said = await asyncio.wait_for(watching.stdout.readline(), PATIENCE)
    assert said.decode().startswith("Waiting: me@example.com is paused until ")
    await query(shop.database, "UPDATE senders SET paused_until = NULL")
    assert await asyncio.wait_for(watching.stdout.readline(), PATIENCE) == b"Sending continues.\n"
    await query(shop.database, "UPDATE job_recipients SET status = 'cancelled'")
    await query(shop.database, "UPDATE jobs SET status = 'cancelled', finished_at = UTC_TIMESTAMP(6)")
    assert await asyncio.wait_for(watching.wait(), PATIENCE) == 0


async def test_a_job_that_is_cancelled_while_it_waits_does_not_go_on(shop: Shop) -> None:
    job = await post(shop.database, recipients=1)
    watching = await shop.start("jobs", "watch", job)
    assert watching.stdout is not None
    async with asyncio.timeout(60):
        assert b"No daemon has been seen" in await watching.stdout.readline()
        await shop.say("jobs", "cancel", job)
        rest, _ = await watching.communicate()
    assert b"1 cancelled" in rest
    assert b"Sending continues." not in rest


async def test_a_job_that_is_cancelled_while_a_message_is_looked_for_does_not_go_on(shop: Shop) -> None:
    await query(
        shop.database,
        "INSERT INTO daemons (id, host, pid, version, started_at, heartbeat_at) "
        "SELECT 'one', 'h', 1, '0', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) + INTERVAL 1 HOUR",
    )
    job = await post(shop.database, recipients=2)
    await query(shop.database, "UPDATE job_recipients SET status = 'unsure', mode = 'direct' WHERE seq = 0")
    await shop.say("jobs", "pause", job)
    watching = await shop.start("jobs", "watch", job)
    assert watching.stdout is not None
    async with asyncio.timeout(60):
        assert (await watching.stdout.readline()).startswith(b"Waiting: the job is paused; 1 message is unconfirmed")
        await shop.say("jobs", "cancel", job)
        await asyncio.sleep(1.5)
        await query(shop.database, "UPDATE job_recipients SET status = 'cancelled'")
        await query(shop.database, "UPDATE jobs SET finished_at = UTC_TIMESTAMP(6)")
        rest, _ = await watching.communicate()
    assert b"2 cancelled" in rest
    assert b"Sending continues." not in rest
