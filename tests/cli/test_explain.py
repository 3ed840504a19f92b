"""`mailerd explain`: why a job waits, what is next and when; and what a person did to it."""

import re

import pytest

from mailerd.config import Live
from mailerd.core.suppression import Reason, why_suppressed
from mailerd.locale import say
from mailerd.store.queue.rate_limits import default_limits
from mailerd.store.read import describe, history
from mailerd.store.read.forecast_inputs import ForecastReader
from mailerd.store.read.jobs import Jobs
from tests.cli.conftest import ME, Shop
from tests.support.rows import numbers, post, query

BEGUN = "UPDATE jobs SET status = 'sending', started_at = created_at"
USED_UP = "INSERT INTO sender_hours VALUES ('me@example.com', UTC_TIMESTAMP() - INTERVAL 2 HOUR, 2000, 0, 0)"
DEFERRED = (
    "UPDATE job_recipients SET attempts = 2, error = 'Google answered 503', "
    "due_at = UTC_TIMESTAMP(6) + INTERVAL 5 MINUTE"
)
UNSURE = "UPDATE job_recipients SET status = 'unsure', attempts = 1, mode = 'direct', lease_until = {until}"
AT = r"(\w+ )?\d\d:\d\d UTC"


@pytest.mark.parametrize(
    "rows, waits, next_",
    [
        (DEFERRED, rf"deferred until {AT} after the last attempt: Google answered 503\.", f"from {AT}, done"),
        (
            USED_UP,
            rf"the sender has reached its limit of 24 hours \(2,000\): the next message is sent at {AT}\.",
            "from ",
        ),
        (
            UNSURE.format(until="UTC_TIMESTAMP(6) + INTERVAL 5 MINUTE"),
            rf"3 messages are unconfirmed: checked at Google at {AT}\.",
            "3 messages are unconfirmed: checked at Google at ",
        ),
        (
            UNSURE.format(until="NULL"),
            "3 messages are unconfirmed until you run `mailerd settle`",
            "3 messages are unconfirmed until",
        ),
        (
            "UPDATE jobs SET status = 'paused', send_at = UTC_TIMESTAMP(6) + INTERVAL 9 DAY",
            r"the job is paused\.",
            r"nothing is sent until the job is resumed\.",
        ),
    ],
)  # fmt: skip
async def test_a_job_says_why_it_waits_and_what_is_next(shop: Shop, rows: str, waits: str, next_: str) -> None:
    shop.config.write_text(shop.config.read_text().replace("per_day = 0", "per_day = 2000"))
    job = await post(shop.database)
    await query(shop.database, BEGUN)
    await query(shop.database, rows)
    for command in (("explain", job), ("jobs", "show", job)):
        said = await shop.say(*command)
        assert re.search(f"^Waiting: {waits}", said, re.MULTILINE), said
        assert re.search(f"^Next, if a daemon starts now: {next_}", said, re.MULTILINE), said
        assert "No daemon has been seen for 30 s" in said


async def test_the_pace_is_told_with_the_end(shop: Shop) -> None:
    shop.config.write_text(shop.config.read_text().replace("units_per_minute = 0", "units_per_minute = 6000"))
    job = await post(shop.database, recipients=300)
    said = await shop.say("explain", job)
    assert re.search(
        rf"^Next, if a daemon starts now: done about {AT}, at 53\.4 messages per minute\.$", said, re.MULTILINE
    ), said
    assert "Waiting" not in said


async def test_a_paused_job_is_not_said_to_be_early(shop: Shop) -> None:
    job = await post(shop.database)
    await query(shop.database, "UPDATE jobs SET send_at = UTC_TIMESTAMP(6) + INTERVAL 9 DAY")
    said = await shop.say("jobs", "pause", job)
    assert said.splitlines()[-1] == "Waiting: the job is paused."
    said = await shop.say("explain", job)
    assert re.search(r"UTC  paused by \S+ on the command line\.$", said, re.MULTILINE), said


async def test_what_a_person_settled_is_told_as_his_word_and_not_as_a_look(shop: Shop) -> None:
    job = await post(shop.database)
    await query(shop.database, UNSURE.format(until="NULL"))
    rows = await query(shop.database, "SELECT id FROM job_recipients ORDER BY id")
    (sent, unsent, _) = (str(id_) for (id_,) in rows)
    await shop.say("settle", sent, "--sent")
    await shop.say("settle", unsent, "--not-sent")
    told, back = await shop.say("explain", sent), await shop.say("explain", unsent)
    assert re.search(r"attempt 1: confirmed as sent by \S+ on the command line\.", told)
    assert re.search(r"attempt 1: confirmed as not sent by \S+ on the command line\.", back)
    assert re.search("checked( and found|: )", told + back) is None
    await shop.say("jobs", "cancel", job)
    cancelled = await shop.say("explain", job)
    assert re.search(r"UTC  cancelled by \S+ on the command line: 1 message\.$", cancelled, re.MULTILINE), cancelled


