"""`mailerd senders list|set|pause|resume`: what each mailbox may send, has sent, and why it is
paused.
"""

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Final

import typer

from mailerd.cli.ask import authorizations, with_caller
from mailerd.cli.common import ConfigOption, settings, with_database
from mailerd.cli.output import JsonOption, WideOption, echo, narrow, print_json
from mailerd.cli.tables import print_fitting, print_list, table
from mailerd.core.i18n import Text, joined, t
from mailerd.core.labels import worded
from mailerd.core.pauses import MANUAL, until
from mailerd.core.rate_limit import FOREVER
from mailerd.core.reading import Condition
from mailerd.core.sender_state import SenderState
from mailerd.core.senders import SenderReading
from mailerd.errors import MailerdError
from mailerd.locale import label
from mailerd.mail.mime import mailbox
from mailerd.operations import senders
from mailerd.operations.caller import Caller
from mailerd.store.queue.rate_limits import default_limits
from mailerd.store.read.senders import Senders
from mailerd.store.write.sender_actions import LIMITS, PauseResult

PROFILES: Final = {"workspace": 2000, "consumer": 500}
"""Messages in 24 hours: https://support.google.com/a/answer/166852 and
https://support.google.com/mail/answer/22839
"""
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

app = typer.Typer(
    help="Show and change the sending limits of each mailbox; pause and resume it.",
    no_args_is_help=True,
)
_EMAIL: Final = typer.Argument(metavar="EMAIL", help="The mailbox, or an alias of it.")
EmailArgument = Annotated[str, _EMAIL]
_MOST: Final = int(LIMITS["per_day"])


@app.command("list")
def list_senders(
    *,
    as_json: JsonOption = False,
    wide: WideOption = False,
    config: ConfigOption = None,
) -> None:
    """List all senders: limits (* own limits), messages sent in 24 hours, messages waiting, and pauses."""
    known = settings(config)
    ask = authorizations(known)
    stored = with_database(known, lambda database: Senders(database, default_limits(known)).all())
    found = [each.authorized(ask(each.state.email)) for each in stored]
    if as_json:
        print_json({"senders": [_shown(each) for each in found]})
        return
    if narrow(wide=wide):
        rows = [[row[0], row[2], row[3], row[4], row[1]] for row in map(_row, found)]
        headings = [t("Sender"), t("Sent in 24 h"), t("Waiting"), t("Per day"), t("State")]
        print_fitting(table(headings, rows, soft={0, 4}))
        for each in found:
            if why := _why(each):
                echo(joined([each.state.email, why], ": "))
        _legend(found)
        return
    columns = (
        t("Sender"),
        t("State"),
        t("Sent in 24 h"),
        t("Waiting"),
        t("Per day"),
        t("Units per minute"),
        t("Messages per minute"),
        t("Gap (s)"),
        t("Warm-up"),
        t("Mode"),
        t("Project"),
        t("Reason"),
    )
    print_list(columns, map(_row, found))
    _legend(found)


def _legend(found: Sequence[SenderReading]) -> None:
    if any(each.state.own for each in found):
        echo(
            t(
                "*: own limit. To use the configured limits again: `mailerd senders set EMAIL --default all`"
            )
        )


