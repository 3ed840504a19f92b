"""Transactions of one daemon that meet on the same rows take their locks in one order, so that none is a deadlock.

They do meet: a server that stood still runs what was cut off long ago beside what came after it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from mailerd.core.decisions import Decision, Pause
from mailerd.core.models import ClaimedRecipient, Outcome, Record
from mailerd.core.states import Transition
from mailerd.core.verdicts import PauseCause
from mailerd.store.db.database import Database
from mailerd.store.queue.record import RecordWriter
from mailerd.store.queue.recovery import RecoveryQueries
from tests.store.queue.test_claim import claims
from tests.support.handover import handover
from tests.support.heard import Heard
from tests.support.replayed import replayed
from tests.support.rows import post, query, states

MINUTE = timedelta(minutes=1)
ROUNDS = 60


async def record(database: Database, records: Sequence[Record]) -> None:
    it = RecordWriter(database, "D1")

    async def work(cursor: object) -> None:
        await it.record(cursor, records)  # type: ignore[arg-type]
        await cursor.execute("ROLLBACK")  # type: ignore[attr-defined]  # the same again in the next round

    await database.transaction(work, what="record", bound=120.0)  # the last of so many waits for all others


async def test_records_of_two_daemons_that_touch_the_same_senders_never_deadlock(
    database: Database, heard: Heard
) -> None:
    """Each learns of the senders whose letters the other says were slow, came back or were refused."""
    senders = [f"s{number}@example.com" for number in range(6)]
    for sender in senders:
        await post(database, sender=sender, recipients=4)
    letters = (await claims(database).claim(24)).letters
    await query(database, "UPDATE senders SET project = IF(email < 's3', 'q', 'p')")
    await query(database, "INSERT INTO projects (name) VALUES ('p'), ('q')")
    slow = Decision(Transition.SENT, message_id="m")
    back = Decision(Transition.DEFERRED, error="no", wait=MINUTE)
    paused = Decision(
        Transition.RELEASED, error="slow down", wait=MINUTE, pause=Pause(PauseCause.THROTTLED, "no", MINUTE)
    )

    def of(seq: int, *, first: bool) -> list[ClaimedRecipient]:
        return [it for it in letters if it.seq == seq and (it.sender in senders[:3]) is first]

    def touching(seq: int, *, first: bool) -> list[Record]:
        """Hand-overs that teach of one half of the senders, and outcomes that touch the other."""
        taught: list[Record] = [handover(it, "d", "t", project="p") for it in of(seq, first=first)]
        others = [replace(it, latency_threshold=0.4) for it in of(seq + 1, first=not first)]
        decisions = (slow, back, paused)
        return taught + [Outcome(it, decision, took=2.0) for it, decision in zip(others, decisions, strict=True)]

    one, other = touching(0, first=True), touching(2, first=False)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(ROUNDS):
            tasks.create_task(record(database, one))
            tasks.create_task(record(database, other))
    assert [told for told in heard.of("transaction_repeated") if "1213" in str(told["cause"])] == []


async def at_once(database: Database, one: Sequence[Record], other: Sequence[Record]) -> None:
    """Two daemons, again and again; a deadlock would be raised here, since nothing repeats it."""
    async with asyncio.TaskGroup() as tasks:
        for _ in range(ROUNDS):
            for records in (one, other):
                tasks.create_task(record(database, records))


async def test_two_senders_whose_project_is_used_up_pause_it_together_without_a_deadlock(database: Database) -> None:
    senders = [f"s{number}@example.com" for number in range(6)]
    for sender in senders:
        await post(database, sender=sender, recipients=1)
    letters = (await claims(database).claim(6)).letters
    await query(database, "UPDATE senders SET project = 'p'")
    paused = Decision(Transition.RELEASED, error="no", wait=MINUTE, pause=Pause(PauseCause.PROJECT_LIMIT, "no", MINUTE))
    one, other = ([Outcome(it, paused) for it in letters if it.sender == senders[number]] for number in (1, 4))
    await at_once(database, one, other)


async def test_two_halves_of_a_cancelled_job_come_back_without_a_deadlock(database: Database) -> None:
    job = await post(database, recipients=40)
    letters = (await claims(database).claim(40)).letters
    await query(database, "UPDATE jobs SET status = 'cancelled', next_claim_at = NULL")
    back = Decision(Transition.RELEASED, error="no", wait=MINUTE)
    one, other = ([Outcome(it, back) for it in half] for half in (letters[:20], letters[20:]))
    await at_once(database, one, other)
    it = RecordWriter(database, "D1")
    for half in (one, other):
        await database.transaction(lambda c, half=half: it.record(c, half), what="record")  # type: ignore[misc]
    assert await states(database, job) == {"cancelled": 40}


async def test_a_renewal_and_a_record_of_the_same_letters_never_deadlock(database: Database, heard: Heard) -> None:
    await post(database, recipients=40)
    letters: Sequence[ClaimedRecipient] = (await claims(database).claim(40)).letters
    # Hand-overs of the later rows and outcomes of the earlier ones, each as they came in: the other way round.
    records: list[Record] = [handover(letter, "d", "t") for letter in letters[20:]]
    records += [Outcome(letter, Decision(Transition.SENT, message_id="m")) for letter in letters[:20]]
    records.reverse()
    rescues = RecoveryQueries(database, "D1", MINUTE, replayed(database))
    held = [(letter.id, letter.token) for letter in letters]
    async with asyncio.TaskGroup() as tasks:  # a deadlock would be raised here: nothing repeats it
        for _ in range(ROUNDS):
            tasks.create_task(record(database, records))
            tasks.create_task(rescues.renew(held, lease=MINUTE))
    assert [told for told in heard.of("transaction_repeated") if "1213" in str(told["cause"])] == []
