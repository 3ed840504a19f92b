"""`mailerd explain`: why a job waits, what is next and when; and what a person did to it."""

import re

import pytest

from tests.cli.conftest import Shop
from tests.support.rows import post, query

BEGUN = "UPDATE jobs SET status = 'sending', started_at = created_at"
USED_UP = "INSERT INTO sender_hours VALUES ('me@example.com', UTC_TIMESTAMP() - INTERVAL 2 HOUR, 2000)"
DEFERRED = (
    "UPDATE job_recipients SET attempts = 2, error = 'Google answered 503', "
    "due_at = UTC_TIMESTAMP(6) + INTERVAL 5 MINUTE"
)
UNSURE = "UPDATE job_recipients SET status = 'unsure', attempts = 1, mode = 'direct', lease_until = {until}"
AT = r"(\w+ )?\d\d:\d\d UTC"


@pytest.mark.parametrize(
    "rows, waits, next_",
    [
        (DEFERRED, rf"put off until {AT}, since the last attempt said: Google answered 503\.", f"from {AT}, done"),
        (USED_UP, rf"the sender's letters of 24 hours are used up \(2,000\): the next goes at {AT}\.", "from "),
        (
            UNSURE.format(until="UTC_TIMESTAMP(6) + INTERVAL 5 MINUTE"),
            rf"3 letters are unsure: looked for at Google at {AT}\.",
            "3 letters are unsure: looked for at Google at ",
        ),
        (UNSURE.format(until="NULL"), "3 letters are unsure until `mailerd settle` says", "3 letters are unsure until"),
        (
            "UPDATE jobs SET status = 'paused', send_at = UTC_TIMESTAMP(6) + INTERVAL 9 DAY",
            r"the job is paused\.",
            r"not before the job is resumed\.",
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
        assert re.search(f"^It waits: {waits}", said, re.MULTILINE), said
        assert re.search(f"^Next: {next_}", said, re.MULTILINE), said
        assert "no daemon was heard of for 30 s" in said


async def test_the_pace_is_told_with_the_end(shop: Shop) -> None:
    shop.config.write_text(shop.config.read_text().replace("units_per_minute = 0", "units_per_minute = 6000"))
    job = await post(shop.database, recipients=300)
    said = await shop.say("explain", job)
    assert re.search(rf"^Next: done about {AT}, at 53\.4 letters a minute\.$", said, re.MULTILINE), said
    assert "It waits" not in said


async def test_a_paused_job_is_not_said_to_be_early(shop: Shop) -> None:
    job = await post(shop.database)
    await query(shop.database, "UPDATE jobs SET send_at = UTC_TIMESTAMP(6) + INTERVAL 9 DAY")
    said = await shop.say("jobs", "pause", job)
    assert said.splitlines()[-1] == "It waits: the job is paused."
    said = await shop.say("explain", job)
    assert re.search(r"UTC  pause, asked by command, \S+\.$", said, re.MULTILINE), said


async def test_what_a_person_settled_is_told_as_his_word_and_not_as_a_look(shop: Shop) -> None:
    job = await post(shop.database)
    await query(shop.database, UNSURE.format(until="NULL"))
    rows = await query(shop.database, "SELECT id FROM job_recipients ORDER BY id")
    (sent, unsent, _) = (str(id_) for (id_,) in rows)
    await shop.say("settle", sent, "--sent")
    await shop.say("settle", unsent, "--not-sent")
    told, back = await shop.say("explain", sent), await shop.say("explain", unsent)
    assert "attempt 1: it was settled by hand: sent." in told
    assert "attempt 1: it was settled by hand: not sent." in back
    assert "looked for" not in told + back
    await shop.say("jobs", "cancel", job)
    cancelled = await shop.say("explain", job)
    assert re.search(r"UTC  cancel, asked by command, \S+: 1 letter\.$", cancelled, re.MULTILINE), cancelled


async def test_a_letter_with_very_many_attempts_is_told_on_a_page(shop: Shop) -> None:
    await post(shop.database)
    ((recipient,), *_) = await query(shop.database, "SELECT id FROM job_recipients ORDER BY id")
    await query(
        shop.database,
        "INSERT INTO attempts SELECT NULL, %s, LEAST(seq, 65535), LPAD(seq, 26, '0'), 'D', 'deferred', 1, NULL, NULL, "
        "CONCAT('refused for the ', seq, 'th time ', REPEAT('x', 200)), UTC_TIMESTAMP(6) FROM seq_1_to_100000",
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
