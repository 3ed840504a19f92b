"""Senders: what each has used of its minute and its day, its pause, its limits; pausing, resuming, changing them."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from shlex import quote
from typing import Final

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.core.labels import label
from mailerd.core.pauses import repair
from mailerd.core.senders import Authorization, AuthorizationState, SenderReading, authorization
from mailerd.core.states import Tally
from mailerd.errors import DatabaseError
from mailerd.events.runbook import pause_runbook
from mailerd.store.api_keys import Permission
from mailerd.store.inbox.mailboxes import BOUNCE_KINDS
from mailerd.store.queue.rate_limits import default_state
from mailerd.store.reports import Reports
from mailerd.store.senders import LIMITS, SenderError, Senders
from mailerd.web.chart_page import SPANS, chart_of, spans_in
from mailerd.web.forms import Form, read_form, read_number
from mailerd.web.inbox_page import SPAN, bounces_by_domain
from mailerd.web.services import TIMEOUT, ConsoleRequest

PAUSES: Final[Mapping[str, timedelta | None]] = {
    "10m": timedelta(minutes=10), "1h": timedelta(hours=1), "1d": timedelta(days=1), "7d": timedelta(days=7), "": None,
}  # fmt: skip
MAX_REASON: Final = 200
MAX_SENDERS: Final = 50
MAX_CHANGES: Final = 20
"""Pauses and their ends that a sender's page lists."""
SHARED: Final = 60.0
"""Seconds for which what senders have sent and what bounced is shared."""
_AUTHORIZED: Final = {
    AuthorizationState.OK: t("Authorized"), AuthorizationState.MISSING: t("Not authorized"),
    AuthorizationState.REFUSED: t("Rejected by Google"), AuthorizationState.UNUSABLE: t("Not usable"),
    AuthorizationState.UNKNOWN: t("Not used yet"),
}  # fmt: skip


@dataclass(frozen=True)
class SenderRow:
    """A sender as the pages show it, which is what the API tells."""

    it: SenderReading
    authorized: Authorization
    sent: Sequence[int]
    """In each of the last 24 hours; empty: nothing, or it is not known."""
    ended: Mapping[Tally, int] | None
    """What became of its messages in SPAN; None: it is not known."""

    @property
    def state_words(self) -> str:
        """How it stands with its authorization."""
        return _AUTHORIZED[self.authorized.state]

    @property
    def scopes(self) -> list[str]:
        """What it may do with the mailbox."""
        return [scope.rpartition("/")[2] for scope in self.authorized.scopes]

    @property
    def bounce_rate(self) -> str:
        """How many of a hundred messages that were sent in SPAN bounced."""
        sent = self.ended[Tally.SENT] if self.ended else 0
        return f"{100 * self.ended[Tally.BOUNCED] / sent:.1f} %" if self.ended and sent else "–"

    @property
    def command(self) -> str:
        """What authorizes it again, with the scopes that it has."""
        options = {"gmail.readonly": " --readonly", "gmail.metadata": " --metadata"}
        return f"mailerd auth login --sender {quote(self.it.state.email)}" + "".join(
            option for scope, option in options.items() if scope in self.scopes
        )


async def _read(it: ConsoleRequest, only: Collection[str] | None, after: str = "") -> list[SenderRow]:
    """The first senders behind an address, one more than a page shows."""
    senders = Senders(it.services.database, it.services.limits.now, TIMEOUT)
    aliases = None if it.key.senders is None else dict[str, str]()
    found = await senders.page(only=only, after=after, limit=MAX_SENDERS + 1, aliases=aliases)
    sent, ended = await _numbers(it)
    known = await _authorizations(it, [one.state.email for one in found])
    return [
        SenderRow(one, authorization(its, one.state), sent.get(one.state.email, ()),
                  None if ended is None else ended.get(one.state.email, dict.fromkeys(Tally, 0)))
        for one, its in zip(found, known, strict=True)
    ]  # fmt: skip


async def _numbers(it: ConsoleRequest) -> tuple[dict[str, list[int]], dict[str, dict[Tally, int]] | None]:
    """What each sender of the key has sent by the hour, and what became of its messages; None: it is not known."""
    mine, now = it.key.senders, it.services.clock.now()
    reports = Reports(it.services.database, TIMEOUT, mine)
    ask = it.services.shared.get
    try:
        sent = await ask(("sent by hour", mine), SHARED, lambda: it.services.tallies.sent_of_day(senders=mine))
        ended = await ask(
            ("ended by sender", mine), SHARED, lambda: reports.tallies("sender", now - SPAN, now + timedelta(hours=1))
        )
    except DatabaseError:
        return {}, None
    return sent, {str(name): counts for name, counts in ended.items()}


