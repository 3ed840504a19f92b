"""A job of very many messages is steered like any other; the database only takes longer."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from mailerd.config import DatabaseSettings
from mailerd.core.states import JobChange, JobStatus
from mailerd.events.process import StoreEvents
from mailerd.store.db.database import Database
from mailerd.store.write.job_actions import JobActions
from tests.support.dialect import is_mariadb
from tests.support.heard import Heard
from tests.support.rows import post, query, states


@pytest.fixture
async def impatient(database_url: str, database: Database) -> AsyncIterator[Database]:
    """One whose server ends a statement after 4 s, while each message that changes takes 0.6 s."""
    settings = DatabaseSettings(url=database_url, connect_timeout=20, statement_timeout=5)
    it = Database(settings, events=StoreEvents(Heard()))
    await query(
        database,
        "CREATE TRIGGER slow BEFORE UPDATE ON job_recipients FOR EACH ROW SET NEW.attempts = NEW.attempts + SLEEP(0.6)",
    )
    yield it
    await query(database, "DROP TRIGGER slow")
    await it.close()


async def test_a_job_so_large_that_its_cancel_outlasts_any_statement_is_cancelled(
    impatient: Database, database: Database
) -> None:
    job = await post(database, recipients=10)
    actions = JobActions(impatient, timeout=5.0, late_arrival=timedelta(seconds=60))
    done = await actions.apply(job, JobChange.CANCEL, actor="ada", messages=100_000)
    assert (done.changed, done.messages, done.status) == (True, 10, JobStatus.CANCELLED)
    assert set(await states(database, job)) == {"cancelled"}
    limit = "max_statement_time" if is_mariadb() else "max_execution_time"
    assert (await query(impatient, f"SELECT @@SESSION.{limit}"))[0][0] > 0, "it is there again"
