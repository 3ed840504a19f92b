"""Delivers events to webhooks: a loop that takes what is due, and an attempt for each, within
bounds of its own.

Nothing here is shared with the messages: the connections to the database, the places for attempts
and the heartbeat are its own, and names are resolved in threads of their own.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from mailerd.clock import Clock
from mailerd.core.webhooks import (
    RESTS_FROM,
    DeliveryStatus,
    EndpointHealth,
    EndpointState,
    RetryRules,
    WebhookAttempt,
    WebhookOutcome,
    body_of,
    decide,
    shown_url,
)
from mailerd.errors import DatabaseAwayError, DatabaseError
from mailerd.events.webhooks import WebhookEvents
from mailerd.heartbeat import Heartbeats, current, every
from mailerd.ops.outbound_http import OutboundHttp, post_event
from mailerd.store.db.connection import rfc3339
from mailerd.store.write.event_feed import EventFeed
from mailerd.store.write.webhooks import ClaimedEvent, RecordedAttempt, WebhookQueue, Work

POLL_INTERVAL: Final = 1.0
"""Seconds between two queries for due deliveries."""
IDLE_INTERVAL: Final = 10.0
"""Seconds between two such queries while no endpoint is on."""
MIN_REST: Final = 0.1
"""The least seconds between two such queries: a backlog leaves the processor to the messages."""
RECORD_MARGIN: Final = 10.0
"""Seconds of a lease beyond the longest attempt, for its record: a daemon that died keeps its
places for so long.
"""
_LOOP: Final = "webhooks.deliver"
_JITTER: Final = (0.8, 1.2)


@dataclass
class WebhookSender:
    """The deliveries of one daemon."""

    queue: WebhookQueue
    feed: EventFeed
    http: OutboundHttp
    rules: RetryRules
    clock: Clock
    events: WebhookEvents
    heartbeats: Heartbeats
    timeout: float
    """The seconds that one attempt may take."""
    concurrency: int
    """The most attempts of this daemon at once."""
    per_endpoint: int
    """The most attempts at once to one endpoint, by all daemons together."""
    _under_way: dict[asyncio.Task[None], int] = field(default_factory=dict)
    """The attempts that are under way, with the owners of their endpoints."""
    _idle: bool = False
    """Whether no endpoint is on."""
    _wakeup: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Deliver, until cancelled; what is under way then is delivered again once its lease is
        over.
        """
        heartbeat = self.heartbeats.register(_LOOP)

        def failed(error: DatabaseError) -> None:
            self.events.webhook_step_failed(what=_LOOP, again_in=POLL_INTERVAL, cause=str(error))

        async with asyncio.TaskGroup() as attempts:
            await every(
                POLL_INTERVAL,
                lambda: self._step(attempts),
                name=_LOOP,
                heartbeat=heartbeat,
                on_error=failed,
                sleep=self._rest,
            )

    async def _rest(self, seconds: float) -> None:
        """Rest until an attempt has ended, or for so long."""
        seconds = IDLE_INTERVAL if self._idle else seconds
        current().waiting("next_round", at_most=seconds)
        await self.clock.sleep(min(MIN_REST, seconds))
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wakeup.wait()
        self._wakeup.clear()

    async def _step(self, attempts: asyncio.TaskGroup) -> None:
        """Make the deliveries of new events, and take what is due."""
        work = await self.queue.read_work()
        self._idle = not work.owners
        if work.owners and await self.feed.number_new():
            work = await self.queue.read_work()
        for id_ in work.behind:
            if await self.queue.fan_out(id_):
                self._wakeup.set()
        await self._take(attempts, work)

    async def _take(self, attempts: asyncio.TaskGroup, work: Work) -> None:
        """Begin attempts, as far as there are places."""
        # so that no endpoint always comes last
        ready = random.sample(list(work.ready.items()), len(work.ready))
        waiting = dict(ready) | work.behind
        for id_ in in_turn(waiting, Counter(self._under_way.values())):
            owner, free = waiting[id_], self.concurrency - len(self._under_way)
            if free <= 0:
                return
            held = sum(each == owner for each in self._under_way.values())
            if not (most := share(held=held, free=free, alone=work.owners == 1)):
                continue
            for it in await self.queue.claim(id_, most=most, at_once=self.per_endpoint):
                task = attempts.create_task(self._deliver(it), name=f"webhook {it.name}")
                self._under_way[task] = owner
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self._wakeup.set()

    async def _deliver(self, it: ClaimedEvent) -> None:
        """Post, and record what came of it."""
        began = time.monotonic()
        try:
            attempt = await post_event(
                self.http,
                it.url,
                uid=it.uid,
                body=body_of(it.type, rfc3339(it.at), it.data),
                secrets=it.secrets,
                now=self.clock.now(),
                within=self.timeout,
            )
            recorded = await self._record(it, attempt)
        except (
            DatabaseError,
            TimeoutError,
        ) as error:  # the post has an end of its own: it is the record that has none
            if not isinstance(error, DatabaseAwayError):
                self._not_recorded(error)
        except Exception as error:  # noqa: BLE001 - whatever one endpoint does, the others and the messages go on
            self.events.webhook_crashed(webhook=it.name, uid=it.uid, error=error)
            await self._record_broken(it, error, timedelta(seconds=time.monotonic() - began))
        else:
            if recorded is not None:
                self._log_attempt(it, attempt, recorded)

    async def _record_broken(self, it: ClaimedEvent, error: Exception, took: timedelta) -> None:
        """A failed attempt like any other: without its record it would be repeated at once, for
        ever.
        """
        attempt = WebhookAttempt(
            None, f"a bug in mailerd: {type(error).__name__}; its log has the stack", took
        )
        try:
            await self._record(it, attempt)
        except (DatabaseError, TimeoutError) as cause:
            self._not_recorded(cause)
        except Exception as cause:  # noqa: BLE001 - its lease ends and it is tried again; the other deliveries go on
            self.events.webhook_crashed(webhook=it.name, uid=it.uid, error=cause)

    def _not_recorded(self, error: DatabaseError | TimeoutError) -> None:
        cause = str(error) or f"no answer of the database within {RECORD_MARGIN:g} s"
        self.events.webhook_step_failed(what="webhooks.record", again_in=RECORD_MARGIN, cause=cause)

    async def _record(self, it: ClaimedEvent, attempt: WebhookAttempt) -> RecordedAttempt | None:
        jitter = random.uniform(*_JITTER)  # noqa: S311 - it spreads the load

        def decided(health: EndpointHealth, now: datetime) -> WebhookOutcome:
            return decide(
                attempt,
                health,
                self.rules,
                number=it.number,
                tried_at=it.tried_at,
                now=now,
                jitter=jitter,
            )

        async with asyncio.timeout(RECORD_MARGIN):
            return await self.queue.record(it, attempt, decided)

    def _log_attempt(
        self, it: ClaimedEvent, attempt: WebhookAttempt, recorded: RecordedAttempt
    ) -> None:
        step, cause = recorded.step, attempt.error or ""
        if step.status is DeliveryStatus.DELIVERED:
            ms = attempt.took // timedelta(milliseconds=1)
            self.events.webhook_delivered(
                webhook=it.name, uid=it.uid, event_type=it.type, number=it.number, ms=ms
            )
            if recorded.failures >= RESTS_FROM:
                self.events.webhook_recovered(
                    webhook=it.name, seconds=recorded.failing.total_seconds()
                )
            return
        if step.status is DeliveryStatus.FAILED:
            self.events.webhook_event_given_up(
                webhook=it.name, uid=it.uid, event_type=it.type, number=it.number, cause=cause
            )
            return
        self.events.webhook_attempt_failed(
            webhook=it.name,
            uid=it.uid,
            event_type=it.type,
            number=it.number,
            cause=cause,
            again_in=step.wait.total_seconds(),
        )
        self._tell_of_endpoint(it, cause, recorded)

    def _tell_of_endpoint(self, it: ClaimedEvent, cause: str, recorded: RecordedAttempt) -> None:
        url = shown_url(it.url)
        match recorded.step.state:
            case EndpointState.GONE:
                self.events.webhook_gone(webhook=it.name, url=url)
            case EndpointState.PAUSED:
                seconds = recorded.failing.total_seconds()
                self.events.webhook_paused(webhook=it.name, url=url, seconds=seconds, cause=cause)
            case EndpointState.ON:
                if recorded.step.failures == RESTS_FROM:
                    self.events.webhook_failing(
                        webhook=it.name, url=url, failures=RESTS_FROM, cause=cause
                    )


def in_turn(waiting: Mapping[str, int], held: Mapping[int, int]) -> list[str]:
    """The endpoints, turn about between their owners; who holds the fewest places comes first.

    `waiting`: endpoints with their owners. `held`: places by owner.
    """
    nth, turns = Counter(held), dict[str, int]()
    for id_, owner in waiting.items():
        turns[id_] = nth[owner]
        nth[owner] += 1
    return sorted(turns, key=lambda id_: turns[id_])


def share(*, held: int, free: int, alone: bool) -> int:
    """How many more places an owner may take who holds so many.

    An owner with others beside it holds at most about as many as are free then, and the next owner
    finds some: one busy owner has half of all, two have a third each. An attempt that hangs gives
    nothing back for as long as it may.
    """
    return free if alone else max(0, (free - held + 1) // 2)
