"""Recipients and where they stand: those of a job, and one person's over all jobs, by any spelling of the address."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from mailerd.core.fates import Fate
from mailerd.core.notices import BOUNCES, Kind
from mailerd.core.states import Proof, State
from mailerd.core.suppression import canonical
from mailerd.store.db.cursor import Statement
from mailerd.store.db.database import Database
from mailerd.store.db.times import utc

RECIPIENT_COLUMNS: Final = (
    "r.id, r.seq, r.to_email, r.to_name, r.status, r.attempts, r.error, r.message_id, r.due_at, r.sent_at, "
    "r.updated_at, r.proof, r.fate, r.fate_kind, r.fate_code, r.fate_reason, r.fate_at"
)
_RECIPIENTS: Final = f"SELECT {RECIPIENT_COLUMNS} FROM job_recipients r WHERE r.job_id = %s AND r.seq > %s"
# The letters of one person, over all jobs, are few; those of a job may be very many.
_RECIPIENTS_BY_ADDRESS: Final = (
    f"SELECT {RECIPIENT_COLUMNS} FROM job_recipients r FORCE INDEX (person) WHERE r.job_id = %s AND r.seq > %s"
)
# A letter that has a fate has a notice. The notices of a job are read in the order of its letters, whose ids rise with
# `seq`, from the one at the cursor on: as many rows are read as are shown, however large the job is.
_RECIPIENTS_WITH_FATE: Final = f"""
SELECT {RECIPIENT_COLUMNS} FROM notices n FORCE INDEX (job)
       STRAIGHT_JOIN job_recipients r FORCE INDEX (PRIMARY) ON r.id = n.recipient_id
 WHERE n.job_id = %s AND n.recipient_id > COALESCE((SELECT id FROM job_recipients WHERE job_id = %s AND seq = %s), 0)
   AND n.kind IN %s AND r.seq > %s AND r.fate = %s
   AND NOT EXISTS (SELECT 1 FROM notices m FORCE INDEX (recipient)
                    WHERE m.recipient_id = n.recipient_id AND m.kind IN %s AND m.id < n.id)"""
_NOTICE_KINDS: Final = {
    Fate.BOUNCED: tuple(sorted(kind.value for kind in BOUNCES)),
    Fate.UNSUBSCRIBED: (Kind.UNSUBSCRIBE.value,),
    Fate.REPLIED: (Kind.REPLY.value,),
    Fate.OTHER_REPLIED: (Kind.REPLY.value,),
    Fate.AUTO_REPLIED: (Kind.AUTO_REPLY.value,),
}
"""The kinds of notices that cause each fate."""
# Index and order are given: the server may else read all letters from the newest back, since LIMIT makes that look
# cheap, or begin with all jobs of the senders.
_SELECT_LETTERS: Final = (
    f"SELECT {RECIPIENT_COLUMNS}, r.job_id, j.from_address "
    "FROM job_recipients r FORCE INDEX (person) STRAIGHT_JOIN jobs j FORCE INDEX (PRIMARY) ON j.id = r.job_id "
    "WHERE r.person = %s"
)


@dataclass(frozen=True)
class LetterFate:
    """What became of a letter after it was sent."""

    state: Fate
    kind: str | None
    """The class of a bounce: hard, soft, blocked or unknown."""
    code: str | None
    reason: str | None
    at: datetime


@dataclass(frozen=True)
class Recipient:
    """One recipient and where it stands."""

    id: int
    seq: int
    email: str
    name: str | None
    status: State
    attempts: int
    error: str | None
    message_id: str | None
    proof: Proof | None
    """What proves that it is sent, if it is."""
    due_at: datetime
    sent_at: datetime | None
    updated_at: datetime
    fate: LetterFate | None
    """Its fate after it was sent; None: nothing was heard of it."""


@dataclass(frozen=True)
class PersonsLetter(Recipient):
    """One letter to a person, and whose it is."""

    job_id: str
    sender_email: str
    """The sender as the job was posted: the mailbox, or an alias of it."""


class Recipients:
    """Queries over the recipients of all jobs. `timeout`: seconds that the database gets for an answer."""

    def __init__(self, database: Database, *, timeout: float) -> None:
        self._database = database
        self._timeout = timeout

    async def of_person(
        self, email: str, *, before: int | None, limit: int, senders: Collection[str] | None
    ) -> list[PersonsLetter]:
        """Letters to a person, the newest first, those before an id; `senders` None: those of all senders."""
        statement = letters_statement(email, before=before, limit=limit, senders=senders)
        rows = await self._database.request_rows(*statement, what="read a person's letters", bound=self._timeout)
        return [_letter(row) for row in rows]


def letters_statement(email: str, *, before: int | None, limit: int, senders: Collection[str] | None) -> Statement:
    """What `of_person` asks; a test has it explained."""
    where, values = "", list[object]([canonical(email)])
    if before is not None:
        where += " AND r.id < %s"
        values.append(before)
    if senders is not None:
        where += " AND j.from_address IN %s"
        values.append(tuple(senders) or ("",))  # the driver spells it as a list in brackets, never an empty one
    return f"{_SELECT_LETTERS}{where} ORDER BY r.id DESC LIMIT %s", [*values, limit]


def _letter(row: tuple[Any, ...]) -> PersonsLetter:
    *of_recipient, job_id, sender = row
    return PersonsLetter(**vars(recipient_of(tuple(of_recipient))), job_id=job_id, sender_email=sender)


def recipients_statement(
    job_id: str, *, status: State | None, after: int, limit: int, email: str | None, fate: Fate | None
) -> Statement:
    """What `recipients` asks; a test has it explained."""
    order = "r.seq"
    if fate is not None and email is None:
        kinds, order = _NOTICE_KINDS[fate], "n.recipient_id"
        sql, values = _RECIPIENTS_WITH_FATE, [job_id, job_id, after, kinds, after, fate.value, kinds]
    else:
        sql = _RECIPIENTS if email is None else _RECIPIENTS_BY_ADDRESS
        values = [job_id, after]
        given = {"r.person = %s": email and canonical(email), "r.fate = %s": fate and fate.value}
        for condition, value in given.items():
            if value is not None:
                sql += f" AND {condition}"
                values.append(value)
    if status is not None:
        sql += " AND r.status = %s"
        values.append(status.value)
    return f"{sql} ORDER BY {order} LIMIT %s", [*values, limit]


def recipient_of(row: tuple[Any, ...]) -> Recipient:
    """A recipient, from the columns of RECIPIENT_COLUMNS."""
    return Recipient(
        id=row[0],
        seq=row[1],
        email=row[2],
        name=row[3],
        status=State(row[4]),
        attempts=row[5],
        error=row[6],
        message_id=row[7],
        due_at=utc(row[8]),
        sent_at=utc(row[9]),
        updated_at=utc(row[10]),
        proof=Proof(row[11]) if row[11] else None,
        fate=LetterFate(Fate(row[12]), row[13], row[14], row[15], utc(row[16])) if row[12] else None,
    )
