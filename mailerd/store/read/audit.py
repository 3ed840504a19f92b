"""The audit: checks that every job's counts add up and that no row contradicts itself.

It only reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from mailerd.core.i18n import N_, t
from mailerd.core.states import Proof
from mailerd.core.webhooks import EventType
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import without_limit
from mailerd.store.queue import rate_limits
from mailerd.store.queue.rate_limits import DefaultLimits

MAX_FINDINGS: Final = 1000
"""The most findings of one kind that are listed."""
_CHECK_TIMEOUT: Final = 600.0
"""The most seconds for each check."""
_STALE_AFTER: Final = timedelta(minutes=5)
"""A running daemon corrects a sender's turn within about a minute."""


@dataclass(frozen=True)
class AuditFinding:
    """One contradiction."""

    kind: str
    where: str
    """Where it is: the job, or the job and the recipient, or the sender."""
    what: str


_UNTOLD_FAILURE: Final = N_("failed without an event")
_UNTOLD_RETURN: Final = N_("returned without an event")
# Each check: its name, a statement that gives (job, recipient or NULL, what) per finding.
_AS_CAUSE: Final = "CONVERT({} USING ascii) COLLATE ascii_bin"
"""A cause in the character set of the events' column, so that its index is used."""
_CAUSE_OF_FINISH: Final = (
    "CONCAT(j.id, ':', DATE_FORMAT(j.finished_at, '%%Y-%%m-%%dT%%H:%%i:%%s.%%f'))"
)
_CAUSE_OF_CLAIM: Final = "CONCAT(a.recipient_id, ':', a.claim_token)"
# What is older than the first event that is kept may have had one that was deleted by age, at a day
# at least. Places are in the order of the commits, which is that of the times but for what a
# transaction lasts.
_DELETED_UP_TO: Final = """(
SELECT IF(p.pruned = 0, CAST('1970-01-01' AS DATETIME(6)), LEAST(UTC_TIMESTAMP(6) - INTERVAL 1 DAY, COALESCE(
         (SELECT k.at + INTERVAL 1 HOUR FROM events k FORCE INDEX (position)
           WHERE k.position > p.pruned ORDER BY k.position LIMIT 1), UTC_TIMESTAMP(6))))
  FROM event_positions p WHERE p.id = 1)"""
