"""What must be true after every step, computed of the rows alone: each change of a row and all that follows from it."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import pymysql
from pymysql.constants import CLIENT
from yarl import URL

from mailerd.core.claims import message_key
from mailerd.core.moves import NOT_APPLIED
from mailerd.store.read.audit import CHECKS
from tests.model.google import Google

_READ: Final = (
    "SELECT r.id, r.job_id, r.seq, j.sender_email, r.to_email, r.status, r.claim_token, r.daemon_id, r.attempts, "
    "r.error_code, r.message_id, r.draft_id, r.proof, r.result, r.result_kind FROM job_recipients r JOIN jobs j "
    "ON j.id = r.job_id ORDER BY r.id",
    "SELECT id, status, finished_at FROM jobs",
    "SELECT id, recipient_id, claim_token, event, message_id, error FROM attempts ORDER BY id",
    "SELECT id, type, data FROM events WHERE id > {event}",
    "SELECT sender_email, SUM(sent), SUM(failed), SUM(put_off), SUM(unsure), SUM(bounced), SUM(replied) "
    "FROM tallies GROUP BY 1",
    "SELECT sender_email, SUM(messages) FROM sender_hours GROUP BY 1",
    "SELECT email, pause_cause FROM senders",
)
_BAD_LISTS: Final = (
    "SELECT id, status, on_bounces = 'go_on', pause_cause, COALESCE(bounces_seen, '1970-01-01') FROM jobs"
)
_COUNT_DEAD: Final = (
    "SELECT COUNT(*), SUM(result = 'bounced' AND (result_kind = 'hard' OR result_code IS NOT NULL)) FROM "
    "job_recipients WHERE sent_at > %s AND job_id = %s AND status = 'sent'"
)
_TALLIES: Final = ("sent", "failed", "put_off", "unsure", "bounced", "replied")
_LINES: Final[dict[tuple[str, str], frozenset[str]]] = {
    ("waiting", "sending"): frozenset(),
    ("waiting", "cancelled"): frozenset(),
    ("waiting", "sent"): frozenset({"sent", "answered"}),
    ("waiting", "unsure"): frozenset({"lost"}),
    ("sending", "sent"): frozenset({"sent", "found"}),
    ("sending", "failed"): frozenset({"failed", "lapsed"}),
    ("sending", "waiting"): frozenset({"deferred", "released", "lapsed"}),
    ("sending", "cancelled"): frozenset({"deferred", "released", "lapsed", "suppressed"}),
    ("sending", "unsure"): frozenset({"lost", "lapsed"}),
    ("unsure", "sent"): frozenset({"found", "sent", "answered"}),
    ("unsure", "waiting"): frozenset({"missing"}),
    ("unsure", "cancelled"): frozenset({"missing"}),
    ("failed", "waiting"): frozenset({"retried"}),
    ("sent", "waiting"): frozenset({"retried", "undone"}),
    ("sent", "cancelled"): frozenset({"undone"}),
}
"""The changes of a row that may be seen, and what of it must stand in the log of attempts."""


class Row(NamedTuple):
    """A message."""

    id: int
    job_id: str
    seq: int
    sender: str
    to: str
    status: str
    token: str | None
    daemon: str | None
    attempts: int
    reason: str | None
    message: str | None
    draft: str | None
    proof: str | None
    result: str | None
    kind: str | None

    @property
    def key(self) -> str:
        return message_key(self.job_id, self.seq)

    @property
    def open(self) -> bool:
        return self.status in {"waiting", "sending", "unsure"}


class Line(NamedTuple):
    """A line of the log of attempts."""

    id: int
    recipient: int
    token: str
    event: str
    message: str | None
    error: str | None


@dataclass
class Books:
    """What the rows were, and what the tallies and the hours must be therefore."""

    rows: dict[int, Row] = field(default_factory=dict)
    jobs: dict[str, tuple[str, object]] = field(default_factory=dict)
    pauses: dict[str, str | None] = field(default_factory=dict)
    tallies: Counter[tuple[str, str]] = field(default_factory=Counter)
    hours: Counter[str] = field(default_factory=Counter)


class Ledger:
    """Reads all tables in one round trip after each step, and compares."""

    def __init__(self, url: str, google: Google) -> None:
        at = URL(url)
        self.connection = pymysql.connect(
            host=at.host, port=at.port, user=at.user, password=at.password or "", database=at.path[1:],
            autocommit=True, client_flag=CLIENT.MULTI_STATEMENTS, read_timeout=30,
        )  # fmt: skip
        self.google = google
        self.books = Books()
        self._event = 0
        self._audit = " UNION ALL ".join(f"({statement % ()} LIMIT 3)" for _, statement in CHECKS)

    @property
    def rows(self) -> dict[int, Row]:
        return self.books.rows

    def run(self, statements: str, values: Sequence[object] = ()) -> list[Sequence[Any]]:
        """The rows of each of some statements."""
        with self.connection.cursor() as cursor:
            cursor.execute(statements, values or None)
            found = [cursor.fetchall()]
            while cursor.nextset():
                found.append(cursor.fetchall())
        return found

    def check(
        self, *, claimed: bool = False, restored: Books | None = None, several: bool = False, hours: bool = True
    ) -> None:
        """Compare. `claimed`: messages may have been claimed; `restored`: the database is what it was then.

        `several`: several records were written at once. `hours`: no claim is under way that a failover has forgotten.
        """
        read = "; ".join(_READ).format(event=self._event)
        rows, jobs, lines, events, tallies, debited, pauses = self._read(read)
        before = restored or self.books
        now = Books(
            {row[0]: Row(*row) for row in rows},
            {id_: (status, finished) for id_, status, finished in jobs},
            dict(pauses),
            before.tallies.copy(),
            before.hours.copy(),
        )
        logged: dict[int, list[Line]] = {}
        for line in lines:
            logged.setdefault(line[1], []).append(Line(*line))
        heard = Counter(type_ for _, type_, _ in events if type_ != "recipients.sent")
        sent = [json.loads(data) for _, type_, data in events if type_ == "recipients.sent"]
        told = Counter(it["recipient_id"] for data in sent for it in data["recipients"])
        self._event = max([self._event, *(id_ for id_, *_ in events)])
        self.books = now
        if restored is not None:
            for row in now.rows.values():  # that a person had let it be sent again is forgotten
                if row.status == "sent" and row.result == "bounced" and row.key not in self.google.has:
                    self.google.forgotten.add(row.key)
        else:
            expected: Counter[str] = Counter()
            assert before.rows.keys() <= now.rows.keys(), "a row has gone"
            for id_, row in now.rows.items():
                if (was := before.rows.get(id_)) is not None:
                    self._follow(was, row, logged.get(id_, []), expected, claimed=claimed)
            self._follow_jobs(before, now, expected)
            self._compare_events(before, now, heard, expected, several=several)
            became = [
                id_ for id_, was in before.rows.items() if was.status != "sent" and now.rows[id_].status == "sent"
            ]
            assert told == Counter(became), f"sent by the events {dict(told)}, by the rows {became}"
        real = {
            (sender, name): int(n) for sender, *sums in tallies for name, n in zip(_TALLIES, sums, strict=True) if n
        }
        assert real == dict(+now.tallies), f"tallies {real}, by the rows {dict(+now.tallies)}"
        real_hours = {sender: int(n) for sender, n in debited if n}
        if not hours:
            now.hours = Counter(real_hours)
        assert real_hours == dict(+now.hours), f"hours {real_hours}, by the rows {dict(+now.hours)}"

    def last_line(self, recipient: int) -> str | None:
        """What the log has last of a message."""
        statement = "SELECT event FROM attempts WHERE recipient_id = %s ORDER BY id DESC LIMIT 1"
        found = self.run(statement, (recipient,))[0]
        return found[0][0] if found else None

    def waiting_for_notices(self) -> set[str]:
        """Jobs of which nothing may be claimed until what came back is read."""
        return {id_ for (id_,) in self.run("SELECT id FROM jobs WHERE braked_until > UTC_TIMESTAMP(6)")[0]}

    def goes_on(self, job: str) -> bool:
        """Whether whatever comes back does not stop it."""
        return bool(self.run("SELECT on_bounces = 'go_on' FROM jobs WHERE id = %s", (job,))[0][0][0])

    def check_bad_lists(self, dead: set[str], paused: set[str]) -> None:
        """`dead`: jobs of which a dead address was just noted; `paused`: those that this has paused."""
        for job, status, goes_on, cause, seen in self.run(_BAD_LISTS)[0]:
            if job in paused:
                assert (status, goes_on, cause) == ("paused", 0, "bounces"), (job, status, goes_on, cause)
            elif job in dead and status in {"queued", "sending"} and not goes_on:
                sent, bad = (int(n or 0) for n in self.run(_COUNT_DEAD, (seen, job))[0][0])
                waits = any(row.job_id == job and row.status == "waiting" for row in self.rows.values())
                assert not (waits and bad and bad >= 0.4 * sent), f"{job} is not paused: {bad} of {sent}"

    def _read(self, read: str) -> list[Sequence[Any]]:
        *found, wrong = self.run(f"{read}; {self._audit}")
        # A person cancelled it after a failover, before its daemon told of it again: the row cannot know better.
        forgotten = {str(id_) for id_, job, seq, *_ in found[0] if message_key(job, seq) in self.google.forgotten}
        wrong = [it for it in wrong if not (str(it[1]) in forgotten and "is cancelled, but Google" in str(it[2]))]
        if wrong:
            kinds = [kind for kind, statement in CHECKS if self.run(f"{statement % ()} LIMIT 1")[0]]
            raise AssertionError(f"audit: {kinds}: {wrong}")
        return found

    def _follow(self, was: Row, row: Row, lines: list[Line], events: Counter[str], *, claimed: bool) -> None:
        books = self.books
        if row.message is not None:
            assert self.google.sent[row.message].key == row.key, f"{row}: its message id belongs to another one"
        if (row.result, row.kind) != (was.result, was.kind) and row.result == "bounced":
            events["recipient.bounced"] += 1
            books.tallies[row.sender, "bounced"] += was.result != "bounced"
        replies = {"replied", "other_replied"}
        books.tallies[row.sender, "replied"] += row.result in replies and was.result not in replies
        if was.status == row.status:
            assert row.status != "sending" or was.token == row.token, f"{was} was taken from its claim: {row}"
            return
        allowed = _LINES.get((was.status, row.status))
        assert allowed is not None, f"{was} became {row}"
        line = self._line(was, row, lines, allowed)
        event = line.event if line else None
        match row.status:
            case "sent" | "failed" | "unsure":
                books.tallies[row.sender, row.status] += 1
                events["recipient.failed"] += row.status == "failed"
            case "sending" if claimed:
                books.hours[row.sender] += 1
                assert row.attempts >= was.attempts + 1, f"{was} was claimed: {row}"
            case "waiting" | "cancelled":
                if was.status == "sending" and row.reason != "suppressed":
                    books.tallies[row.sender, "put_off"] += 1
                if event in {"released", "lapsed", "suppressed"}:
                    assert row.attempts == was.attempts - 1, f"the attempt of {was} is not refunded: {row}"
                events["recipient.sent_undone"] += event == "undone"
                if event == "retried" and was.status == "sent":
                    self.google.come_back(row.key)
            case _:
                pass  # restored to its worker after a failover
        if event in {"deferred", "released", "suppressed", "failed"} or (event == "lapsed" and row.status != "unsure"):
            books.hours[row.sender] -= 1

    def _line(self, was: Row, row: Row, lines: list[Line], allowed: frozenset[str]) -> Line | None:
        """The line of the log that explains a change."""
        if not allowed:
            return None
        for line in reversed(lines):
            if line.event not in allowed:
                continue
            if line.event == "answered" and line.message == row.message:
                return line
            if line.event not in NOT_APPLIED and (was.status != "sending" or line.token == was.token):
                return line
        raise AssertionError(f"{was} became {row}, and the log has only {lines}")

    def _follow_jobs(self, before: Books, now: Books, events: Counter[str]) -> None:
        for id_, (status, finished) in now.jobs.items():
            was, had_finished = before.jobs.get(id_, (status, finished))
            if status != was and status in {"paused", "cancelled"}:
                events[f"job.{status}"] += 1
            if finished is not None and finished != had_finished:
                events["job.finished"] += 1
            if finished is not None:
                assert not any(row.open for row in now.rows.values() if row.job_id == id_), f"job {id_} is not finished"

    def _compare_events(
        self, before: Books, now: Books, heard: Counter[str], expected: Counter[str], *, several: bool
    ) -> None:
        changes = [(before.pauses.get(email), cause) for email, cause in now.pauses.items()]
        expected["sender.paused"] = sum(cause is not None and cause != was for was, cause in changes)
        expected["sender.resumed"] = sum(cause is None and was is not None for was, cause in changes)
        for name in ("recipient.unsubscribed", "recipient.replied", "recipient.auto_replied"):
            del heard[name]
        if several:  # a pause may end and another begin in one commit
            for name in ("sender.paused", "sender.resumed"):
                heard[name] = expected[name] = 0
        assert +heard == +expected, f"events {dict(+heard)}, by the rows {dict(+expected)}"
