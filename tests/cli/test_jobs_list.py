"""`mailerd jobs list` says in a word why a job sends nothing now."""

import json

import pytest

from mailerd.core.labels import worded
from tests.cli.conftest import ME, Shop
from tests.support.rows import post, query

DAEMON = (
    "INSERT INTO daemons (id, host, pid, version, started_at, heartbeat_at) "
    "VALUES ('D', 'h', 1, '0', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))"
)
PAUSE = "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR, pause_cause = '{}', pause_reason = 'why'"
LATER = "UPDATE {} = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR"
TAKEN = "UPDATE job_recipients SET status = 'sending' LIMIT 1"
TRIED = "UPDATE job_recipients SET attempts = 1"
SENT = "UPDATE job_recipients SET status = 'sent'"
UNSURE = "UPDATE job_recipients SET status = 'unsure'"


@pytest.mark.parametrize(
    "changes,word",
    [
        ((), "no_daemon"),
        ((TAKEN,), "no_daemon"),
        ((DAEMON,), None),
        ((DAEMON, PAUSE.format("manual")), "sender_paused"),
        ((PAUSE.format("token_refused"),), "sender_paused"),
        ((DAEMON, LATER.format("jobs SET send_at")), "scheduled"),
        ((DAEMON, TRIED, LATER.format("jobs SET next_claim_at")), "deferred"),
        ((DAEMON, LATER.format("jobs SET next_claim_at")), "scheduled"),
        ((DAEMON, LATER.format("jobs SET braked_until"), "UPDATE jobs SET next_claim_at = braked_until"), "braked"),
        ((DAEMON, LATER.format("senders SET next_claim_at")), "limit"),
        ((DAEMON, TAKEN, LATER.format("senders SET next_claim_at")), None),
        ((DAEMON, SENT, LATER.format("senders SET next_claim_at")), None),
        ((DAEMON, UNSURE), "unsure"),
        ((DAEMON, "UPDATE jobs SET status = 'paused'"), None),
    ],
)
async def test_a_job_that_sends_nothing_now_says_why(shop: Shop, changes: tuple[str, ...], word: str | None) -> None:
    job = await post(shop.database)
    for change in changes:
        await query(shop.database, change)
    (found,) = json.loads(await shop.say("jobs", "list", "--json"))["jobs"]
    paused = "UPDATE jobs SET status = 'paused'" in changes
    assert (found["status"], found["waits_for"]) == ("paused" if paused else "queued", word)
    assert f"{job}  {worded(word or found['status'])}  " in await shop.say("jobs", "list")


async def test_a_job_whose_messages_are_sent_waits_for_no_limit_before_its_end_is_recorded(shop: Shop) -> None:
    job = await post(shop.database)
    for change in (DAEMON, SENT, LATER.format("senders SET next_claim_at")):
        await query(shop.database, change)
    said = await shop.say("jobs", "show", job)
    assert f"Job {job} from me@example.com: queued, 3 recipients: 3 sent." in said
    assert "Next: the end of the job is recorded." in said


async def test_a_test_is_called_one_wherever_it_is_shown(shop: Shop) -> None:
    job = await post(shop.database, recipients=["ada@example.org"])
    for change in (DAEMON, "UPDATE jobs SET type = 'test'"):
        await query(shop.database, change)
    assert f"{job}  queued (test)  " in await shop.say("jobs", "list")
    for command in (("jobs", "show"), ("explain",)):
        assert f"Job {job} from me@example.com: queued (test), 1 recipient" in await shop.say(*command, job), command
    assert " It is a test.\n" in await shop.say("explain", "ada@example.org")
    assert "waiting (test)" in await shop.say("recipients", "ada@example.org")
    (message,) = json.loads(await shop.say("recipients", "ada@example.org", "--json"))["recipients"]
    (explained,) = json.loads(await shop.say("explain", "ada@example.org", "--json"))["recipients"]
    assert message["job_type"] == explained["job_type"] == "test"


async def test_the_jobs_of_one_status_are_listed_alone(shop: Shop) -> None:
    old, new = await post(shop.database), await post(shop.database, sender="you@example.com")
    await query(shop.database, "UPDATE jobs SET status = 'paused' WHERE id = %s", old)
    found = json.loads(await shop.say("jobs", "list", "--status", "paused", "--json"))
    assert ([it["job_id"] for it in found["jobs"]], found["next_cursor"]) == ([old], None)
    found = json.loads(await shop.say("jobs", "list", "--limit", "1", "--json"))
    assert ([it["job_id"] for it in found["jobs"]], found["next_cursor"]) == ([new], new)
    assert new in await shop.say("jobs", "list", "--status", "queued")
    assert "is not one of" in await shop.say("jobs", "list", "--status", "waiting", code=2)


async def test_the_newest_job_is_shown_without_its_id(shop: Shop) -> None:
    assert "no job has been posted yet" in await shop.say("jobs", "show", "--last", code=1)
    old, new = await post(shop.database), await post(shop.database)
    assert new in (shown := await shop.say("jobs", "show", "--last"))
    assert old not in shown
    assert "give the job's ID or --last" in await shop.say("jobs", "show", code=2)
    assert "give the job's ID or --last" in await shop.say("jobs", "show", old, "--last", code=2)


async def test_the_words_of_the_list_are_chinese_in_chinese(shop: Shop) -> None:
    await post(shop.database, sender=ME)
    shop.config.write_text(shop.config.read_text() + '[log]\nlanguage = "zh"\n')
    assert "无守护进程" in await shop.say("jobs", "list")
