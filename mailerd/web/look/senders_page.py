"""Senders: what each has used of its minute and its day, its pause, its limits; pausing, resuming,
changing them.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from shlex import quote
from typing import Final

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.core.labels import label
from mailerd.core.reading import Authorization, AuthorizationState
from mailerd.core.senders import SenderReading
from mailerd.core.states import Tally
from mailerd.errors import DatabaseError
from mailerd.events.runbook import pause_runbook
from mailerd.operations import senders
from mailerd.operations.inputs import WrongFieldError
from mailerd.store.inbox.mailboxes import BOUNCE_KINDS
from mailerd.store.queue.rate_limits import default_state
from mailerd.store.read.reports import Reports
from mailerd.store.read.senders import Senders
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.sender_actions import LIMITS, SenderError
from mailerd.web.frame.forms import Form, read_form, read_number
from mailerd.web.frame.services import MAX_LISTED, TIMEOUT, ConsoleRequest, split_page
from mailerd.web.frame.troubles import Trouble
from mailerd.web.look.chart_page import SPANS, chart_of, spans_in
from mailerd.web.look.inbox_page import SPAN, bounces_by

HOUR: Final = timedelta(hours=1)
PAUSES: Final[Mapping[str, timedelta | None]] = {
    "10m": timedelta(minutes=10),
    "1h": HOUR,
    "1d": timedelta(days=1),
    "7d": timedelta(days=7),
    "": None,
}
MAX_CHANGES: Final = 20
"""Pauses and their ends that a sender's page lists."""
SHARED: Final = 60.0
"""Seconds for which what senders have sent and what bounced is shared."""
_AUTHORIZED: Final = {
    AuthorizationState.OK: t("Authorized"),
    AuthorizationState.MISSING: t("Not authorized"),
    AuthorizationState.REFUSED: t("Rejected by Google"),
    AuthorizationState.UNUSABLE: t("Not usable"),
    AuthorizationState.UNKNOWN: t("Not used yet"),
}


@dataclass(frozen=True)
class SenderRow:
    """A sender as the pages show it, which is what the API tells."""

    it: SenderReading
    sent: Sequence[int]
    """In each of the last 24 hours; empty: nothing, or it is not known."""
    ended: Mapping[Tally, int]
    """What became of its messages in SPAN; empty: nothing, or it is not known."""

    @property
    def state_words(self) -> str:
        """How it stands with its authorization."""
        return _AUTHORIZED[self.it.authorization.state]

    @property
    def scopes(self) -> list[str]:
        """What it may do with the mailbox."""
        return [scope.rpartition("/")[2] for scope in self.it.authorization.scopes]

    @property
    def bounce_rate(self) -> str:
        """How many of a hundred messages that were sent in SPAN bounced."""
        sent = self.ended.get(Tally.SENT)
        return f"{100 * self.ended[Tally.BOUNCED] / sent:.1f} %" if sent else "–"

    @property
    def command(self) -> str:
        """What authorizes it again, with the scopes that it has."""
        options = {"gmail.readonly": " --readonly", "gmail.metadata": " --metadata"}
        return f"mailerd auth login --sender {quote(self.it.state.email)}" + "".join(
            option for scope, option in options.items() if scope in self.scopes
        )


def _senders(it: ConsoleRequest) -> Senders:
    return Senders(it.services.database, it.services.limits.now, TIMEOUT)


async def _read(
    it: ConsoleRequest, only: Collection[str] | None, after: str = ""
) -> list[SenderRow]:
    """The first senders behind an address, one more than a page shows."""
    aliases = None if it.key.senders is None else dict[str, str]()
    found = await _senders(it).page(only=only, after=after, limit=MAX_LISTED + 1, aliases=aliases)
    sent, ended = await _numbers(it)
    known = await _authorizations(it, [one.state.email for one in found])
    return [
        SenderRow(
            one.authorized(its), sent.get(one.state.email, ()), ended.get(one.state.email, {})
        )
        for one, its in zip(found, known, strict=True)
    ]


async def _one(it: ConsoleRequest, email: str) -> SenderRow:
    """One sender; one that is authorized and was never used, as its defaults are.

    Raises:
        ApiError: 404, there is none.
    """
    if found := await _read(it, [email]):
        return found[0]
    if not await senders.is_authorized(it.caller, email):
        it.missing()
    unused = await _senders(it).unused(email, aliases=None)
    (known,) = await _authorizations(it, [email])
    return SenderRow(unused.authorized(known), (), {})