async def test_the_last_doubt_of_a_cancelled_job_finishes_it_and_does_not_call_it_completed(shop: Shop) -> None:
    job = await post(shop.database, recipients=["ada@example.org"])
    await query(shop.database, UNSURE.format(until="NULL"))
    await shop.say("jobs", "cancel", job)
    ((doubt,),) = await query(shop.database, "SELECT id FROM job_recipients")
    said = await shop.say("settle", str(doubt), "--sent")
    assert f"job {job} finished: 1 sent, 0 failed" in said
    assert await query(shop.database, "SELECT status FROM jobs") == [("cancelled",)]


async def test_who_has_checked_an_attempt_confirms_no_later_one(shop: Shop) -> None:
    await post(shop.database, recipients=["ada@example.org"])
    await query(shop.database, UNSURE.format(until="NULL"))
    await query(shop.database, "UPDATE job_recipients SET attempts = 2")
    ((doubt,),) = await query(shop.database, "SELECT id FROM job_recipients")
    checked = "settle", str(doubt), "--not-sent", "--attempt"
    assert "was retried in the meantime; check the mailbox again" in await shop.say(*checked, "1", code=1)
    assert "is now waiting" in await shop.say(*checked, "2")


async def test_a_doubt_that_a_cancelled_job_does_not_send_anew_finishes_it(shop: Shop) -> None:
    job = await post(shop.database, recipients=["ada@example.org"])
    await query(shop.database, UNSURE.format(until="NULL"))
    await shop.say("jobs", "cancel", job)
    ((doubt,),) = await query(shop.database, "SELECT id FROM job_recipients")
    said = await shop.say("settle", str(doubt), "--not-sent")
    assert f"job {job} finished: 0 sent, 0 failed" in said


async def test_the_story_of_a_job_names_those_who_opted_out_after_what_failed(shop: Shop) -> None:
    job = await post(shop.database)
    (first, second, third) = (id_ for (id_,) in await query(shop.database, "SELECT id FROM job_recipients ORDER BY id"))
    why = why_suppressed(Reason.UNSUBSCRIBED)
    ended = "UPDATE job_recipients SET status = %s, error = %s, error_code = %s WHERE id = %s"
    await query(shop.database, ended, "cancelled", why, "suppressed", first)
    await query(shop.database, ended, "cancelled", "the job was cancelled by key shop", None, second)
    await query(shop.database, ended, "failed", "Google rejected the message", None, third)
    for words in (("explain", job), ("jobs", "show", job)):
        said = await shop.say(*words)
        assert said.index(f"(recipient {third}): Google rejected the message") < said.index(
            f"(recipient {first}): {why}"
        )
        assert f"recipient {second}" not in said, "the line of the action tells it"


async def test_a_message_with_very_many_attempts_is_told_on_a_page(shop: Shop) -> None:
    await post(shop.database)
    ((recipient,), *_) = await query(shop.database, "SELECT id FROM job_recipients ORDER BY id")
    await query(
        shop.database,
        "INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, error, at) "
        "SELECT %s, LEAST(seq, 65535), LPAD(seq, 26, '0'), 'D', 'deferred', "
        "CONCAT('refused for the ', seq, 'th time ', REPEAT('x', 200)), UTC_TIMESTAMP(6) "
        f"FROM {numbers(5)} ORDER BY seq",
        recipient,
    )
    said = await shop.say("explain", str(recipient))
    assert len(said) < 20_000
    assert "refused for the 1th time" in said, "how it began"
    assert "refused for the 100000th time" in said, "and what was last"
    assert "… 99,960 more lines are in the table attempts …" in said
    lines = said.splitlines()
    assert lines.index(next(line for line in lines if "10th time" in line)) + 1 == lines.index(
        next(line for line in lines if "more lines" in line)
    )


REVOKED = (
    "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 MINUTE, pause_cause = 'token_refused', "
    "pause_reason = 'invalid_grant'"
)


