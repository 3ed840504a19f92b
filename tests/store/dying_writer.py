"""A process that cancels a job and kills itself at its COMMIT: `python -m tests.store.dying_writer URL JOB WHEN`."""

import asyncio
import os
import signal
import sys
from datetime import timedelta

import aiomysql

from mailerd.config import DatabaseSettings
from mailerd.core.states import JobChange
from mailerd.events.process import StoreEvents
from mailerd.store.db.database import Database
from mailerd.store.write.job_actions import JobActions
from tests.support.heard import Heard


async def main(url: str, job: str, when: str) -> None:
    database = Database(DatabaseSettings(url=url), events=StoreEvents(Heard()))
    commit = aiomysql.Connection.commit

    async def die(connection: aiomysql.Connection) -> None:
        if when != "before":
            await commit(connection)
        os.kill(os.getpid(), signal.SIGKILL)

    aiomysql.Connection.commit = die
    actions = JobActions(database, timeout=10, late_arrival=timedelta(seconds=60))
    await actions.apply(job, JobChange.CANCEL, actor="a test")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
