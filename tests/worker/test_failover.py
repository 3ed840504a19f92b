"""A failover beside the recorder: its records and the replay meet at the same rows."""

import asyncio
from datetime import timedelta
from typing import Any

from mailerd.core.claims import WriteResult
from mailerd.events.process import StoreEvents
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.queue.failover import ReplayLog
from mailerd.store.queue.record import RecordWriter
from tests.store.queue.test_claim import claims
from tests.store.queue.test_record import FORGOTTEN_CLAIM, row
from tests.support.handover import handover
from tests.support.heard import Heard
from tests.support.recording import new_recorder, recording
from tests.support.rows import post, query


class LateAnswer(Database):
    """Lets a replay begin before its COMMIT, and gets the answer to the COMMIT only when the replay is over."""

    def __init__(self, database: Database, replay_log: ReplayLog) -> None:
        vars(self).update(vars(database))
        self.replay_log = replay_log

    async def transaction(self, work: Any, **keywords: Any) -> Any:
        begun: list[asyncio.Task[bool]] = []

        async def beside(cursor: Cursor) -> Any:
            done = await work(cursor)
            begun.append(asyncio.create_task(self.replay_log.replay(cursor.server)))
            await asyncio.sleep(0)  # it knows by now what it will replay; its transaction waits for the row
            return done

        result = await super().transaction(beside, **keywords)
        assert await begun[0]
        return result


async def test_a_row_that_refuses_a_hand_over_is_not_given_back_to_it_though_the_commit_is_answered_late(
    database: Database, heard: Heard
) -> None:
    """The replay may lock the row before the refusal's COMMIT is answered, and the delivery ends then all the same."""
    await post(database, recipients=1)
    (message,) = (await claims(database).claim(1)).messages
    await query(database, FORGOTTEN_CLAIM)
    replay_log = ReplayLog(database, "D1", timedelta(minutes=1), StoreEvents(heard))
    rows = RecordWriter(LateAnswer(database, replay_log), "D1")
    async with recording(new_recorder(rows, heard, memory=replay_log)) as recorder, asyncio.timeout(60):
        assert await recorder.record(handover(message)) is WriteResult.STALE
    assert await row(database, message, "status", "claim_token", "mode") == ("waiting", None, None)
