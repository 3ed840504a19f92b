"""`mailerd senders list|set|pause|resume`: what each mailbox may send, has sent, and why it rests."""

import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import typer

from mailerd.cli.common import ConfigOption, asked_by, no_log, settings, with_database
from mailerd.cli.output import JsonOption, WideOption, narrow, print_fitting, print_json, print_list, table
from mailerd.config import Settings
from mailerd.core.pauses import repair, until
from mailerd.core.rate_limit import FOREVER
from mailerd.core.replies import NoCredentials
from mailerd.errors import MailerdError
from mailerd.events.worker import GmailEvents
from mailerd.mail.mime import mailbox
from mailerd.store.senders import LIMITS, SenderError, Senders, SenderSummary, default_limits
from mailerd.texts import heading, label, tr

PROFILES: Final = {"workspace": 2000, "consumer": 500}
"""Letters in 24 hours: https://support.google.com/a/answer/166852 and https://support.google.com/mail/answer/22839"""
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

app = typer.Typer(help="See and change what each mailbox may send; pause and resume it.", no_args_is_help=True)
EmailArgument = Annotated[str, typer.Argument(metavar="EMAIL", help="The mailbox, or an alias of it.")]
LimitOption = Annotated[int | None, typer.Option(min=0, max=LIMITS["per_day"])]


@app.command("list")
def list_senders(
    *,
    as_json: JsonOption = False,
    wide: WideOption = False,
    config: ConfigOption = None,
) -> None:
    """Show every sender: its limits (* its own), what it sent in 24 hours, what waits, and its pause."""
    found = _ask(settings(config), lambda senders: senders.all())
    if as_json:
        print_json([_shown(each) for each in found])
        return
    if narrow(wide=wide):
        rows = [[row[0], row[2], row[3], row[4], row[1]] for row in map(_row, found)]
        print_fitting(table(["sender", "sent 24 h", "waiting", "a day", "state"], rows, soft={0, 4}))
        _legend(found)
        return
    columns = ("sender", "state", "sent 24 h", "waiting", "a day", "units/min", "letters/min", "gap", "warm-up", "mode")
    print_list((*columns, "project"), map(_row, found))
    _legend(found)


def _legend(found: Sequence[SenderSummary]) -> None:
    if any(each.state.own for each in found):
        print(tr("*: a limit of its own; `mailerd senders set EMAIL --default all` ends it"))


@app.command("set")
def change(
    email: EmailArgument,
    *,
    units_per_minute: LimitOption = None,
    per_minute: LimitOption = None,
    per_day: LimitOption = None,
    reserve: LimitOption = None,
    min_gap: Annotated[
        float | None, typer.Option(min=0, max=int(LIMITS["min_gap"]), help="Seconds between two letters.")
    ] = None,
    warm_up: Annotated[
        str | None, typer.Option(metavar="FIRST+MORE", help="50+25: 50 letters on the first day, 25 more each day; off")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="workspace (2,000 a day) or consumer (500 a day)")] = None,
    default: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Back to the configuration's: per-day …, or all.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Give a sender limits of its own; daemons obey from their next claim on. 0 means no limit."""
    limits: dict[str, float | None] = {}
    for key in default or ():
        limits |= dict.fromkeys(_keys(key))
    if profile:
        limits["per_day"] = _profile(profile)
    if warm_up is not None:
        limits |= _warm_up(warm_up)
    given = {"units_per_minute": units_per_minute, "per_minute": per_minute, "per_day": per_day, "reserve": reserve}
    limits |= {key: value for key, value in {**given, "min_gap": min_gap}.items() if value is not None}
    if not limits:
        raise typer.BadParameter("say what to set: `mailerd senders set --help` lists the options")
    known = settings(config)
    address = mailbox_of(known, email)
    now = _ask(known, lambda senders: senders.change(address, limits))
    print(f"{address}: {_limits(now)}")


@app.command("pause")
def pause(
    email: EmailArgument,
    *,
    lasts: Annotated[str | None, typer.Option("--for", help="90s, 30m, 2h, 1d; without it, until resumed.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for the log and for `senders list`.")] = "paused by hand",
    config: ConfigOption = None,
) -> None:
    """Claim nothing more for a sender; letters in flight are finished."""
    from mailerd.gmail import Gmail  # noqa: PLC0415 - slow to import, and no other command here needs it
    from mailerd.gmail.session import one_line  # noqa: PLC0415

    span, known = None if lasts is None else _duration(lasts), settings(config)
    why = one_line(reason)  # it is shown on terminals and in logs, as what Google says
    address = mailbox_of(known, email)
    gmail = Gmail(known.gmail, events=GmailEvents(no_log), concurrency=1)
    file = gmail.credential_file(address)

    async def work(senders: Senders) -> tuple[datetime, str]:
        if isinstance(file, NoCredentials) and not await senders.knows(address):
            raise SenderError(
                f"sender {address} is unknown: it has no credential file and no job; `mailerd senders list` and "
                "`mailerd auth list` show who there is"
            )
        return await senders.pause(address, lasts=span, reason=why, actor=asked_by())

    end, why = _ask(known, work)
    print(tr(f"{address} is paused {until(end)}: {why}"))


