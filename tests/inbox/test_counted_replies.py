"""Replies in the tallies: each message once, when its reply came, whoever reads the inbox and however often."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from mailerd.config import Live
from mailerd.core.inbox_findings import Finding, Found, InboxCursor, InboxLease, SentMessage
from mailerd.core.notices import Classification, Kind
from mailerd.core.rate_limit import SenderLimits
from mailerd.core.results import Consequence, Result, Step
from mailerd.errors import DatabaseError
from mailerd.store.db.database import Database
from mailerd.store.inbox.mailboxes import Mailboxes
from mailerd.store.inbox.record_findings import FindingsWriter, LeaseLostError
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.write import messages as door
from mailerd.store.write import tallies
from mailerd.store.write.retention import OldMinutes
from tests.inbox.place import ME
from tests.support.rows import post, query

MINUTE = timedelta(minutes=1)
LIMITS = Live(DefaultLimits(SenderLimits(6000, 0, 2000)))
COUNTED = "SELECT minute, SUM(replied) FROM tallies WHERE replied > 0 GROUP BY minute"


class Reader:
    """A daemon that reads the inbox."""

    def __init__(self, database: Database, name: str) -> None:
        self.boxes = Mailboxes(database, LIMITS, lease_time=MINUTE, interval=MINUTE)
        self.writer = FindingsWriter(database, LIMITS, name, MINUTE, min_pause=MINUTE, undo=True)

    async def lease(self) -> InboxLease:
        lease = await self.boxes.lease(ME)
        assert lease is not None
        return lease

    async def write(self, lease: InboxLease, found: Sequence[Found]) -> None:
        await self.writer.write(lease, found, InboxCursor(5, 5), address_key=b"k" * 32)


async def sent(database: Database, people: int) -> list[SentMessage]:
    await post(database, recipients=people)
    await query(database, "UPDATE job_recipients SET status = 'sent', thread_id = CONCAT('t', seq), message_id = id")
    await query(database, "INSERT INTO mailboxes (email, next_at) VALUES (%s, UTC_TIMESTAMP(6))", ME)
    threads = {f"t{n}" for n in range(people)}
    found = await Mailboxes(database, LIMITS, lease_time=MINUTE, interval=MINUTE).messages_in(ME, threads)
    return [found[thread][0] for thread in sorted(threads)]


def about(message: SentMessage, gmail_id: str, at: datetime, result: Result = Result.REPLIED) -> Finding:
    kind = Kind.AUTO_REPLY if result is Result.AUTO_REPLIED else Kind.REPLY
    kind = Kind.HARD if result is Result.BOUNCED else kind
    meaning = Classification(kind, addresses=(message.to_email,))
    return Finding(gmail_id, f"t{message.seq}", at, message, meaning, Consequence(result, Step.NOTHING))


async def test_a_message_counts_once_when_its_reply_came_and_not_for_a_program(database: Database) -> None:
    a, b, c, d = await sent(database, 4)
    it, now = Reader(database, "D"), datetime.now(UTC)
    lease, old = await it.lease(), now.replace(second=7) - timedelta(hours=30)
    await it.write(lease, [about(a, "g1", old, Result.OTHER_REPLIED), about(b, "g2", now, Result.AUTO_REPLIED)])
    await it.write(lease, [about(a, "g3", now), about(a, "g1", old)])  # once more, by somebody else before
    await it.write(lease, [about(b, "g4", now + timedelta(days=1)), about(c, "g5", old, Result.BOUNCED)])
    await it.write(lease, [about(c, "g6", now), about(d, "g7", now, Result.AUTO_REPLIED)])
    minute = old.replace(second=0, microsecond=0, tzinfo=None)
    then, today = await query(database, f"{COUNTED} ORDER BY minute")
    assert then == (minute, 1)
    assert (today[1], today[0] <= datetime.now(UTC).replace(tzinfo=None)) == (1, True), "no reply of tomorrow"
    assert await query(database, "SELECT replied, bounced FROM jobs") == [(2, 1)]
    while (await OldMinutes().delete(database)).more:
        pass
    assert await query(database, "SELECT hour, replied FROM tally_hours") == [(minute.replace(minute=0), 1)]
    await it.write(lease, [about(d, "g8", old)])  # its hour was merged already
    while (await OldMinutes().delete(database)).more:
        pass
    assert await query(database, "SELECT SUM(replied) FROM tally_hours") == [(2,)]


async def test_a_reply_counts_once_though_its_reader_dies_and_another_reads_it_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    (message,) = await sent(database, 1)
    one, other, now = Reader(database, "D1"), Reader(database, "D2"), datetime.now(UTC)
    first, found = await one.lease(), [about(message, "g1", now)]
    count, written = tallies.count_tallies, list[object]()

    def dies(*given: object) -> object:
        written.append(count(*given))  # type: ignore[arg-type]
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(door, "count_tallies", dies)
        with pytest.raises(ZeroDivisionError):
            await one.write(first, found)
    assert written[0]
    assert await query(database, f"{COUNTED}") == await query(database, "SELECT 1, 1 FROM notices") == []
    await query(database, "UPDATE mailboxes SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND")
    second = await other.lease()
    answers = await asyncio.gather(
        one.write(first, found), other.write(second, found), other.write(second, found), return_exceptions=True
    )
    assert isinstance(answers[0], LeaseLostError | DatabaseError)
    await other.write(second, found)
    assert [number for _, number in await query(database, COUNTED)] == [1]
    assert await query(database, "SELECT replied FROM jobs") == [(1,)]
