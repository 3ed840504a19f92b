"""`mailerd bounces`, what `explain` and `check` say of inboxes."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from mailerd.cli.checks.database import Shown, read_states
from mailerd.cli.checks.result import Level
from mailerd.store.inbox.mailboxes import InboxState
from tests.cli.conftest import Shop
from tests.support.rows import post, query

NOW = datetime(2026, 11, 26, tzinfo=UTC)
STATES = [
    ("read", "readonly", Level.PASS, "ago, by gmail.readonly"),
    ("read", "metadata", Level.PASS, "bounces have no class"),
    ("behind", "readonly", Level.WARN, "catching up, by gmail.readonly (read "),
    ("no scope", "", Level.WARN, "not read"),
    ("refused", "readonly", Level.PASS, " ago; the last attempt failed: revoked"),
    ("new", "", Level.WARN, "never read"),
]


@pytest.mark.parametrize("state,scope,level,words", STATES)
def test_check_says_how_far_behind_an_inbox_is(state: str, scope: str, level: Level, words: str) -> None:
    read_at = None if state == "new" else NOW - timedelta(minutes=1)
    it = InboxState("me@example.com", scope, state, "revoked", read_at, NOW, None, NOW)
    (found,) = read_states([it], Shown())
    assert found.level is level
    assert words in found.what


async def test_bounces_and_the_story_of_a_message_are_shown(shop: Shop) -> None:
    job = await post(shop.database, recipients=["ada@example.org"])
    await query(
        shop.database,
        "UPDATE job_recipients SET status = 'sent', message_id = 'm', proof = 'answered', sent_at = UTC_TIMESTAMP(6), "
        "result = 'bounced', result_kind = 'soft', result_code = '5.2.2', result_reason = 'full', result_at = "
        "UTC_TIMESTAMP(6)",
    )
    await query(
        shop.database,
        "INSERT INTO notices (mailbox, gmail_id, thread_id, recipient_id, email, kind, code, detail, believed, at) "
        "SELECT 'me@example.com', 'g', 't', id, to_email, 'soft', '5.2.2', 'full', 1, UTC_TIMESTAMP(6) "
        "FROM job_recipients",
    )
    await query(shop.database, "UPDATE notices SET sender_email = mailbox")
    shown = await shop.say("bounces", "--sender", "me@example.com")
    assert all(word in shown for word in ("soft", "5.2.2", "ada@example.org", "full"))
    assert "5.2.2" in await shop.say("bounces", "--sender", "Me@Example.com"), "no other mailbox is meant"
    assert "example.org" in await shop.say("bounces", "--domains", "--sender", "ME@example.com")
    await shop.say("bounces", "--sender", "no address", code=1)
    (told,) = json.loads(await shop.say("bounces", "--json"))["bounces"]
    assert (told["kind"], told["at"][10:11], told["at"][-1:]) == ("soft", "T", "Z"), "as the API has it"
    assert "example.org" in await shop.say("bounces", "--domains")
    assert "No bounces." in await shop.say("bounces", "--kind", "hard")
    await query(shop.database, "UPDATE notices SET job_id = REPEAT('0', 26)")
    assert "5.2.2" in await shop.say("bounces", "--job", "0" * 26)
    assert "No bounces." in await shop.say("bounces", "--job", "1" * 26)
    for option in ("--kind=hard", "--limit=1", "--before=9"):
        said = " ".join((await shop.say("bounces", "--domains", option, code=2)).replace("│", " ").split())
        assert "cannot be combined with --job, --kind, --limit or --before" in said
    assert f"jobs retry {job} --bounced soft" in await shop.say("explain", "ada@example.org")
    await query(shop.database, "UPDATE job_recipients SET result_kind = 'hard'")
    assert "`mailerd suppress remove ada@example.org`" in " ".join(
        (await shop.say("explain", "ada@example.org")).split()
    )
    address = "`reboot`@example.org"  # a shell would run it
    await query(shop.database, "UPDATE job_recipients SET to_email = %s", address)
    assert f"`mailerd suppress remove '{address}'`" in " ".join((await shop.say("explain", address)).split())
    await query(shop.database, "UPDATE job_recipients SET result_kind = 'soft'")
    assert "done, 1 message" in await shop.say("jobs", "retry", job, "--bounced", "soft")
