"""Two daemons that are killed send messages with copies: the day is kept as Google counts it, and none goes twice.

`MAILERD_COPIES=2000` is the full size of it.
"""

import asyncio
import os
import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from mailerd.config import Settings
from mailerd.core.copies import Copy, cost
from mailerd.sandbox.google import FakeGoogle
from mailerd.sandbox.google.mailbox import Message
from mailerd.store.db.database import Database
from tests.chaos.child import Child
from tests.daemon.test_suppression import suppress
from tests.support.copies import addressed, post_copied
from tests.support.daemon import sign_in
from tests.support.eventually import eventually
from tests.support.rows import query

MESSAGES = int(os.environ.get("MAILERD_COPIES", "160"))
WORK, HOME = "me@example.com", "me@gmail.com"
SHARE = 0.6
"""Of what all messages cost, a day has so much room."""
LOST_BY_A_KILL = 6 * 11
"""The most that one daemon has in flight, each with ten copies: it stays counted where it was not sent."""
KILLS = 5
BUSY = "SELECT COUNT(*) FROM job_recipients WHERE status IN ('sending', 'unsure')"
DUE = "SELECT COUNT(*) FROM senders WHERE next_claim_at < UTC_TIMESTAMP(6) + INTERVAL 10 MINUTE"
Wanted = dict[str, tuple[str, list[Copy]]]


def drawn(dice: random.Random, number: int) -> tuple[str, list[Copy]]:
    """A message with 0 to 10 copies."""
    domains = ("example.com", "example.com", "example.org", "example.net")
    copies = [
        Copy(dice.choice(["cc", "bcc"]), f"c{dice.randrange(400)}x{n}@{dice.choice(domains)}")
        for n in range(dice.randrange(11))
    ]
    return f"to{number}@{dice.choice(domains)}", copies


def config(known: Settings, folder: Path, *, days: Mapping[str, int]) -> Path:
    """The settings of a daemon under which a mailbox may send so much a day."""
    path = folder / "mailerd.toml"
    path.touch(mode=0o600)
    path.write_text(f"""
database.url = "{known.database.url}"
intake.port = 0
runner = {{ poll_interval = 0.1, lease = 8, concurrency = 6 }}
pace = {{ units_per_minute = 0, per_day = {days[WORK]}, consumer_per_day = {days[HOME]} }}
[gmail]
request_timeout = 2
api_root = "{known.gmail.api_root}"
token_uri = "{known.gmail.token_uri}"
credentials_dir = "{known.gmail.credentials_dir}"
""")
    return path


def assert_the_day(sent: list[Message], sender: str, day: int) -> int:
    """What Google counts of a mailbox is within its day; as how many messages these count."""
    mine = [it for it in sent if it.sender == sender]
    addresses = [address for it in mine for address in it.recipients]
    outside = [it for it in addresses if not it.endswith(f"@{sender.partition('@')[2]}")]
    assert len(mine) <= day
    if sender == HOME:
        assert len(addresses) <= day
    else:
        assert len(addresses) <= 5 * day
        assert len(outside) <= 1.5 * day
        assert len(set(outside)) <= day
    return sum(cost([Copy("cc", it) for it in message.recipients[1:]], sender=sender) for message in mine)


def assert_addresses(google: FakeGoogle, wanted: Wanted, before: set[str], since: set[str]) -> None:
    """Each message has the addresses that were asked for, without those that had opted out."""
    assert google.duplicates() == {}
    for message in google.sent:
        to, copies = wanted[message.key]
        found = addressed(message)
        assert found["to"] == [to]
        for header in ("cc", "bcc"):
            asked = {it.email for it in copies if it.header == header and it.email not in before}
            assert asked - since <= set(found[header]) <= asked
            assert len(set(found[header])) == len(found[header])


async def test_the_day_is_kept_and_each_message_goes_once_to_whom_it_was_asked_for(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, tmp_path: Path
) -> None:
    dice, wanted, days = random.Random(41), Wanted(), dict[str, int]()
    sign_in(google, credentials, HOME)
    for sender in (WORK, HOME):
        messages = [drawn(dice, number) for number in range(MESSAGES // 2)]
        job = await post_copied(database, *messages, sender=sender)
        wanted |= {f"{job}-{seq}": it for seq, it in enumerate(messages)}
        days[sender] = int(SHARE * sum(cost(copies, sender=sender) for _, copies in messages))
    days[HOME] = min(days.values())  # that of a consumer mailbox is the smaller one at Google
    google.change_rules(per_day=days[WORK], consumer_per_day=days[HOME], latency_s=0.05)
    named = sorted({it.email for _, copies in wanted.values() for it in copies})
    before, since = set(dice.sample(named, 20)), set(dice.sample(named, 20))
    for address in before:
        await suppress(database, address)
    path = config(known, tmp_path, days=days)
    daemons = [Child(name, config=path, port=0) for name in ("one", "two")]

    async def rests() -> bool:
        return await query(database, BUSY) == [(0,)] and await query(database, DUE) == [(0,)]

    async def has_sent(messages: int) -> bool:
        return len(google.sent) >= messages

    async def all_are_sent() -> bool:
        """And the orphans of the kills are deleted, which are searched for beside the sending."""
        left = await query(database, "SELECT COUNT(*) FROM job_recipients WHERE status <> 'sent'")
        return left == [(0,)] and not await asyncio.to_thread(google.drafts)

    try:
        for daemon in daemons:
            daemon.start()
        for number in range(KILLS):
            await eventually(partial(has_sent, (number + 1) * MESSAGES // 20), within=300)
            victim = daemons[number % 2]
            victim.kill()
            victim.start()
            if number == 1:
                for address in since:
                    await suppress(database, address)
        await eventually(rests, within=600)
        cost_of_day = {sender: assert_the_day(google.sent, sender, days[sender]) for sender in days}
        assert_addresses(google, wanted, before, since)
        assert google.usage()["throttled"] == 0, "Google had to turn none away"
        assert len(google.sent) < MESSAGES
        assert sum(cost_of_day.values()) >= sum(days.values()) - KILLS * LOST_BY_A_KILL - 2 * 11
        google.change_rules(per_day=0)
        config(known, tmp_path, days=dict.fromkeys(days, 0))
        for daemon in daemons:
            daemon.kill()
            daemon.start()
        await eventually(all_are_sent, within=600)
    finally:
        for daemon in daemons:
            daemon.kill()
    assert len(google.sent) == len({it.key for it in google.sent}) == MESSAGES
    assert_addresses(google, wanted, before, since)