_COUNT_PROOFS: Final = (
    "SELECT proof, COUNT(*) FROM job_recipients WHERE status = 'sent' GROUP BY proof"
)
_RECIPIENTS: Final = "SELECT r.job_id, r.id, {what} FROM job_recipients r WHERE {where}"
CHECKS: Final[tuple[tuple[str, str], ...]] = (
    (
        N_("counts"),
        "SELECT j.id, NULL, CONCAT('total is ', j.total, ', but there are ', COUNT(r.id), ' recipients') FROM jobs j "
        "LEFT JOIN job_recipients r ON r.job_id = j.id GROUP BY j.id, j.total HAVING COUNT(r.id) <> j.total",
    ),
    (
        N_("counts"),
        "SELECT j.id, NULL, CONCAT(j.bounced, ' came back and ', j.replied, ' were answered, but of the recipients ', "
        "COALESCE(f.bounced, 0), ' and ', COALESCE(f.replied, 0)) FROM jobs j LEFT JOIN (SELECT job_id, "
        "SUM(result = 'bounced') AS bounced, SUM(result IN ('replied', 'other_replied')) AS replied FROM "
        "job_recipients WHERE result IS NOT NULL GROUP BY job_id) f ON f.job_id = j.id "
        "WHERE j.bounced <> COALESCE(f.bounced, 0) OR j.replied <> COALESCE(f.replied, 0)",
    ),
    (
        N_("counts"),
        "SELECT j.id, NULL, CONCAT('says ', j.sent, ' sent and ', j.failed, ' failed, but of the recipients ', "
        "f.sent, ' and ', f.failed) FROM jobs j JOIN (SELECT job_id, SUM(status = 'sent') AS sent, "
        "SUM(status = 'failed') AS failed FROM job_recipients GROUP BY job_id) f ON f.job_id = j.id "
        "WHERE j.finished_at IS NOT NULL AND (j.sent <> f.sent OR j.failed <> f.failed)",
    ),
    (
        N_("counts"),
        "SELECT j.id, NULL, CONCAT('has ', j.attachments, ' attachments, but there are ', COUNT(a.id)) FROM jobs j "
        "LEFT JOIN job_attachments a ON a.job_id = j.id WHERE j.attachments > 0 "
        "GROUP BY j.id, j.attachments HAVING COUNT(a.id) <> j.attachments",
    ),
    (
        N_("no job"),
        "SELECT r.job_id, MIN(r.id), CONCAT('there is no such job, but ', COUNT(*), ' recipients, ', "
        "SUM(r.status IN ('waiting', 'sending', 'unsure')), ' of them open: nothing shows or sends them') "
        "FROM job_recipients r LEFT JOIN jobs j ON j.id = r.job_id WHERE j.id IS NULL GROUP BY r.job_id",
    ),
    (
        N_("feed is stuck"),
        "SELECT NULL, NULL, CONCAT('the last place in event_positions is ', COALESCE(p.last, 'NULL'), ', but in events "
        "it is ', x.top, ': no event gets a place any more, and no webhook gets it') "
        "FROM (SELECT COALESCE(MAX(position), 0) AS top FROM events) x LEFT JOIN event_positions p ON p.id = 1 "
        "WHERE p.last IS NULL OR p.last < x.top",
    ),
    (
        N_("completed too early"),
        "SELECT j.id, NULL, CONCAT('is ', j.status, ' with ', COUNT(*), ' recipients still open') FROM jobs j "
        "JOIN job_recipients r ON r.job_id = j.id AND r.status IN ('waiting', 'sending', 'unsure') "
        "WHERE j.status = 'completed' OR (j.status = 'cancelled' AND r.status = 'waiting') GROUP BY j.id, j.status",
    ),
    (
        N_("never completed"),
        "SELECT j.id, NULL, CONCAT('is ', j.status, ' though nothing is open since ', MAX(r.updated_at)) FROM jobs j "
        "JOIN job_recipients r ON r.job_id = j.id WHERE j.status IN ('queued', 'sending', 'paused') "
        "OR (j.status = 'cancelled' AND j.finished_at IS NULL) GROUP BY j.id, j.status "
        "HAVING SUM(r.status IN ('waiting', 'sending', 'unsure')) = 0 "
        "AND MAX(r.updated_at) < UTC_TIMESTAMP(6) - INTERVAL 5 MINUTE",
    ),
    (
        N_("times of a job"),
        "SELECT j.id, NULL, CONCAT('is ', j.status, ', finished_at is ', COALESCE(j.finished_at, 'NULL')) FROM jobs j "
        "WHERE (j.status = 'completed' AND j.finished_at IS NULL) "
        "OR (j.finished_at IS NOT NULL AND j.status NOT IN ('completed', 'cancelled')) "
        "OR (j.finished_at IS NOT NULL AND j.status = 'cancelled' AND EXISTS (SELECT 1 FROM job_recipients r "
        "WHERE r.job_id = j.id AND r.status IN ('waiting', 'sending', 'unsure')))",
    ),
    (
        N_("forgotten"),
        "SELECT j.id, NULL, 'has due recipients, but next_claim_at is NULL: no daemon will claim them' FROM jobs j "
        "WHERE j.status IN ('queued', 'sending') AND j.next_claim_at IS NULL "
        "AND EXISTS (SELECT 1 FROM job_recipients r WHERE r.job_id = j.id AND r.status = 'waiting')",
    ),
    (
        N_("forgotten"),
        "SELECT j.id, NULL, CONCAT('waits, but next_claim_at of its sender ', j.sender_email, ' is NULL') FROM jobs j "
        "LEFT JOIN senders s ON s.email = j.sender_email WHERE j.claimable = 1 AND s.next_claim_at IS NULL",
    ),
    (
        N_("forgotten"),
        "SELECT j.id, NULL, CONCAT('has due recipients, but next_claim_at is ', j.next_claim_at) FROM jobs j "
        "WHERE j.claimable = 1 AND j.next_claim_at > UTC_TIMESTAMP(6) + INTERVAL 5 MINUTE "
        "AND EXISTS (SELECT 1 FROM job_recipients r WHERE r.job_id = j.id AND r.status = 'waiting' "
        "AND r.due_at < UTC_TIMESTAMP(6) - INTERVAL 5 MINUTE)",
    ),
    (
        N_("token without lease"),
        _RECIPIENTS.format(
            what="CONCAT('is ', r.status, ', claim_token ', IF(r.claim_token IS NULL, 'is NULL', 'is set'), "
            "', lease_until is ', COALESCE(r.lease_until, 'NULL'))",
            where="(r.status = 'sending' AND (r.claim_token IS NULL OR r.lease_until IS NULL)) "
            "OR (r.status = 'unsure' AND r.claim_token IS NOT NULL AND r.lease_until IS NULL) "
            "OR (r.status NOT IN ('sending', 'unsure') AND (r.claim_token IS NOT NULL OR r.lease_until IS NOT NULL))",
        ),
    ),
    (
        N_("lease long over"),
        _RECIPIENTS.format(
            what="CONCAT('is ', r.status, ', its lease ended at ', r.lease_until, ': does any daemon run?')",
            where="r.lease_until < UTC_TIMESTAMP(6) - INTERVAL 10 MINUTE",
        ),
    ),
    (
        N_("times of a recipient"),
        _RECIPIENTS.format(
            what="CONCAT('is ', r.status, ', sent_at is ', COALESCE(r.sent_at, 'NULL'))",
            where="(r.status = 'sent') <> (r.sent_at IS NOT NULL)",
        ),
    ),
    (
        N_("sent without proof"),
        _RECIPIENTS.format(
            what="'is sent, and nothing says why'", where="r.status = 'sent' AND r.proof IS NULL"
        ),
    ),
    (
        N_("proof of nothing"),
        _RECIPIENTS.format(
            what="CONCAT('is ', r.status, ', and its proof of being sent is: ', r.proof)",
            where="r.status <> 'sent' AND r.proof IS NOT NULL",
        ),
    ),
    (
        N_("no reason"),
        _RECIPIENTS.format(
            what="CONCAT('is ', r.status, ' without an error')",
            where="r.status IN ('failed', 'cancelled') AND r.error IS NULL",
        ),
    ),
    (
        N_("nothing to look for"),
        _RECIPIENTS.format(
            what="'is unsure, but neither a draft nor a direct send is recorded'",
            where="r.status = 'unsure' AND r.draft_id IS NULL AND NOT r.mode <=> 'direct'",
        ),
    ),
    (
        N_("one message, two recipients"),
        "SELECT MIN(r.job_id), MIN(r.id), CONCAT('message ', r.message_id, ' stands in ', COUNT(*), ' rows') "
        "FROM job_recipients r WHERE r.message_id IS NOT NULL GROUP BY r.message_id HAVING COUNT(*) > 1",
    ),
    (
        N_("sent after all"),
        "SELECT r.job_id, r.id, CONCAT('is ', r.status, ', but Google accepted it as ', MAX(a.message_id)) "
        "FROM attempts a JOIN job_recipients r ON r.id = a.recipient_id "
        "WHERE a.event IN ('sent', 'answered') AND a.message_id IS NOT NULL AND r.status IN ('failed', 'cancelled') "
        "AND NOT EXISTS (SELECT 1 FROM attempts u "
        # it was given back since
        "WHERE u.recipient_id = r.id AND u.event IN ('undone', 'retried') AND u.id > a.id) "
        "GROUP BY r.job_id, r.id, r.status",
    ),
    (
        N_("sent twice"),
        "SELECT r.job_id, r.id, CONCAT('Google accepted it as ', GROUP_CONCAT(DISTINCT a.message_id)) "
        "FROM attempts a JOIN job_recipients r ON r.id = a.recipient_id "
        "WHERE a.event IN ('sent', 'answered') AND a.message_id IS NOT NULL GROUP BY r.job_id, r.id "
        "HAVING COUNT(DISTINCT a.message_id) > 1",
    ),
    (
        N_("finished without an event"),
        "SELECT j.id, NULL, CONCAT('finished at ', j.finished_at, ', and the feed has no event of it') FROM jobs j "
        f"WHERE j.finished_at > {_DELETED_UP_TO} AND NOT EXISTS (SELECT 1 FROM events e WHERE e.type = 'job.finished' "
        f"AND e.cause = {_AS_CAUSE.format(_CAUSE_OF_FINISH)})",
    ),
    *(
        (
            kind,
            f"SELECT r.job_id, r.id, CONCAT('at ', a.at, ', and the feed has no event of it') FROM attempts a "
            f"JOIN job_recipients r ON r.id = a.recipient_id WHERE {happened} "
            f"AND a.at > {_DELETED_UP_TO} "
            f"AND NOT EXISTS (SELECT 1 FROM events e WHERE e.type = '{type_.value}' "
            f"AND e.cause = {_AS_CAUSE.format(_CAUSE_OF_CLAIM)})",
        )
        for kind, type_, happened in (
            (_UNTOLD_FAILURE, EventType.RECIPIENT_FAILED, "a.event = 'failed'"),
            (
                _UNTOLD_FAILURE,
                EventType.RECIPIENT_FAILED,
                "a.event = 'lapsed' AND a.error_code = 'lapsed_failed'",
            ),
            (_UNTOLD_RETURN, EventType.RECIPIENT_SENT_UNDONE, "a.event = 'undone'"),
        )
    ),
)