async def _authorizations(it: ConsoleRequest, emails: Sequence[str]) -> list[Authorization]:
    """What is known of the authorization of each; the disk is asked in a thread, and not for ever."""
    try:
        async with asyncio.timeout(TIMEOUT):
            return await asyncio.to_thread(lambda: [it.services.authorization(email) for email in emails])
    except TimeoutError:
        return [Authorization()] * len(emails)


async def show(it: ConsoleRequest) -> web.Response:
    """A page of those that the key may see, by address."""
    found = await _read(it, it.key.senders, it.http.query.get("after", ""))
    shown = found[:MAX_SENDERS]
    return it.page(
        "senders.html", active="senders", senders=shown, live=True,
        more=shown[-1].it.state.email if len(found) > MAX_SENDERS else "",
    )  # fmt: skip


def _mailbox(it: ConsoleRequest) -> str:
    """The mailbox of the path; an alias, which a job may name, stands for its mailbox as in every command."""
    email = it.http.match_info["email"].lower()
    return it.services.settings.gmail.aliases.get(email, email)


async def one(it: ConsoleRequest) -> web.Response:
    """One sender."""
    email = _mailbox(it)
    found = await _read(it, [email]) if it.key.may_send(email) else []
    if not found:
        it.missing()
    span = it.http.query.get("span", "24h")
    drawn = await chart_of(it, span if span in SPANS else "24h", [email])
    state = found[0].it.state
    book = pause_runbook(state.pause_cause or "") if state.paused else None
    return it.page(
        "sender.html", active="senders", sender=found[0], chart_drawn=drawn, spans=spans_in(it.language),
        span_chosen=span if span in SPANS else "24h", names=LIMITS, may_control=it.may(Permission.CONTROL), book=book,
        may_limit=it.may(Permission.SENDERS),
        mend=repair(state.pause_cause, state.paused_until, sender=email, now=state.now), live=False,
        defaults=default_state(email, now=state.now, defaults=it.services.limits.now).limits,
        changes=await it.services.queries.pauses(email, limit=MAX_CHANGES),
        domains=await bounces_by_domain(it, [email]), bounce_kinds=BOUNCE_KINDS,
    )  # fmt: skip


async def act(it: ConsoleRequest) -> web.Response:
    """Pause, resume, or other limits."""
    email = _mailbox(it)
    if not it.key.may_send(email):
        it.missing()
    form = await read_form(it.http)
    it.require(Permission.SENDERS if form.text("action") == "limits" else Permission.CONTROL, email)
    senders = Senders(it.services.database, it.services.limits.now)
    if not await senders.knows(email):
        it.missing()
    here = f"/senders/{email}"
    match form.text("action"):
        case "pause":
            lasts = PAUSES.get(form.text("lasts"), timedelta(hours=1))
            reason = form.text("reason")[:MAX_REASON] or t("no reason given")
            await senders.pause(email, lasts=lasts, reason=f"{reason} ({it.actor})", actor=it.actor)
            done = t("{sender} paused.", sender=email)
        case "resume":
            await senders.resume(email, actor=it.actor)
            it.services.wake()
            done = t("{sender} resumed.", sender=email)
        case "limits":
            if why := await _change_limits(it, senders, email, form):
                return it.back(here, t("Nothing was changed: {why}", why=why))
            done = t("Limits of {sender} changed.", sender=email)
        case _:
            return it.back(here)
    it.services.events.console_changed(
        actor=it.actor, what=t("sender {sender}", sender=email), change=form.text("action")
    )
    return it.back(here, done)


async def _change_limits(it: ConsoleRequest, senders: Senders, email: str, form: Form) -> str:
    """Give a sender the limits of a form, an empty field the default; why not, in words, or "".

    What the person has left as the page had it stays as it is: others may have changed it since.
    """
    limits: dict[str, float | None] = {}
    for name, most in LIMITS.items():
        given, shown = form.text(name), form.all(f"shown-{name}")
        if shown == [given]:
            continue
        try:
            limits[name] = read_number(given, least=type(most)(0), most=most) if given else None
        except ValueError:
            if isinstance(most, int):
                return t("{limit}: enter a whole number from 0 to {most:,}.", limit=label(name), most=most)
            return t("{limit}: enter a number from 0 to {most:,.0f}.", limit=label(name), most=most)
    try:
        await senders.change(email, limits, actor=it.actor)
    except SenderError as error:
        return str(error)
    it.services.wake()
    return ""
