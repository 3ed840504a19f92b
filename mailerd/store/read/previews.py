"""What a message is made of again, for a person who only looks: nothing of it is claimed, and
nothing is written.
"""

from dataclasses import dataclass
from typing import Final

from mailerd.core.claims import ClaimedRecipient
from mailerd.core.copies import from_json
from mailerd.core.i18n import t
from mailerd.errors import MailerdError
from mailerd.store.db.database import Database
from mailerd.store.db.rows import Select

READ: Final = """
SELECT r.to_email <> CONCAT('forgotten-', r.id, '@example.invalid'), r.id, r.job_id, r.seq, j.sender_email, r.to_email,
       r.to_name, r.variables, COALESCE(r.copy_list, j.copy_list), r.headers
  FROM job_recipients r FORCE INDEX (PRIMARY) STRAIGHT_JOIN jobs j FORCE INDEX (PRIMARY) ON j.id = r.job_id
 WHERE r.id = %s"""


class ForgottenError(MailerdError):
    """The person of the message was taken out of the rows, and what was written to it with that."""


@dataclass(frozen=True)
class AttachedFile:
    """A file that a message carries, without its content."""

    filename: str
    content_type: str
    content_id: str | None
    """What its HTML calls it; None: it is attached."""
    size: int
    digest: bytes
    """SHA-256 of the content."""


_FILE: Final = Select(AttachedFile, of="job_attachments")
_READ_ATTACHED: Final = f"""
SELECT {_FILE.columns} FROM job_attachments
 WHERE job_id = %s AND (recipient_seq IS NULL OR recipient_seq = %s) ORDER BY recipient_seq IS NOT NULL, id"""


async def read_message(database: Database, id_: int, *, bound: float) -> ClaimedRecipient | None:
    """A message as a worker would get it; None: there is none of this id.

    Raises:
        ForgottenError: what it was made of is there no more.
    """
    rows = await database.request_rows(READ, (id_,), what="messages.read_content", bound=bound)
    if not rows:
        return None
    ((is_known, row, job, seq, sender, email, name, variables, copies, headers),) = rows
    if not is_known:
        raise ForgottenError(
            t("the person was forgotten, and what was written to them is no longer stored")
        )
    return ClaimedRecipient(
        id=row,
        job_id=job,
        seq=seq,
        sender=sender,
        to_email=email,
        to_name=name,
        variables=variables,
        attempt=0,
        token="",
        copies=from_json(copies),
        headers=headers,
    )


async def read_attached(
    database: Database, it: ClaimedRecipient, *, bound: float
) -> list[AttachedFile]:
    """What it carries, its images among it; what all messages of its job carry comes first."""
    values = (it.job_id, it.seq)
    rows = await database.request_rows(_READ_ATTACHED, values, what="attachments.list", bound=bound)
    return [_FILE.row(each) for each in rows]
