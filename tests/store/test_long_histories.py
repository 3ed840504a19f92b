"""After long histories of everything that can happen to jobs and messages, every count is what a recount says."""

import itertools
import json
import random
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailerd.config import Live
from mailerd.core.claims import ClaimedRecipient, Outcome, Resolution
from mailerd.core.decisions import Decision
from mailerd.core.inbox_findings import Finding, InboxCursor, SentElsewhere, SentMessage
from mailerd.core.notices import Classification, Kind
from mailerd.core.results import Evidence, consequence
from mailerd.core.states import ImpossibleRequestError, JobChange, Proof, Transition
from mailerd.events.webhooks import WebhookEvents
from mailerd.store.db.database import Database
from mailerd.store.inbox.mailboxes import Mailboxes
from mailerd.store.inbox.record_findings import FindingsWriter
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.queue.record import RecordWriter
from mailerd.store.queue.recovery import (
    ExpiredClaims,
    NotUnsureError,
    RecoveryQueries,
    RestoredQueue,
    settle,
)
from mailerd.store.read.audit import audit
from mailerd.store.write.job_actions import JobActions
from mailerd.store.write.retention import OldEvents
from tests.store.queue.test_claim import FREE, claims
from tests.store.queue.test_record import write
from tests.support.handover import handover
from tests.support.heard import Heard
from tests.support.replayed import replayed
from tests.support.rows import post, query

MINUTE = timedelta(minutes=1)
SENDERS = ("a@example.com", "b@example.com")
BOUNCED = ("hard", "soft", "blocked", "unknown")
GOOGLE = Evidence(from_google=True, forged=False, in_thread=True, has_key=True, is_about=True, body_read=True)


