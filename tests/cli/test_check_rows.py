"""`mailerd check` shows what the tables say of senders, messages, jobs and daemons, each with a remedy."""

import os
import re
import socket
import subprocess

from mailerd.core.reading import INCIDENT
from mailerd.core.reasons import in_row, reason
from mailerd.core.replies import Call, Refused
from mailerd.core.verdicts import judge
from mailerd.sandbox.google import Fault
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


async def test_of_a_sender_that_google_has_paused_it_is_told_that_it_resumes_automatically(shop: Shop) -> None:
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
    assert "-> it resumes automatically; " in said
    assert "senders resume" not in said


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
    job = await post(shop.database)
    await query(shop.database, "UPDATE job_recipients SET status = 'unsure'")
    [(oldest,)] = await query(shop.database, "SELECT id FROM job_recipients WHERE seq = 1")
    past = "UPDATE job_recipients SET updated_at = updated_at - INTERVAL 9 SECOND WHERE id = %s"
    await query(shop.database, past, oldest)
    await query(shop.database, "UPDATE jobs SET status = 'sending'")
    said = line(await shop.say("check"), "messages are unconfirmed")
    assert said.startswith("WARN")
    assert "3 messages are unconfirmed" in said
    remedies = f"mailerd explain {oldest}", f"mailerd jobs retry {job} --unsure", f"mailerd settle {oldest} --sent"
    assert [it for it in remedies if it not in said] == []
    for remedy in remedies[:2]:  # as they stand
        await shop.say(*remedy.split()[1:], code=0)


async def test_a_job_whose_messages_failed_is_told(shop: Shop) -> None:
    await daemon(shop)
    job = await post(shop.database)
    await query(shop.database, "UPDATE job_recipients SET status = 'failed', error = 'no', attempts = 1")
    done = "status = 'completed', next_claim_at = NULL, finished_at = UTC_TIMESTAMP(6)"
    await query(shop.database, f"UPDATE jobs SET {done}")
    said = line(await shop.say("check"), "  jobs  ")
    assert said.startswith("WARN")
    assert "3 of 3 messages failed: no" in said
    assert f"mailerd explain {job}" in said
    await query(shop.database, "UPDATE job_recipients SET attempts = 0")  # as of those that a POST has skipped
    assert "3 of 3 recipients were not accepted" in line(await shop.say("check"), "  jobs  ")


async def test_a_second_daemon_that_does_not_respond_is_told_and_one_that_was_replaced_is_not(shop: Shop) -> None:
    await daemon(shop)
    await daemon(shop, "e", host="other", seen="UTC_TIMESTAMP(6) - INTERVAL 45 SECOND")
    said = line(await shop.say("check"), "another one runs")
    assert said.startswith("WARN")
    assert "systemctl restart mailerd" in said
    await query(shop.database, "UPDATE daemons SET host = 'elsewhere', started_at = UTC_TIMESTAMP(6)  WHERE id = 'd'")
    await query(shop.database, "UPDATE daemons SET host = 'elsewhere' WHERE id = 'e'")
    await daemon(shop, "f", host="third")
    assert line(await shop.say("check"), "another one runs") == ""
    await query(shop.database, "UPDATE daemons SET stopped_at = UTC_TIMESTAMP(6) WHERE id = 'd'")
    assert line(await shop.say("check"), "another one runs") == ""  # it does not come back as a finding


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


async def test_one_cause_at_google_is_one_finding_and_the_probes_beside_it_refer_to_it(shop: Shop) -> None:
    await daemon(shop)
    job = await post(shop.database)
    why = judge(Call.DRAFTS_CREATE, Refused(500, "backendError", "Backend Error")).reason
    await query(
        shop.database,
        "INSERT INTO attempts (recipient_id, attempt, event, error, error_code, error_args, at, claim_token, daemon_id)"
        " SELECT id, 1, 'deferred', %s, %s, %s, UTC_TIMESTAMP(6), id, 'd' FROM job_recipients WHERE job_id = %s",
        *in_row(why), job,
    )  # fmt: skip
    await query(
        shop.database,
        "INSERT INTO mailboxes (email, scope, state, detail, detail_code, detail_args, next_at, read_at) VALUES "
        "(%s, 'readonly', 'refused', %s, %s, %s, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) - INTERVAL 1 HOUR)",
        ME, *in_row(reason("owner_unknown", cause=why)),
    )  # fmt: skip
    shop.google.fault(Fault(kind="backend_error", count=-1))
    said = [it for it in (await shop.say("check")).splitlines() if ME in it]
    remedy = line("\n".join(said), "3 attempts failed").rpartition(" -> ")[2].partition("; mailerd explain ")[0]
    assert remedy == INCIDENT
    assert [it.split("-> ")[0].rstrip() for it in said] == [
        f"WARN  senders               {ME}: the last 3 attempts failed: {why}",
        f"WARN  inbox of {ME} read 60 min ago; see senders",
        f"WARN  {ME}        cannot be used now; see senders",
    ]
    assert all(f"-> {remedy}" in it for it in said)
    await query(shop.database, "DELETE FROM attempts")
    said = [it for it in (await shop.say("check")).splitlines() if ME in it]
    assert len(said) == 2
    assert said[0].startswith(
        f"WARN  inboxes               The inbox of {ME} cannot be read, so its bounces are not seen: the "
    )
    assert said[1].startswith(f"WARN  {ME}        cannot be used now; see inboxes -> it is retried; if it lasts")


async def test_a_google_that_cannot_be_reached_is_one_fail_and_no_mailbox_is_blamed(shop: Shop) -> None:
    await daemon(shop)
    shop.config.write_text(shop.config.read_text().replace("http://127.0.0.1", "http://127.0.0.9"))
    said = (await shop.say("check", code=1)).splitlines()
    assert [it.split()[1] for it in said if it.startswith("FAIL")] == ["google"]
    assert "not tested: Google cannot be reached -> check this machine's internet" in line("\n".join(said), f"  {ME}")
