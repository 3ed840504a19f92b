"""Counts events and measurements for Prometheus; only this module imports prometheus_client.

Messages, senders and the database's troubles are counted from the very events that the log tells,
so that a log line and a metric always agree. Names and units follow
https://prometheus.io/docs/practices/naming/.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.samples import Sample

from mailerd import __version__
from mailerd.clock import Clock
from mailerd.core.i18n import t
from mailerd.core.notices import BOUNCES
from mailerd.core.pauses import CAUSES, MANUAL, until
from mailerd.core.replies import Call
from mailerd.core.results import Result
from mailerd.core.situation import CLOCKS_DIFFER, Facts, situation
from mailerd.core.states import JobStatus, State
from mailerd.core.stats import SILENT, WEBHOOK_STANDINGS, QueueStats, RecentAction, SenderStats
from mailerd.core.suppression import EVERYTHING_NAME, Channel, Reason
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.actions import ActionEvents, Via
from mailerd.events.base import Event, registered_events
from mailerd.events.process import ProcessEvents
from mailerd.heartbeat import Heartbeats

# A sample of when each counter was made would be a third of the page; no rule and no panel reads
# it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types
CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
MAX_SENDERS: Final = 200
"""Senders with a label of their own; the others share `other`.

A client names the sender, so there must be a bound.
"""
_TOGETHER: Final = "other"
_WINDOWS: Final = ("minute", "day")
_NO_SUMS: Final = frozenset({"mailerd_sender_limit_messages", "mailerd_sender_used_messages"})
"""Gauges of single senders: a limit may be 0, which is none."""
_REMEMBERED: Final = 10_000
"""Messages and jobs whose beginning is remembered for a duration."""
_FAST: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SLOW: Final = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)

_OUTCOMES: Final = {
    "message_sent": "sent",
    "message_failed": "failed",
    "message_deferred": "deferred",
    "message_released": "released",
    "message_unsure": "unsure",
    "message_found": "found",
    "message_missing": "missing",
}


class Metrics:
    """Everything that `/metrics` shows; one per daemon, with a registry of its own."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._senders: set[str] = set()
        self._shown: dict[str, str | None] = {}
        """The senders that the tables showed last, each with the cause of its pause; "": none."""
        self._begun: OrderedDict[int | str, float] = OrderedDict()
        self._gauge("mailerd_build_info", "Always 1.", "version").labels(__version__).set(1)
        self._of_messages()
        self._of_suppressions()
        self._of_tables()
        self._of_webhooks()
        self._of_database()
        self._of_process()
        self._counted = self._of_events()

    def _gauge(self, name: str, words: str, *labels: str) -> Gauge:
        return Gauge(name, words, labels, registry=self._registry)

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(name, words, labels, registry=self._registry)

    def _histogram(
        self, name: str, words: str, *labels: str, buckets: Sequence[float]
    ) -> Histogram:
        return Histogram(name, words, labels, registry=self._registry, buckets=buckets)

    def _of_messages(self) -> None:
        self._messages = self._counter(
            "mailerd_messages", "Messages by outcome, as logged.", "outcome", "sender"
        ).labels
        self._send = self._histogram(
            "mailerd_send_seconds", "Seconds from claim to recorded outcome.", buckets=_FAST
        )
        self._waited = self._histogram(
            "mailerd_accepted_to_sent_seconds",
            "Seconds from a job's acceptance (or its send_at) to each message sent.",
            buckets=_SLOW,
        )
        self._jobs_accepted = self._counter(
            "mailerd_jobs_accepted", "Jobs that this daemon accepted."
        )
        self._accepted = self._counter(
            "mailerd_recipients_accepted", "Recipients that this daemon accepted."
        )
        self._jobs_finished = self._counter(
            "mailerd_jobs_finished", "Jobs that this daemon finished.", "result"
        ).labels
        for result in ("all_sent", "with_failures", "cancelled"):
            self._jobs_finished(result)
        self._results = self._counter(
            "mailerd_message_results",
            "Bounces and replies that this daemon read.",
            "result",
            "kind",
        ).labels
        for kind in sorted(BOUNCES):
            self._results(Result.BOUNCED, kind)
        self._given_back = self._counter(
            "mailerd_messages_returned", "Messages returned by Google: sending limit reached."
        )
        self._requests = self._counter(
            "mailerd_http_requests", "Answered requests.", "method", "status"
        ).labels
        self._google = self._counter(
            "mailerd_google_calls", "Finished calls to Google.", "call", "outcome"
        ).labels
        self._google_s = self._histogram(
            "mailerd_google_call_seconds", "Seconds per call to Google.", "call", buckets=_FAST
        ).labels
        self._tokens = self._counter(
            "mailerd_token_refreshes", "Access token requests.", "result"
        ).labels
        for result in ("granted", "refused"):
            self._tokens(result)

    def _of_suppressions(self) -> None:
        self._suppressions = self._counter(
            "mailerd_suppressions_added", "Suppressions that this daemon added.", "reason", "source"
        ).labels
        for channel in (Channel.ONE_CLICK, Channel.PAGE, Channel.MAILTO):
            self._suppressions(Reason.UNSUBSCRIBED, channel)
        self._suppressions(Reason.HARD_BOUNCE, Channel.NOTICE)
        for reason in Reason:
            self._suppressions(reason, Channel.API)
        self._suppressions_by_command = self._counter(
            "mailerd_suppressions_added_by_command",
            "Suppressions added by commands; every daemon counts them.",
        )

    def _of_tables(self) -> None:
        self._jobs = self._gauge("mailerd_jobs", "Jobs in the tables.", "status")
        self._recipients = self._gauge(
            "mailerd_recipients", "Recipients of unfinished jobs.", "status"
        )
        self._recipients_counted = self._gauge(
            "mailerd_recipients_counted_seconds",
            "Seconds since recipients of unfinished jobs were counted; -1: too many to count.",
        )
        self._oldest_claimable = self._gauge(
            "mailerd_oldest_claimable_message_seconds",
            "Age of the oldest message that is due, not paused and not claimed.",
        )
        self._oldest_unsure = self._gauge(
            "mailerd_oldest_unsure_message_seconds", "Age of the oldest unconfirmed message."
        )
        self._limit = self._gauge(
            "mailerd_sender_limit_messages",
            "Messages that a sender may send; 0: no limit.",
            "sender",
            "window",
        )
        self._used = self._gauge(
            "mailerd_sender_used_messages",
            "Messages counted towards the limit.",
            "sender",
            "window",
        )
        self._paused = self._gauge(
            "mailerd_sender_paused",
            "1 while paused, by cause; for `other` the number of senders.",
            "sender",
            "cause",
        )
        self._stats_at = self._gauge(
            "mailerd_stats_timestamp_seconds", "Time of the last read of the tables."
        )

    def _of_webhooks(self) -> None:
        self._webhook_attempts = self._counter(
            "mailerd_webhook_attempts", "Delivery attempts to webhooks.", "outcome"
        ).labels
        for outcome in ("delivered", "failed", "given_up"):
            self._webhook_attempts(outcome)
        self._webhooks = self._gauge(
            "mailerd_webhooks", "Webhook endpoints by standing.", "standing"
        )
        self._undelivered = self._gauge(
            "mailerd_webhook_undelivered_events", "Events waiting for an active endpoint."
        )
        self._oldest_undelivered = self._gauge(
            "mailerd_webhook_oldest_undelivered_seconds", "Age of the oldest undelivered event."
        )

    def _of_database(self) -> None:
        self._calls = self._counter(
            "mailerd_database_calls", "Finished transactions.", "outcome"
        ).labels
        for outcome in ("ok", "refused", "unavailable", "in_doubt", "cut_off"):
            self._calls(outcome)
        self._calls_s = self._histogram(
            "mailerd_database_call_seconds",
            "Seconds per transaction, including the wait for a connection.",
            buckets=_FAST,
        )
        self._retries = self._counter("mailerd_database_retries", "Repeated attempts.")
        self._up = self._gauge(
            "mailerd_database_up", "0 while the database is unavailable or accepts no writes."
        )
        self._connections = self._gauge("mailerd_database_connections", "Open connections.")
        self._server = self._gauge(
            "mailerd_database_server", "1 for the server in use, 0 for the others.", "server"
        )
        self._moves = self._counter(
            "mailerd_database_moves", "Times that writes moved to another server."
        )
        self._pool = self._gauge("mailerd_database_pool_size", "Maximum number of connections.")

    def _of_process(self) -> None:
        self._told = self._counter("mailerd_events", "Logged events.", "event", "level").labels
        # A counter that is born at 1 shows no increase: every first warning would be missed by
        # whatever watches.
        for event in registered_events().values():
            self._told(event.name, event.level)
        self._lost = self._counter(
            "mailerd_log_records_lost", "Log records that journald did not accept."
        )
        self._in_flight = self._gauge("mailerd_messages_in_flight", "Messages in flight.")
        self._lag = self._histogram(
            "mailerd_event_loop_lag_seconds", "Delay of the event loop in seconds.", buckets=_FAST
        )
        self._heartbeat_age = self._gauge(
            "mailerd_loop_heartbeat_age_seconds", "Seconds since a loop last made progress.", "loop"
        )

    def on_event(self, event: Event, fields: Mapping[str, object], /) -> None:
        """Count an event."""
        self._told(event.name, event.level).inc()
        if outcome := _OUTCOMES.get(event.name):
            self._message(outcome, fields)
        elif (count := self._counted.get(event.name)) is not None:
            count(fields)

    def _of_events(self) -> dict[str, Callable[[Mapping[str, object]], None]]:
        """What is counted of which event, beside the messages' outcomes."""

        def job_accepted(fields: Mapping[str, object]) -> None:
            self._jobs_accepted.inc()
            self._accepted.inc(_number(fields["accepted"]))
            self._sender(str(fields["sender"]))

        def job_finished(fields: Mapping[str, object]) -> None:
            stopped = "cancelled" if fields["cancelled"] else "all_sent"
            self._jobs_finished("with_failures" if fields["failed"] else stopped).inc()

        def request_answered(fields: Mapping[str, object]) -> None:
            self._requests(_method(fields["method"]), str(fields["status"])).inc()

        def suppression_added(fields: Mapping[str, object]) -> None:
            self._suppressions(str(fields["reason"]), str(fields["source"])).inc()

        def suppression_action(fields: Mapping[str, object]) -> None:
            number = _number(fields["changed"])
            if fields["action"] != "suppress":
                return
            if fields["via"] == Via.COMMAND:
                self._suppressions_by_command.inc(number)
            else:
                self._suppressions(str(fields["reason"]), str(fields["source"])).inc(number)

        return {
            "webhook_delivered": lambda _: self._webhook_attempts("delivered").inc(),
            "webhook_attempt_failed": lambda _: self._webhook_attempts("failed").inc(),
            "webhook_event_given_up": lambda _: self._webhook_attempts("given_up").inc(),
            "suppression_added": suppression_added,
            "suppression_action": suppression_action,
            "message_bounced": lambda fields: self._results(
                Result.BOUNCED, str(fields["kind"])
            ).inc(),
            "message_replied": lambda fields: self._results(str(fields["result"]), "").inc(),
            "message_returned": lambda _: self._given_back.inc(),
            "google_call_failed": lambda fields: self._google_call(
                fields, outcome=str(fields["outcome"])
            ),
            "google_call_succeeded": self._google_call,
            "token_refreshed": lambda fields: self._google_call({**fields, "call": Call.TOKEN}),
            "message_started": lambda fields: self._begin(int(_number(fields["recipient"]))),
            "job_found": lambda fields: self._begin(
                str(fields["job"]), before=float(_number(fields["age"]))
            ),
            "job_accepted": job_accepted,
            "job_finished": job_finished,
            "request_answered": request_answered,
            "anonymous_answered": request_answered,
            "writer_changed": lambda _: self._moves.inc(),
            "transaction_repeated": lambda _: self._retries.inc(),
            "database_attempt_failed": lambda _: self._retries.inc(),
            "log_records_lost": lambda fields: self._lost.inc(_number(fields["lost"])),
        }

    def _google_call(self, fields: Mapping[str, object], *, outcome: str = "accepted") -> None:
        call = str(fields["call"])
        self._google(call, outcome).inc()
        self._google_s(call).observe(_number(fields["seconds"]))
        if call == Call.TOKEN:
            self._tokens("granted" if outcome == "accepted" else "refused").inc()

    def _message(self, outcome: str, fields: Mapping[str, object]) -> None:
        self._messages(outcome, self._sender(str(fields.get("sender", "")))).inc()
        begun = self._begun.pop(int(_number(fields["recipient"])), None)
        if outcome == "sent":
            if begun is not None:
                self._send.observe(self._now() - begun)
            if (accepted := self._begun.get(str(fields["job"]))) is not None:
                self._waited.observe(self._now() - accepted)

    def _begin(self, what: int | str, *, before: float = 0.0) -> None:
        self._begun[what] = self._now() - before
        if len(self._begun) > _REMEMBERED:
            self._begun.popitem(last=False)

    def _sender(self, email: str) -> str:
        """The label of a sender, whose counters are there, at 0, from the first time that it is
        mentioned.
        """
        if email in self._senders:
            return email
        if not email or len(self._senders) >= MAX_SENDERS:
            return _TOGETHER
        self._senders.add(email)
        for outcome in set(_OUTCOMES.values()):
            self._messages(outcome, email)
        return email

    def database_call(self, *, outcome: str, seconds: float) -> None:
        """One transaction has ended: ok, refused, unavailable, in_doubt or cut_off."""
        self._calls(outcome).inc()
        self._calls_s.observe(seconds)

    def lag(self, seconds: float) -> None:
        """The event loop came so late."""
        self._lag.observe(seconds)

    def set_heartbeats(self, loops: Mapping[str, float]) -> None:
        """Since when each loop has been silent."""
        for loop, seconds in loops.items():
            self._heartbeat_age.labels(loop).set(seconds)

    def set_process(
        self, *, in_flight: int, database_up: bool, connections: int, pool_size: int
    ) -> None:
        """How this process stands now."""
        self._in_flight.set(in_flight)
        self._up.set(1 if database_up else 0)
        self._connections.set(connections)
        self._pool.set(pool_size)

    def set_servers(self, servers: Mapping[str, bool]) -> None:
        """Which of the database's servers is in use, by host and port."""
        for server, used in servers.items():
            self._server.labels(server).set(1 if used else 0)

    def set_queue(self, stats: QueueStats) -> None:
        """What the tables showed."""
        for status in JobStatus:
            self._jobs.labels(status.value).set(stats.jobs.get(status, 0))
        for state in State:
            self._recipients.labels(state.value).set(stats.recipients.get(state, 0))
        self._recipients_counted.set(-1 if stats.counted is None else stats.counted)
        self._oldest_claimable.set(stats.oldest_claimable)
        self._oldest_unsure.set(stats.oldest_unsure)
        self._set_webhooks(stats)
        self._stats_at.set(stats.at.timestamp())
        self._set_senders(stats)

    def _set_senders(self, stats: QueueStats) -> None:
        before, self._shown = self._shown, {}
        others = dict.fromkeys(CAUSES, 0)
        for sender in stats.senders:
            label, cause = (
                self._sender(sender.email),
                sender.pause_cause if sender.paused_until is not None else "",
            )
            if label == _TOGETHER:
                if cause in others:
                    others[cause] += 1
                continue
            self._shown[label] = cause
            self._limit.labels(label, "minute").set(sender.per_minute)
            self._limit.labels(label, "day").set(sender.per_day)
            self._used.labels(label, "minute").set(sender.used_minute)
            self._used.labels(label, "day").set(sender.used_day)
            for each in () if (label, cause) in before.items() else CAUSES:
                self._paused.labels(label, each).set(1 if each == cause else 0)
        for label in before.keys() - self._shown:  # it must not stay as it was
            for gauge, values in (
                (self._limit, _WINDOWS),
                (self._used, _WINDOWS),
                (self._paused, CAUSES),
            ):
                for value in values:
                    gauge.remove(label, value)
        if len(self._senders) >= MAX_SENDERS:
            for each, number in others.items():
                self._paused.labels(_TOGETHER, each).set(number)

    def _set_webhooks(self, stats: QueueStats) -> None:
        for standing in WEBHOOK_STANDINGS:
            self._webhooks.labels(standing).set(
                sum(it.standing == standing for it in stats.webhooks)
            )
        live = [it for it in stats.webhooks if it.standing in {"on", "failing"}]
        self._undelivered.set(sum(it.undelivered for it in live))
        self._oldest_undelivered.set(max((it.oldest for it in live), default=0.0))

    def page(self, shows: Callable[[str], bool] = lambda _: True) -> bytes:
        """What Prometheus reads; senders that are not shown are counted together, as `other`."""
        return generate_latest(_VisibleSenders(self._registry, shows))


