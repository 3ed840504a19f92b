"""Runs transactions: knows whether the database is available, logs a change once, and repeats what
may be repeated.
"""

import asyncio
import functools
import math
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Concatenate, Final, Protocol, TypeVar

from mailerd.config import DatabaseSettings
from mailerd.core.i18n import t
from mailerd.errors import DatabaseAwayError, DatabaseError, MailerdError
from mailerd.events.process import StoreEvents
from mailerd.heartbeat import beat
from mailerd.store.db import error_codes
from mailerd.store.db.connection import Cursor
from mailerd.store.db.pool import Pool, lock_wait
from mailerd.store.db.writer import NoWriterError

T = TypeVar("T")

REMIND_INTERVAL: Final = 30.0
"""Seconds between two reminders that the database is still away."""
SWITCH_PATIENCE: Final = 2.0
"""Seconds from the begin of an outage in which a caller waits for the writes to move to another of
several servers.
"""
SWITCH_POLL: Final = 0.05
"""Seconds between two tries of such a caller."""
LATE_PROBE: Final = 1.0
"""Seconds in which a server whose answer was late must answer another question, or it counts as
away.
"""
REFUSAL_COUNTS: Final = 60.0
"""Seconds for which a refusal counts where the same is not tried again."""
RETRY_REFUSED: Final = 4.0
"""Seconds between two tries of what was refused: a privilege or room that is there again is noticed
by the second.
"""
_MAX_KEPT: Final = 4 << 20
"""Bytes of a refused statement that is kept to be tried again."""
_MAY_BE_UNDONE: Final = re.compile(rb"\s*(INSERT|UPDATE|DELETE|SELECT)\b", re.IGNORECASE)
"""What a ROLLBACK undoes."""
_DUPLICATE: Final = 1062
REPEAT_BASE: Final = 0.05
REPEAT_CAP: Final = 5.0


class TransactionMeter(Protocol):
    """Where transactions are counted."""

    def database_call(self, *, outcome: str, seconds: float) -> None:
        """A transaction or a read has ended: ok, refused, away, in_doubt or cut_off."""


@dataclass(frozen=True)
class DatabaseTrouble:
    """Why a database cannot be used."""

    kind: str
    """As `Database.outage` says it."""
    cause: str
    """What the newest failure said."""
    said: str
    """What is to be said of the database, after "the database", with what to do; empty: only that
    it is away.
    """
    remedy: str
    since: float
    """Seconds since it could be used last."""


@dataclass(frozen=True)
class _Failure:
    """A failure that tells why the database cannot be used; `at` is in monotonic seconds."""

    kind: str
    cause: str
    said: str
    remedy: str
    at: float
    statement: bytes = b""
    """What was refused, where that may be tried and undone."""
    errno: int = 0

    def is_over(self, *, changed: bool) -> bool:
        """Whether it is, now that the same was done; `changed`: some row was.

        Without one, no room was needed.
        """
        return changed or self.kind in {"denied", "incomplete"}


class _UndoneError(MailerdError):
    """A statement was only tried: its transaction is rolled back."""


