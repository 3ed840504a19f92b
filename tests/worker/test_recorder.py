"""The recorder's second loop: jobs are finished as their messages end, and a database that is away is told of once."""

import asyncio
from typing import Any

from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.store.write.job_changes import CompletedJob
from tests.support.heard import Heard
from tests.support.recording import new_recorder
from tests.support.replayed import replayed
from tests.support.ticking import Ticking


class Store:
    """Fails as it is told to, again and again, and then finishes whatever it is asked for."""

    def __init__(self, kind: type[DatabaseError], times: int) -> None:
        self.kind, self.times = kind, times

    async def complete_jobs(self, jobs: set[str], **_: object) -> list[CompletedJob]:
        self.times -= 1
        if self.times >= 0:
            raise self.kind("finish", phase="connect", cause=OSError(), errno=0, retry=True, in_doubt=False)
        return [CompletedJob(job=job, sent=1, failed=0, cancelled=0, seconds=1.0) for job in jobs]


async def story(kind: type[DatabaseError]) -> list[str]:
    """What is said while a job is finished by a store that fails three times first."""
    heard, clock = Heard(), Ticking()
    writes: Any = Store(kind, times=3)
    recorder = new_recorder(writes, heard, clock=clock, memory=replayed(writes))
    finishing = asyncio.create_task(recorder.complete_jobs_loop())
    recorder.job_changed("J")
    for _ in range(4):
        await clock.move(1)
    await heard.wait_for("job_finished")
    finishing.cancel()
    return heard.names()


async def test_that_the_database_is_away_is_left_to_the_store_to_tell() -> None:
    assert await story(DatabaseAwayError) == ["job_finished"]


async def test_whatever_else_keeps_a_job_from_being_finished_is_told() -> None:
    assert await story(DatabaseError) == ["step_failed"] * 3 + ["job_finished"]


async def test_a_job_that_has_not_ended_here_is_asked_for_once_a_second() -> None:
    """Another daemon may send the rest of it; and what this one knows to be over is not waited for."""
    heard, clock, over = Heard(), Ticking(), set[str]()
    writes: Any = Store(DatabaseError, times=0)
    recorder = new_recorder(writes, heard, clock=clock, memory=replayed(writes), may_be_over=over.__contains__)
    finishing = asyncio.create_task(recorder.complete_jobs_loop())
    over.add("ended")
    for job in ("shared", "ended"):
        recorder.job_changed(job)
    await heard.wait_for("job_finished")
    assert [it["job"] for it in heard.of("job_finished")] == ["ended"]
    for seconds, jobs in ((0.9, ["ended"]), (0.2, ["ended", "shared"])):
        await clock.move(seconds)
        assert [it["job"] for it in heard.of("job_finished")] == jobs
    finishing.cancel()