class _VisibleSenders(CollectorRegistry):
    """A registry as those see it who may not know every sender."""

    def __init__(self, whole: CollectorRegistry, shows: Callable[[str], bool]) -> None:
        super().__init__()
        self._whole = whole
        self._shows = shows

    def collect(self) -> Iterator[Metric]:
        """Every family; of the hidden senders the sum of what can be added up."""
        for family in self._whole.collect():
            if any("sender" in sample.labels for sample in family.samples):
                shown = Metric(family.name, family.documentation, family.type)
                shown.samples = self._folded(family)
                yield shown
            else:
                yield family

    def _folded(self, family: Metric) -> list[Sample]:
        found: dict[tuple[str, ...], Sample] = {}
        for each in family.samples:
            sender, sample = each.labels["sender"], each
            if sender != _TOGETHER and not self._shows(sender):
                if family.name in _NO_SUMS:
                    continue
                sample = each._replace(labels={**each.labels, "sender": _TOGETHER})
            place = (sample.name, *sample.labels.values())
            before = found.get(place)
            found[place] = (
                sample if before is None else before._replace(value=before.value + sample.value)
            )
        return list(found.values())


def _number(value: object) -> float | int:
    return value if isinstance(value, int | float) else 0


def _method(value: object) -> str:
    """A client may invent a method."""
    return (
        str(value)
        if value in {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}
        else "other"
    )


