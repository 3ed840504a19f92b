"""Finds the job that a command names."""

from typing import Annotated, Final

import typer

from mailerd.clock import ULID
from mailerd.errors import MailerdError
from mailerd.store.db.database import Database
from mailerd.store.jobs import Job, Jobs

PATIENCE: Final = 10.0
"""Seconds that a command waits for the rows of a job."""

JobArgument = Annotated[str, typer.Argument(help="The job's id.")]


class UnknownError(MailerdError):
    """There is nothing of this name."""


async def job_named(database: Database, id_: str) -> Job:
    """A job by its id.

    Raises:
        UnknownError: there is none.
    """
    found = await Jobs(database, timeout=PATIENCE).job(id_) if ULID.fullmatch(id_) else None
    if found is None:
        raise UnknownError(f"there is no job {id_}; `mailerd jobs list` shows the newest")
    return found
