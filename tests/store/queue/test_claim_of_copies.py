"""A claim takes no message for whose copies the day has no room, and nothing that stands behind it."""

from mailerd.core.claims import Outcome
from mailerd.core.copies import Copy
from mailerd.core.decisions import Decision
from mailerd.core.rate_limit import SenderLimits
from mailerd.core.reasons import reason
from mailerd.core.states import Transition
from mailerd.store.db.database import Database
from mailerd.store.queue.claim import Claims
from mailerd.store.queue.record import RecordWriter
from tests.store.queue.test_claim import claims
from tests.support.copies import BOTH, post_copied
from tests.support.rows import query, states

HOURS = "SELECT messages, copies FROM sender_hours ORDER BY hour"
TURN = "SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), next_claim_at) FROM senders"


def outside(number: int) -> list[Copy]:
    return [Copy("cc", f"c{each}@example.net") for each in range(number)]


def of_a_day(database: Database, per_day: int) -> Claims:
    return claims(database, allowance=SenderLimits(0, 0, per_day))


async def test_the_day_is_debited_with_the_copies_and_the_rest_waits_for_room(database: Database) -> None:
    job = await post_copied(database, *[(f"r{number}@example.org", outside(2)) for number in range(5)])
    claim = await of_a_day(database, 10).claim(20)
    assert [(it.seq, it.copies_cost, len(it.copies)) for it in claim.messages] == [(0, 2, 2), (1, 2, 2), (2, 2, 2)]
    assert await query(database, HOURS) == [(3, 6)]
    assert await states(database, job) == {"sending": 3, "waiting": 2}
    ((seconds,),) = await query(database, TURN)
    assert 23 * 3600 < seconds <= 25 * 3600, "one message is left of the day, and the next one costs three"
    assert claim.next_in is not None
    assert claim.next_in > 23 * 3600


async def test_what_is_cheaper_does_not_overtake_what_is_dearer(database: Database) -> None:
    await post_copied(database, ("a@example.org", outside(7)), ("b@example.org", outside(3)), ("c@example.org", []))
    claim = await of_a_day(database, 10).claim(20)
    assert [it.seq for it in claim.messages] == [0]
    await query(database, "UPDATE sender_hours SET hour = hour - INTERVAL 25 HOUR")
    await query(database, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6)")
    claim = await of_a_day(database, 10).claim(20)
    assert [it.seq for it in claim.messages] == [1, 2]


async def test_a_message_that_is_dearer_than_a_whole_day_waits_for_another_limit(database: Database) -> None:
    await post_copied(database, ("a@example.org", outside(9)))
    claim = await of_a_day(database, 9).claim(20)
    assert claim.messages == ()
    assert claim.exhausted == ()
    ((seconds,),) = await query(database, TURN)
    assert 3500 < seconds <= 3600
    assert (await of_a_day(database, 9).claim(20)).messages == ()
    assert len((await of_a_day(database, 10).claim(20)).messages) == 1, "a daemon notices that the limit was raised"


async def test_without_a_limit_of_the_day_all_go_and_are_counted(database: Database) -> None:
    await post_copied(database, *[(f"r{number}@example.org", None) for number in range(3)], shared=BOTH)
    claim = await of_a_day(database, 0).claim(20)
    assert [[it.email for it in each.copies] for each in claim.messages] == [[it.email for it in BOTH]] * 3
    assert await query(database, HOURS) == [(3, 6)]


async def test_what_was_not_sent_is_given_back_with_its_copies(database: Database) -> None:
    await post_copied(database, ("a@example.org", outside(4)), ("b@example.org", []))
    claim = await of_a_day(database, 100).claim(20)
    released = Decision(Transition.RELEASED, error=reason("copy_suppressed"))
    writer = RecordWriter(database, "D1")
    await database.transaction(
        lambda cursor: writer.record(cursor, [Outcome(it, released) for it in claim.messages[:1]]), what="record"
    )
    assert await query(database, HOURS) == [(1, 0)]


async def test_two_rounds_of_a_claim_share_one_day(database: Database) -> None:
    for _ in range(4):
        await post_copied(database, *[(f"r{number}@example.org", outside(1)) for number in range(4)])
    claimer, taken = of_a_day(database, 9), 0
    for _ in range(5):
        taken += len((await claimer.claim(3)).messages)
    assert taken == 4
    assert await query(database, HOURS) == [(4, 4)]
    assert await query(database, "SELECT next_claim_at > UTC_TIMESTAMP() + INTERVAL 1 HOUR FROM senders") == [(1,)]