class History:
    """What daemons, people and Google do to some jobs, by chance. What an inbox tells is of messages that were sent."""

    def __init__(self, database: Database, seed: int) -> None:
        self.database, self.random = database, random.Random(seed)
        self.number = itertools.count()
        self.held: list[ClaimedRecipient] = []
        self.jobs: list[str] = []
        self.late: list[Outcome] = []
        self.actions = JobActions(database, timeout=10, late_arrival=timedelta(0))
        self.rows = RecoveryQueries(database, "D1", MINUTE, replayed(database))
        self.mailboxes = Mailboxes(database, Live(DefaultLimits(FREE)), MINUTE, MINUTE)
        self.writer = FindingsWriter(
            database, Live(DefaultLimits(FREE)), "D1", MINUTE, min_pause=timedelta(0), undo=True
        )

    async def post(self) -> None:
        self.jobs.append(
            await post(self.database, sender=self.random.choice(SENDERS), recipients=self.random.randint(1, 5))
        )

    async def claim(self) -> None:
        await query(self.database, "UPDATE senders SET paused_until = NULL, pause_cause = NULL")
        self.held += (await claims(self.database).claim(self.random.randint(1, 8))).messages

    async def hand_over(self) -> None:
        if self.held:
            n = self.random.randrange(len(self.held))
            message = self.held[n]
            if message.draft_id is None:
                draft, thread = f"d{next(self.number)}", f"t{next(self.number)}"
                await write(self.database, handover(message, draft, thread))
                self.held[n] = replace(message, draft_id=draft, thread_id=thread)

    async def outcome(self) -> None:
        if not self.held:
            return
        message = self.held.pop(self.random.randrange(len(self.held)))
        kinds = [Transition.FAILED, Transition.DEFERRED, Transition.RELEASED]
        if message.draft_id:
            kinds += [Transition.SENT] * 4 + [Transition.LOST] * 2
        kind = self.random.choice(kinds)
        message_id = f"m{next(self.number)}" if kind is Transition.SENT else None
        decision = Decision(
            kind, message_id=message_id, thread_id=message.thread_id if message_id else None,
            error=None if message_id else "why", wait=timedelta(0), forgets=kind is Transition.DEFERRED,
        )  # fmt: skip
        if self.random.random() < 0.1:  # a stopped daemon: its lease lapses first
            self.late.append(Outcome(message, decision))
            return
        await write(self.database, Outcome(message, decision))

    async def lapse(self) -> None:
        await query(
            self.database,
            "UPDATE job_recipients SET lease_until = '2020-01-01' WHERE status = 'sending' AND id IN %s",
            tuple(it.message.id for it in self.late) or (0,),
        )
        await ExpiredClaims(self.database, "D2", timedelta(0), replayed(self.database, "D2")).recover()
        for one in self.late:
            if one.decision.transition is Transition.SENT:
                await write(self.database, one)
        self.late.clear()

    async def resolve(self) -> None:
        await query(
            self.database,
            "UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND "
            "WHERE status = 'unsure' AND lease_until IS NOT NULL AND claim_token IS NULL",
        )
        for message in await self.rows.take_unresolved(limit=3):
            what: Transition | None = self.random.choice([Transition.FOUND, Transition.MISSING, None])
            if message.known_message_id:
                what = Transition.FOUND
            proof = self.random.choice([Proof.SEEN, Proof.GONE]) if what is Transition.FOUND else None
            message_id = message.known_message_id or (f"m{next(self.number)}" if proof is Proof.SEEN else None)
            done = Resolution(
                message, what, error=None if what is Transition.FOUND else "not found", message_id=message_id,
                proof=proof, forgets=what is Transition.MISSING and self.random.random() < 0.5,
                retry_in=timedelta(0) if what is None and self.random.random() < 0.5 else None,
            )  # fmt: skip
            await self.rows.resolve(done)

    async def settle(self) -> None:
        for (id_,) in await query(self.database, "SELECT id FROM job_recipients WHERE status = 'unsure' LIMIT 2"):
            with suppress(NotUnsureError):
                await settle(
                    self.database, id_, change=self.random.choice([Transition.FOUND, Transition.MISSING]), actor="x"
                )

    async def undo(self) -> None:
        for job, seq, draft in await query(
            self.database,
            "SELECT job_id, seq, draft_id FROM job_recipients "
            "WHERE status = 'sent' AND draft_id IS NOT NULL AND proof = 'draft gone' LIMIT 2",
        ):
            await self.rows.undo(job=job, seq=seq, draft=draft)

    async def ask(self) -> None:
        if self.jobs:
            change = self.random.choice([*JobChange, JobChange.RETRY, JobChange.RETRY, JobChange.RESUME])
            if change is JobChange.CANCEL and self.random.random() < 0.5:
                return
            bounced = self.random.choice([(), BOUNCED]) if change is JobChange.RETRY else ()
            job, priority = self.random.choice(self.jobs), self.random.randint(-3, 3)
            with suppress(ImpossibleRequestError):
                await self.actions.apply(job, change, actor="x", priority=priority, bounced=bounced)

    async def read_inbox(self) -> None:
        sender = self.random.choice(SENDERS)
        await query(
            self.database, "INSERT IGNORE INTO mailboxes (email, next_at) VALUES (%s, UTC_TIMESTAMP(6))", sender
        )
        if (lease := await self.mailboxes.lease(sender)) is None:
            return
        rows = await query(
            self.database,
            "SELECT r.id, r.job_id, r.seq, r.to_email, j.sender_email, r.status, r.thread_id, r.message_id, "
            "r.came_back "
            "FROM job_recipients r JOIN jobs j ON j.id = r.job_id WHERE j.sender_email = %s "
            "AND r.thread_id IS NOT NULL AND r.status = 'sent' AND r.proof <> 'draft gone' "
            "ORDER BY RAND(%s) LIMIT 6",
            sender,
            self.random.randint(0, 1 << 30),
        )
        found: list[Any] = []
        for row in rows:
            message = SentMessage(*row)
            kind = self.random.choice(
                [
                    Kind.HARD,
                    Kind.SOFT,
                    Kind.BLOCKED,
                    Kind.UNKNOWN,
                    Kind.REPLY,
                    Kind.AUTO_REPLY,
                    Kind.OVER_LIMIT,
                    Kind.DELAYED,
                ]
            )
            meaning = Classification(kind, "5.0.0", "because", addresses=(message.to_email,))
            found.append(
                Finding(
                    f"g{next(self.number)}",
                    message.thread_id or "",
                    datetime.now(UTC),
                    message,
                    meaning,
                    consequence(meaning, GOOGLE, to=message.to_email),
                )
            )
        found.append(SentElsewhere(f"g{next(self.number)}", "t", datetime.now(UTC)))
        await self.writer.write(lease, found, InboxCursor(1, 1), address_key=b"k" * 32)
        await self.mailboxes.release(lease, state="read", scope="readonly")

    async def finish(self) -> None:
        if not self.jobs:
            return
        await RecordWriter(self.database, "D1").complete_jobs(self.jobs)
        await self.rows.reschedule_stuck_jobs()

    async def restore(self) -> None:
        if self.random.random() < 0.1 and not self.held and not self.late:
            await RestoredQueue(self.database).doubt_all()

    async def prune(self) -> None:
        await OldEvents(90, WebhookEvents(Heard())).delete(self.database)

    async def step(self) -> None:
        what = self.random.choice([
            self.post, self.claim, self.hand_over, self.hand_over, self.outcome, self.outcome, self.outcome, self.lapse,
            self.resolve, self.settle, self.undo, self.ask, self.read_inbox, self.finish, self.restore, self.prune,
        ])  # fmt: skip
        await what()


async def told_wrongly(database: Database) -> list[tuple[Any, ...]]:
    """Finished jobs whose last event has other counts than their rows; and results of messages that are not sent."""
    events = await query(database, "SELECT job_id, data FROM events WHERE type = 'job.finished' ORDER BY id")
    told = {job: json.loads(data) for job, data in events}
    wrong = []
    for job, *counts in await query(
        database,
        "SELECT j.id, j.status, j.total, SUM(r.status = 'sent'), SUM(r.status = 'failed'), SUM(r.status = 'cancelled') "
        "FROM jobs j JOIN job_recipients r ON r.job_id = j.id WHERE j.finished_at IS NOT NULL "
        "GROUP BY j.id, j.status, j.total",
    ):
        said = [told[job][name] for name in ("status", "total", "sent", "failed", "cancelled")]
        if said != counts:
            wrong.append((job, said, counts))
    return wrong + await query(
        database,
        "SELECT id, status, result FROM job_recipients "
        "WHERE result IS NOT NULL AND status IN ('waiting', 'failed', 'cancelled')",
    )


@pytest.mark.parametrize("seed", range(2))
async def test_every_count_is_what_a_recount_says(database: Database, seed: int) -> None:
    history = History(database, seed)
    for n in range(250):
        await history.step()
        if n % 20 == 19:
            assert await told_wrongly(database) == [], (seed, n)
            assert (await audit(database))[1] == [], (seed, n)
