"""Recipients and where they stand: one person's messages over all jobs, by any spelling, or those
of a job.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from mailerd.core.copies import Copy
from mailerd.core.copies import from_json as copies_of
from mailerd.core.extras import read_metadata
from mailerd.core.notices import BOUNCES, Kind
from mailerd.core.reasons import from_row
from mailerd.core.results import Result
from mailerd.core.states import JobType, Proof, State
from mailerd.core.suppression import canonical
from mailerd.model.fields import Sql
from mailerd.store.db.connection import Statement, utc
from mailerd.store.db.database import Database
from mailerd.store.db.rows import Select

NO_CONDITION: Final[Statement] = ("", ())


@dataclass(frozen=True)
class MessageResult:
    """What became of a message after it was sent."""

    state: Result
    kind: str | None
    """The class of a bounce: hard, soft, blocked or unknown."""
    code: str | None
    reason: str | None
    at: datetime


def _result(
    state: str | None, kind: str | None, code: str | None, reason: str | None, at: datetime | None
) -> MessageResult | None:
    return MessageResult(Result(state), kind, code, reason, utc(at)) if state and at else None


@dataclass(frozen=True)
class Recipient:
    """One recipient and where it stands."""

    id: Annotated[int, Sql("r.id")]
    index: Annotated[int, Sql("r.seq")]
    """Its place in the request, from 0."""
    email: Annotated[str, Sql("r.to_email")]
    name: Annotated[str | None, Sql("r.to_name")]
    status: Annotated[State, Sql("r.status")]
    attempts: Annotated[int, Sql("r.attempts")]
    error: Annotated[str | None, Sql("r.error", "r.error_code", "r.error_args", read=from_row)]
    message_id: Annotated[str | None, Sql("r.message_id")]
    proof: Annotated[Proof | None, Sql("r.proof")]
    """What proves that it is sent, if it is."""
    due_at: Annotated[datetime, Sql("r.due_at")]
    sent_at: Annotated[datetime | None, Sql("r.sent_at")]
    updated_at: Annotated[datetime, Sql("r.updated_at")]
    result: Annotated[
        MessageResult | None,
        Sql(
            "r.result",
            "r.result_kind",
            "r.result_code",
            "r.result_reason",
            "r.result_at",
            read=_result,
        ),
    ]
    """Its result after it was sent; None: nothing was heard of it."""
    metadata: Annotated[Mapping[str, str], Sql("r.metadata", read=read_metadata)]
    copies: Annotated[
        tuple[Copy, ...],
        Sql(
            "COALESCE(r.copy_list, (SELECT o.copy_list FROM jobs o WHERE o.id = r.job_id))",
            read=copies_of,
        ),
    ]
    """Who gets a copy."""

    @property
    def cc(self) -> list[Copy]:
        """Who gets a copy that all see."""
        return [it for it in self.copies if it.header == "cc"]

    @property
    def bcc(self) -> list[Copy]:
        """Who gets a copy that the others do not see."""
        return [it for it in self.copies if it.header == "bcc"]


@dataclass(frozen=True)
class PersonsMessage(Recipient):
    """One message to a person, and whose it is."""

    job_id: Annotated[str, Sql("r.job_id")]
    sender_email: Annotated[str, Sql("j.from_address")]
    """The sender as the job was posted: the mailbox, or an alias of it."""
    job_type: Annotated[JobType, Sql("j.type")]
    copies: Annotated[tuple[Copy, ...], Sql("COALESCE(r.copy_list, j.copy_list)", read=copies_of)]


RECIPIENT: Final = Select(Recipient)


PERSONS_MESSAGE: Final = Select(PersonsMessage)


_RECIPIENTS: Final = (
    f"SELECT {RECIPIENT.columns} FROM job_recipients r WHERE r.job_id = %s AND r.seq > %s"
)


# The messages of one person, over all jobs, are few; those of a job may be very many.
_RECIPIENTS_BY_ADDRESS: Final = f"""
SELECT {RECIPIENT.columns} FROM job_recipients r FORCE INDEX (person)
WHERE r.job_id = %s AND r.seq > %s
"""


# A message that has a result has a notice. The notices of a job are read in the order of its
# messages, whose ids rise with `seq`, from the one at the cursor on: as many rows are read as are
# shown, however large the job is.
_RECIPIENTS_WITH_RESULT: Final = f"""
SELECT {RECIPIENT.columns} FROM notices n FORCE INDEX (job)
       STRAIGHT_JOIN job_recipients r FORCE INDEX (PRIMARY) ON r.id = n.recipient_id
 WHERE n.job_id = %s AND n.recipient_id > COALESCE((SELECT id FROM job_recipients WHERE job_id = %s AND seq = %s), 0)
   AND n.kind IN %s AND r.seq > %s AND r.result = %s
   AND NOT EXISTS (SELECT 1 FROM notices m FORCE INDEX (recipient)
                    WHERE m.recipient_id = n.recipient_id AND m.kind IN %s AND m.id < n.id)"""


_NOTICE_KINDS: Final = {
    Result.BOUNCED: tuple(sorted(kind.value for kind in BOUNCES)),
    Result.UNSUBSCRIBED: (Kind.UNSUBSCRIBE.value,),
    Result.REPLIED: (Kind.REPLY.value,),
    Result.OTHER_REPLIED: (Kind.REPLY.value,),
    Result.AUTO_REPLIED: (Kind.AUTO_REPLY.value,),
}
"""The kinds of notices that cause each result."""


# Index and order are given: the server may else read all messages from the newest back, since LIMIT
# makes that look cheap, or begin with all jobs of the senders.
_SELECT_MESSAGES: Final = (
    f"SELECT {PERSONS_MESSAGE.columns} "
    "FROM job_recipients r FORCE INDEX (person) STRAIGHT_JOIN jobs j FORCE INDEX (PRIMARY) ON j.id = r.job_id "
    "WHERE r.person = %s"
)


_SELECT_MESSAGES_BY_ID: Final = (
    f"SELECT {PERSONS_MESSAGE.columns} "
    "FROM job_recipients r FORCE INDEX (PRIMARY) STRAIGHT_JOIN jobs j FORCE INDEX (PRIMARY) ON j.id = r.job_id "
    "WHERE r.id IN %s"
)


class Recipients:
    """Queries over the recipients of all jobs.

    `timeout`: seconds that the database gets for an answer.
    """

    def __init__(self, database: Database, *, timeout: float) -> None:
        self.database = database
        self.timeout = timeout

    async def of_person(
        self, email: str, *, before: int | None, limit: int, senders: Collection[str] | None
    ) -> list[PersonsMessage]:
        """Messages to a person, the newest first, those before an id; `senders` None: those of all
        senders.
        """
        statement = messages_statement(email, before=before, limit=limit, senders=senders)
        rows = await self.database.request_rows(
            *statement, what="people.list_messages", bound=self.timeout
        )
        return [PERSONS_MESSAGE.row(each) for each in rows]

    async def of_ids(
        self, ids: Collection[int], *, senders: Collection[str] | None
    ) -> list[PersonsMessage]:
        """Those of these messages that are there, oldest first; `senders` None: those of all
        senders.
        """
        where, values = "", list[object]([tuple(ids) or (0,)])
        if senders is not None:
            where = " AND j.from_address IN %s"
            values.append(tuple(senders) or ("",))
        rows = await self.database.request_rows(
            f"{_SELECT_MESSAGES_BY_ID}{where} ORDER BY r.id",
            values,
            what="messages.read",
            bound=self.timeout,
        )
        return [PERSONS_MESSAGE.row(each) for each in rows]


def messages_statement(
    email: str, *, before: int | None, limit: int, senders: Collection[str] | None
) -> Statement:
    """What `of_person` asks; a test has it explained."""
    where, values = "", list[object]([canonical(email)])
    if before is not None:
        where += " AND r.id < %s"
        values.append(before)
    if senders is not None:
        where += " AND j.from_address IN %s"
        # the driver spells it as a list in brackets, never an empty one
        values.append(tuple(senders) or ("",))
    return f"{_SELECT_MESSAGES}{where} ORDER BY r.id DESC LIMIT %s", [*values, limit]


def recipients_statement(
    job_id: str,
    *,
    status: State | None,
    after: int,
    limit: int,
    email: str | None,
    result: Result | None,
    also: Statement = NO_CONDITION,
) -> Statement:
    """What `recipients` asks; a test has it explained."""
    order = "r.seq"
    if result is not None and email is None:
        kinds, order = _NOTICE_KINDS[result], "n.recipient_id"
        sql, values = (
            _RECIPIENTS_WITH_RESULT,
            [job_id, job_id, after, kinds, after, result.value, kinds],
        )
    else:
        sql = _RECIPIENTS if email is None else _RECIPIENTS_BY_ADDRESS
        values = [job_id, after]
        given = {
            "r.person = %s": email and canonical(email),
            "r.result = %s": result and result.value,
        }
        for condition, value in given.items():
            if value is not None:
                sql += f" AND {condition}"
                values.append(value)
    if status is not None:
        sql += " AND r.status = %s"
        values.append(status.value)
    return f"{sql}{also[0]} ORDER BY {order} LIMIT %s", [*values, *also[1], limit]
