"""The survey shows every doubt, and since when it has stood."""

from datetime import timedelta

from mailerd.core.models import Outcome, Resolution
from mailerd.core.rate_limit import SenderLimits
from mailerd.core.states import JobChange, State
from mailerd.core.stats import QueueStats
from mailerd.store.action_log import note_action
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.stats import StatsReader
from tests.store.queue.test_record import LOST, one_message, write
from tests.store.queue.test_recovery import LAPSE, due, rescues
from tests.store.queue.test_stuck_jobs import ask
from tests.support.handover import handover
from tests.support.rows import query

AN_HOUR_LATER = "UPDATE job_recipients SET updated_at = updated_at - INTERVAL 1 HOUR"


async def a_doubt(database: Database) -> str:
    message = await one_message(database)
    await write(database, handover(message, "d1", "t1"))
    await write(database, Outcome(message, LOST))
    return message.job_id


async def look(database: Database) -> QueueStats:
    return await StatsReader(database, DefaultLimits(SenderLimits(0, 0, 0))).read()


async def test_a_doubt_grows_old_however_often_somebody_looks(database: Database) -> None:
    await a_doubt(database)
    await query(database, AN_HOUR_LATER)
    it = rescues(database)
    for _ in range(2):
        await query(database, LAPSE)
        (_, (doubt,)) = await due(it)
        await it.resolve(Resolution(doubt, None, error="503", retry_in=timedelta(seconds=30)))
    assert 3600 <= (await look(database)).oldest_unsure < 3700


async def test_a_doubt_in_a_cancelled_job_is_shown(database: Database) -> None:
    job = await a_doubt(database)
    await query(database, AN_HOUR_LATER)
    await ask(database, job, JobChange.CANCEL)
    seen = await look(database)
    assert seen.recipients == {State.UNSURE: 1}
    assert seen.oldest_unsure >= 3600


async def test_an_action_for_each_list_of_an_import_is_read(database: Database) -> None:
    async def one_for_each(cursor: Cursor) -> None:
        for number in range(100):
            await cursor.execute(*note_action("suppress", "command, ada", detail=f"list-{number}", messages=1))

    await database.transaction(one_for_each, what="import")
    assert len((await look(database)).asked) == 100


async def test_a_message_is_late_from_the_resume_of_its_job_or_the_end_of_its_brake_on(database: Database) -> None:
    job = (await one_message(database)).job_id
    waited = (
        "UPDATE job_recipients SET status = 'waiting', claim_token = NULL, lease_until = NULL, "
        "due_at = UTC_TIMESTAMP(6) - INTERVAL 100 SECOND"
    )
    await query(database, waited)
    await ask(database, job, JobChange.PAUSE)
    await query(database, "UPDATE senders SET next_claim_at = NULL")
    await ask(database, job, JobChange.RESUME)
    assert (await look(database)).oldest_claimable < 30
    await query(database, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6) - INTERVAL 90 SECOND")
    assert (await look(database)).oldest_claimable > 60
    await query(database, "UPDATE jobs SET braked_until = UTC_TIMESTAMP(6) - INTERVAL 5 SECOND")
    assert (await look(database)).oldest_claimable < 30