@app.command("set")
def change(
    email: EmailArgument,
    *,
    units_per_minute: Annotated[
        int | None, typer.Option(min=0, max=_MOST, help="Google's quota units.")
    ] = None,
    per_minute: Annotated[
        int | None, typer.Option(min=0, max=_MOST, help="Messages per minute.")
    ] = None,
    per_day: Annotated[
        int | None, typer.Option(min=0, max=_MOST, help="Messages in 24 hours.")
    ] = None,
    reserve: Annotated[
        int | None,
        typer.Option(min=0, max=_MOST, help="Messages per day to leave for the mailbox owner."),
    ] = None,
    min_gap: Annotated[
        float | None,
        typer.Option(min=0, max=int(LIMITS["min_gap"]), help="Seconds between two messages."),
    ] = None,
    warm_up: Annotated[
        str | None,
        typer.Option(
            metavar="FIRST+MORE",
            help="50+25: 50 messages on the first day, 25 more each day. Or: off.",
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help="workspace (2,000 messages per day) or consumer (500 messages per day)."),
    ] = None,
    default: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Use the configured value again: per-day …, or all."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Set own limits of a sender. They apply from the next claim of each daemon. 0 means no limit."""
    limits: dict[str, float | None] = {}
    for key in default or ():
        limits |= dict.fromkeys(_keys(key))
    if profile:
        limits["per_day"] = _profile(profile)
    if warm_up is not None:
        limits |= _warm_up(warm_up)
    given = {
        "units_per_minute": units_per_minute,
        "per_minute": per_minute,
        "per_day": per_day,
        "reserve": reserve,
    }
    limits |= {
        key: value for key, value in {**given, "min_gap": min_gap}.items() if value is not None
    }
    if not limits:
        raise typer.BadParameter(
            t("give at least one limit: `mailerd senders set --help` lists the options")
        )

    async def work(by: Caller) -> SenderState:
        found = await _find(by, email, before_use=True)  # its first message is to be bound already
        return (await senders.change_limits(by, found, limits))[0]

    now = with_caller(settings(config), work)
    echo(joined([now.email, _limits(now)], ": "))


@app.command("pause")
def pause(
    email: EmailArgument,
    *,
    lasts: Annotated[
        str | None, typer.Option("--for", help="90s, 30m, 2h or 1d. Default: until resumed.")
    ] = None,
    reason: Annotated[
        str | None, typer.Option(help="The reason, for the log and for `senders list`.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Pause a sender. Messages already handed to Google are still sent."""
    span = None if lasts is None else _duration(lasts)

    async def work(by: Caller) -> tuple[str, PauseResult]:
        found = await _find(by, email)
        return found, await senders.pause(by, found, lasts=span, reason=reason or "")

    address, done = with_caller(settings(config), work)
    echo(
        t(
            "{sender} paused {until}: {reason}",
            sender=address,
            until=until(done.until),
            reason=done.reason,
        )
    )


@app.command("resume")
def resume(
    email: Annotated[str | None, _EMAIL] = None,
    *,
    project: Annotated[
        str | None,
        typer.Option(
            help="Resume all senders of this Cloud project that are paused for its quota."
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Resume a paused sender, paused manually or automatically.

    A pause for the quota of a Cloud project ends for all its senders.
    """
    if (email is None) is (project is None):
        raise typer.BadParameter(t("give the address of a sender, or --project"))
    known = settings(config)
    if email is None:
        resumed = with_caller(known, lambda by: senders.resume_project(by, project or ""))
        none = t("no sender of {project} is paused for its quota", project=project)
        echo(t("resumed: {senders}", senders=joined(resumed, ", ")) if resumed else none)
        return
    given = email

    async def work(by: Caller) -> tuple[str, SenderState | None]:
        found = await _find(by, given)
        return found, await senders.resume(by, found)

    address, before = with_caller(known, work)
    if before and before.paused and before.paused_until:
        was = [until(before.paused_until), *([before.pause_reason] if before.pause_reason else [])]
        echo(
            t("{sender} resumed (before: paused {pause})", sender=address, pause=joined(was, ": "))
        )
    else:
        echo(t("{sender} is not paused", sender=address))


async def _find(by: Caller, given: str, *, before_use: bool = False) -> senders.Mailbox:
    """The mailbox that is meant, by its own address or by an alias.

    Raises:
        MailerdError: it is no address, or no sender.
    """
    try:
        address = mailbox(given)
    except ValueError as error:
        raise MailerdError(joined([given, str(error)], ": ")) from None
    return await senders.find(by, address, before_use=before_use)


def _keys(given: str) -> tuple[str, ...]:
    key = given.replace("-", "_")
    if key == "all":
        return tuple(LIMITS)
    if key == "warm_up":
        return ("warm_up", "warm_up_growth")
    if key not in LIMITS:
        names = ", ".join([*(name.replace("_", "-") for name in LIMITS), "all"])
        raise typer.BadParameter(
            t("{value} is not one of {choices}", value=given, choices=names), param_hint="--default"
        )
    return (key,)


def _profile(given: str) -> int:
    if given not in PROFILES:
        raise typer.BadParameter(
            t("{value} is not one of {choices}", value=given, choices=", ".join(PROFILES)),
            param_hint="--profile",
        )
    return PROFILES[given]


def _warm_up(given: str) -> dict[str, float | None]:
    if given == "off":
        return {"warm_up": 0, "warm_up_growth": 0}
    if not (match := re.fullmatch(r"([1-9][0-9]{0,6})\+([0-9]{1,6})", given)):
        raise typer.BadParameter(
            t("must be such as 50+25 (50 messages on the first day, 25 more each day), or off"),
            param_hint="--warm-up",
        )
    return {"warm_up": int(match[1]), "warm_up_growth": int(match[2])}


def _duration(given: str) -> timedelta:
    match = re.fullmatch(r"([0-9]{1,7})([smhd]?)", given)
    seconds = int(match[1]) * _UNITS[match[2] or "s"] if match else 0
    if not 0 < seconds <= 3660 * _UNITS["d"]:
        raise typer.BadParameter(
            t("must be a duration such as 90s, 30m, 2h or 1d"), param_hint="--for"
        )
    return timedelta(seconds=seconds)


def _shown(each: SenderReading) -> dict[str, Any]:
    it = each.state
    end = it.paused_until if it.paused else None
    return {
        "email": it.email,
        "paused": it.paused,
        "paused_until": None if end == FOREVER else end,
        "pause_cause": it.pause_cause,
        "pause_reason": it.pause_reason,
        "repair": each.stats.repair,
        "state": each.activity,
        "finding": _shown_finding(each.finding) if each.finding else None,
        "sent_24h": each.stats.used_day,
        "waiting": each.inputs.messages,
        "limits": {name: getattr(it.limits, name) for name in LIMITS},
        "own": sorted(it.own),
        "per_day_now": it.allowance.per_day,
        "concurrency": it.concurrency,
        "latency": it.limits.latency,
        "mode": it.mode,
        "project": it.project,
    }


def _shown_finding(it: Condition) -> dict[str, Any]:
    """One as `GET /api/senders` shows it."""
    remedy = next(iter(it.remedies), None)
    return {"severity": it.severity, "code": it.code, "text": it.text, "remedy": remedy}


def _row(each: SenderReading) -> tuple[str, ...]:
    it, found = each.state, each.finding
    state = worded(each.activity)
    if found:
        state = worded("paused_manually" if found.code == MANUAL else found.code)
        if each.pause and each.pause.until:
            state = t("{state} {until}", state=state, until=until(each.pause.until))
    elif it.limits.latency:
        state = t("slowed down")
    warm = f"{it.limits.warm_up}+{it.limits.warm_up_growth}" if it.limits.warm_up else ""
    return (
        it.email,
        state,
        str(each.stats.used_day),
        str(each.inputs.messages),
        _limit(each, "per_day", now=it.allowance.per_day),
        _limit(each, "units_per_minute", now=it.allowance.units_per_minute),
        _limit(each, "per_minute"),
        _limit(each, "min_gap"),
        warm,
        label(it.mode or ""),
        it.project or "",
        _why(each) or "",
    )


def _why(each: SenderReading) -> Text | None:
    """Why it is paused or slower, and what to do."""
    it, pause = each.state, each.pause
    if pause:
        return (
            t("{what} -> {remedy}", what=pause.reason, remedy=pause.remedy)
            if each.stats.repair
            else (joined([pause.reason]))
        )
    if each.finding:
        return each.finding.told
    if it.limits.latency:
        return t("Google took up to {seconds:.1f} s per message", seconds=it.limits.latency)
    return None


def _limit(each: SenderReading, name: str, *, now: int | None = None) -> str:
    value = getattr(each.state.limits, name) if now is None else now
    own = "*" if name in each.state.own else ""
    return f"{value:g}{own}" if value else f"-{own}"


def _limits(it: SenderState) -> Text:
    always = ("units_per_minute", "per_minute", "per_day")
    values = {name: getattr(it.limits, name) for name in LIMITS}
    return joined(
        [
            joined([label(name).replace("_", " "), f"{value:g}" if value else t("no limit")], ": ")
            for name, value in values.items()
            if value or name in always
        ],
        ", ",
    )
