"""Sends alerts: a loop of its own whose every step is bounded, so that it never holds up a letter."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mailerd.config import AlertSettings
from mailerd.core.stats import QueueStats
from mailerd.core.texts import Language
from mailerd.events.process import ProcessEvents
from mailerd.ops.alert_state import AlertState, Message
from mailerd.ops.heartbeat import Heartbeats
from mailerd.ops.notify import SEND_TIMEOUT, Notifier, build_notifiers
from mailerd.ops.periodic import every
from mailerd.texts import in_chinese

_CHECK_INTERVAL: Final = 2.0
_TRIES: Final = 3
_REST: Final = 1.0
"""Seconds after the first try that failed, twice as many after the second."""


@dataclass
class Alerter:
    """Alerts of one daemon."""

    state: AlertState
    """It hears of the events; the rest is read here."""
    stats: Callable[[], QueueStats | None]
    """What the tables showed last; None while they cannot be read."""
    database_status: Callable[[], str]
    """How the database is away, in a word; empty: it is there."""
    events: ProcessEvents
    heartbeats: Heartbeats
    _notifiers: Sequence[Notifier] = ()
    _away_since: float | None = None

    def __post_init__(self) -> None:
        self.configure(self.state.settings, language=self.state.language)

    def configure(self, settings: AlertSettings, *, language: Language) -> None:
        """Take other settings; what is wrong now is remembered.

        Raises:
            ConfigurationError: they cannot be used, and the old ones stay.
        """
        self._notifiers = build_notifiers(webhook=settings.webhook, urls=settings.urls)
        self.state.settings = settings
        self.state.language = language

    async def run(self) -> None:
        """Look and post, until cancelled."""
        heartbeat = self.heartbeats.register("alerter", limit=_TRIES * (SEND_TIMEOUT + 60))
        await every(
            _CHECK_INTERVAL, self._check, name="looking for what is wrong", first_after=_CHECK_INTERVAL,
            heartbeat=heartbeat,
        )  # fmt: skip

    async def _check(self) -> None:
        now = time.monotonic()
        how = self.database_status()
        self._away_since = (self._away_since or now) if how else None
        away = now - self._away_since if self._away_since else 0.0
        stalled = {heartbeat.loop: heartbeat.age for heartbeat in self.heartbeats.stalled()}
        self.state.update(self.stats(), database_away=away, how=how, now=now, stalled=stalled)
        await self._post(now=now)

    async def _post(self, *, now: float) -> None:
        """Send what is due. A message that no notifier took is sent again."""
        if (message := self.state.message(now=now)) is None or not self._notifiers:
            return
        if self.state.language == "zh":
            lines = tuple(in_chinese(line) for line in message.lines)
            message = replace(message, subject=in_chinese(message.subject), lines=lines)
        # Side by side: one that hangs keeps nothing from the others.
        if not any(await asyncio.gather(*(self._send(post, message) for post in self._notifiers))):
            self.state.undelivered()

    async def _send(self, post: Notifier, message: Message) -> bool:
        """Whether it was taken."""
        for again in range(_TRIES):
            try:
                async with asyncio.timeout(SEND_TIMEOUT + 1):
                    await post.send(message)
            except (OSError, TimeoutError) as error:
                self.events.alert_failed(cause=str(error) or f"no answer within {SEND_TIMEOUT:g} s")
                await asyncio.sleep(_REST * 2**again)
            else:
                self.events.alert_sent(subject=message.subject)
                return True
        return False
