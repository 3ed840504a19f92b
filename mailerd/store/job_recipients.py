"""The statements that read a job's recipients: all, those in a state, those with a fate, or one address."""

from typing import Final

from mailerd.core.fates import Fate
from mailerd.core.notices import BOUNCES, Kind
from mailerd.core.states import State
from mailerd.core.suppression import canonical
from mailerd.store.db.cursor import Statement

RECIPIENT_COLUMNS: Final = (
    "r.id, r.seq, r.to_email, r.to_name, r.status, r.attempts, r.error, r.message_id, r.due_at, r.sent_at, "
    "r.updated_at, r.proof, r.fate, r.fate_kind, r.fate_code, r.fate_reason, r.fate_at"
)
_RECIPIENTS: Final = f"SELECT {RECIPIENT_COLUMNS} FROM job_recipients r WHERE r.job_id = %s AND r.seq > %s"
# The letters of one person, over all jobs, are few; those of a job may be very many.
_BY_ADDRESS: Final = (
    f"SELECT {RECIPIENT_COLUMNS} FROM job_recipients r FORCE INDEX (person) WHERE r.job_id = %s AND r.seq > %s"
)
# A letter that has a fate has a notice. The notices of a job are read in the order of its letters, whose ids rise with
# `seq`, from the one at the cursor on: as many rows are read as are shown, however large the job is.
_WITH_FATE: Final = f"""
SELECT {RECIPIENT_COLUMNS} FROM notices n FORCE INDEX (job)
       STRAIGHT_JOIN job_recipients r FORCE INDEX (PRIMARY) ON r.id = n.recipient_id
 WHERE n.job_id = %s AND n.recipient_id > COALESCE((SELECT id FROM job_recipients WHERE job_id = %s AND seq = %s), 0)
   AND n.kind IN %s AND r.seq > %s AND r.fate = %s
   AND NOT EXISTS (SELECT 1 FROM notices m FORCE INDEX (recipient)
                    WHERE m.recipient_id = n.recipient_id AND m.kind IN %s AND m.id < n.id)"""
_KINDS: Final = {
    Fate.BOUNCED: tuple(sorted(kind.value for kind in BOUNCES)),
    Fate.UNSUBSCRIBED: (Kind.UNSUBSCRIBE.value,),
    Fate.REPLIED: (Kind.REPLY.value,),
    Fate.OTHER_REPLIED: (Kind.REPLY.value,),
    Fate.AUTO_REPLIED: (Kind.AUTO_REPLY.value,),
}
"""Of which notices a fate can come."""


def recipients_statement(
    job_id: str, *, status: State | None, after: int, limit: int, email: str | None, fate: Fate | None
) -> Statement:
    """What `recipients` asks; a test has it explained."""
    order = "r.seq"
    if fate is not None and email is None:
        kinds, order = _KINDS[fate], "n.recipient_id"
        sql, values = _WITH_FATE, [job_id, job_id, after, kinds, after, fate.value, kinds]
    else:
        sql = _RECIPIENTS if email is None else _BY_ADDRESS
        values = [job_id, after]
        given = {
            "r.person = %s": email and canonical(email), "r.to_email = %s": email, "r.fate = %s": fate and fate.value,
        }  # fmt: skip
        for condition, value in given.items():
            if value is not None:
                sql += f" AND {condition}"
                values.append(value)
    if status is not None:
        sql += " AND r.status = %s"
        values.append(status.value)
    return f"{sql} ORDER BY {order} LIMIT %s", [*values, limit]
