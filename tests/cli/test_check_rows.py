"""`mailerd check` shows what the tables say of senders, messages, jobs and daemons, each with a remedy."""

import os
import re
import socket
import subprocess

from tests.cli.conftest import ME, Shop
from tests.support.rows import post, query

GONE = "UTC_TIMESTAMP(6) - INTERVAL 14 SECOND"
NOW = "UTC_TIMESTAMP(6)"


async def daemon(shop: Shop, name: str = "d", *, host: str = "elsewhere", pid: int = 1, seen: str = NOW) -> None:
    await query(
        shop.database,
        "INSERT INTO daemons (id, host, pid, version, started_at, heartbeat_at) "
        f"VALUES (%s, %s, %s, '0', UTC_TIMESTAMP(6) - INTERVAL 1 HOUR, {seen})",
        name, host, pid,
    )  # fmt: skip


async def attempts(shop: Shop, job: str, *, event: str, error: str) -> None:
    await query(
        shop.database,
        "INSERT INTO attempts (recipient_id, attempt, event, error, at, claim_token, daemon_id) "
        "SELECT id, 1, %s, %s, UTC_TIMESTAMP(6), id, 'd' FROM job_recipients WHERE job_id = %s",
        event, error, job,
    )  # fmt: skip


def line(said: str, what: str) -> str:
    """The line that holds this."""
    return next((it for it in said.splitlines() if what in it), "")


async def test_a_sender_that_google_has_paused_is_told_with_the_command_that_resumes_it(shop: Shop) -> None:
    await daemon(shop)
    await post(shop.database)
    await query(
        shop.database,
        "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 3 HOUR, pause_cause = 'daily_limit', "
        "pause_reason = '429 (Mail sending)'",
    )
    said = line(await shop.say("check"), "  senders  ")
    assert said.startswith("WARN")
    assert "is paused until" in said
    assert f"-> mailerd senders resume {ME}" in said


async def test_an_authorization_that_was_revoked_fails_the_check(shop: Shop) -> None:
    await daemon(shop)
    await post(shop.database)
    await query(
        shop.database,
        "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 50 SECOND, pause_cause = 'token_refused', "
        "pause_reason = 'invalid_grant'",
    )
    said = line(await shop.say("check", code=1), "  senders  ")
    assert said.startswith("FAIL")
    assert f"-> mailerd auth login --sender {ME}" in said


async def test_attempts_that_fail_are_told_with_the_newest_reason(shop: Shop) -> None:
    await daemon(shop)
    job = await post(shop.database)
    await attempts(shop, job, event="deferred", error="Google answered 503")
    said = line(await shop.say("check"), "  senders  ")
    assert said.startswith("WARN")
    assert "the last 3 attempts failed: Google answered 503" in said
    assert "-> mailerd explain " in said


async def test_unconfirmed_messages_are_told(shop: Shop) -> None:
    await daemon(shop)
    await post(shop.database)
    await query(shop.database, "UPDATE job_recipients SET status = 'unsure'")
    await query(shop.database, "UPDATE jobs SET status = 'sending'")
    said = line(await shop.say("check"), "messages are unconfirmed")
    assert said.startswith("WARN")
    assert "3 messages are unconfirmed" in said
    assert "mailerd settle" in said


async def test_a_job_whose_messages_failed_is_told(shop: Shop) -> None:
    await daemon(shop)
    job = await post(shop.database)
    await query(shop.database, "UPDATE job_recipients SET status = 'failed', error = 'no'")
    done = "status = 'completed', next_claim_at = NULL, finished_at = UTC_TIMESTAMP(6)"
    await query(shop.database, f"UPDATE jobs SET {done}")
    said = line(await shop.say("check"), "  jobs  ")
    assert said.startswith("WARN")
    assert "3 of 3 messages failed" in said
    assert f"mailerd explain {job}" in said


async def test_a_second_daemon_that_does_not_respond_is_told_and_one_that_was_replaced_is_not(shop: Shop) -> None:
    await daemon(shop)
    await daemon(shop, "e", host="other", seen="UTC_TIMESTAMP(6) - INTERVAL 45 SECOND")
    said = line(await shop.say("check"), "another one runs")
    assert said.startswith("WARN")
    assert "systemctl start mailerd" in said
    await query(shop.database, "UPDATE daemons SET host = 'elsewhere', started_at = UTC_TIMESTAMP(6)  WHERE id = 'd'")
    await query(shop.database, "UPDATE daemons SET host = 'elsewhere' WHERE id = 'e'")
    assert line(await shop.say("check"), "another one runs") == ""


async def test_the_only_daemon_is_dead_and_that_is_a_fail_before_its_heartbeat_is_half_a_minute_old(shop: Shop) -> None:
    ended = subprocess.Popen(["true"])  # noqa: ASYNC220 - it ends at once, and its id is free
    ended.wait()
    await daemon(shop, host=socket.gethostname(), pid=ended.pid, seen=GONE)
    await post(shop.database)
    said = line(await shop.say("check", code=1), "daemons  ")
    assert re.match(r"FAIL  daemons  .*No daemon responds, the last one was seen 1\d s ago; 3 messages wait", said)
    await query(shop.database, "UPDATE daemons SET pid = %s", os.getpid())
    assert line(await shop.say("check"), "daemons  ").startswith("PASS")


async def test_a_sender_with_messages_to_send_and_no_credential_fails_the_check(shop: Shop) -> None:
    await daemon(shop)
    await post(shop.database, sender="new@example.org")
    said = line(await shop.say("check", code=1), "new@example.org")
    assert said.startswith("FAIL")
    assert "mailerd auth login --sender new@example.org" in said
    await query(shop.database, "UPDATE senders SET next_claim_at = NULL")
    assert line(await shop.say("check"), "new@example.org") == "", "it has nothing to send"


async def test_nothing_is_said_of_what_goes_well(shop: Shop) -> None:
    await daemon(shop)
    job = await post(shop.database)
    await attempts(shop, job, event="sent", error="")
    said = await shop.say("check")
    assert not re.search("^(WARN|FAIL)  (sender|job|messages|daemon)", said, re.MULTILINE)
