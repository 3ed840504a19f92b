"""Joins the parts of the inbox reader."""

from collections.abc import Callable
from datetime import timedelta

from mailerd.config import Settings
from mailerd.events.base import EventSink
from mailerd.events.inbox import InboxEvents
from mailerd.events.suppression import SuppressionEvents
from mailerd.inbox.inbox_log import InboxLog
from mailerd.inbox.reader import InboxReader
from mailerd.ops.heartbeat import Heartbeats
from mailerd.rate_limited_gmail import RateLimitedGmail
from mailerd.store.inbox.mailboxes import Mailboxes
from mailerd.store.inbox.record_findings import FindingsWriter
from mailerd.store.queue.claim import Claims
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.secrets import Secrets


def build_reader(
    settings: Settings,
    sink: EventSink,
    claims: Claims,
    *,
    gmail: RateLimitedGmail,
    wake: Callable[[], None],
    heartbeats: Heartbeats,
) -> InboxReader:
    """The reader of one daemon."""

    def defaults() -> DefaultLimits:
        return claims.defaults  # a reload changes them

    database = claims.database
    known, lease = settings.inbox, timedelta(seconds=settings.runner.lease)
    rest = timedelta(seconds=known.limit_pause)
    return InboxReader(
        gmail=gmail,
        mailboxes=Mailboxes(database, defaults, lease_time=lease, interval=timedelta(seconds=known.interval)),
        writer=FindingsWriter(database, defaults, claims.daemon_id, lease, min_pause=rest, undo=known.undo_over_limit),
        secrets=Secrets(database, timeout=database.probe_timeout),
        log=InboxLog(InboxEvents(sink), SuppressionEvents(sink)),
        heartbeats=heartbeats,
        interval=known.interval,
        call_timeout=gmail.max_wait.total_seconds() + settings.gmail.request_timeout,
        wake=wake,
    )
