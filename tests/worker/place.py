"""A rescue on a real database, in front of a Google that answers as the test says, by a clock of the test's own."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from mailerd.core.claims import Outcome
from mailerd.core.decisions import Decision
from mailerd.core.replies import Accepted, Refused, Reply
from mailerd.core.states import Transition
from mailerd.events.worker import RecoveryEvents, RunnerEvents
from mailerd.gmail import Mailbox
from mailerd.heartbeat import Heartbeats
from mailerd.store.db.database import Database
from mailerd.store.queue.recovery import ExpiredClaims, RecoveryQueries
from mailerd.worker.recovery import OrphanDrafts, Reconciler, Recovery
from tests.store.queue.test_claim import claims
from tests.store.queue.test_record import write
from tests.support.handover import handover
from tests.support.heard import PATIENCE, Heard
from tests.support.replayed import replayed
from tests.support.rows import post, query
from tests.support.ticking import Ticking

CALL_WITHIN = 60.0
THERE = Accepted(id="d")
GONE = Refused(404, "notFound", "Requested entity was not found.")


class Google:
    """Answers after so many seconds, and sees whether a loop has stalled by then."""

    def __init__(self, clock: Ticking, heartbeats: Heartbeats, *, seconds: float = 0.0) -> None:
        self.clock, self.heartbeats, self.seconds = clock, heartbeats, seconds
        self.drafts: list[str] = []
        self.keys: dict[str, str] = {}
        """X-Mailerd-Key of the drafts that have one."""
        self.answer: Callable[[str], Reply] = lambda _: THERE
        self.asked: list[str] = []
        self.stalled: set[str] = set()
        self.more = asyncio.Event()
        self.one_at_a_time = asyncio.Lock()

    async def _took(self, sender: str, draft: str = "") -> None:
        async with self.one_at_a_time:  # or the time of those that are asked together would add up
            await self.clock.move(self.seconds)
        self.stalled |= {heartbeat.loop for heartbeat in self.heartbeats.stalled()}
        self.asked.append(draft or sender)
        self.more.set()

    async def until_asked(self, times: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(self.asked) < times:
                self.more.clear()
                await self.more.wait()

    async def authenticate(self, sender: str) -> Mailbox | Reply:
        return Mailbox(sender, "draft", can_read_metadata=False, scopes=())

    async def get_draft(self, sender: str, *, draft_id: str) -> Reply:
        await self._took(sender, draft_id)
        return self.answer(draft_id)

    async def delete_draft(self, sender: str, *, draft_id: str) -> Reply:
        await self._took(sender, draft_id)
        return Accepted()

    async def list_drafts(self, sender: str, *, page_token: str = "") -> Reply:
        await self._took(sender)
        first = int(page_token or 0)
        page = {"drafts": [{"id": draft} for draft in self.drafts[first : first + 100]]}
        more = {"nextPageToken": str(first + 100)} if first + 100 < len(self.drafts) else {}
        return Accepted(body=page | more)

    async def get_draft_headers(self, sender: str, *, draft_id: str) -> Reply:
        await self._took(sender, draft_id)
        headers = [{"name": "X-Mailerd-Key", "value": self.keys[draft_id]}] if draft_id in self.keys else []
        return Accepted(id=draft_id, body={"message": {"payload": {"headers": headers}}})


class Place:
    """Everything joined."""

    def __init__(self, database: Database, heard: Heard, *, seconds: float = 0.0) -> None:
        self.database = database
        self.clock = Ticking()
        self.heartbeats = Heartbeats(self.clock.monotonic)
        self.google = Google(self.clock, self.heartbeats, seconds=seconds)
        google: Any = self.google
        minute, events = timedelta(minutes=1), RecoveryEvents(heard)
        rows = RecoveryQueries(database, "D2", minute, replayed(database, "D2"))
        self.touched: list[str] = []
        self.orphans = OrphanDrafts(google, rows, events)
        self.rescue = Recovery(
            expired=ExpiredClaims(database, "D2", minute, rows.replay_log),
            rows=rows, reconciler=Reconciler(google, minute),
            orphan_drafts=self.orphans, clock=self.clock, events=events,
            runner_events=RunnerEvents(heard), job_changed=self.touched.append, wake=lambda: None, interval=5.0,
            sweep_interval=600.0, call_timeout=CALL_WITHIN, heartbeats=self.heartbeats,
        )  # fmt: skip

    async def once(self) -> bool:
        """What lapsed, and looks until none is due; whether there was anything."""
        self.heartbeats.register("claims.recover")
        found, more = await self.rescue.recover_expired(), True
        self.heartbeats.register("looking")
        while more:
            async with asyncio.TaskGroup() as looks:
                more = await self.rescue.reconcile_some(looks)
            found = found or more
        return found

    async def doubts(self, number: int) -> str:
        """So many messages of one job whose draft must be looked for now: d1, d2, …; the job."""
        job = await post(self.database, recipients=number)
        for message in (await claims(self.database).claim(number)).messages:
            lost = Decision(Transition.LOST, error="no answer", wait=timedelta(0))
            draft = handover(message, f"d{message.seq + 1}", None)
            await write(self.database, draft)
            await write(self.database, Outcome(message, lost))
        await query(self.database, "UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND")
        return job
