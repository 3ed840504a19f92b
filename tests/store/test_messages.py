"""The door to the messages: a move is written with all that follows from it, once, or nothing of it is."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mailerd.core import moves
from mailerd.core.claims import ClaimedRecipient, Outcome
from mailerd.core.decisions import Decision
from mailerd.core.moves import AttemptLog, Line, Move, Row
from mailerd.core.states import ImpossibleTransitionError, State, Transition
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.write import messages
from mailerd.store.write.messages import Locked
from tests.store.queue.test_claim import claims
from tests.store.queue.test_record import SENT
from tests.store.queue.test_undo_sent import CANCEL
from tests.support.eventually import eventually
from tests.support.rows import post, query

HOUR = timedelta(hours=1)
DEFERRED = Decision(Transition.DEFERRED, error="busy", wait=HOUR)
RELEASED = Decision(Transition.RELEASED, error="throttled")
FAILED = Decision(Transition.FAILED, error="no such address")
NEXT = "SELECT TIMESTAMPDIFF(MINUTE, UTC_TIMESTAMP(6), next_claim_at) FROM {} WHERE next_claim_at IS NOT NULL"
WAITS = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%SELECT%FROM%FOR UPDATE'"


async def claimed(database: Database, number: int = 1) -> tuple[ClaimedRecipient, ...]:
    await post(database, recipients=number)
    return (await claims(database).claim(number)).messages


async def move(
    database: Database, ids: list[int], make: Callable[[dict[int, Row], Locked], list[Move | None]]
) -> list[Row]:
    """Lock these messages, and write what is made of them."""

    async def work(cursor: Cursor) -> list[Row]:
        locked = await messages.lock(cursor, ids)
        return await messages.move(cursor, [it for it in make(locked.rows, locked) if it], by="D1")

    return await database.transaction(work, what="move")


async def end(database: Database, *outcomes: Outcome) -> list[Row]:
    return await move(
        database, [it.message.id for it in outcomes],
        lambda rows, locked: [moves.ended(rows[it.message.id], it, now=locked.now) for it in outcomes],
    )  # fmt: skip


def resulted(row: Row, locked: Locked, result: str) -> Move:
    about: dict[str, Any] = {"kind": "hard", "code": None, "reason": None, "at": locked.now}
    made = moves.resulted(row, result=result, sender="me@example.com", now=locked.now, **about)
    assert made is not None
    return made


@pytest.mark.parametrize(
    "change, status",
    [(Transition.MISSING, State.WAITING), (Transition.SENT, State.WAITING), (Transition.RELEASED, State.SENT)],
    ids=["it is not in doubt", "it is sent", "it waits"],
)
async def test_a_move_that_the_table_of_transitions_does_not_know_writes_nothing(
    database: Database, change: Transition, status: State
) -> None:
    """A fault in mailerd: of a batch nothing is written, and the claims lapse."""
    one, other = await claimed(database, 2)

    def wrong(rows: dict[int, Row], locked: Locked) -> list[Move | None]:
        good = moves.ended(rows[one.id], Outcome(one, SENT), now=locked.now)
        return [good, Move(rows[other.id], rows[other.id]._replace(status=status), change)]

    with pytest.raises(ImpossibleTransitionError):
        await move(database, [one.id, other.id], wrong)
    assert await query(database, "SELECT status FROM job_recipients") == [("sending",), ("sending",)]
    assert await query(database, "SELECT event FROM attempts") == []


async def test_of_two_moves_of_one_message_both_are_written(database: Database) -> None:
    """What came back of it was read before its own outcome was recorded."""
    (message,) = await claimed(database)

    def both(rows: dict[int, Row], locked: Locked) -> list[Move | None]:
        first = resulted(rows[message.id], locked, "bounced")
        return [first, moves.ended(first.after, Outcome(message, SENT), now=locked.now)]

    done = await move(database, [message.id], both)
    assert [(it.status, it.result, it.message_id) for it in done] == [(State.SENT, "bounced", "m1")] * 2
    assert await query(database, "SELECT status, result, message_id FROM job_recipients") == [("sent", "bounced", "m1")]


@pytest.mark.parametrize("soonest", [0, 1])
async def test_a_job_and_its_sender_have_their_turn_when_the_first_of_its_messages_is_due(
    database: Database, soonest: int
) -> None:
    both = await claimed(database, 2)
    await query(database, "UPDATE senders SET next_claim_at = NULL")
    await query(database, "UPDATE jobs SET next_claim_at = NULL")
    outcomes = [Outcome(message, DEFERRED) for message in both]
    outcomes[soonest] = Outcome(both[soonest], RELEASED)
    await end(database, *outcomes)
    for table in ("jobs", "senders"):
        assert await query(database, NEXT.format(table)) == [(0,)]


@pytest.mark.parametrize("first", [DEFERRED, FAILED])
async def test_a_place_that_comes_free_is_the_senders_now_whatever_else_waits(
    database: Database, first: Decision
) -> None:
    both = await claimed(database, 2)
    await query(database, "UPDATE senders SET next_claim_at = NULL")
    second = FAILED if first is DEFERRED else DEFERRED
    await end(database, Outcome(both[0], first), Outcome(both[1], second))
    assert await query(database, NEXT.format("senders")) == [(0,)]


async def test_a_job_counts_what_has_come_back_and_was_answered_and_no_more_what_is_not_so(database: Database) -> None:
    one, other = await claimed(database, 2)
    ids = [one.id, other.id]

    async def become(first: str, second: str) -> list[tuple[Any, ...]]:
        await move(
            database,
            ids,
            lambda rows, locked: [resulted(rows[ids[0]], locked, first), resulted(rows[ids[1]], locked, second)],
        )
        return await query(database, "SELECT bounced, replied FROM jobs")

    assert await become("bounced", "replied") == [(1, 1)]
    assert await become("bounced", "other_replied") == [(1, 1)], "it is as it was"
    assert await become("replied", "bounced") == [(1, 1)]
    assert await become("bounced", "bounced") == [(2, 0)]
    assert await become("auto_replied", "auto_replied") == [(0, 0)]
    assert await query(database, "SELECT SUM(bounced) FROM tallies") == [(3,)], "each time that one came back"


async def test_what_was_sent_and_came_back_is_known_to_the_log_as_sent_no_longer(database: Database) -> None:
    """Every hand-over asks the log whether Google has the message."""
    one, other = await claimed(database, 2)
    await end(database, *(Outcome(it, SENT) for it in (one, other)))

    def back(rows: dict[int, Row], _: Locked) -> list[Move | None]:
        row = rows[one.id]
        after = row._replace(status=State.WAITING, proof=None, sent_at=None)
        line = Line(row.id, 1, "V", "undone", message_id="m1")
        return [Move(row, after, Transition.UNDONE, one.sender, [line], forgets_messages=True)]

    await move(database, [one.id], back)
    logged = "SELECT recipient_id, event, message_id FROM attempts ORDER BY id"
    assert await query(database, logged) == [
        (one.id, "sent", None), (other.id, "sent", "m1"), (one.id, "undone", "m1"),
    ]  # fmt: skip


async def test_a_bounce_that_is_retried_is_known_to_the_log_as_sent_no_longer(database: Database) -> None:
    one, other = await claimed(database, 2)
    await end(database, *(Outcome(it, SENT) for it in (one, other)))
    await query(database, "UPDATE job_recipients SET result = 'bounced', result_kind = 'soft' WHERE id = %s", one.id)

    async def retry(cursor: Cursor) -> tuple[int, list[AttemptLog]]:
        retried = await messages.send_bounced_again(cursor, one.job_id, token="V", kinds=["soft"])
        logs = await messages.read_log(cursor, [one.id, other.id])
        return retried, [logs[one.id], logs[other.id]]

    retried, logs = await database.transaction(retry, what="retry")
    assert (retried, [it.known_message for it in logs]) == (1, [None, "m1"])
    assert [it.messages_that_came_back for it in logs] == [{"m1"}, set()]


async def test_a_message_that_fails_while_its_job_is_retried_stays_failed_or_is_logged(database: Database) -> None:
    """It fails between the two statements of the retry, and is in the log of the first no more."""
    one, other = await claimed(database, 2)
    await end(database, Outcome(one, FAILED))

    async def retry(cursor: Cursor) -> int:
        execute = cursor.execute

        async def and_another_fails(sql: str, values: Sequence[object] | None = None) -> int:
            number = await execute(sql, values)
            if "INSERT INTO attempts" in sql:
                await end(database, Outcome(other, FAILED))
            return number

        cursor.execute = and_another_fails  # type: ignore[method-assign]
        return await messages.retry_failed(cursor, one.job_id, token="V")

    assert await database.transaction(retry, what="retry") == 1
    now = "SELECT r.status, COUNT(a.id) FROM job_recipients r JOIN attempts a ON a.recipient_id = r.id GROUP BY r.id"
    assert await query(database, f"{now} ORDER BY r.id") == [("waiting", 2), ("failed", 1)]


@pytest.mark.parametrize("decision, hours", [(RELEASED, 0), (DEFERRED, 0), (FAILED, 0), (SENT, 1)])
async def test_the_hour_that_was_debited_gets_back_what_was_not_sent(
    database: Database, decision: Decision, hours: int
) -> None:
    (message,) = await claimed(database)
    await query(database, "UPDATE sender_hours SET hour = hour - INTERVAL 2 HOUR")  # it was claimed two hours ago
    await query(
        database,
        "INSERT INTO sender_hours (sender_email, hour, messages) VALUES (%s, %s, 5)",
        message.sender,
        message.hour.replace(tzinfo=None) if message.hour else None,
    )
    assert message.hour is not None
    await end(database, Outcome(replace(message, hour=message.hour - 2 * HOUR), decision))
    assert await query(database, "SELECT messages FROM sender_hours ORDER BY hour") == [(hours,), (5,)]


async def test_what_the_caller_changes_too_is_done_in_the_same_transaction_and_once(database: Database) -> None:
    (message,) = await claimed(database)
    seen = []

    async def work(cursor: Cursor) -> None:
        locked = await messages.lock(cursor, [message.id])

        async def also() -> None:
            await cursor.execute("SELECT status FROM job_recipients")
            seen.append(await cursor.fetchall())

        made = moves.ended(locked.rows[message.id], Outcome(message, SENT), now=locked.now)
        assert made is not None
        await messages.move(cursor, [made], by="D1", also=also)

    await database.transaction(work, what="move")
    assert [list(rows) for rows in seen] == [[("sent",)]], "the rows are locked and written by then"


@pytest.mark.parametrize("decision", [RELEASED, DEFERRED])
async def test_what_comes_back_into_a_cancelled_job_has_nothing_to_wait_for(
    database: Database, decision: Decision
) -> None:
    (message,) = await claimed(database)
    await query(database, CANCEL)
    (now,) = await end(database, Outcome(message, decision))
    assert (now.status, now.error) == (State.CANCELLED, "the job was cancelled by an unknown user")
    assert await query(database, "SELECT status, error FROM job_recipients") == [(now.status.value, now.error)]
    assert await query(database, "SELECT event FROM attempts") == [(decision.transition.value,)]
    assert await query(database, "SELECT next_claim_at FROM jobs") == [(None,)]


async def test_a_line_that_is_logged_stays_as_it_is(database: Database) -> None:
    (message,) = await claimed(database)
    for message_id in ("m1", "m2"):

        async def work(cursor: Cursor, message_id: str = message_id) -> None:
            await messages.write_lines(cursor, [Line(message.id, 1, "T", "answered", None, message_id)], by="D1")

        await database.transaction(work, what="log")
    assert await query(database, "SELECT message_id FROM attempts") == [("m1",)]


async def after_what_is_under_way[T](
    database: Database, held: Callable[[Cursor], Awaitable[object]], ask: Callable[[Cursor], Awaitable[T]]
) -> T:
    """What `ask` says that was begun when `held` was done, and not committed."""
    done, commit = asyncio.Event(), asyncio.Event()

    async def hold(cursor: Cursor) -> None:
        await held(cursor)
        done.set()
        await commit.wait()

    async with asyncio.TaskGroup() as both:
        both.create_task(database.transaction(hold, what="hold"))
        await done.wait()
        answer = both.create_task(database.transaction(ask, what="ask"))

        async def answered_or_waits() -> bool:
            return answer.done() or bool((await query(database, WAITS))[0][0])

        await eventually(answered_or_waits)
        commit.set()
    return answer.result()


async def test_whether_a_line_is_logged_is_told_after_the_commit_that_is_under_way(database: Database) -> None:
    """A server may still be writing a COMMIT whose answer was lost: "not there" would be no proof."""
    (message,) = await claimed(database)
    assert await after_what_is_under_way(
        database,
        lambda cursor: messages.write_lines(cursor, [Line(message.id, 1, "T", "sent")], by="D1"),
        lambda cursor: messages.is_logged(cursor, message.id, token="T", event="sent", by="D1"),
    )


async def test_a_row_is_read_after_the_change_that_is_under_way(database: Database) -> None:
    (message,) = await claimed(database)

    async def change(cursor: Cursor) -> None:
        locked = await messages.lock(cursor, [message.id])
        made = moves.ended(locked.rows[message.id], Outcome(message, SENT), now=locked.now)
        assert made is not None
        await messages.move(cursor, [made], by="D1")

    locked = await after_what_is_under_way(database, change, lambda cursor: messages.lock(cursor, [message.id]))
    assert locked.rows[message.id].status is State.SENT