class Database:
    """Transactions on one database, and the knowledge of whether it is there."""

    def __init__(
        self,
        settings: DatabaseSettings,
        *,
        events: StoreEvents,
        meter: TransactionMeter | None = None,
    ) -> None:
        self._settings = settings
        self._meter = meter
        self._events = events
        self.pool: Final = Pool(settings, events=events)
        self._away_since: float | None = None
        self._wrote_at = -math.inf
        """When a write last showed that writes are taken again, in monotonic seconds."""
        self._unreachable = False
        self._read_only = False
        """Whether it refused a write.

        Only a write that succeeds ends this; a read proves nothing.
        """
        self.commits_hang = False
        """Whether a COMMIT got no answer in time, as when its replicas are away.

        Only a COMMIT of a change ends it.
        """
        self._refused: dict[str, _Failure] = {}
        """What was refused, or not done in time, though the server responds: the last failure, by
        what was tried.

        The same must be done to end it: a full disk refuses a new row and takes a change of an old
        one.
        """
        self._newest = self._standing = _Failure("", "", "", "", -math.inf)
        """The newest failure of all, and the newest one of a server that responds."""
        self._outage_elsewhere = ""
        """How another process cannot use it, where this one has met nothing: a disk is full only
        for what is added.
        """
        self._reminded = 0.0
        self._callers = asyncio.Semaphore(
            max(1, settings.pool_size - max(1, settings.pool_size // 4))
        )
        """The connections for callers that wait, however many there are at once; the others are
        left to the messages.
        """

    @property
    def unavailable(self) -> bool:
        """Whether the database could not be reached, or took no writes, when it was last used."""
        return self._away_since is not None

    @property
    def outage(self) -> str:
        """Why it is unavailable, by the newest failure; empty: it is available.

        "away" (no answer), "login" (it is rejected), "connections" (there is none more),
        "read-only", "full", "denied" (a privilege is missing), "incomplete" (a table is), or
        "stuck" (writes are not done in time, though it responds).
        """
        return trouble.kind if (trouble := self.trouble) else self._outage_elsewhere

    def hear_of(self, outage: str) -> None:
        """Take what another process says of how it cannot use it; "": it can."""
        self._outage_elsewhere = outage

    @property
    def trouble(self) -> DatabaseTrouble | None:
        """The same at length."""
        if self._away_since is None:
            return None
        answers = not self._unreachable and (self._read_only or self._refused)
        it = self._standing if answers else self._newest
        return DatabaseTrouble(
            it.kind, it.cause, it.said, it.remedy, time.monotonic() - self._away_since
        )

    @property
    def connections(self) -> int:
        """With how many connections it has to do, since the server allows no more; 0: with all that
        it wants.
        """
        return self.pool.connections if self.pool.is_crowded else 0

    @property
    def probe_timeout(self) -> float:
        """Seconds within which a server that is not frozen answers a small question, as it answers
        BEGIN.
        """
        return self._settings.connect_timeout

    @property
    def where(self) -> str:
        """Host and port of the server in use, for people; of all, while it is not known which one
        takes writes.
        """
        return self.pool.writer.where

    async def open(self) -> None:
        """Make the first connection, with `connect_attempts` tries, 1 s, 2 s, 4 s … apart.

        After a failure a further call tries once, and logs only that the database is still away.

        Raises:
            DatabaseAwayError: every try failed; each is logged.
        """
        if self._away_since is not None:
            unreachable = self._unreachable
            await self.read(_nothing, what="connect")
            if unreachable:
                self._events.database_connected(where=self.where, version=self.pool.version)
            return
        attempts = self._settings.connect_attempts
        for attempt in range(1, attempts + 1):
            try:
                await self.pool.read(_nothing, what="connect")
            except DatabaseError as error:
                cause = error_codes.words(error.__cause__ or error) or t(
                    "no response within {connect_timeout:g} s",
                    connect_timeout=self._settings.connect_timeout,
                )
                if attempt == attempts or not error.retry:
                    remedy = error_codes.remedy(error.errno, error.__cause__, self.where)
                    self._events.database_unreachable(
                        where=self.where, attempts=attempt, cause=cause, remedy=remedy, error=error
                    )
                    self._mark_down(error, told=True)
                    raise
                again_in = float(2 ** (attempt - 1))
                self._events.database_attempt_failed(
                    where=self.where,
                    attempt=attempt,
                    attempts=attempts,
                    cause=cause,
                    again_in=again_in,
                )
                await asyncio.sleep(again_in)
            else:
                self._mark_up(wrote=False)
                self._events.database_connected(where=self.where, version=self.pool.version)
                return

    async def transaction(
        self,
        work: Callable[[Cursor], Awaitable[T]],
        *,
        what: str,
        bound: float | None = None,
        in_one_statement: bool = False,
    ) -> T:
        """One transaction, once; see `Pool.transaction`."""
        run = functools.partial(
            self.pool.transaction, what=what, bound=bound, in_one_statement=in_one_statement
        )
        if self._away_since is None:
            return await self._metered(run(work), what=what)
        used: list[Cursor] = []

        async def noted(cursor: Cursor) -> T:
            used.append(cursor)
            return await work(cursor)

        # Only what began after the failure can tell that writes are taken again, and only if it
        # wrote: a claim that finds nothing reads.
        result = await self._metered(run(noted), what=what)
        self._mark_up(wrote=used[0].wrote, changed=used[0].changed, done=what)
        return result

    async def read(
        self, work: Callable[[Cursor], Awaitable[T]], *, what: str, bound: float | None = None
    ) -> T:
        """Only reading, outside any transaction; see `Pool.read`."""
        return await self._metered(
            self.pool.read(work, what=what, bound=bound), what=what, reads=True
        )

    async def read_rows(
        self,
        sql: str,
        values: Sequence[object] | None = None,
        *,
        what: str,
        bound: float | None = None,
    ) -> Sequence[Any]:
        """The rows of one SELECT; see `read`."""
        return await self.read(lambda cursor: _rows(cursor, sql, values), what=what, bound=bound)

    async def _metered(self, call: Awaitable[T], *, what: str, reads: bool = False) -> T:
        # also where the work raises what is ours: the database did its part
        started, outcome = (
            time.monotonic(),
            "ok",
        )
        try:
            result = await call
        except asyncio.CancelledError:
            # by the caller, at a stop or a time-out: it says nothing about the database
            outcome = "cut_off"
            raise
        except DatabaseAwayError as error:
            outcome = "in_doubt" if error.in_doubt else "unavailable"
            await self._learn_from(error, reads=reads, began=started)
            raise
        except DatabaseError as error:
            outcome = "in_doubt" if error.in_doubt else "refused"
            if (
                not reads
                and error_codes.is_stuck(error.__cause__, error.errno)
                and error.phase == "work"
            ):
                self._mark_down(error)
            raise
        finally:
            if self._meter:
                self._meter.database_call(outcome=outcome, seconds=time.monotonic() - started)
        self._mark_up(wrote=False, read=what if reads else "")
        return result

    async def request(
        self,
        work: Callable[[Cursor], Awaitable[T]],
        *,
        what: str,
        bound: float | None = None,
        read_only: bool = False,
    ) -> T:
        """One transaction for a caller that waits: it is refused at once while the database cannot
        be reached.

        A read-only database refuses a write by itself, as quickly, and can still be read. Where
        database.url names several servers, the caller waits for a moment: an operator may be moving
        the writes.

        A deadlock or the like is tried again a few times, within `bound`, and so is, once, what met
        a connection that was cut; never what is in doubt. `read_only`: it only reads, outside any
        transaction.
        """
        run, began = self.read if read_only else self.transaction, time.monotonic()
        while True:
            try:
                return await self._request(run, work, what=what, bound=bound)
            except DatabaseAwayError as error:
                if not self._may_be_moving(error, since=began):
                    raise
            await asyncio.sleep(SWITCH_POLL)
            if self._unreachable:
                with suppress(DatabaseError):
                    await self.read(_nothing, what="connect", bound=self._settings.connect_timeout)

    def _may_be_moving(self, error: DatabaseAwayError, *, since: float) -> bool:
        """Whether the writes may be on their way to another server: none takes them, and that has
        only just begun.

        `since`: when the caller began to wait.
        """
        if self.pool.writer.alone or error.in_doubt:
            return False
        refused = error.errno in error_codes.READ_ONLY or isinstance(error.__cause__, NoWriterError)
        began = min(since, self._away_since or since)  # it may be back by now
        return (refused or error.phase == "queue") and time.monotonic() - began < SWITCH_PATIENCE

    async def _request(
        self,
        run: Callable[..., Awaitable[T]],
        work: Callable[[Cursor], Awaitable[T]],
        *,
        what: str,
        bound: float | None,
    ) -> T:
        end = time.monotonic() + (bound or self._settings.statement_timeout)
        async with self._caller(what, end):
            for again in range(3):
                began = time.monotonic()
                # the wait for a place counts
                left = bound if again else max(end - began, REPEAT_BASE)
                try:
                    return await run(work, what=what, bound=left)
                except DatabaseAwayError as error:
                    if again or error.in_doubt or not error.cut or self._unreachable:
                        raise
                except DatabaseError as error:
                    now = time.monotonic()
                    # another wait for the same lock would be longer than its caller's
                    late = now + (now - began) > end
                    if late or not error.retry or error.in_doubt or error.errno == 0:
                        raise
                    await self._pause(error, again=again)
            return await run(work, what=what, bound=bound)

    @asynccontextmanager
    async def _caller(self, what: str, end: float) -> AsyncIterator[None]:
        """One of the connections that callers may use, had by `end`, unless the database cannot be
        reached.
        """
        self._refuse_while_away(what)
        began = time.monotonic()
        try:
            async with asyncio.timeout(end - began):
                await self._callers.acquire()
        except TimeoutError as error:
            if self._meter:  # as one that finds no connection in time
                self._meter.database_call(outcome="refused", seconds=time.monotonic() - began)
            raise DatabaseError(
                what, phase="queue", cause=error, errno=0, retry=True, in_doubt=False
            ) from error
        try:
            self._refuse_while_away(what)
            yield
        finally:
            self._callers.release()

    def _refuse_while_away(self, what: str) -> None:
        if self._unreachable:
            raise DatabaseAwayError(
                what,
                phase="queue",
                cause=ConnectionError(t("database {where} is unavailable", where=self.where)),
                errno=self._newest.errno,
                retry=True,
                in_doubt=False,
            )

    async def request_rows(
        self,
        sql: str,
        values: Sequence[object] | None = None,
        *,
        what: str,
        bound: float | None = None,
    ) -> Sequence[Any]:
        """The rows of one SELECT, for a caller that waits; see `request`."""
        return await self.request(
            lambda cursor: _rows(cursor, sql, values), what=what, bound=bound, read_only=True
        )

    async def execute(
        self,
        sql: str,
        values: Sequence[object] | None = None,
        *,
        what: str,
        bound: float | None = None,
    ) -> int:
        """One statement that writes, for a caller that waits; how many rows it matched.

        See `request`.
        """
        return await self.request(
            lambda cursor: cursor.execute(sql, values), what=what, bound=bound
        )

    async def retry_until_committed(
        self,
        work: Callable[[Cursor], Awaitable[T]],
        *,
        what: str,
        proof: Callable[[Cursor, T], Awaitable[bool]] | None = None,
        raise_on: frozenset[int] = frozenset(),
        only_in_doubt: bool = False,
        in_one_statement: bool = False,
    ) -> T:
        """Repeat `work` until it is committed, however long that takes.

        It must be harmless to repeat. `proof`: whether a try whose COMMIT got no answer was
        committed, by what it returned; then that is the result, and nothing is repeated. After each
        try that failed, the loop that it is done for beats. Raised to the caller are the error
        numbers of `raise_on`, whose caller has a better way to repeat it, and with `only_in_doubt`,
        unless an earlier try may have been committed, every error, since the caller does it again
        some other time.

        Raises:
            DatabaseError: the database refused it for a reason that no repetition can cure, or that
            is left.
        """
        doubted, again, tried = False, 0, list[T]()

        async def once(cursor: Cursor) -> T:
            if doubted and proof and tried and await proof(cursor, tried[-1]):
                return tried[-1]
            tried.append(await work(cursor))
            return tried[-1]

        while True:
            try:
                return await self.transaction(once, what=what, in_one_statement=in_one_statement)
            except DatabaseError as error:
                doubted = doubted or error.in_doubt
                # Whatever the server says that makes it away (a wrong password, say) is over when
                # it is back.
                curable = error.retry or error.in_doubt or isinstance(error, DatabaseAwayError)
                if not curable or error.errno in raise_on or (only_in_doubt and not doubted):
                    raise
                beat()
                await self._pause(error, again=again)
                again += 1

    def log_retry(self, *, what: str, again_in: float, cause: str) -> None:
        """Log that the caller repeats a transaction that was left to it."""
        self._events.transaction_repeated(what=what, again_in=again_in, cause=cause)

    async def _pause(self, error: DatabaseError, *, again: int) -> None:
        seconds = min(REPEAT_CAP, REPEAT_BASE * 2 ** min(again, 10)) * random.uniform(0.5, 1.5)  # noqa: S311 - jitter
        if not isinstance(error, DatabaseAwayError):  # that is logged once, and then every 30 s
            self._events.transaction_repeated(what=error.what, again_in=seconds, cause=str(error))
        await asyncio.sleep(seconds)

    async def _learn_from(self, error: DatabaseAwayError, *, reads: bool, began: float) -> None:
        """A call failed.

        One connection that was cut, or one read that took too long, does not mean an outage.

        Neither does a refused write that began before the one that showed that writes are taken
        again.

        Another question shows which it is: a read of large tables holds up its own caller alone. A
        write that is not done in time, where the question is answered, is the server's fault,
        unless it may have waited for a lock.
        """
        if error_codes.refusal(error.errno) == "read-only" and began < self._wrote_at:
            return
        late = error.phase == "work" and error_codes.is_stuck(error.__cause__, error.errno)
        if (error.cut or late) and not self._unreachable:
            bound = self._settings.connect_timeout
            try:
                await self.pool.read(
                    _nothing, what="connect", bound=min(bound, LATE_PROBE) if late else bound
                )
            except DatabaseError:
                late = False  # the first error is the one to log
            else:
                if self._away_since is None and (reads or error.cut):
                    self._events.connection_cut(where=self.where, cause=str(error))
                if reads or error.cut or error.took <= lock_wait(self._settings.statement_timeout):
                    return
        self._mark_down(error, stuck=late and not reads)

    def _mark_down(self, error: DatabaseError, *, told: bool = False, stuck: bool = True) -> None:
        now, kind, explained = (
            time.monotonic(),
            error_codes.refusal(error.errno),
            error_codes.explained(error.errno),
        )
        late = error_codes.is_stuck(error.__cause__, error.errno)
        if late and stuck and error.phase == "work":
            kind, explained = "stuck", error_codes.STUCK
        elif late and error.phase == "commit" and not self._unreachable:
            self.commits_hang, explained = True, error_codes.COMMITS_HANG
        said = error_codes.sentence(explained)
        cause = t("it {said} ({error})", said=said, error=error) if said else str(error)
        remedy = explained[1] or error_codes.remedy(error.errno, error.__cause__, self.where)
        may_be_tried = len(error.statement) <= _MAX_KEPT and _MAY_BE_UNDONE.match(error.statement)
        statement = error.statement if may_be_tried else b""
        before, self._newest = (
            self.trouble,
            _Failure(
                kind or error_codes.no_entry(error.errno),
                cause,
                said,
                remedy,
                now,
                statement,
                error.errno,
            ),
        )
        self._unreachable, self._read_only = not kind, self._read_only or kind == "read-only"
        if kind:
            self._standing = self._newest
        if kind and kind != "read-only":
            self._refused[_key(error.what)] = self._newest
        if before is None:
            self._away_since = self._reminded = now
            if kind == "full":
                self._events.database_full(where=self.where, what=error.what, cause=str(error))
            elif not told:
                self._events.database_unavailable(where=self.where, cause=cause)
        elif remedy != before.remedy or now - self._reminded >= REMIND_INTERVAL:
            self._reminded = now
            self._events.database_still_unavailable(
                where=self.where, seconds=before.since, cause=cause
            )

    def _mark_up(
        self, *, wrote: bool, changed: bool = False, done: str = "", read: str = ""
    ) -> None:
        """A call succeeded: what was `done` in a transaction, or was `read`."""
        self._unreachable, now = False, time.monotonic()
        if wrote:
            self._wrote_at = now
        self._read_only, self.commits_hang = (
            self._read_only and not wrote,
            self.commits_hang and not changed,
        )
        if self._away_since is None:
            return
        self._refused = {
            key: it
            for key, it in self._refused.items()
            if now - it.at < REFUSAL_COUNTS
            and key != _key(read)
            and not (key == _key(done) and it.is_over(changed=changed))
        }
        self._end_outage()

    def _end_outage(self) -> None:
        stands = self._unreachable or self._read_only or self.commits_hang or self._refused
        if self._away_since is not None and not stands:
            self._events.database_back(
                where=self.where, seconds=time.monotonic() - self._away_since
            )
            self._away_since = None

    async def retry_refused(self) -> None:
        """Try again each statement that was refused, and undo it: no outage waits for a caller to
        end it.

        One that is refused still counts on; so an outage does not end either while no caller needs
        what it denies.
        """
        for key, it in list(self._refused.items()):
            if not it.statement or self._unreachable:
                continue
            is_over = await self._would_succeed(it)
            if self._refused.get(key) is not it:
                continue
            if is_over:
                del self._refused[key]
            elif is_over is False:
                self._refused[key] = replace(it, at=time.monotonic())
        self._end_outage()

    async def _would_succeed(self, it: _Failure) -> bool | None:
        """Whether a statement that was refused succeeds now; None: that is not known."""
        used: list[Cursor] = []

        async def undone(cursor: Cursor) -> None:
            used.append(cursor)
            await cursor.send("INSERT", it.statement)
            raise _UndoneError

        try:
            await self.pool.transaction(
                undone, what="database.retry_refused", bound=self.probe_timeout
            )
        except _UndoneError:
            return it.is_over(changed=used[0].changed) or None
        except DatabaseError as error:
            if error_codes.refusal(error.errno) == it.kind:
                return False
            return True if error.errno == _DUPLICATE and it.is_over(changed=False) else None
        return None

    async def close(self) -> None:
        """Drop every connection."""
        await self.pool.close()


def _key(what: str) -> str:
    """What is tried, whatever the number of rows."""
    return re.sub(r"\d+", "#", what)


# A method that is one transaction of its object's database: it gets a cursor, which its callers do
# not pass.


class _HasDatabase(Protocol):
    @property
    def database(self) -> Database: ...


class _HasTimeout(_HasDatabase, Protocol):
    @property
    def timeout(self) -> float | None:
        """Seconds that a caller waits at most; None: as long as for any statement."""


type _Method[S, **P, R] = Callable[Concatenate[S, Cursor, P], Awaitable[R]]
type _Call[S, **P, R] = Callable[Concatenate[S, P], Coroutine[Any, Any, R]]
type _Work[R] = Callable[[Cursor], Awaitable[R]]


def _run_by[S, **P, R](
    run: Callable[[S, _Work[R]], Coroutine[Any, Any, R]],
) -> Callable[[_Method[S, P, R]], _Call[S, P, R]]:
    def decorated(method: _Method[S, P, R]) -> _Call[S, P, R]:
        @functools.wraps(method)
        async def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            return await run(self, lambda cursor: method(self, cursor, *args, **kwargs))

        return call

    return decorated


def transaction[S: _HasDatabase, **P, R](what: str) -> Callable[[_Method[S, P, R]], _Call[S, P, R]]:
    """The method is one transaction, run once; see `Database.transaction`."""

    def run(self: S, work: _Work[R]) -> Coroutine[Any, Any, R]:
        return self.database.transaction(work, what=what)

    return _run_by(run)


def read[S: _HasDatabase, **P, R](what: str) -> Callable[[_Method[S, P, R]], _Call[S, P, R]]:
    """The method only reads, outside any transaction; see `Database.read`."""

    def run(self: S, work: _Work[R]) -> Coroutine[Any, Any, R]:
        return self.database.read(work, what=what)

    return _run_by(run)


def request[S: _HasTimeout, **P, R](
    what: str, *, read_only: bool = False
) -> Callable[[_Method[S, P, R]], _Call[S, P, R]]:
    """The method is one transaction for a caller that waits for `timeout` seconds; see
    `Database.request`.
    """

    def run(self: S, work: _Work[R]) -> Coroutine[Any, Any, R]:
        return self.database.request(work, what=what, bound=self.timeout, read_only=read_only)

    return _run_by(run)


def until_committed[S: _HasDatabase, **P, R](
    what: str, *, only_in_doubt: bool = True
) -> Callable[[_Method[S, P, R]], _Call[S, P, R]]:
    """The method is one transaction, repeated until it is committed; see
    `Database.retry_until_committed`.
    """

    def run(self: S, work: _Work[R]) -> Coroutine[Any, Any, R]:
        return self.database.retry_until_committed(work, what=what, only_in_doubt=only_in_doubt)

    return _run_by(run)


async def _nothing(cursor: Cursor) -> None:
    await cursor.execute("SELECT 1")


async def _rows(cursor: Cursor, sql: str, values: Sequence[object] | None) -> Sequence[Any]:
    await cursor.execute(sql, values)
    return await cursor.fetchall()