# Reads the counts of the tables now and then, for metrics, the status line and alerts.

_COMMAND = "command, "
"""The beginning of `actor` where a command asked (`asked_by` of `cli/common.py`)."""


class ManualChanges:
    """What was reported already, and the difference that a new look makes."""

    def __init__(self, events: ProcessEvents) -> None:
        self._events = events
        self._paused: dict[str, tuple[str, str]] = {}
        """The pauses that were logged, by sender: until when it is paused, and why."""
        self._asked: dict[int, int] | None = None
        """The actions that the last read showed, by id: how many messages or suppressions each had
        changed by then.
        """
        self._action_events = ActionEvents(events.sink)

    def compare(self, stats: QueueStats) -> None:
        """Log what is new since the last read; a pause that stands at the first one is logged as
        well.
        """
        now: dict[str, tuple[str, str]] = {
            sender.email: (until(sender.paused_until), sender.pause_reason)
            for sender in stats.paused
            if sender.paused_until and sender.pause_cause == MANUAL
        }
        for sender, (end, reason) in now.items():
            if self._paused.get(sender) != (end, reason):
                self._events.sender_paused_manually(sender=sender, until=end, reason=reason)
        for sender in self._paused.keys() - now.keys():
            self._events.sender_resumed_manually(sender=sender)
        self._paused = now
        told = self._asked
        self._asked = {one.id: one.messages for one in stats.asked}
        if told is None:
            return
        oldest = min(told, default=0)  # of two at once the later one may be committed first
        for one in reversed(stats.asked):
            new = one.id > oldest and one.id not in told
            if one.actor.startswith(_COMMAND) and (
                new or one.messages > told.get(one.id, one.messages)
            ):
                self._log_action(one, one.messages - told.get(one.id, 0))

    def _log_action(self, one: RecentAction, changed: int) -> None:
        if one.job is not None:
            settled = (one.detail or "").partition(",")[0] if one.action == "settle" else ""
            self._action_events.job_action(
                job=one.job,
                action=one.action,
                actor=one.actor,
                messages=changed,
                status=settled or one.status or "",
                via=Via.COMMAND.value,
            )
        elif one.sender is not None:
            self._action_events.sender_action(
                sender=one.sender, action=one.action, actor=one.actor, via=Via.COMMAND.value
            )
        elif one.webhook is not None:
            self._action_events.webhook_action(
                webhook=one.webhook, action=one.action, actor=one.actor, via=Via.COMMAND.value
            )
        elif one.action.endswith("_key"):
            self._action_events.key_action(
                name=one.detail or "", action=one.action, actor=one.actor, via=Via.COMMAND.value
            )
        else:
            self._action_events.suppression_action(
                mailing_list=one.detail or EVERYTHING_NAME,
                action=one.action,
                actor=one.actor,
                changed=changed,
                reason="",
                source="",
                via=Via.COMMAND.value,
            )


