"""Jobs as rows, without HTTP; and a look into the tables."""

import json
from collections.abc import Sequence
from typing import Any

from mailerd.clock import new_id
from mailerd.core.extras import NO_EXTRAS, Extras
from mailerd.errors import DatabaseError
from mailerd.store.db.database import Database
from mailerd.store.write.new_jobs import NewJob, NewJobs, NewRecipient

_DEADLOCK = 1213


async def post(
    database: Database,
    *,
    sender: str = "me@example.com",
    recipients: int | Sequence[str] = 3,
    priority: int = 0,
    subject: str = "Hello {{ name }}",
    text: str = "Dear {{ name }}",
    variables: dict[str, object] | None = None,
    list_id: int | None = None,
    api_key_id: int | None = None,
    on_bounces: str = "pause",
    tags: Sequence[str] = (),
    extras: Extras = NO_EXTRAS,
    own: Extras = NO_EXTRAS,
) -> str:
    """A job, stored by the store's own door; its id. `own`: what each of its recipients brings."""
    job = new_id()
    names = [f"r{number}@example.org" for number in range(recipients)] if isinstance(recipients, int) else recipients
    await NewJobs(database, timeout=60.0).accept(
        NewJob(
            id=job,
            sender_email=sender,
            subject=subject,
            text=text,
            html=None,
            variables=json.dumps(variables or {}),
            priority=priority,
            list_id=list_id,
            api_key_id=api_key_id,
            on_bounces=on_bounces,
            tags=tags,
            extras=extras,
            recipients=[
                NewRecipient(email=name, name=name.partition("@")[0], variables=None, extras=own) for name in names
            ],
        )
    )
    return job


def numbers(digits: int) -> str:
    """A table of the numbers from 1 to 10 ** digits, for FROM: its column is `seq`. MariaDB's own is not MySQL's."""
    digit = "(SELECT 0 AS d " + " ".join(f"UNION ALL SELECT {n}" for n in range(1, 10)) + ")"
    tables = " CROSS JOIN ".join(f"{digit} AS d{n}" for n in range(digits))
    return f"(SELECT 1 + {' + '.join(f'd{n}.d * {10**n}' for n in range(digits))} AS seq FROM {tables}) AS numbers"


async def query(database: Database, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Rows; what a deadlock with a daemon's own transactions has undone is done again."""

    async def work(cursor: Any) -> list[tuple[Any, ...]]:
        await cursor.execute(statement, values or None)
        return list(await cursor.fetchall())

    while True:
        try:
            return await database.transaction(work, what="look")
        except DatabaseError as error:
            if error.errno != _DEADLOCK:  # a daemon has taken the same rows in another order: nothing was done
                raise


async def states(database: Database, job: str) -> dict[str, int]:
    """How many recipients are in which state."""
    return dict(
        await query(database, "SELECT status, COUNT(*) FROM job_recipients WHERE job_id = %s GROUP BY status", job)
    )


async def rows_read(database: Database) -> int:
    """How many rows the server has read since its start, by index or not."""
    return sum(int(number) for _, number in await query(database, "SHOW GLOBAL STATUS LIKE 'Handler_read%'"))