async def audit(
    database: Database, *, defaults: DefaultLimits | None = None
) -> tuple[int, list[AuditFinding]]:
    """How many jobs there are, and every finding.

    `defaults`: the limits of senders; without them the audit cannot see whether a sender's turn is
    too late.
    """
    ((jobs,),) = await _rows(database, "SELECT COUNT(*) FROM jobs", what="audit.count_jobs")
    findings: list[AuditFinding] = []
    for kind, statement in CHECKS:
        findings += await _check(database, kind, statement)
    if defaults is not None:
        asleep = await rate_limits.find_stale_turns(database, defaults, beyond=_STALE_AFTER)
        findings += [
            AuditFinding(
                t("sleeps for no reason"), t("sender {sender}", sender=one.email), _stale_turn(one)
            )
            for one in asleep[:MAX_FINDINGS]
        ]
    return jobs, findings


async def proofs(database: Database) -> dict[Proof | None, int]:
    """How many messages are sent by each kind of proof, the strongest first; None: without any."""
    found = dict(await _rows(database, _COUNT_PROOFS, what="audit.count_proofs"))
    return {proof: found[proof] for proof in (*Proof, None) if found.get(proof)}


def _where(job: str | None, recipient: int | None) -> str:
    if job is None:
        return t("the feed")
    return (
        t("job {job}", job=job)
        if recipient is None
        else t("job {job}, recipient {recipient}", job=job, recipient=recipient)
    )


def _stale_turn(one: rate_limits.StaleTurn) -> str:
    when = f"{one.next_claim_at:%Y-%m-%d %H:%M:%S}"
    return t(
        "has due messages that nothing holds, but its turn is at {when}; check that a daemon is running",
        when=when,
    )


async def _check(database: Database, kind: str, statement: str) -> list[AuditFinding]:
    rows = await _rows(database, f"{statement} LIMIT %s", (MAX_FINDINGS,), what="audit.check")
    return [
        AuditFinding(t(kind), _where(job, recipient), str(what)) for job, recipient, what in rows
    ]


async def _rows(
    database: Database, statement: str, values: tuple[object, ...] = (), *, what: str
) -> Sequence[Any]:
    """Those of a SELECT that may take long: millions of rows take longer than any statement of a
    daemon may.
    """

    async def work(cursor: Cursor) -> Sequence[Any]:
        limit = await without_limit(cursor)
        await cursor.execute(statement, values)
        rows = await cursor.fetchall()
        await cursor.execute(limit)
        return rows

    return await database.read(work, what=what, bound=_CHECK_TIMEOUT)