STATS_INTERVAL: Final = 10.0
"""Seconds between two reads; a read that takes long is repeated less often."""
MIN_STATS_INTERVAL: Final = 1.0
"""Seconds between two reads where something has changed meanwhile."""
_STATS_SHARE: Final = 20
"""Reading may take one twentieth of the time, by the faster one of two reads in a row."""
_STATS_TIMEOUT: Final = 10.0
_SETTLING: Final = 0.25
"""Seconds from a change to the read: a message that was just posted has the database to itself
until it is at Google, and what follows from the change is read along with it.
"""
_GRACE: Final = 2.0
"""Seconds by which a read may be late before what it showed last counts as not known any more."""
_CLOCK_WARNING_INTERVAL: Final = 600.0
_CHANGES: Final = frozenset(
    {
        "database_back",
        "job_accepted",
        "job_found",
        "job_action",
        "job_finished",
        "sender_action",
        "sender_paused",
        "project_paused",
        "sender_resumed",
        "message_deferred",
        "message_released",
        "message_unsure",
        "message_failed",
    }
)
"""Events after which the counts are read soon, and not only at the next interval."""


class QueueChanges:
    """Listens for events that change the counts or a pause."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def on_event(self, event: Event, fields: Mapping[str, object], /) -> None:
        """Remember that something has changed."""
        del fields
        if event.name in _CHANGES:
            self._changed.set()

    async def wait(self, *, timeout: float) -> None:  # noqa: ASYNC109 - the time-out is no failure
        """Wait for a change since the last wait, and for what follows from it, or for the
        time-out.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._changed.wait()
                await asyncio.sleep(_SETTLING)
        self._changed.clear()


