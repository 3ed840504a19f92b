"""`mailerd senders list` beside `GET /api/senders`: one word and one finding for one state."""

import json

import pytest

from mailerd.core.reading import Authorization
from mailerd.intake.senders import SenderOut
from mailerd.store.queue.rate_limits import default_limits
from mailerd.store.read.senders import Senders
from tests.cli.conftest import ME, Shop
from tests.support.rows import post, query

_FAIL = (
    "INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, error, at) SELECT id, 1, LPAD(id, 26, "
    "'0'), 'd', 'deferred', 'Google responded 500', UTC_TIMESTAMP(6) - INTERVAL id SECOND FROM job_recipients"
)
_BRAKE = "UPDATE jobs SET next_claim_at = UTC_TIMESTAMP(6) + INTERVAL 2 MINUTE, braked_until = next_claim_at"
_PAUSE = "UPDATE senders SET paused_until = '9999-12-31', pause_cause = 'manual', pause_reason = 'moving'"


@pytest.mark.parametrize(
    "statement, state, word, finding",
    [
        ("DO 0", "sending", "sending", None),
        ("UPDATE job_recipients SET due_at = due_at + INTERVAL 1 DAY", "idle", "idle", None),
        (_FAIL, "idle", "deferred", "amber deferred"),
        (_BRAKE, "idle", "bounces are read first", "blue braked"),
        (_PAUSE, "paused", "paused manually", "blue manual"),
    ],
    ids=["sending", "idle", "failing", "braked", "paused"],
)
async def test_the_command_says_of_a_sender_what_the_api_says(
    shop: Shop, statement: str, state: str, word: str, finding: str | None
) -> None:
    await post(shop.database, recipients=5)
    await query(shop.database, statement)
    (reading,) = await Senders(shop.database, default_limits(shop.settings), 5).page(only=None, limit=1, aliases=None)
    told = SenderOut.of(reading, Authorization(), ())
    (listed,) = json.loads(await shop.say("senders", "list", "--json"))["senders"]
    said = told.model_dump(mode="json")
    assert (listed["state"], listed["finding"]) == (said["state"], said["finding"])
    assert (told.state, told.finding and f"{told.finding.severity} {told.finding.code}") == (state, finding)
    line = (await shop.say("senders", "list", "--wide")).splitlines()[1].strip()
    assert line.startswith(f"{ME}  {word}  ")


async def test_a_mailbox_is_changed_where_it_has_a_job_or_is_authorized_and_nothing_else_is(shop: Shop) -> None:
    for verb in ("pause", "resume"):
        said = await shop.say("senders", verb, "none@example.com", code=1)
        assert "unknown sender none@example.com: it has no credential file and no job" in said
    assert await query(shop.database, "SELECT email FROM senders") == []
    assert f"{ME} is not paused" in await shop.say("senders", "resume", ME)  # authorized, and never used
    assert "no reason given" in await shop.say("senders", "pause", ME)
    assert await query(shop.database, "SELECT email, pause_cause FROM senders") == [(ME, "manual")]


async def test_limits_are_set_before_the_first_message_of_a_mailbox(shop: Shop) -> None:
    assert "per day: 90" in await shop.say("senders", "set", "none@example.com", "--per-day", "90")
    assert await query(shop.database, "SELECT email, per_day FROM senders") == [("none@example.com", 90)]