async def test_a_sign_in_that_was_revoked_promises_no_time(shop: Shop) -> None:
    job = await post(shop.database)
    [(message,)] = await query(shop.database, "SELECT MAX(id) FROM job_recipients")
    await query(shop.database, REVOKED)
    renewed = f"the authorization is renewed: `mailerd auth login --sender {ME}`"
    said = await shop.say("explain", job)
    assert f"Next, if a daemon starts now: nothing is sent until {renewed}." in said
    assert "done about" not in said
    said = await shop.say("explain", str(message))
    assert f"Now: waiting: {ME} is paused until {renewed} (tried each minute: " in said
    assert "Next, if a daemon starts now: it is sent once that is done;" in said


async def test_a_message_in_the_middle_knows_its_place_and_its_time(shop: Shop) -> None:
    shop.config.write_text(shop.config.read_text().replace("units_per_minute = 0", "units_per_minute = 6000"))
    await post(shop.database, recipients=300)
    [(first,)] = await query(shop.database, "SELECT MIN(id) FROM job_recipients")
    said = await shop.say("explain", str(first + 150))
    assert "waiting: 150 messages of its sender are sent first." in said
    at = re.search(r"its turn is about (\S+ \S+) UTC", said)
    assert at is not None
    [(off,)] = await query(shop.database, "SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), %s)", at[1])
    assert 150 < off < 175, "at 53.4 a minute"
    assert "No daemon has been seen for 30 s" in said
    said = await shop.say("explain", str(first))
    assert "first in line" in said
    assert "sent first" not in said


async def test_a_message_to_an_address_that_is_suppressed_is_promised_no_time(shop: Shop) -> None:
    await post(shop.database)
    [(message, to)] = await query(shop.database, "SELECT id, to_email FROM job_recipients ORDER BY id LIMIT 1")
    await shop.say("suppress", "add", to)
    said = await shop.say("explain", str(message))
    assert "it is cancelled at its turn, and not sent: the address is suppressed: manual" in said
    assert "the next available daemon claims it" not in said
    await query(shop.database, "UPDATE jobs SET override_suppression = 1")
    assert "the next available daemon claims it" in await shop.say("explain", str(message)), (
        "its job goes also to these"
    )
    await query(shop.database, "UPDATE suppressions SET reason = 'hard_bounce'")
    assert "it is cancelled at its turn" in await shop.say("explain", str(message)), "nothing overrides a bounce"


@pytest.mark.parametrize(
    "held",
    [
        "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 30 SECOND, pause_cause = 'throttled'",
        "UPDATE job_recipients SET due_at = UTC_TIMESTAMP(6) + INTERVAL 30 SECOND",
    ],
)
async def test_a_message_in_the_middle_of_a_job_that_is_held_knows_its_time_too(shop: Shop, held: str) -> None:
    shop.config.write_text(shop.config.read_text().replace("units_per_minute = 0", "units_per_minute = 6000"))
    await post(shop.database, recipients=300)
    [(first,)] = await query(shop.database, "SELECT MIN(id) FROM job_recipients")
    await query(shop.database, held)
    said = await shop.say("explain", str(first + 150))
    assert re.search(f"Now: waiting: ({ME} is paused until|not due before) ", said), said
    at = re.search(r"its turn is about (\S+ \S+) UTC", said)
    assert at is not None, said
    [(off,)] = await query(shop.database, "SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), %s)", at[1])
    assert 175 < off < 205, "half a minute, and then 53.4 a minute"
    said = await shop.say("explain", str(first))
    assert re.search(r"Next, if a daemon starts now: it is (tried|sent) in \d\d s", said), said


async def test_a_message_that_was_put_off_goes_not_before_its_time_though_few_go_first(shop: Shop) -> None:
    await post(shop.database, recipients=3)
    [(last,)] = await query(shop.database, "SELECT MAX(id) FROM job_recipients")
    await query(
        shop.database, "UPDATE job_recipients SET due_at = UTC_TIMESTAMP(6) + INTERVAL 3 HOUR WHERE id = %s", last
    )
    at = re.search(r"its turn is about (\S+ \S+) UTC", await shop.say("explain", str(last)))
    assert at is not None
    [(off,)] = await query(shop.database, "SELECT TIMESTAMPDIFF(MINUTE, UTC_TIMESTAMP(), %s)", at[1])
    assert 178 <= off <= 180
    await query(shop.database, REVOKED)
    said = await shop.say("explain", str(last))
    assert re.search(r"it is sent once that is done, and not before 2\S+ \S+ UTC\.", said), said


