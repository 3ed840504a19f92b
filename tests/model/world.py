"""Daemons, people and Google around one database; each step is one thing that may happen, and what it is is chosen."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from mailerd.core.claims import Handover, Resolution, WriteResult
from mailerd.core.inbox_findings import Finding, Found, InboxLease
from mailerd.core.notices import MICROSOFT_DEAD, Classification, Kind
from mailerd.core.replies import (
    Call,
    MalformedResponse,
    NoCredentials,
    NoResponse,
    NotSent,
    Refused,
    Reply,
    TokenRefused,
    TokenUnavailable,
    TooLate,
)
from mailerd.core.results import Evidence, consequence
from mailerd.core.states import ImpossibleRequestError, JobChange, Transition
from mailerd.core.suppression import EVERYTHING, Channel, Reason
from mailerd.core.webhooks import EventType
from mailerd.errors import DatabaseAwayError
from mailerd.store.inbox.mailboxes import brake_jobs
from mailerd.store.inbox.record_findings import LeaseLostError
from mailerd.store.queue.failover import NotReplayedError
from mailerd.store.queue.recovery import settle
from mailerd.store.write import clock_steps
from mailerd.store.write.job_actions import JobActions
from mailerd.store.write.suppressions import NewSuppression, Suppressions
from mailerd.store.write.webhooks import NewEndpoint, Webhooks
from tests.model.daemon import LATE, RULES_OF_BOUNCES, Daemon, LosingDatabase, Loss, Request, StandingClock
from tests.model.google import GONE, Face, Google
from tests.model.ledger import Books, Ledger, Row
from tests.support.rows import post

Choose = Callable[[int], int]
"""A number below the one that is given."""

MODES: Final = {
    "draft@example.com": ("draft", True),
    "blind@example.com": ("draft", False),
    "direct@example.com": ("direct", True),
    "mute@example.com": ("direct", False),
}
"""Mailboxes: how each sends, and whether its sent mail may be read."""
ORIGINS: Final = ("", "draft@example.com")
"""Whose a suppression is."""
_ADDRESSES: Final = 7
"""So many at once; every now and then one leaves and another comes, since those that bounce are suppressed."""
_MAX_OPEN: Final = 14
_BACKUP_LASTS: Final = 30
"""Steps: a daemon replays no more than its last minute."""
_ROUNDS: Final = 40
"""In so many rounds everything must be over."""
_SENDS: Final = frozenset({Call.DRAFTS_SEND, Call.MESSAGES_SEND})
_TOO_MANY: Final = "User-rate limit exceeded."
REFUSALS: Final[tuple[Reply, ...]] = (
    Refused(400, "invalidArgument", "Invalid To header"),
    Refused(400, "failedPrecondition", "Mail service not enabled"),
    Refused(401, "authError", "Invalid Credentials"),
    Refused(403, "rateLimitExceeded", "Too many concurrent requests for user"),
    Refused(403, "dailyLimitExceeded", "Daily Limit Exceeded"),
    Refused(403, "forbidden", "Delegation denied"),
    Refused(404, "notFound", "Requested entity was not found."),  # one of Google's replicas lags
    Refused(409, "conflict", "Conflict"),
    Refused(413, "tooLarge", "Too large"),
    Refused(429, "rateLimitExceeded", f"{_TOO_MANY} (Mail sending)"),
    Refused(429, "rateLimitExceeded", _TOO_MANY),
    TokenRefused(400, "invalid_grant", "Token has been expired or revoked."),
    NoCredentials("there is no file"),
    NotSent("no route to host"),
    TooLate("the look is too old"),
    TokenUnavailable("no token"),
)
"""Answers by which Google says that it did not do what was asked, or was not asked."""
_NOTICES: Final = (
    Kind.HARD, Kind.SOFT, Kind.SOFT, Kind.BLOCKED, *[Kind.UNKNOWN] * 4, Kind.REPLY, *[Kind.OVER_LIMIT] * 4,
)  # fmt: skip
_SAID: Final = {"unknown": MICROSOFT_DEAD[0]}
"""The address does not exist, and yet is not suppressed."""
_CHANGES: Final = (
    JobChange.RETRY, JobChange.RETRY, JobChange.PAUSE, JobChange.RESUME, JobChange.RESUME, JobChange.CANCEL,
)  # fmt: skip
_TIMES: Final = (
    "UPDATE job_recipients SET due_at = due_at {0} WHERE status = 'waiting'; "
    "UPDATE jobs SET next_claim_at = next_claim_at {0}, braked_until = braked_until {0}; "
    "UPDATE senders SET next_claim_at = next_claim_at {0}, paused_until = paused_until {0}, gap_until = gap_until {0}, "
    "concurrency_at = concurrency_at {0}; UPDATE mailboxes SET lease_until = lease_until {0}"
)
_TABLES: Final = (
    "daemons", "senders", "sender_hours", "jobs", "job_recipients", "attempts", "job_actions", "suppressions",
    "suppression_log", "events", "tallies", "mailboxes", "mailbox_units", "notices",
)  # fmt: skip


@dataclass(frozen=True)
class _Backup:
    """What a replica has: of each table its columns and its rows; and what must be true of them."""

    tables: dict[str, tuple[list[str], list[list[object]]]]
    books: Books
    opted_out: set[tuple[str, str]]
    at: int
    """The step."""


class World:
    """One run. `step` does one thing; after it the ledger compares."""

    def __init__(self, url: str, *, daemons: int = 3) -> None:
        self.database = LosingDatabase(url)
        self.google, self.clock = Google(MODES), StandingClock()
        self.ledger = Ledger(url, self.google)
        self.actions = JobActions(self.database, timeout=20, late_arrival=LATE)
        self._number = daemons
        self.daemons: list[Daemon] = []
        self.orphans: list[Request] = []
        """Calls of daemons that have died, or have given up waiting, which Google may still carry out."""
        self.looks: list[tuple[Daemon, Resolution]] = []
        self.readings: list[tuple[Daemon, InboxLease, list[Found]]] = []
        self.opted_out: set[tuple[str, str]] = set()
        """Addresses, each with the origin of a suppression of it; any one binds."""
        self.unrelated: set[str] = set()
        """Notices of messages that are deleted."""
        self.backup: _Backup | None = None
        self.steps = 0
        self.story: list[str] = []
        self._claimed = self._several = False
        self._survivors: set[str] = set()
        """Tokens of claims that the last failover may have forgotten: the hours do not know them any more."""
        self._restored: Books | None = None
        self._fault: Reply | None = None
        self._lag = False

    async def open(self) -> None:
        self.daemons = [await self._daemon() for _ in range(self._number)]
        everything_sent = NewEndpoint("shop", "https://example.com/", types=[EventType.RECIPIENTS_SENT])
        await Webhooks(self.database, timeout=20).create(everything_sent, actor="test")

    async def close(self) -> None:
        for daemon in self.daemons:
            await daemon.crash()
        self.ledger.connection.close()
        await self.database.close()

    async def step(self, name: str, choose: Choose) -> None:
        """Do what is called so, with a COMMIT whose answer is lost now and then, and compare."""
        self.steps += 1
        self._claimed = self._several = False
        self.database.loss = _pick(_LOSSES, choose) if name in _MAY_BE_LOST else ""
        self.story.append(f"{name} {self.database.loss}")
        try:
            await RULES[name](self, choose)
        except DatabaseAwayError as error:
            if not error.in_doubt and name != "post":  # which looks itself
                raise
        self.database.loss = ""
        await self._settle_down()
        self._compare()

    def enabled(self) -> list[str]:
        """The steps that may do something now."""
        rows = list(self.ledger.rows.values())
        states = {row.status for row in rows}
        may = {
            "post": sum(row.open for row in rows) < _MAX_OPEN,
            "act": bool(rows),
            "settle": "unsure" in states,
            "claim": "waiting" in states,
            "answer": bool(self.orphans) or any(daemon.requests for daemon in self.daemons),
            "write": any(daemon.records for daemon in self.daemons),
            "recover": "sending" in states,
            "look": "unsure" in states,
            "resolve": bool(self.looks),
            "sweep": bool(self.google.drafts),
            "notice": bool(self.google.has),
            "read": bool(self.google.inbox),
            "brake": bool(self.google.inbox),
            "note": bool(self.readings),
            "lapse": "sending" in states,
            "fail_over": self.backup is not None and self.steps - self.backup.at <= _BACKUP_LASTS,
            "forget": any(finished is not None for _, finished in self.ledger.books.jobs.values()),
        }
        return [name for name in RULES if may.get(name, True)]

    # what clients and people do

    async def post(self, choose: Choose) -> None:
        first, number, some = choose(_ADDRESSES), 1 + choose(5), self._addresses()
        to = [(some * 2)[first + n] for n in range(number)]
        on_bounces = _pick(("go_on", "pause", "pause", "pause"), choose)
        await post(self.database, sender=_pick(list(MODES), choose), recipients=to, on_bounces=on_bounces)

    async def act(self, choose: Choose) -> None:
        """Cancel, pause, resume or retry a job."""
        if not (jobs := sorted(self.ledger.books.jobs)):
            return
        job = _pick(jobs, choose)
        change = _pick(_CHANGES, choose)
        how: dict[str, Any] = {}
        if change is JobChange.RETRY:
            how = _pick(({}, {"unsure": True}, {"bounced": ["hard", "soft", "blocked", "unknown"]}), choose)
            for row in self.ledger.rows.values():
                if row.job_id == job and row.status == "failed":
                    self._arrive(row, choose)
        told = all(self.database.name in daemon.memory._servers for daemon in self.daemons)
        if change is JobChange.CANCEL and not told:  # what was sent of it and is forgotten counts as cancelled
            rows = self.ledger.rows.values()
            self.google.forgotten |= {it.key for it in rows if it.job_id == job and it.status == "waiting"}
        self.story[-1] += f" {change} {how}"
        with suppress(ImpossibleRequestError):
            await self.actions.apply(job, change, actor="ada", **how)

    async def settle(self, choose: Choose) -> None:
        """A person looks into the mailbox, later than any request of the message may arrive, and tells what is true."""
        if row := self._row(choose, "unsure"):
            await self._settle(row, choose)

    async def _settle(self, row: Row, choose: Choose) -> None:
        self._arrive(row, choose)
        message_id = self.google.has.get(row.key)
        change = Transition.FOUND if message_id else Transition.MISSING
        self.story[-1] += f" {row.id} {change}"
        await settle(self.database, row.id, change=change, actor="ada", message_id=message_id if choose(2) else None)

    async def opt_out(self, choose: Choose) -> None:
        records = [it.record for daemon in self.daemons for it in daemon.records]
        handed = sorted({it.message.to_email for it in records if isinstance(it, Handover) and not it.discarding})
        in_flight = sorted({it.to_email for daemon in self.daemons for it in daemon.tasks.values()})
        address = _pick((handed or in_flight or self._addresses()) if choose(3) else self._addresses(), choose)
        if self.opted_out and choose(3) == 0:  # more than one suppression of an address, or the end of one
            address = _pick(sorted({to for to, _ in self.opted_out}), choose)
        self.story[-1] += f" {address}"
        people = await Suppressions.open(self.database, timeout=20)
        digest = people.digest(address)
        origin = _pick(ORIGINS, choose)
        if (address, origin) in self.opted_out:
            self.opted_out.discard((address, origin))
            await people.remove(digest, list_id=EVERYTHING, source=Channel.PAGE, origin=origin)
        else:
            self.opted_out.add((address, origin))
            await people.add([
                NewSuppression(digest, EVERYTHING, Reason.UNSUBSCRIBED, Channel.ONE_CLICK, address, origin=origin)
            ])  # fmt: skip
        binding = {it.origin for it in await people.of(address)}
        assert {its for to, its in self.opted_out if to == address} <= binding, "whoever ends one ends no other"

    # what a daemon does

    async def claim(self, choose: Choose) -> None:
        daemon = _pick(self.daemons, choose)
        self._claimed = True
        waits = self.ledger.waiting_for_notices()
        claim = await daemon.claims.claim(1 + choose(4))
        self.story[-1] += f" {self.daemons.index(daemon)}: {[it.id for it in claim.messages]}"
        assert not any(it.job_id in waits for it in claim.messages), f"{waits} wait for their notices"
        daemon.begin(claim)
        if claim.alone is not None:
            daemon.begin(await daemon.claims.claim_alone(claim.alone))

    async def answer(self, choose: Choose) -> None:
        """Google answers, or does what is asked and says nothing, or neither."""
        calls = [*(it for daemon in self.daemons for it in daemon.requests), *self.orphans]
        if not calls:
            return
        it, how = _pick(calls, choose), choose(12)
        if it in self.orphans:
            self.orphans.remove(it)
            if how % 2:
                self._carry_out(it)
            return
        self.story[-1] += f" {self.daemons.index(it.daemon)} {it.call} of {it.message.id} {how}"
        it.daemon.requests.remove(it)
        match how:
            case 0:
                reply: Reply = _pick(REFUSALS, choose)
                self.story[-1] += f" {reply}"
                it.reply(reply)
            case 1 | 2:
                self._carry_out(it)
                it.reply(NoResponse("cut off"))
            case 3:
                self.orphans.append(it)
                it.reply(NoResponse("timed out"))
            case 4:
                self._carry_out(it)
                it.reply(Refused(500, "backendError", "Backend Error") if choose(2) else MalformedResponse(200, "{"))
            case _:
                it.reply(self._carry_out(it))

    async def write(self, choose: Choose) -> None:
        """Some of a daemon's records are written in one commit."""
        if not (busy := [daemon for daemon in self.daemons if daemon.records]):
            return
        daemon = _pick(busy, choose)
        some = daemon.records[: 1 + choose(len(daemon.records))]
        self._several = len(some) > 1
        records = [it.record for it in some]
        self.story[-1] += f" {self.daemons.index(daemon)}: {[_said(it) for it in records]}"
        await daemon.write(some)
        for one in some:
            out = {address for address, _ in self.opted_out}
            if isinstance(it := one.record, Handover) and not it.discarding and it.message.to_email in out:
                assert one.answer.result() is not WriteResult.APPLIED, f"{it.message} has opted out"
            if isinstance(it, Handover) and one.answer.result() is WriteResult.APPLIED:
                assert self.ledger.last_line(it.message.id) != "lost", f"{it.message} may have been sent before"

    async def finish(self, choose: Choose) -> None:
        daemon = _pick(self.daemons, choose)
        assert await daemon.rows.reschedule_stuck_jobs() == [], "a job was stuck"
        if choose(3) == 0:
            daemon.touched.update(await daemon.rows.unfinished_jobs())
        if daemon.touched:
            jobs, daemon.touched = daemon.touched, set()
            await daemon.writer.complete_jobs(jobs)

    async def recover(self, choose: Choose) -> None:
        daemon = _pick(self.daemons, choose)
        for one in await daemon.expired.recover():
            if one.status.value in {"failed", "cancelled"}:
                daemon.touched.add(one.job_id)

    async def look(self, choose: Choose) -> None:
        """A daemon looks for a message, no earlier than its requests have arrived."""
        rows = [row for row in self._rows("unsure") if self._is_due_for_look(row)]
        if not rows:
            return
        row, daemon = _pick(rows, choose), _pick(self.daemons, choose)
        self._arrive(row, choose)
        self._fault = _pick((NoResponse("cut off"), Refused(500, "backendError", ""), None, None, None, None), choose)
        self._lag = choose(6) == 0
        self.ledger.run(
            "UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND, "
            f"nothing_found_at = nothing_found_at - INTERVAL 1 DAY WHERE id = {row.id}"
        )
        for message in await daemon.rows.take_unresolved(limit=1):
            resolution = await daemon.reconciler.reconcile(message)
            self.looks.append((daemon, resolution))
            self.story[-1] += f" {message.id} {resolution.transition} lag={self._lag}"
        self._fault, self._lag = None, False

    async def resolve(self, choose: Choose) -> None:
        """The result of a look is written."""
        if not self.looks:
            return
        daemon, it = self.looks.pop(choose(len(self.looks)))
        written = await daemon.rows.resolve(it)
        self.story[-1] += f" {it.message.id} {it.transition}: {written}"
        if written is WriteResult.CANCELLED and it.message.draft_id:
            self.google.delete_draft(it.message.draft_id)
        if written is not WriteResult.STALE and it.transition:
            daemon.touched.add(it.message.job_id)

    async def sweep(self, choose: Choose) -> None:
        with suppress(NotReplayedError):
            await _pick(self.daemons, choose).orphans.sweep(_pick(list(MODES), choose))

    async def notice(self, choose: Choose) -> None:
        """Something comes into an inbox about a message that Google has accepted."""
        if accepted := [self.google.sent[id_] for id_ in self.google.has.values()]:
            jobs = {row.job_id for row in self.ledger.rows.values() if row.open}
            young = [it for it in accepted if it.key.rpartition("-")[0] in jobs]
            self.google.notice(_pick(young if young and choose(4) else accepted, choose), _pick(_NOTICES, choose).value)

    async def read(self, choose: Choose) -> None:
        """A daemon reads an inbox."""
        daemon, sender = _pick(self.daemons, choose), _pick(list(MODES), choose)
        mine = {it.id: it for it in self.google.inbox if it.about.sender == sender and it.id not in self.unrelated}
        if not (new := mine.keys() - await daemon.mailboxes.known(sender, list(mine))):
            return
        await daemon.mailboxes.due(10)
        if (lease := await daemon.mailboxes.lease(sender)) is None:
            keys = {row.key for row in self.ledger.rows.values()}
            self.unrelated |= {id_ for id_ in new if mine[id_].about.key not in keys}  # its jobs are forgotten with it
            return
        found: list[Found] = []
        for notice in (mine[id_] for id_ in sorted(new, key=lambda id_: int(id_[1:]))):
            in_thread = (await daemon.mailboxes.messages_in(sender, {notice.about.thread})).get(notice.about.thread, [])
            job, _, seq = notice.about.key.rpartition("-")
            message = in_thread[0] if in_thread else await daemon.mailboxes.message_by_key(job, int(seq))
            if message is None:
                self.unrelated.add(notice.id)
                continue
            if any(isinstance(it, Finding) and it.message == message for it in found):
                continue  # the second one about a message is read the next time
            meaning = Classification(Kind(notice.kind), *_SAID.get(notice.kind, ("", "")), (message.to_email,))
            evidence = Evidence(
                from_google=True, forged=False, in_thread=bool(in_thread), has_key=True, body_read=True, is_about=True
            )
            follows = consequence(meaning, evidence, to=message.to_email)
            if notice.kind == "over_limit" and message.status in {"sending", "unsure"}:
                continue  # it is read again, once it is known whether the message was sent
            found.append(Finding(notice.id, notice.about.thread, datetime.now(UTC), message, meaning, follows))
        self.readings.append((daemon, lease, found))

    async def brake(self, choose: Choose) -> None:
        """A daemon sees that something came back, and has not read it."""
        daemon, sender = _pick(self.daemons, choose), _pick(self.google.inbox[-3:], choose).about.sender
        mine = {it.id: it.about.thread for it in self.google.inbox if it.about.sender == sender}
        new = mine.keys() - await daemon.mailboxes.known(sender, list(mine))
        begun, waits, _ = await brake_jobs(self.database, sender, {mine[id_] for id_ in new}, RULES_OF_BOUNCES.job)
        self.story[-1] += f" {sender} {begun}"
        assert begun.keys() <= waits <= self.ledger.waiting_for_notices(), (begun, waits)
        assert not any(self.ledger.goes_on(job) for job in waits), f"one of {waits} shall go on"

    async def note(self, choose: Choose) -> None:
        """What was read is written."""
        if not self.readings:
            return
        daemon, lease, found = self.readings.pop(choose(len(self.readings)))
        self._several = len(found) > 1
        key = (await Suppressions.open(self.database, timeout=20)).digest
        try:
            written = await daemon.findings.write(lease, found, lease.cursor, address_key=_key_of(key))
        except LeaseLostError:
            return
        self.story[-1] += (
            f" {[(it.message.id, it.meaning.kind) for it in found if isinstance(it, Finding) and it.message]}"
        )
        self.story[-1] += f" {written.bad_lists}" * bool(written.bad_lists)
        bounced = [it for it in written.changed if it.meaning.kind == "hard" or it.meaning.code]
        dead = {it.message.job_id for it in bounced if it.message}
        self.ledger.check_bad_lists(dead, {it.job for it in written.bad_lists if it.paused})
        daemon.touched.update(it.message.job_id for it in written.undone if it.cancelled)
        await daemon.mailboxes.release(lease, state="read", scope="readonly")

    # what happens to daemons and servers

    async def crash(self, choose: Choose) -> None:
        number = choose(len(self.daemons))
        dead = self.daemons[number]
        await dead.memory.meet(self.database.name)  # what is forgotten of what it alone knows goes out twice
        await dead.crash()
        self.story[-1] += f" {number}"
        self.orphans += dead.requests
        self.looks = [it for it in self.looks if it[0] is not dead]
        self.readings = [it for it in self.readings if it[0] is not dead]
        self.ledger.run("UPDATE daemons SET heartbeat_at = heartbeat_at - INTERVAL 1 HOUR WHERE id = %s", (dead.id,))
        self.daemons[number] = await self._daemon()
        self.backup = None  # what the dead one alone knows is lost with the commits

    async def lapse(self, choose: Choose) -> None:
        """Leases run out: their daemons are dead, stand still or are cut off."""
        if row := self._row(choose, "sending"):
            which = f"daemon_id = '{row.daemon}'" if choose(3) == 0 else f"id = {row.id}"
            self.story[-1] += f" {which}"
            self.ledger.run(
                "UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND "
                f"WHERE status = 'sending' AND {which}"
            )

    async def time(self, choose: Choose) -> None:
        """A day passes; or the database's clock goes back by an hour, and a daemon sees it."""
        back = choose(6) == 0
        self.story[-1] += " back" if back else ""
        self.clock.time += 100.0
        self.ledger.run(_TIMES.format("+ INTERVAL 1 HOUR" if back else "- INTERVAL 1 DAY"))
        if back:
            await clock_steps.repair(self.database)

    async def back_up(self, _: Choose) -> None:
        """A replica has all that is committed up to now."""
        tables = dict(zip(_TABLES, self.ledger.run("; ".join(f"SELECT * FROM {it}" for it in _TABLES)), strict=True))
        names = self.ledger.run("; ".join(f"SHOW COLUMNS FROM {it}" for it in _TABLES))
        columns = dict(zip(_TABLES, names, strict=True))
        kept = {
            table: (
                [column[0] for column in columns[table] if "VIRTUAL" not in column[5]],
                [
                    [value for value, column in zip(row, columns[table], strict=True) if "VIRTUAL" not in column[5]]
                    for row in rows
                ],
            )
            for table, rows in tables.items()
        }
        self.backup = _Backup(kept, self.ledger.books, set(self.opted_out), self.steps)

    async def fail_over(self, _: Choose) -> None:
        """The replica takes over, which has not had the last commits; no daemon that is needed has died meanwhile."""
        if (kept := self.backup) is None:
            return
        self.opted_out, self._restored, self.backup = kept.opted_out, kept.books, None
        for table, (columns, rows) in kept.tables.items():
            self.ledger.run(f"DELETE FROM {table}")
            if rows:
                with self.ledger.connection.cursor() as cursor:
                    marks = ", ".join(["%s"] * len(columns))
                    cursor.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)
        living = ", ".join(f"'{daemon.id}'" for daemon in self.daemons)
        self.ledger.run(f"UPDATE daemons SET heartbeat_at = UTC_TIMESTAMP(6) WHERE id IN ({living})")
        self.database.name = f"server {self.steps}"
        self._survivors = {it.token for daemon in self.daemons for it in daemon.tasks.values()}

    async def forget(self, _: Choose) -> None:
        """Jobs that have ended, and of which nothing is under way, are deleted as by age."""
        busy = {it.message.job_id for daemon in self.daemons for it in daemon.requests}
        busy |= {it.message.job_id for it in self.orphans} | {it.message.job_id for _, it in self.looks}
        busy |= {message.job_id for daemon in self.daemons for message in daemon.tasks.values()}
        busy |= {
            it.message.job_id for _, _, some in self.readings for it in some if isinstance(it, Finding) and it.message
        }
        noted = {id_ for (id_,) in self.ledger.run("SELECT gmail_id FROM notices")[0]}
        busy |= {it.about.key.rpartition("-")[0] for it in self.google.inbox if it.id not in noted}
        busy |= {
            it.key.rpartition("-")[0] for it in self.google.drafts.values()
        }  # a search deletes it, or undoes a `sent`
        books = self.ledger.books
        for job in [id_ for id_, (_, finished) in books.jobs.items() if finished is not None and id_ not in busy]:
            for row in [row for row in books.rows.values() if row.job_id == job]:
                self._check_end(row)
                del books.rows[row.id]
                self.ledger.run(f"DELETE FROM attempts WHERE recipient_id = {row.id}")
            del books.jobs[job]
            for table, column in (("jobs", "id"), ("job_recipients", "job_id"), ("job_actions", "job_id")):
                self.ledger.run(f"DELETE FROM {table} WHERE {column} = %s", (job,))
        self.backup = None

    # the end

    async def drain(self) -> None:
        """Let everything go well, until nothing is open: then each message was sent once, or has ended otherwise."""
        noted: set[str] = set()
        for _ in range(_ROUNDS):
            await self._drain_daemons()
            await self._drain_doubts()
            await self._drain_inboxes()
            for job in [id_ for id_, (status, _) in self.ledger.books.jobs.items() if status == "paused"]:
                await self.actions.apply(job, JobChange.RESUME, actor="ada")
                self._compare()
            await self._quietly(self.time, _well)
            for number in range(len(self.daemons)):
                await self._quietly(self.claim, _script(number, 3))
                await self._quietly(self.finish, _script(number, 0))
            noted = {id_ for (id_,) in self.ledger.run("SELECT gmail_id FROM notices")[0]} | self.unrelated
            busy = any(row.open for row in self.ledger.rows.values()) or any(daemon.tasks for daemon in self.daemons)
            if not busy and all(it.id in noted for it in self.google.inbox):
                break
        else:
            unread = [it for it in self.google.inbox if it.id not in noted]
            under_way = [daemon.tasks for daemon in self.daemons if daemon.tasks]
            rows = [row for row in self.ledger.rows.values() if row.open]
            raise AssertionError(f"never over: {rows}; under way: {under_way}; not read: {unread}")
        assert all(finished is not None for _, finished in self.ledger.books.jobs.values()), self.ledger.books.jobs
        for row in self.ledger.rows.values():
            self._check_end(row)

    async def _drain_daemons(self) -> None:
        for daemon in self.daemons:
            while daemon.requests or daemon.records:
                for it in daemon.requests[:]:
                    daemon.requests.remove(it)
                    it.reply(self._carry_out(it))
                await self._settle_down()
                if daemon.records:
                    self._several = True
                    await daemon.write(daemon.records[:])
                await self._settle_down()
                self._compare()
        while self.orphans:
            self._carry_out(self.orphans.pop())

    async def _drain_doubts(self) -> None:
        self.ledger.run(
            "UPDATE job_recipients SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND WHERE status = 'sending'"
        )
        await self._quietly(self.recover, _well)
        for row in self._rows("unsure"):
            if self._is_due_for_look(row):
                await self._quietly(self.look, _well)
            else:
                await self._quietly(partial(self._settle, row), _well)
        while self.looks:
            await self._quietly(self.resolve, _well)

    async def _drain_inboxes(self) -> None:
        for number in range(len(MODES)):
            await self._quietly(self.sweep, _script(0, number))
            await self._quietly(self.read, _script(0, number))
            if self.readings:
                await self._quietly(self.note, _well)

    def _check_end(self, row: Row) -> None:
        given_back = sum(it.kind == "over_limit" and it.about.key == row.key for it in self.google.inbox)
        if given_back > 1 and row.result == "bounced":
            return  # it has come back, and is not sent a third time
        if row.key in self.google.forgotten or (given_back and row.proof == "person"):
            return  # a limit notice is matched by the thread, which nobody knows; or the row is as before its retry
        assert (row.key in self.google.has) == (row.status == "sent"), (
            f"{row}: Google has {self.google.has.get(row.key)}"
        )

    async def _quietly(self, what: Callable[[Choose], Awaitable[None]], choose: Choose) -> None:
        self.story.append("drain")
        self._claimed = self._several = False
        await what(choose)
        await self._settle_down()
        self._compare()

    def _compare(self) -> None:
        self._survivors &= {it.token for daemon in self.daemons for it in daemon.tasks.values()}
        self.ledger.check(
            claimed=self._claimed, restored=self._restored, several=self._several, hours=not self._survivors
        )
        self._several, self._restored = False, None

    # helpers

    async def _daemon(self) -> Daemon:
        daemon = Daemon(self.database, self.google, self.clock, Face(self.google, self._fault_of))
        await daemon.memory.meet(self.database.name)  # its row says from now on that others have to wait for it
        return daemon

    def _fault_of(self, call: str) -> Reply | None:
        return GONE if self._lag and call == "drafts.get" else self._fault

    async def _settle_down(self) -> None:
        for daemon in self.daemons:
            await daemon.settle_down()

    def _addresses(self) -> list[str]:
        first = self.steps // 20
        return [f"r{number}@d{number}.example.org" for number in range(first, first + _ADDRESSES)]

    def _rows(self, status: str) -> list[Row]:
        return [row for row in self.ledger.rows.values() if row.status == status]

    def _row(self, choose: Choose, status: str) -> Row | None:
        return _pick(rows, choose) if (rows := self._rows(status)) else None

    def _is_due_for_look(self, row: Row) -> bool:
        found = self.ledger.run("SELECT lease_until IS NOT NULL FROM job_recipients WHERE id = %s", (row.id,))
        return bool(found[0][0][0])

    def _is_stale(self, it: Request) -> bool:
        row = self.ledger.rows.get(it.message.id)
        return row is None or row.status != "sending" or row.token != it.message.token

    def _carry_out(self, it: Request) -> Reply:
        """Google does what is asked. What a daemon sends that slept until its message had ended is a known harm."""
        if it.call in _SENDS and self._is_stale(it):
            row = self.ledger.rows.get(it.message.id)
            if row is None or not row.open or (it.call is Call.DRAFTS_SEND and it.draft != row.draft):
                return NotSent("it was given up")
        done = it.carry_out()
        self.story[-1] += f" {it.message.id} {done}"
        return done

    def _arrive(self, row: Row, choose: Choose) -> None:
        """What was sent of this message has arrived by now, or never will; a direct send of a lapsed claim as well."""
        for it in [it for it in self.orphans if it.message.id == row.id]:
            self.orphans.remove(it)
            if choose(2):
                self._carry_out(it)
        for daemon in self.daemons:
            for it in [it for it in daemon.requests if it.message.id == row.id and self._is_stale(it)]:
                if it.call is Call.DRAFTS_CREATE:
                    continue
                daemon.requests.remove(it)
                if choose(2):
                    self._carry_out(it)
                it.reply(NoResponse("timed out"))


