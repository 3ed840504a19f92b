"""What became of everybody in a job: counted by an outcome for each message, and the messages of
one outcome.

Messages by state are counted with the job. Those with a result are found by their notices, so that
a report costs what came back and not what was sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from mailerd.core.results import MessageOutcome, Result
from mailerd.core.states import State, Tally
from mailerd.core.suppression import Reason
from mailerd.store.db.database import Database
from mailerd.store.read.jobs import Job
from mailerd.store.read.recipients import NO_CONDITION
from mailerd.store.read.stats import TallyPoint

MAX_UNSUBSCRIBED: Final = 20_000
"""Unsubscribes from its list, since a job, among which those of its own messages are looked for."""
MAX_SEARCHED: Final = 50_000
"""Messages of one page in which a part of an address or a name is looked for."""
COUNT_RESULTS: Final = """
SELECT r.result, r.result_kind, COUNT(*)
  FROM (SELECT DISTINCT recipient_id FROM notices FORCE INDEX (job) WHERE job_id = %s AND recipient_id > 0) n
  STRAIGHT_JOIN job_recipients r FORCE INDEX (PRIMARY) ON r.id = n.recipient_id
 WHERE r.job_id = %s AND r.status = 'sent' AND r.result IS NOT NULL GROUP BY r.result, r.result_kind"""
CHARTED: Final = (Tally.SENT, Tally.BOUNCED, Tally.FAILED, Tally.REPLIED)
"""What the chart of a job shows."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# No index has the times: each message that has ended is looked up, 300,000 in about a second. What
# was refused at the intake was never tried.
COUNT_ENDED: Final = f"""
SELECT IF(status = 'sent', '{Tally.SENT}', '{Tally.FAILED}') kind,
       TIMESTAMPDIFF(MINUTE, '1970-01-01', COALESCE(sent_at, updated_at)) minute, COUNT(*)
  FROM job_recipients FORCE INDEX (claim)
 WHERE job_id = %s AND status IN ('sent', 'failed') AND (status = 'sent' OR attempts > 0) GROUP BY kind, minute"""
COUNT_HEARD: Final = f"""
SELECT IF(r.result = 'bounced', '{Tally.BOUNCED}', '{Tally.REPLIED}') kind,
       TIMESTAMPDIFF(MINUTE, '1970-01-01', r.result_at) minute, COUNT(*)
  FROM (SELECT DISTINCT recipient_id FROM notices FORCE INDEX (job) WHERE job_id = %s AND recipient_id > 0) n
  STRAIGHT_JOIN job_recipients r FORCE INDEX (PRIMARY) ON r.id = n.recipient_id
 WHERE r.job_id = %s AND r.status = 'sent' AND r.result IN ('bounced', 'replied', 'other_replied')
 GROUP BY kind, minute"""
READ_LIST: Final = "SELECT list_id, created_at FROM jobs WHERE id = %s AND list_id IS NOT NULL"
COUNT_UNSUBSCRIBED: Final = f"""
SELECT COUNT(*) FROM (
  SELECT recipient_id FROM suppressions FORCE INDEX (by_list) WHERE list_id = %s AND created_at >= %s
     AND reason = '{Reason.UNSUBSCRIBED.value}' ORDER BY created_at LIMIT {MAX_UNSUBSCRIBED}) s
  STRAIGHT_JOIN job_recipients r FORCE INDEX (PRIMARY) ON r.id = s.recipient_id AND r.job_id = %s"""

_LOOKS_LIKE: Final = (
    "(LOCATE(%s, LOWER(r.to_email)) = 1 OR LOCATE(%s, r.to_name COLLATE utf8mb4_general_ci))"
)


@dataclass(frozen=True)
class JobReports:
    """Reads them. `timeout`: seconds that the database gets for an answer."""

    database: Database
    timeout: float

    async def results(self, job: str) -> dict[MessageOutcome, int]:
        """The sent messages of a job of which something was heard."""
        rows = await self.database.request_rows(
            COUNT_RESULTS, (job, job), what="results.count", bound=self.timeout
        )
        found = dict[MessageOutcome, int]()
        for result, kind, number in rows:
            outcome = MessageOutcome.of(result, kind)
            found[outcome] = found.get(outcome, 0) + number
        return found

    async def by_minute(self, job: str) -> list[TallyPoint]:
        """What of a job was sent, failed, bounced and was answered in each minute."""
        ask, what = self.database.request_rows, "jobs.chart"
        ended = await ask(COUNT_ENDED, (job,), what=what, bound=self.timeout)
        heard = await ask(COUNT_HEARD, (job, job), what=what, bound=self.timeout)
        return [
            TallyPoint(_EPOCH + timedelta(minutes=minute), {Tally(kind): number})
            for kind, minute, number in (*ended, *heard)
        ]

    async def unsubscribed(self, job: str) -> int:
        """How many people have unsubscribed by a message of a job: by its link or by mail, whatever
        else they did.
        """
        for list_id, since in await self.database.request_rows(
            READ_LIST, (job,), what="unsubscribes.count", bound=self.timeout
        ):
            ((number,),) = await self.database.request_rows(
                COUNT_UNSUBSCRIBED,
                (list_id, since, job),
                what="unsubscribes.count",
                bound=self.timeout,
            )
            return int(number)
        return 0


def outcomes(job: Job, results: Mapping[MessageOutcome, int]) -> dict[MessageOutcome, int]:
    """All messages of a job by their outcome: what is sent and has no result has got no reply."""
    found = {**dict.fromkeys(MessageOutcome, 0), **results}
    for state, number in job.counts.items():
        if state is not State.SENT:
            found[MessageOutcome(state.value)] = number
    found[MessageOutcome.NO_REPLY] = max(0, job.counts[State.SENT] - sum(results.values()))
    return found


def listed(
    which: MessageOutcome | State | Result | None, *, text: str = "", after: int = -1
) -> dict[str, Any]:
    """What `Jobs.recipients` is asked for these messages; None: for all.

    `text`: of their addresses or names.
    """
    status, result, kind = (
        which.meaning if isinstance(which, MessageOutcome) else (None, None, None)
    )
    status = which if isinstance(which, State) else status
    result = which if isinstance(which, Result) else result
    sql, values = NO_CONDITION[0], list[object]()
    if kind:
        sql, values = " AND r.result_kind = %s", [kind]
    elif which is MessageOutcome.NO_REPLY:
        sql = " AND r.result IS NULL"
    if text:
        sql += f" AND r.seq <= %s AND {_LOOKS_LIKE}"
        values += [after + MAX_SEARCHED, text.lower(), text]
    return {"status": status, "result": result, "also": (sql, values)}