@pytest.mark.parametrize(
    "held",
    [
        "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR, pause_cause = 'manual'",
        "UPDATE job_recipients SET due_at = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR",
        "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6)",  # no daemon has seen it yet
    ],
)
async def test_the_first_in_line_is_not_promised_a_time_at_which_its_senders_day_is_used_up(
    shop: Shop, held: str
) -> None:
    shop.config.write_text(shop.config.read_text().replace("per_day = 0", "per_day = 2000"))
    await post(shop.database, recipients=1)
    [(message,)] = await query(shop.database, "SELECT id FROM job_recipients")
    await query(shop.database, USED_UP)
    await query(shop.database, held)
    said = await shop.say("explain", str(message))
    at = re.findall(r"(?:its turn is about|allow no message before) (\S+ \S+) UTC", said)
    assert at, said
    for it in at:
        [(off,)] = await query(shop.database, "SELECT TIMESTAMPDIFF(HOUR, UTC_TIMESTAMP(), %s)", it)
        assert 21 <= off <= 23, "the hour is two hours ago, and counts for 25"
    assert "it is tried in" not in said
    assert "it is sent in" not in said
    assert "the next available daemon claims it" not in said


async def test_messages_before_one_are_counted_up_to_a_bound_and_no_time_is_told_beyond_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (history, describe):
        monkeypatch.setattr(module, "MAX_BEFORE", 100)
    await post(shop.database, recipients=300)
    [(first,)] = await query(shop.database, "SELECT MIN(id) FROM job_recipients")
    reader = history.HistoryReader(shop.database)
    [story] = await reader.of_recipient(first + 150)
    before = await reader.queued_before(story)
    assert before == 100
    said = describe.of_message(story, describe.Queue({story.id: before}, {}, []))
    assert "Now: waiting: more than 100 messages of its sender are sent first." in said
    assert "later than can be estimated" in said[-2]
    assert [
        say(line, "zh").count("等待中：同一发件邮箱的 100 封以上邮件先发送。") for line in said if "more than" in line
    ] == [1]


async def test_without_limits_the_rate_of_the_last_minute_tells_the_end(shop: Shop) -> None:
    job = await post(shop.database, recipients=120)
    await query(shop.database, BEGUN)
    await query(shop.database, "UPDATE job_recipients SET status = 'sent', proof = 'answered' ORDER BY id LIMIT 20")
    await query(
        shop.database,
        "INSERT INTO attempts (recipient_id, attempt, at, event, daemon_id, claim_token) "
        "SELECT id, 1, UTC_TIMESTAMP(6) - INTERVAL 20 + id % 20 SECOND, 'sent', 'd', id FROM job_recipients "
        "WHERE status = 'sent'",
    )
    said = await shop.say("explain", job)
    pace = re.search(r"at ([\d.]+) messages per minute", said)
    assert pace is not None, said
    assert 55 < float(pace[1]) <= 65


async def test_no_surface_says_a_time_for_what_only_a_person_can_mend(shop: Shop) -> None:
    job = await post(shop.database)
    await query(shop.database, REVOKED)
    renewed = f"until the authorization is renewed: `mailerd auth login --sender {ME}`"
    found = await Jobs(shop.database, timeout=5).job(job)
    assert found is not None
    (held,) = describe.held(found)
    assert held.startswith(f"Waiting: {ME} is paused {renewed}"), "as `jobs watch` says it"
    listed = await shop.say("senders", "list")
    assert f"{ME}  authorization rejected  " in listed
    assert f"invalid_grant -> mailerd auth login --sender {ME}" in listed
    assert renewed.removeprefix("until ") in await shop.say("senders", "list", "--json")
    await query(shop.database, "UPDATE senders SET pause_cause = 'throttled'")
    assert "throttled until 20" in await shop.say("senders", "list")


async def test_a_silence_between_two_bursts_is_not_taken_for_a_pace(shop: Shop) -> None:
    job = await post(shop.database, recipients=40)
    await query(
        shop.database,
        "INSERT INTO attempts (recipient_id, attempt, at, event, daemon_id, claim_token) "
        "SELECT id, 1, UTC_TIMESTAMP(6) - INTERVAL IF(id % 10 < 5, 50, 15) - (id % 10) * 0.5 SECOND, "
        "'sent', 'd', '' FROM job_recipients ORDER BY id LIMIT 10",
    )
    reader = ForecastReader(shop.database, Live(default_limits(shop.settings)), 5.0)
    inputs = await reader.read(job)
    assert inputs is not None
    assert 100 < inputs.measured < 140, "two messages a second, although nothing went since"