async def _numbers(
    it: ConsoleRequest,
) -> tuple[dict[str, list[int]], dict[datetime | str, dict[Tally, int]]]:
    """What each sender of the key has sent by the hour, and what became of its messages."""
    mine, now, ask = it.key.senders, it.services.clock.now(), it.services.shared.get
    reports = Reports(it.services.database, TIMEOUT, mine)
    try:
        return (
            await ask(
                ("sent by hour", mine),
                SHARED,
                lambda: it.services.tallies.sent_of_day(senders=mine),
            ),
            await ask(
                ("ended by sender", mine),
                SHARED,
                lambda: reports.tallies("sender", now - SPAN, now + HOUR),
            ),
        )
    except DatabaseError:
        return {}, {}


async def _authorizations(it: ConsoleRequest, emails: Sequence[str]) -> list[Authorization]:
    """What is known of the authorization of each; the disk is asked in a thread, and not for
    ever.
    """
    try:
        async with asyncio.timeout(TIMEOUT):
            return await asyncio.to_thread(
                lambda: [it.services.authorization(email) for email in emails]
            )
    except TimeoutError:
        return [Authorization()] * len(emails)


async def show(it: ConsoleRequest) -> web.Response:
    """A page of those that the key may see, by address."""
    shown, last = split_page(await _read(it, it.key.senders, it.http.query.get("after", "")))
    return it.page(
        "senders.html",
        active="senders",
        senders=shown,
        live=True,
        more=last and last.it.state.email,
    )


def _mailbox(it: ConsoleRequest) -> str:
    """The mailbox of the path; an alias, which a job may name, stands for its mailbox as in every
    command.
    """
    email = it.http.match_info["email"].lower()
    email = it.services.settings.gmail.aliases.get(email, email)
    if not it.key.may_send(email):
        it.missing()
    return email


def _names(it: ConsoleRequest, mailbox: str) -> list[str]:
    """What the messages of a mailbox are sent as, as far as the key may see them."""
    aliases = [name for name, its in it.services.settings.gmail.aliases.items() if its == mailbox]
    return [name for name in (mailbox, *aliases) if it.key.may_send(name)]


async def one(it: ConsoleRequest) -> web.Response:
    """One sender."""
    email, wish = _mailbox(it), it.http.query.get("span", "")
    found = await _one(it, email)
    span, state, finding = wish if wish in SPANS else "24h", found.it.state, found.it.finding
    return it.page(
        "sender.html",
        active="senders",
        sender=found,
        chart_drawn=await chart_of(it, span, [email]),
        spans=spans_in(it.language),
        span_chosen=span,
        names=LIMITS,
        may_control=it.may(Permission.CONTROL),
        may_limit=it.may(Permission.SENDERS),
        book=pause_runbook(state.pause_cause or "") if state.paused else None,
        mend=found.it.stats.repair,
        live=False,
        trouble=Trouble(finding, is_shown=False, is_admin=it.key.is_admin)
        if finding and not state.paused
        else None,
        defaults=default_state(email, now=state.now, defaults=it.services.limits.now).limits,
        changes=await it.services.queries.pauses(email, limit=MAX_CHANGES),
        domains=await bounces_by("domain", it, _names(it, email)),
        bounce_kinds=BOUNCE_KINDS,
    )


async def act(it: ConsoleRequest) -> web.Response:
    """Pause, resume, or other limits."""
    form, by = await read_form(it.http), it.caller
    try:
        email = await senders.find(by, it.http.match_info["email"].lower())
    except senders.UnknownSenderError:
        it.missing()
    here = f"/senders/{email}"
    try:
        match form.text("action"):
            case "pause":
                lasts = PAUSES.get(form.text("lasts"), HOUR)
                await senders.pause(by, email, lasts=lasts, reason=form.text("reason"))
                done = t("{sender} paused.", sender=email)
            case "resume":
                await senders.resume(by, email)
                done = t("{sender} resumed.", sender=email)
            case "limits":
                if limits := _limits(form):
                    await senders.change_limits(by, email, limits)
                done = t("Limits of {sender} changed.", sender=email)
            case _:
                return it.back(here)
    except (SenderError, WrongFieldError) as error:
        return it.back(here, t("Nothing was changed: {why}", why=str(error)))
    return it.back(here, done)


def _limits(form: Form) -> dict[str, float | None]:
    """The limits of a form, an empty field the default.

    What the person has left as the page had it stays as it is: others may have changed it since.

    Raises:
        WrongFieldError: one of them is no number, or beyond its bounds.
    """
    limits: dict[str, float | None] = {}
    for name, most in LIMITS.items():
        given = form.text(name)
        if form.all(f"shown-{name}") == [given]:
            continue
        try:
            limits[name] = read_number(given, least=type(most)(0), most=most) if given else None
        except ValueError:
            if isinstance(most, int):
                text = t(
                    "{limit}: enter a whole number from 0 to {most:,}.",
                    limit=label(name),
                    most=most,
                )
            else:
                text = t(
                    "{limit}: enter a number from 0 to {most:,.0f}.", limit=label(name), most=most
                )
            raise WrongFieldError(text) from None
    return limits