def _pick[T](some: Sequence[T], choose: Choose) -> T:
    return some[choose(len(some))]


def _well(number: int) -> int:
    """The last of all choices, by which everything goes well."""
    return number - 1


def _script(*numbers: int) -> Choose:
    """These choices, and then the last of all."""
    left = list(numbers)
    return lambda number: min(left.pop(0), number - 1) if left else number - 1


def _key_of(digest: Any) -> bytes:
    key: bytes = digest.__self__._key
    return key


def _said(it: Any) -> str:
    what = "discard" if isinstance(it, Handover) and it.discarding else "hand over"
    return f"{it.message.id} {what if isinstance(it, Handover) else it.decision.transition}"


_LOSSES: Final[tuple[Loss, ...]] = ("", "", "", "", "", "", "done", "undone")
_MAY_BE_LOST: Final = frozenset(
    {"post", "act", "settle", "claim", "write", "finish", "recover", "resolve", "sweep", "note"}
)
RULES: Final[dict[str, Callable[[World, Choose], Awaitable[None]]]] = {
    name: getattr(World, name)
    for name in (
        "post", "act", "settle", "opt_out", "claim", "answer", "write", "finish", "recover", "look", "resolve", "sweep",
        "notice", "brake", "read", "note", "crash", "lapse", "time", "back_up", "fail_over", "forget",
    )
}  # fmt: skip
WEIGHTS: Final = {
    "post": 6, "act": 2, "settle": 3, "opt_out": 2, "claim": 10, "answer": 30, "write": 30, "finish": 4, "recover": 5,
    "look": 8, "resolve": 10, "sweep": 2, "notice": 3, "brake": 2, "read": 3, "note": 3, "crash": 1, "lapse": 4,
    "time": 8, "back_up": 2, "fail_over": 2, "forget": 2,
}  # fmt: skip
