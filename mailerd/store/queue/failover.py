"""Replays what this daemon has sent lately to a database that may have lost it, before anything is
claimed.

A failover to a replica that was behind, a restored backup or a server that lost its power forgets
commits: messages that were sent wait again. The daemon that sent them knows. So a claim is made
only over a connection to a server to which this daemon, and every other living one, has replayed
its sends. Only what no living daemon knows can go out twice.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from mailerd.core import moves
from mailerd.core.claims import (
    ClaimedRecipient,
    Handover,
    Mode,
    Outcome,
    Record,
    UnresolvedSend,
    WriteResult,
    mode_of,
)
from mailerd.core.decisions import Decision
from mailerd.core.i18n import t
from mailerd.core.moves import AttemptLog, Move, Row
from mailerd.core.states import State, Transition
from mailerd.errors import DatabaseAwayError, MailerdError
from mailerd.events.process import StoreEvents
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.queue.record import update_senders, updates_sender
from mailerd.store.write import messages, sender_changes
from mailerd.store.write.daemon_changes import record_replay

KEEP: Final = 60.0
"""Seconds for which a message that was sent, or may be, is remembered, counted back from the last
one: however long the database is away, its last minute is then replayed.
"""
_MAX_KNOWN: Final = 50_000
_BATCH: Final = 100
OTHER_DAEMONS_TIMEOUT: Final = 20.0
"""Seconds that other daemons get to replay their sends; one whose heartbeats had ceased for so long
counts as dead.
"""

_COUNT_BEHIND: Final = """
SELECT COUNT(*) FROM daemons
 WHERE id <> %s AND replayed_to <> %s AND heartbeat_at > UTC_TIMESTAMP(6) - INTERVAL %s SECOND"""


class NotReplayedError(MailerdError):
    """The daemon has not replayed its sends yet to the server that a claim came to."""

    def __init__(self, server: str) -> None:
        super().__init__(t("the database changed or restarted ({server})", server=server))
        self.server = server


@dataclass
class _Known:
    record: Record
    at: float
    """When it was remembered, in monotonic seconds."""
    written: bool = False
    """Whether the database has acknowledged it; until then its own record is still to come."""
    refused: bool = False
    """Whether the row did not take this hand-over: nothing is sent, and its delivery ends."""
    seen_again: bool = False
    """Whether a claim got its message again."""

    @property
    def ended(self) -> bool:
        return isinstance(self.record, Outcome)

    @property
    def sent(self) -> bool:
        return (
            isinstance(self.record, Outcome) and self.record.decision.transition is Transition.SENT
        )


def _is_over(record: Record) -> bool:
    """Whether its claim has ended, and the message was certainly not sent by it."""
    return isinstance(record, Outcome) and record.decision.transition not in {
        Transition.SENT,
        Transition.LOST,
    }


def _deleted_draft(record: Record) -> str | None:
    """The draft that is deleted, or about to be, since its message has failed or waits for long."""
    ends = {Transition.FAILED, Transition.SUPPRESSED}
    gone = isinstance(record, Outcome) and (
        record.decision.forgets or record.decision.transition in ends
    )
    return record.message.draft_id if gone else None


def _is_explained(log: AttemptLog, record: Record) -> bool:
    """Whether the log says why the message of a record, though it was handed over, can be claimed
    again.
    """
    if isinstance(record, Outcome) and record.decision.transition is Transition.SENT:
        return log.answer_came_back(record)
    return log.ended_in_doubt(record.message.token)


@dataclass
class _UnreplayedServer:
    """A server to which not all daemons have replayed their sends."""

    again: bool
    """Whether there was another server before."""
    at: float
    """When it was met, or has last refused the replay: from then on the others have their time."""
    tried_at: float
    replayed_at: float = 0.0
    """When it was last replayed, in monotonic seconds: later records are still to be replayed."""
    messages: int = 0
    forgotten: int = 0


@dataclass
class ReplayLog:
    """What one daemon has sent lately, and the servers to which that was replayed."""

    database: Database
    daemon_id: str
    lease: timedelta
    events: StoreEvents
    _known: dict[tuple[int, str], _Known] = field(default_factory=dict, init=False)
    """The known records by recipient and token, the oldest first."""
    _last: dict[int, str] = field(default_factory=dict, init=False)
    """The token of the last known record of each recipient."""
    _servers: dict[str, float] = field(default_factory=dict, init=False)
    """Servers to which all was replayed, and to which there are still connections, and when each
    was last used.
    """
    _unreplayed: dict[str, _UnreplayedServer] = field(default_factory=dict, init=False)
    """Servers to which not all was replayed, or not by every daemon."""
    _doubted: bool = field(default=False, init=False)
    _replaying: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    """Claims and heartbeats replay: what the one has begun is not called done by the other."""
    _used_at: float = field(default_factory=time.monotonic, init=False)
    """When a server to which all was replayed was last used, in monotonic seconds."""

    def remember(self, record: Record) -> None:
        """Remember a hand-over until its outcome, and what was sent, or may be, for a minute; costs
        next to nothing.

        So is what was not sent and had a draft: that may be deleted by now, and one that is gone
        looks like sent. Any later outcome of the message means that it was checked since: it is no
        longer in doubt.
        """
        key = record.message.id, record.message.token
        self._known.pop(key, None)
        if isinstance(record, Outcome):
            before = self._known.get((key[0], self._last.get(key[0], "")))
            if before is not None and before.ended and not before.sent:
                self._forget(before.record.message)
            if _is_over(record) and record.message.draft_id is None:
                self._is_not_last(record.message)
                return
        self._last[key[0]] = key[1]
        now = time.monotonic()
        self._known[key] = _Known(record, now)
        while True:
            oldest = next(iter(self._known.values()))
            # After its lease, a hand-over without an outcome belongs to the recovery.
            keep = KEEP if oldest.ended else KEEP + self.lease.total_seconds()
            if len(self._known) <= _MAX_KNOWN and oldest.at >= now - keep:
                break
            self._forget(oldest.record.message)

    def remember_cancelled(self, it: UnresolvedSend) -> None:
        """Remember a message that a check has ended, and whose draft is deleted next."""
        message = ClaimedRecipient(
            it.id,
            it.job_id,
            it.seq,
            it.sender,
            it.to_email,
            None,
            None,
            it.attempt,
            it.token,
            it.draft_id,
        )
        ended = Outcome(message, Decision(Transition.SUPPRESSED), took=math.inf)
        self.remember(ended)
        self.acknowledge(ended, WriteResult.APPLIED)

    def _forget(self, message: ClaimedRecipient) -> None:
        self._known.pop((message.id, message.token), None)
        self._is_not_last(message)

    def _is_not_last(self, message: ClaimedRecipient) -> None:
        if self._last.get(message.id) == message.token:
            del self._last[message.id]

    def before_commit(self, record: Record, what: WriteResult) -> None:
        """Note what the row makes of a record, while the transaction that writes it still holds the
        row's lock.

        A replay that waits for this lock then knows of a refusal, even where the answer to the
        COMMIT is late, and does not give the row back to a delivery that ends.
        """
        known = self._known.get((record.message.id, record.message.token))
        if isinstance(record, Handover) and known is not None and known.record is record:
            known.refused = what not in {WriteResult.APPLIED, WriteResult.LOCKED}

    def acknowledge(self, record: Record, what: WriteResult) -> None:
        """Forget a hand-over that its row did not take: nothing is sent, and the message is not in
        flight.
        """
        key = record.message.id, record.message.token
        if isinstance(record, Handover) and what is not WriteResult.APPLIED:
            self._forget(record.message)
        elif (known := self._known.get(key)) is not None and known.record is record:
            known.written = True
        # A claim that is over before its lease: the database has forgotten it, though it is the
        # same server as ever.
        early = isinstance(record, Outcome) and record.took < self.lease.total_seconds()
        if early and what in {WriteResult.STALE, WriteResult.RESOLVED}:
            self.replay_again()

    def require_replayed(self, cursor: Cursor) -> None:
        """Let a claim go on only if this daemon has replayed its sends to the server.

        Raises:
            NotReplayedError: it has not.
        """
        if not self.is_replayed(cursor):
            raise NotReplayedError(cursor.server)

    async def check_claimed(self, cursor: Cursor, claimed: Sequence[ClaimedRecipient]) -> None:
        """Let a claim go on only where the database remembers how it came that these messages can
        be claimed.

        A backup that is restored in place, say, leaves the server as it is. It costs a query for
        each that is known.

        Raises:
            NotReplayedError: it has lost commits; all is to be replayed.
        """
        for message in claimed:
            known = self._known.get((message.id, self._last.get(message.id, "")))
            if (
                known is None
                or (
                    _is_over(known.record)
                    and _deleted_draft(known.record) != (message.draft_id or "")
                )
                or known.record.message.job_id != message.job_id
                or known.record.message.token == message.token
            ):
                continue
            if known.seen_again:  # it was replayed since, and the row has other reasons to wait
                continue
            log = (await messages.read_log(cursor, [message.id]))[message.id]
            if not _is_explained(log, known.record):
                known.seen_again = True
                self.replay_again()
                raise NotReplayedError(cursor.server)

    def is_replayed(self, cursor: Cursor) -> bool:
        """Whether all was replayed to the server of this connection; True if the server has no
        identity.
        """
        return self._use(cursor.server)

    def _use(self, server: str) -> bool:
        """Note that a server is used; False: not all was replayed to it.

        Nor was it where others were used since: it may lack what was written to them.
        """
        now = time.monotonic()
        if server:
            if self._used_at - self._servers.get(server, -math.inf) > OTHER_DAEMONS_TIMEOUT:
                return False
            self._servers[server] = now
        self._used_at = now
        return True

    def replay_again(self) -> None:
        """Replay all records again, whichever server it is: the database has lost commits."""
        self._servers.clear()
        self._doubted = True

    async def meet(self, server: str) -> None:
        """Replay to a server that was not met yet, whether or not anything is claimed: other
        daemons wait for it.

        Raises:
            DatabaseError: not all was replayed.
        """
        if server:
            with suppress(NotReplayedError):  # it is yet another one
                await self.replay(server)

    async def replay(self, server: str) -> bool:
        """Replay to a server; True if claims may go on, since every other living daemon has
        replayed too.

        Raises:
            DatabaseError: a part was replayed, or nothing; replaying again is harmless.
        """
        async with self._replaying:
            return self._use(server) or await self._replay(server)

    async def _replay(self, server: str) -> bool:
        again = bool(self._unreplayed or self._servers or self._doubted)
        met, now = self._unreplayed.get(server), time.monotonic()
        # it was left before all had told it
        if met is None or now - met.tried_at > OTHER_DAEMONS_TIMEOUT:
            met = self._unreplayed[server] = _UnreplayedServer(again, now, now)
        since, met.replayed_at, met.tried_at = met.replayed_at, now, now
        try:
            await self._replay_all(
                [one for one in self._known.values() if one.at >= since], met, server
            )
            others = await self.database.transaction(
                lambda cursor: self._record_replay(cursor, server, met), what="failover.record"
            )
        except DatabaseAwayError:  # nor could any other daemon tell it
            met.replayed_at, met.at = since, time.monotonic()
            raise
        except BaseException:
            met.replayed_at = since
            raise
        if others and time.monotonic() - met.at < OTHER_DAEMONS_TIMEOUT:
            return False
        if met.again:
            self.events.outcomes_rewritten(where=server, messages=met.messages, lost=met.forgotten)
        del self._unreplayed[server]
        self._doubted = False
        live = self.database.pool.servers
        self._servers = {one: at for one, at in self._servers.items() if one in live} | {
            server: time.monotonic()
        }
        return True

    async def _replay_all(
        self, known: Sequence[_Known], met: "_UnreplayedServer", server: str
    ) -> None:
        by_message: dict[int, list[_Known]] = {}
        for one in known:
            by_message.setdefault(one.record.message.id, []).append(one)
        ordered = sorted(by_message)
        for start in range(0, len(ordered), _BATCH):
            some = ordered[start : start + _BATCH]
            what = "failover.replay"
            work = partial(
                self._replay_batch,
                known=[one for id_ in some for one in by_message[id_]],
                server=server,
            )
            met.forgotten += await self.database.transaction(work, what=what)
            met.messages += len(some)

    async def _record_replay(self, cursor: Cursor, server: str, met: _UnreplayedServer) -> int:
        """Record that this daemon has replayed all; how many other living daemons have not."""
        if cursor.server != server:
            raise NotReplayedError(cursor.server)
        await record_replay(cursor, self.daemon_id, server=server)
        # No heartbeat was written while the database was away, and what it has forgotten are
        # heartbeats too.
        silent = time.monotonic() - self._used_at + (KEEP if met.again else 0.0)
        return int(
            await cursor.fetch_value(
                _COUNT_BEHIND, (self.daemon_id, server, OTHER_DAEMONS_TIMEOUT + silent)
            )
        )

    async def _replay_batch(self, cursor: Cursor, *, known: Sequence[_Known], server: str) -> int:
        """Write again what a few rows have lost; how many had."""
        if cursor.server != server:
            raise NotReplayedError(cursor.server)
        ids = {each.record.message.id for each in known}
        locked = await messages.lock(cursor, ids)
        logs = await messages.read_log(cursor, ids)
        forgotten, made, modes, ended = 0, list[Move](), dict[str, Mode](), list[Record]()
        for each in _latest(self._known_now(known)):
            one, message = each.record, each.record.message
            row = locked.rows.get(message.id)
            # the job itself is forgotten, its number another message's
            if row is None or row.job_id != message.job_id:
                continue
            if isinstance(one, Handover) or one.decision.transition in {
                Transition.SENT,
                Transition.LOST,
            }:
                modes[message.sender] = mode_of(message.draft_id)
            found = [
                it for it in self._forgotten(row, logs[message.id], each, now=locked.now) if it
            ]
            made += found
            for it in found:
                forgotten += it.transition is not None or it.after.draft_id != it.before.draft_id
                if isinstance(one, Outcome) and it.transition is one.decision.transition:
                    ended.append(one)

        async def learn() -> None:
            await sender_changes.lock_senders(
                cursor, {*modes, *(it.message.sender for it in ended)}, wait=True
            )
            await update_senders(cursor, [it for it in ended if updates_sender(it)])
            for sender, mode in sorted(modes.items()):
                await sender_changes.learn_mode(cursor, sender, mode)

        await messages.move(cursor, made, by=self.daemon_id, also=learn)
        return forgotten

    def _forgotten(
        self, row: Row, log: AttemptLog, each: _Known, *, now: datetime
    ) -> list[Move | None]:
        """What a row has forgotten of a record; a move that changes nothing of it only logs what is
        not logged.
        """
        one, held = each.record, row.claim_token == each.record.message.token
        if isinstance(one, Handover):
            # Where the log has the end of its claim, that was not forgotten, and its draft may be
            # deleted by now.
            waits = row.status is State.WAITING and not log.ended_in_doubt(one.message.token)
            if not waits and not (held and row.mode is None):
                return []
            return [
                moves.given_back_to_claim(
                    row, log, one, daemon=self.daemon_id, lease=self.lease, now=now
                )
            ]
        if row.status is State.SENT:
            return []
        # its own record is taken as ever, unless its daemon dies before
        if held and not each.written:
            handover = Handover(
                one.message, discarding=one.decision.discarding or _deleted_draft(one) is not None
            )
            again = moves.given_back_to_claim(
                row, log, handover, daemon=self.daemon_id, lease=self.lease, now=now
            )
            return [again] if row.mode is None else []
        change = one.decision.transition
        if change is Transition.LOST:
            return (
                []
                if log.ended_in_doubt(one.message.token)
                else [moves.late_doubt(row, log, one, now=now)]
            )
        if held and (ended := moves.ended(row, one, now=now)):
            return [ended]
        if change is Transition.SENT:
            return (
                []
                if log.answer_came_back(one)
                else [moves.late_answer(row, log, one, now=now, event=change.value)]
            )
        if (draft := _deleted_draft(one)) is None:
            return []  # it waits with its draft
        return [moves.draft_forgotten(row, one.message, draft, now=now)]

    def _known_now(self, known: Sequence[_Known]) -> list[_Known]:
        """What is known of these claims now that their rows are locked; `known` is older.

        Meanwhile a claim may have got its outcome, or its row may have refused the hand-over: then
        its delivery ends, and a row that is given back to it stays `sending` until its lease is
        over.
        """
        now = [self._known.get((one.record.message.id, one.record.message.token)) for one in known]
        return [one for one in now if one is not None and not one.refused]


def _latest(known: Sequence[_Known]) -> list[_Known]:
    """Of each message what counts: that it was sent, else what is known last.

    `known` has the oldest first.
    """
    last: dict[tuple[int, str], _Known] = {}
    for one in known:
        key = one.record.message.id, one.record.message.job_id
        if (before := last.get(key)) is None or not before.sent:
            last[key] = one
    return list(last.values())
