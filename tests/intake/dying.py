"""An intake that kills itself between the COMMIT of a job and its answer: `python -m tests.intake.dying URL`."""

import asyncio
import os
import signal
import sys
from typing import Any

import aiomysql

from mailerd.config import DatabaseSettings
from mailerd.events.process import StoreEvents
from mailerd.store.db.database import Database
from mailerd.store.write.new_jobs import NewJobs
from tests.intake.site import Wakeups, new_intake
from tests.support.heard import Heard


async def main(url: str) -> None:
    heard = Heard()
    database = Database(DatabaseSettings(url=url), events=StoreEvents(heard))
    intake = new_intake(database, heard, Wakeups(), patience=5)
    accept, commit = NewJobs.accept, aiomysql.Connection.commit

    async def commit_and_die(connection: Any) -> None:
        await commit(connection)
        os.kill(os.getpid(), signal.SIGKILL)

    async def accept_and_die(jobs: NewJobs, job: Any) -> Any:
        aiomysql.Connection.commit = commit_and_die
        return await accept(jobs, job)

    NewJobs.accept = accept_and_die  # type: ignore[method-assign, assignment]  # until the kill
    async with intake.serve() as [(_, port)]:
        print(port, flush=True)  # noqa: T201 - how the test learns it
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
