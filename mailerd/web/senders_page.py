"""Senders: what each has used of its minute and its day, its pause, its limits; pausing, resuming, changing them."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Final

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.core.labels import label
from mailerd.core.pauses import repair
from mailerd.core.situation import situation
from mailerd.events.runbook import pause_runbook
from mailerd.store.api_keys import Permission
from mailerd.store.inbox.mailboxes import BOUNCE_KINDS
from mailerd.store.senders import LIMITS, MAX_COUNTED, SenderError, Senders, SenderSummary
from mailerd.web.forms import Form, read_form, read_number
from mailerd.web.html import SHOWN
from mailerd.web.inbox_page import bounces_by_domain
from mailerd.web.services import TIMEOUT, ConsoleRequest
from mailerd.web.status_page import SPANS, chart_of, facts_for, spans_in

PAUSES: Final[Mapping[str, timedelta | None]] = {
    "10m": timedelta(minutes=10), "1h": timedelta(hours=1), "1d": timedelta(days=1), "": None,
}  # fmt: skip
MAX_REASON: Final = 200
MAX_SENDERS: Final = 200


async def _read(it: ConsoleRequest, only: Collection[str] | None) -> list[SenderSummary]:
    senders = Senders(it.services.database, it.services.limits.now)
    return await senders.some(only=only, limit=MAX_SENDERS + 1, within=TIMEOUT)


async def show(it: ConsoleRequest) -> web.Response:
    """All that the key may see."""
    found = await _read(it, it.key.senders)
    facts = await facts_for(it)
    minutes = {each.email: each.used_minute for each in it.senders(facts.stats)}
    worst = {each.about: each for each in reversed(situation(facts))}
    wrong = {each.state.email: worst.get(f"sender {each.state.email}") for each in found}
    return it.page(
        "senders.html", active="senders", senders=found[:MAX_SENDERS], more=len(found) > MAX_SENDERS, minutes=minutes,
        wrong=wrong, live=True, repair=repair, counted=MAX_COUNTED,
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
    summary = found[0]
    span = it.http.query.get("span", "24h")
    drawn = await chart_of(it, span if span in SPANS else "24h", [email])
    state = summary.state
    pace = next((each for each in it.senders(it.services.stats()) if each.email == email), None)
    book = pause_runbook(state.pause_cause or "") if state.paused else None
    return it.page(
        "sender.html", active="senders", sender=summary, chart_drawn=drawn, kinds=SHOWN, spans=spans_in(it.language),
        span_chosen=span, names=LIMITS, pace=pace, may_control=it.may(Permission.CONTROL), book=book,
        may_limit=it.may(Permission.SENDERS),
        mend=repair(state.pause_cause, state.paused_until, sender=email, now=state.now), live=False,
        domains=await bounces_by_domain(it, [email]), bounce_kinds=BOUNCE_KINDS, counted=MAX_COUNTED,
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