@app.command("resume")
def resume(email: EmailArgument, *, config: ConfigOption = None) -> None:
    """End a sender's pause, a person's or Google's."""
    known = settings(config)
    address = mailbox_of(known, email)
    before = _ask(known, lambda senders: senders.resume(address, actor=asked_by()))
    if before.paused and before.paused_until:
        why = f": {before.pause_reason}" if before.pause_reason else ""
        print(tr(f"{address} is resumed; it was paused {until(before.paused_until)}{why}"))
    else:
        print(tr(f"{address} is not paused"))


def _ask[T](known: Settings, work: Callable[[Senders], Awaitable[T]]) -> T:
    return with_database(known, lambda database: work(Senders(database, default_limits(known))))


def mailbox_of(known: Settings, given: str) -> str:
    """The mailbox that is meant, by its own address or by an alias: limits, pauses and bounces are the mailbox's.

    Raises:
        MailerdError: it is no address.
    """
    try:
        return known.gmail.aliases.get(address := mailbox(given), address)
    except ValueError as error:
        raise MailerdError(f"{given}: {tr(str(error))}") from None


def _keys(given: str) -> tuple[str, ...]:
    key = given.replace("-", "_")
    if key == "all":
        return tuple(LIMITS)
    if key == "warm_up":
        return ("warm_up", "warm_up_growth")
    if key not in LIMITS:
        names = ", ".join(name.replace("_", "-") for name in LIMITS)
        raise typer.BadParameter(f"{given}: there is no such key; known: {names}, all")
    return (key,)


def _profile(given: str) -> int:
    if given not in PROFILES:
        raise typer.BadParameter(f"{given}: known profiles: {', '.join(PROFILES)}")
    return PROFILES[given]


def _warm_up(given: str) -> dict[str, float | None]:
    if given == "off":
        return {"warm_up": 0, "warm_up_growth": 0}
    if not (match := re.fullmatch(r"([1-9][0-9]{0,6})\+([0-9]{1,6})", given)):
        raise typer.BadParameter(f"{given}: like 50+25 (50 letters on the first day, 25 more each day), or off")
    return {"warm_up": int(match[1]), "warm_up_growth": int(match[2])}


def _duration(given: str) -> timedelta:
    match = re.fullmatch(r"([0-9]{1,7})([smhd]?)", given)
    seconds = int(match[1]) * _UNITS[match[2] or "s"] if match else 0
    if not 0 < seconds <= 3660 * _UNITS["d"]:
        raise typer.BadParameter(f"{given}: like 90s, 30m, 2h or 1d")
    return timedelta(seconds=seconds)


def _shown(each: SenderSummary) -> dict[str, Any]:
    it = each.state
    end = it.paused_until if it.paused else None
    return {
        "email": it.email,
        "paused": it.paused,
        "paused_until": None if end == FOREVER else end,
        "pause_cause": it.pause_cause,
        "pause_reason": it.pause_reason,
        "repair": _repair(each),
        "sent_24h": each.used,
        "waiting": each.waiting,
        "limits": {name: getattr(it.limits, name) for name in LIMITS},
        "own": sorted(it.own),
        "per_day_now": it.allowance.per_day,
        "concurrency": it.concurrency,
        "latency": it.limits.latency,
        "mode": it.mode,
        "project": it.project,
    }


def _repair(each: SenderSummary) -> str | None:
    """What a person has to do before a letter of the sender can go."""
    it = each.state
    return repair(it.pause_cause, it.paused_until, sender=it.email, now=it.now)


def _row(each: SenderSummary) -> tuple[str, ...]:
    it = each.state
    state = heading("sends")
    if it.paused and it.paused_until:
        mended = _repair(each)
        cause = label(it.pause_cause or "").replace("_", " ")
        state = tr(f"paused {until(it.paused_until)} ({cause}): {it.pause_reason}")
        if mended:
            state = f"{tr(f'paused until {mended}')} ({cause}): {tr(it.pause_reason or '')}"
    elif it.allowance.per_day and each.used >= it.allowance.per_day:
        state = tr("the day is used up")
    elif it.limits.latency:
        state = tr(f"sends more slowly: letters took up to {it.limits.latency:.1f} s to Google")
    warm = f"{it.limits.warm_up}+{it.limits.warm_up_growth}" if it.limits.warm_up else ""
    return (
        it.email, state, str(each.used), str(each.waiting), _limit(each, "per_day", now=it.allowance.per_day),
        _limit(each, "units_per_minute", now=it.allowance.units_per_minute), _limit(each, "per_minute"),
        _limit(each, "min_gap"), warm, label(it.mode or ""), it.project or "",
    )  # fmt: skip


def _limit(each: SenderSummary, name: str, *, now: int | None = None) -> str:
    value = getattr(each.state.limits, name) if now is None else now
    own = "*" if name in each.state.own else ""
    return f"{value:g}{own}" if value else f"-{own}"


def _limits(each: SenderSummary) -> str:
    it = each.state
    said = [
        f"{label(name).replace('_', ' ')} {getattr(it.limits, name) or tr('without limit')}"
        for name in ("units_per_minute", "per_minute", "per_day")
    ]
    said += [
        f"{label(name).replace('_', ' ')} {getattr(it.limits, name):g}"
        for name in list(LIMITS)[3:]
        if getattr(it.limits, name)
    ]
    return ", ".join(said)
