"""Sends alerts: what stands and for whom, by a loop whose every step is bounded, so that no message
is held up.
"""

import asyncio
import importlib
import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from types import MappingProxyType
from typing import Any, Final, Protocol

from mailerd.config import AlertSettings
from mailerd.core.i18n import N_, Language, joined, t
from mailerd.core.network_rules import NetworkRules
from mailerd.core.pauses import MANUAL
from mailerd.core.reading import Condition, Severity
from mailerd.core.situation import Facts, situation
from mailerd.errors import ConfigurationError
from mailerd.events.base import Event
from mailerd.events.process import ProcessEvents
from mailerd.heartbeat import Heartbeats, every
from mailerd.locale import say
from mailerd.ops.daemon_thread import in_thread
from mailerd.ops.outbound_http import OutboundHttp

# What is wrong now, what has just begun and what is over: decides what an alert says, and when.

_SETTLED_AFTER: Final = 75.0
"""Seconds for which something must stay away before it is called resolved: a broken sign-in is
tried every 60 s.
"""
_MIN_PAUSE: Final = 300.0
"""Seconds of a pause below which there is no alert: Google's ordinary throttling is shorter."""
_OWN: Final = ("database", "stalled", "renderer", "failure rate")
"""How the names of troubles begin that this process knows by itself; the others only the tables
show.
"""
_OUTCOMES_KEPT: Final = 20_000
_MAX_LINES: Final = 20
_MAX_SUBJECT: Final = 150
_MAX_KEPT: Final = 1000
"""Lines of each kind that are kept while no message can be sent."""


@dataclass(frozen=True)
class Message:
    """What is sent to people: one message for all that changed."""

    subject: str
    lines: tuple[str, ...]
    firing: tuple[str, ...]
    """The names of everything that is wrong now."""

    @property
    def text(self) -> str:
        """The whole of it."""
        return "\n".join(self.lines)


@dataclass
class ActiveAlert:
    """What is wrong now."""

    since: float
    seen: float
    """When it was wrong last; it is called resolved later."""
    line: str
    cause: str = ""
    told: float | None = None


@dataclass(frozen=True)
class LastMessage:
    """What the last message took off the board."""

    troubles: tuple[tuple[ActiveAlert, float | None], ...] = ()
    """Each with when it had been sent before."""
    notes: tuple[str, ...] = ()
    resolved: tuple[str, ...] = ()