@dataclass
class StatsPoller:
    """The counts of one daemon, as it has read them last."""

    read: Callable[[], Awaitable[QueueStats]]
    changes: QueueChanges
    metrics: Metrics
    events: ProcessEvents
    heartbeats: Heartbeats
    clock: Clock = field(default_factory=Clock)
    latest: QueueStats | None = None
    """What was read last; None while the tables cannot be read."""
    outage: Callable[[], str] = lambda: ""
    """How the database cannot be used, in a word; empty: it can."""
    connections: Callable[[], int] = lambda: 0
    """With how many connections to the database the daemon has to do; 0: with all that it wants."""
    _read_at: float = field(default_factory=time.monotonic)
    """When the tables were read last, or when it was first tried."""
    _due: float = math.inf
    """When they should have been read again, at the latest."""
    _back_at: float = -math.inf
    """When they could be read again after they could not."""
    _manual_changes: ManualChanges = field(init=False)
    _clock_warned_at: float = -_CLOCK_WARNING_INTERVAL
    _clock_off: float = 0.0
    """Seconds by which this machine's clock was ahead of the database's when the tables were read
    last.
    """
    _gone: frozenset[str] = frozenset()
    """The daemons that were gone then."""

    def __post_init__(self) -> None:
        """Make the part that logs what people changed by hand."""
        self._manual_changes = ManualChanges(self.events)

    def current(self) -> QueueStats | None:
        """What was read last; None while the tables cannot be read."""
        return self.latest

    def sender(self, email: str) -> SenderStats | None:
        """What was read last of a mailbox."""
        return self.latest.sender(email) if self.latest else None

    def facts(self) -> Facts:
        """What is known now of how it goes."""
        now = time.monotonic()
        is_known, usable_for = self.latest is not None and now < self._due, now - self._back_at
        return Facts(
            self.latest,
            self.outage(),
            0.0 if is_known else now - self._read_at,
            just_back=usable_for < SILENT,
            usable_for=usable_for,
            connections=self.connections(),
            clock_off=self._clock_off,
        )

    async def run(self) -> None:
        """Read, until cancelled."""
        heartbeat, took = self.heartbeats.register("stats"), 0.0
        while True:
            heartbeat.working("stats.read")
            started = time.monotonic()
            was_read = await self._read()
            # A stream of changes costs no more than its share of the time. What had no answer cost
            # nothing. One slow read may have met a frozen database or a daemon that was stopped;
            # two in a row are of large tables.
            before, took = took, time.monotonic() - started if was_read else 0.0
            least = max(MIN_STATS_INTERVAL, _STATS_SHARE * min(before, took))
            rest = max(STATS_INTERVAL, least)
            self._due = time.monotonic() + rest + max(_GRACE, 3 * took)
            heartbeat.waiting("next_read", at_most=rest)
            await asyncio.sleep(least)
            await self.changes.wait(timeout=rest - least)

    async def _read(self) -> bool:
        """Whether the tables could be read."""
        failed_before = self.latest is None
        try:
            async with asyncio.timeout(_STATS_TIMEOUT + 1):
                self.take(await self.read())
            if failed_before:
                self._back_at = time.monotonic()
        except DatabaseAwayError:
            self.latest = None
        except (DatabaseError, TimeoutError) as error:
            self.latest = None
            self.events.stats_failed(cause=str(error) or t("no response within the time-out"))
        except Exception as error:  # noqa: BLE001 - a row that a person wrote by hand, say, and that stays as it is
            self.latest = None
            self.events.stats_crashed(error=error)
        return self.latest is not None

    def take(self, stats: QueueStats) -> None:
        """Take what was read: into the metrics, into the log what people have changed, and a clock
        that is off.
        """
        self._manual_changes.compare(stats)
        self.latest, self._read_at = stats, time.monotonic()
        self.metrics.set_queue(stats)
        off = self._clock_off = (self.clock.now() - stats.at).total_seconds()
        now = time.monotonic()
        gone = {it.about: it for it in situation(Facts(stats)) if it.code == "daemon_gone"}
        for name in gone.keys() - self._gone:
            self.events.daemon_gone(daemon=name.partition(" ")[2], seconds=gone[name].lasts)
        self._gone = frozenset(gone)
        if abs(off) > CLOCKS_DIFFER and now - self._clock_warned_at >= _CLOCK_WARNING_INTERVAL:
            self._clock_warned_at = now
            self.events.clock_off(
                seconds=abs(off), direction=t("ahead of") if off > 0 else t("behind")
            )
