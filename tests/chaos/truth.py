"""The truth from outside: what Google's stand-in accepted, set against the rows and against what was promised."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

from mailerd.core.reasons import REASONS
from tests.chaos.place import REQUEST_TIMEOUT, Place

_ROWS: Final = """
SELECT r.job_id, r.seq, r.status, r.error, r.message_id, j.sender_email FROM job_recipients r
  LEFT JOIN jobs j ON j.id = r.job_id ORDER BY r.id"""
_JOBS: Final = """
SELECT j.id, j.status, j.total, j.finished_at IS NOT NULL,
       (SELECT COUNT(*) FROM job_recipients r WHERE r.job_id = j.id) FROM jobs j"""
_STALE: Final = """
SELECT a.recipient_id, a.event, a.claim_token FROM attempts a
  JOIN attempts l ON l.recipient_id = a.recipient_id AND l.claim_token = a.claim_token AND l.event = 'lapsed'
 WHERE a.id > l.id AND a.event NOT IN ('answered', 'unanswered', 'late') AND NOT (a.event = 'sent' AND %s)"""
"""%s: whether the database was another server meanwhile. Then each daemon tells it again what Google answered, which
may settle a doubt of a lapsed claim, as it should."""
_ON_THE_WAY: Final = REQUEST_TIMEOUT
"""Seconds in which a request that began in time is carried out by Google's stand-in, or is given up."""
OPEN: Final = """
SELECT COALESCE(SUM(status IN ('waiting', 'sending') OR (status = 'unsure' AND lease_until IS NOT NULL)), 0)
  FROM job_recipients"""
UNFINISHED: Final = """
SELECT COUNT(*) FROM jobs j WHERE j.status NOT IN ('completed', 'cancelled') AND NOT EXISTS (
  SELECT 1 FROM job_recipients r WHERE r.job_id = j.id AND r.status = 'unsure' AND r.lease_until IS NULL)"""


@dataclass
class Truth:
    """What became of every message."""

    messages: int = 0
    sent: int = 0
    lost: int = 0
    """Neither sent nor ended with a reason, or `sent` though Google never accepted it, or promised and not stored."""
    twice: int = 0
    """Accepted by Google more than once."""
    apart: int = 0
    """Accepted more than once, after a failover of which nobody who lived knew better: counted apart."""
    unsure: int = 0
    failed: int = 0
    """With a reason, where that may be."""
    orphans: int = 0
    breaches: list[str] = field(default_factory=list)


async def read_truth(place: Place, *, may_be_unsure: Collection[str], may_fail: Collection[str] = ()) -> Truth:
    """Read everything. `may_be_unsure`: senders whose doubts only a person can settle; `may_fail`: see Scenario."""
    accepted = await place.google.accepted()
    rows = await place.rows(_ROWS)
    by_key = Counter(message["key"] for message in accepted)
    ids = {message["id"]: message["key"] for message in accepted}
    mailboxes = {message["key"]: message["sender"] for message in accepted}
    truth = Truth(messages=len(rows), orphans=len(await place.google.drafts()))
    _count_twice(truth, by_key, unknown=place.unknown)
    for message in accepted:
        late = message["at"] - place.opted_out.get(message["key"], message["at"])
        if late > _ON_THE_WAY:
            truth.breaches.append(
                f"{message['key']} was sent {late:.2f} s after its recipient's unsubscribe was answered"
            )
    known = set()
    for row in rows:
        known.add(key := f"{row[0]}-{row[1]}")
        if mailboxes.get(key, row[5]) != row[5]:
            truth.breaches.append(f"{key} of {row[5]} was sent from {mailboxes[key]}")
        _judge(truth, row, by_key=by_key, ids=ids, may_be_unsure=may_be_unsure, may_fail=may_fail)
    if strangers := [key for key in by_key if key not in known]:
        truth.breaches.append(f"Google accepted messages that no row knows: {strangers[:5]}")
    _books(truth, place.promised, await place.rows(_JOBS))
    for recipient, event, token in await place.rows(_STALE, int(bool(place.pair or place.cluster))):
        truth.breaches.append(f"a stale worker spoke: {event} of recipient {recipient} took, though {token} had lapsed")
    if truth.orphans:
        truth.breaches.append(f"{truth.orphans} orphan drafts are left")
    return truth


def _count_twice(truth: Truth, by_key: Counter[str], *, unknown: Collection[str]) -> None:
    for key, times in by_key.items():
        if times > 1 and key in unknown:
            truth.apart += 1
        elif times > 1:
            truth.twice += 1
            truth.breaches.append(f"{key} was accepted {times} times")


def _judge(
    truth: Truth,
    row: tuple[Any, ...],
    *,
    by_key: Counter[str],
    ids: dict[str, str],
    may_be_unsure: Collection[str],
    may_fail: Collection[str],
) -> None:
    job, seq, status, error, message_id, sender = row
    key = f"{job}-{seq}"
    match status:
        case "sent":
            truth.sent += 1
            if not by_key[key]:
                truth.lost += 1
                truth.breaches.append(f"{key} is sent, but Google never accepted it")
            elif message_id and ids.get(message_id) != key:
                truth.breaches.append(f"{key} names message {message_id}, which is {ids.get(message_id)}'s")
        case "unsure":
            truth.unsure += 1
            if sender not in may_be_unsure:
                truth.breaches.append(f"{key} is unsure for ever: {error}")
        case "failed" | "cancelled" if not by_key[key] and _may_end_so(status, error, sender, may_fail):
            truth.failed += 1
        case "failed" | "cancelled":
            truth.breaches.append(f"{key} is {status} ({error}), Google accepted it {by_key[key]} times")
            truth.lost += not error
        case _:
            truth.lost += 1
            truth.breaches.append(f"{key} is still {status} ({error}), Google accepted it {by_key[key]} times")


def _may_end_so(status: str, error: str | None, sender: str, may_fail: Collection[str]) -> bool:
    if status == "cancelled":
        return (error or "").startswith(REASONS["suppressed"].partition("{")[0])
    return sender in may_fail and bool(error)


def _books(truth: Truth, promised: dict[str, int], jobs: list[tuple[Any, ...]]) -> None:
    totals = {job: total for job, _, total, _, _ in jobs}
    for job, status, total, finished, count in jobs:
        if total != count:
            truth.breaches.append(f"job {job} counts {total}, but has {count} recipients")
        if not truth.unsure and (status, finished) != ("completed", 1):
            truth.breaches.append(f"job {job} is {status} (finished: {finished}) though nothing is open")
    for job, messages in promised.items():
        if totals.get(job) != messages:
            truth.lost += messages
            truth.breaches.append(
                f"job {job} was answered 200 for {messages} messages, the table has {totals.get(job)}"
            )


async def keep_evidence(place: Place) -> None:
    """Write the rows, the attempts and Google's log beside the daemons' logs."""
    evidence: dict[str, list[Any]] = {
        "recipients": await place.rows("SELECT * FROM job_recipients ORDER BY id"),
        "attempts": await place.rows("SELECT * FROM attempts ORDER BY id"),
        "jobs": await place.rows("SELECT * FROM jobs"),
        "senders": await place.rows("SELECT * FROM senders"),
        "google_log": await place.google.log(),
        "google_accepted": await place.google.accepted(),
        "google_drafts": await place.google.drafts(),
    }
    for name, rows in evidence.items():
        lines = (json.dumps(row, default=str, ensure_ascii=False) for row in rows)
        (place.folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