@dataclass
class AlertState:
    """Begun, lasting and resolved troubles."""

    settings: AlertSettings
    language: Language = "en"
    """The language of the messages: that of the log."""
    _firing: dict[str, ActiveAlert] = field(default_factory=dict)
    _stands: dict[str, float] = field(default_factory=dict)
    """Since when each finding has stood, by what it is about."""
    _resolved: deque[str] = field(default_factory=lambda: deque(maxlen=_MAX_KEPT))
    _notes: deque[str] = field(default_factory=lambda: deque(maxlen=_MAX_KEPT))
    _told: LastMessage = LastMessage()
    _outcomes: deque[tuple[float, bool]] = field(
        default_factory=lambda: deque(maxlen=_OUTCOMES_KEPT)
    )
    _sent: float = float("-inf")
    _why_failed: object = ""
    """The cause of the message that failed last."""

    def on_event(
        self, event: Event, fields: Mapping[str, object], /, *, now: float | None = None
    ) -> None:
        """Take note of an event; `now` is for tests."""
        now = time.monotonic() if now is None else now
        if event.name in {"message_failed", "message_sent"}:
            self._outcomes.append((now, event.name == "message_failed"))
            self._why_failed = fields.get("cause", self._why_failed)
        elif event.name == "job_finished" and fields["failed"]:
            self._notes.append(
                t(
                    "job {job} finished with failures: {sent} sent, {failed} failed; for the causes: `mailerd explain "
                    "{job}`",
                    job=fields["job"],
                    sent=fields["sent"],
                    failed=fields["failed"],
                )
            )
        elif event.name == "job_paused_for_bounces":
            self._notes.append(
                t("job {job} is paused: {reason}", job=fields["job"], reason=fields["reason"])
            )
        elif event.name == "renderer_ends_often":
            line = t(
                "the renderer ends repeatedly, last with a template of {origin}: {cause}",
                origin=fields["origin"],
                cause=fields["cause"],
            )
            self._see(f"renderer {fields['renderer']}", line, now)
        elif event.name == "renderer_not_started":
            line = t(
                "no messages can be rendered: the renderer does not start: {cause}",
                cause=fields["cause"],
            )
            self._see(f"renderer {fields['renderer']}", line, now)
        elif event.name in {"loop_stalled", "loop_blocked"}:
            self._stalled(
                str(fields.get("loop", t("event loop"))), float(str(fields["seconds"])), now
            )

    def update(
        self, facts: Facts, *, now: float, stalled: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        """Compare with how it goes. `stalled`: for how many seconds a loop has made no progress."""
        found = situation(facts)
        self._stands = {it.about: self._stands.get(it.about, now) for it in found}
        for it in found:
            lasts = max(it.lasts, now - self._stands[it.about])
            if lasts >= self._patience(it, facts):
                self._see(it.about, it.told, now, lasted=it.lasts or lasts, cause=it.code)
        # it is not known whether what they showed is over
        if facts.stats is None or facts.outage or facts.unknown_for:
            for name, trouble in self._firing.items():
                if not name.startswith(_OWN):
                    trouble.seen = now
        for loop, seconds in stalled.items():
            self._stalled(loop, seconds, now)
        self._rate(now)
        self._settle(now)

    def _patience(self, it: Condition, facts: Facts) -> float:
        """For how many seconds it has to remain before an alert reports it; infinite: none does."""
        kind = it.about.partition(" ")[0]
        if it.code == MANUAL:
            return math.inf  # the person who ordered it knows it
        if it.code in {"database_full", "database_denied", "webhook_paused", "daemon_gone"}:
            return 0.0 if it.severity is not Severity.BLUE else math.inf
        if kind in {"database", "tables"}:
            return self.settings.database_away
        if kind == "unsure":
            return self.settings.unsure
        if (
            kind == "sender"
            and it.until is not None
            and it.severity is Severity.AMBER
            and facts.stats
        ):
            is_long = (it.until - facts.stats.at).total_seconds() >= _MIN_PAUSE
            # its last minutes are a pause too
            return 0.0 if is_long or it.about in self._firing else math.inf
        if kind == "sender" and it.severity is Severity.RED:
            return 0.0 if it.until is not None else self.settings.database_away
        return _MIN_PAUSE if it.code in {"late", "deferred"} else math.inf

    def _settle(self, now: float) -> None:
        for name, trouble in list(self._firing.items()):
            if now - trouble.seen >= _SETTLED_AFTER:
                del self._firing[name]
                lasted = trouble.seen - trouble.since
                if trouble.told is not None:
                    what = _named(name)
                    self._resolved.append(
                        t("resolved: {what}, after {n:.0f} s", what=what, n=lasted)
                        if lasted
                        else t("resolved: {what}", what=what)
                    )
                else:  # no message could be sent meanwhile, or none was taken
                    self._resolved.append(
                        t("resolved: {what}; it lasted {n:.0f} s", what=trouble.line, n=lasted)
                    )

    def _stalled(self, loop: str, seconds: float, now: float) -> None:
        self._see(
            f"stalled {loop}",
            t("{loop} has made no progress for {n:.0f} s", loop=loop, n=seconds),
            now,
            lasted=seconds,
        )

    def _rate(self, now: float) -> None:
        while self._outcomes and now - self._outcomes[0][0] > self.settings.failure_window:
            self._outcomes.popleft()
        failed = sum(1 for _, bad in self._outcomes if bad)
        if len(
            self._outcomes
        ) >= self.settings.failure_messages and failed >= self.settings.failure_rate * len(
            self._outcomes
        ):
            line = t(
                "{failed} of the last {ended} messages failed, the last one: {cause}",
                failed=failed,
                ended=len(self._outcomes),
                cause=self._why_failed,
            )
            self._see("failure rate", line, now)

    def _see(
        self, name: str, line: str, now: float, *, lasted: float = 0.0, cause: str = ""
    ) -> None:
        trouble = self._firing.setdefault(
            name, ActiveAlert(since=now - lasted, seen=now, line=line, cause=cause)
        )
        if trouble.cause != cause:  # who has fixed the one learns that there is another
            trouble.told = None
        trouble.seen, trouble.line, trouble.cause = now, line, cause

    def message(self, *, now: float) -> Message | None:
        """What to send now, all of it in one; None while there is nothing, or too soon after the
        last one.
        """
        if now - self._sent < self.settings.min_interval:
            return None
        due = [
            trouble
            for trouble in self._firing.values()
            if trouble.told is None or now - trouble.told >= self.settings.repeat
        ]
        if not (due or self._resolved or self._notes):
            return None
        lines = [*(trouble.line for trouble in due), *self._notes, *self._resolved]
        self._told = LastMessage(
            tuple((each, each.told) for each in due), tuple(self._notes), tuple(self._resolved)
        )
        for trouble in due:
            trouble.told = now
        self._notes.clear()
        self._resolved.clear()
        self._sent = now
        return Message(
            subject=_subject(lines, self._firing), lines=_bounded(lines), firing=tuple(self._firing)
        )

    def undelivered(self) -> None:
        """The last message was not delivered: all of it is sent again, `min_interval` after it at
        the soonest.
        """
        for trouble, before in self._told.troubles:
            trouble.told = before
        self._notes = deque((*self._told.notes, *self._notes), maxlen=_MAX_KEPT)
        self._resolved = deque((*self._told.resolved, *self._resolved), maxlen=_MAX_KEPT)
        self._told = LastMessage()


def _subject(lines: list[str], firing: Iterable[str]) -> str:
    names = [_named(name) for name in firing]
    if not names:
        return joined(
            ["mailerd", t("resolved") if lines[0].startswith("resolved") else lines[0]], ": "
        )
    return joined(["mailerd", joined(names, ", ")], ": ")


_NAMES: Final = {
    "database": N_("database"),
    "tables": N_("tables"),
    "claims": N_("claims"),
    "unsure": N_("unconfirmed messages"),
    "daemons": N_("daemons"),
    "daemon": N_("daemon {name}"),
    "sender": N_("sender {name}"),
    "inbox": N_("inbox of {name}"),
    "webhook": N_("webhook {name}"),
    "job": N_("job {name}"),
    "failures": N_("failures"),
    "failure": N_("failure rate"),
    "stalled": N_("stalled: {name}"),
    "renderer": N_("renderer {name}"),
}
"""What an alert calls a trouble, by the first word of its name."""


def _named(name: str) -> str:
    kind, _, rest = name.partition(" ")
    return t(_NAMES[kind], name=rest) if kind in _NAMES else name


def _bounded(lines: list[str]) -> tuple[str, ...]:
    more = len(lines) - _MAX_LINES
    return (*lines[:_MAX_LINES], *([t("and {n} more", n=more)] if more > 0 else []))


# Sends alerts: JSON to a web hook, or through apprise to whatever it knows; nothing of it may hold
# up the sending.

SEND_TIMEOUT: Final = 15.0
"""Seconds that an alert gets to be sent."""
_RULES: Final = NetworkRules(
    allow_http=True, ports=frozenset(), allow_networks=(ip_network("0.0.0.0/0"), ip_network("::/0"))
)


class Notifier(Protocol):
    """A way to people."""

    async def send(self, message: Message) -> None:
        """Send it.

        Raises:
            OSError: it was not taken.
            TimeoutError: no answer came in time.
        """


class AlertWebhook:
    """`{"source", "subject", "text", "lines", "firing"}` as a POST; anything but a 2xx is a
    failure.

    A setting of the operator names the address, so it may be in the operator's network, by http and
    at any port; the addresses that nothing opens stay closed.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = OutboundHttp(_RULES)

    async def send(self, message: Message) -> None:
        """Send it."""
        body = {
            "source": "mailerd",
            "subject": message.subject,
            "text": message.text,
            "lines": list(message.lines),
            "firing": list(message.firing),
        }
        answer = await self._http.post(
            self._url,
            json.dumps(body, ensure_ascii=False).encode(),
            {"Content-Type": "application/json"},
            within=SEND_TIMEOUT,
        )
        if not 200 <= answer.status < 300:  # noqa: PLR2004 - HTTP's successes
            raise OSError(t("the webhook responded {status}", status=answer.status))


class Apprise:
    """One address of apprise: Slack, e-mail, Feishu, DingTalk, WeCom, Telegram and many more.

    It blocks, so it has a thread of its own: a target that hangs holds up neither the loop, nor the
    other addresses, nor a stop. While it hangs nothing more is given to it.
    """

    def __init__(self, url: str, *, number: int) -> None:
        self._apprise, self._it = _load(url, number=number)
        self._name = t("alerts.urls, number {n}", n=number)  # the address itself may hold a token
        self._busy = False

    async def send(self, message: Message) -> None:
        """Send it."""
        if self._busy:
            raise OSError(t("{name} still hangs on an earlier alert", name=self._name))
        async with asyncio.timeout(SEND_TIMEOUT):
            await in_thread(lambda: self._notify(message))

    def _notify(self, message: Message) -> None:
        """Hand it to apprise; an error has what went wrong in its words."""
        mine = f"{threading.get_ident()} "  # all threads share apprise's log
        self._busy = True
        try:
            with self._apprise.LogCapture(
                level=self._apprise.logging.WARNING, fmt="%(thread)d %(message)s"
            ) as log:
                taken = self._it.notify(title=message.subject, body=message.text)
                said = [
                    line.removeprefix(mine)
                    for line in log.getvalue().splitlines()
                    if line.startswith(mine)
                ]
        except (
            Exception
        ) as error:  # whatever a plug-in of apprise's raises, it must not end the alerts
            raise OSError(
                t("{name}: {error}", name=self._name, error=f"{type(error).__name__}: {error}")
            ) from error
        finally:
            self._busy = False
        if not taken:
            why = "".join(said[:1])
            raise OSError(
                t(
                    "{name}: {error}",
                    name=self._name,
                    error=why or t("not delivered, and apprise gives no reason"),
                )
            )


def _load(url: str, *, number: int) -> tuple[Any, Any]:
    try:
        apprise = importlib.import_module("apprise")
    except ImportError:
        raise ConfigurationError(
            t("alerts.urls needs apprise: pip install 'mailerd[alerts]', or use alerts.webhook")
        ) from None
    it = apprise.Apprise(asset=_without_pool(apprise))
    if not it.add(url):
        raise ConfigurationError(
            t("alerts.urls: number {n} is not an address that apprise knows", n=number)
        )
    return apprise, it


def _without_pool(apprise: Any) -> Any:
    """Settings by which apprise sends in the thread that asks.

    Where it bounds a service by itself (2.3), it does so by a thread of a pool, which Python waits
    for at its end.
    """
    try:
        return apprise.AppriseAsset(service_timeout=0)
    except (AttributeError, TypeError):  # an older one knows no such bound
        return apprise.AppriseAsset()


def build_notifiers(*, webhook: str, urls: Sequence[str]) -> list[Notifier]:
    """The ways that are configured.

    Raises:
        ConfigurationError: one of them cannot be used.
    """
    ways: list[Notifier] = [AlertWebhook(webhook)] if webhook else []
    return [*ways, *(Apprise(url, number=number) for number, url in enumerate(urls, start=1))]


_CHECK_INTERVAL: Final = 2.0
_TRIES: Final = 3
_REST: Final = 1.0
"""Seconds after the first try that failed, twice as many after the second."""


@dataclass
class Alerter:
    """Alerts of one daemon."""

    state: AlertState
    """It hears of the events; the rest is read here."""
    facts: Callable[[], Facts]
    """What is known of how it goes."""
    events: ProcessEvents
    heartbeats: Heartbeats
    _notifiers: Sequence[Notifier] = ()

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
            _CHECK_INTERVAL,
            self._check,
            name="alerts.check",
            first_after=_CHECK_INTERVAL,
            heartbeat=heartbeat,
        )

    async def _check(self) -> None:
        now = time.monotonic()
        stalled = {heartbeat.loop: heartbeat.age for heartbeat in self.heartbeats.stalled()}
        self.state.update(self.facts(), now=now, stalled=stalled)
        await self._post(now=now)

    async def _post(self, *, now: float) -> None:
        """Send what is due. A message that no notifier took is sent again."""
        if (message := self.state.message(now=now)) is None or not self._notifiers:
            return
        language = self.state.language
        subject, lines = (
            say(message.subject, language),
            tuple(say(line, language) for line in message.lines),
        )
        message = replace(message, subject=subject[:_MAX_SUBJECT], lines=lines)
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
                self.events.alert_failed(
                    cause=str(error) or t("no response within {n:g} s", n=SEND_TIMEOUT)
                )
                await asyncio.sleep(_REST * 2**again)
            else:
                self.events.alert_sent(subject=message.subject)
                return True
        return False
