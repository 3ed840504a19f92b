"""How it goes: every problem with what it means and what to do, what runs, and the chart that other pages share."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from aiohttp import web

from mailerd.core.i18n import Language, t
from mailerd.core.situation import Facts, shortened, situation, under_way
from mailerd.core.states import Tally
from mailerd.core.stats import count_note
from mailerd.errors import DatabaseError
from mailerd.web.html import Chart, bars_of, said
from mailerd.web.services import TIMEOUT, ConsoleRequest
from mailerd.web.troubles import Trouble, newest_first

SPANS: Final = {
    "1h": (timedelta(hours=1), timedelta(minutes=1), 60, 2),
    "24h": (timedelta(hours=24), timedelta(minutes=5), 288, 30),
    "14d": (timedelta(days=14), timedelta(hours=2), 168, 120),
}
"""The spans of the chart by name: how far back it goes, how wide a bar is, how many bars there are, and for how many
seconds a reading is shared."""
_SPANS: Final = (t("1 h"), t("24 h"), t("14 d"))
OWN_SHARED: Final = 10.0
"""Seconds for which it is shared how it goes with the senders of a limited key."""


def spans_in(language: Language) -> dict[str, str]:
    """What the spans are called."""
    return {name: said(words, language) for name, words in zip(SPANS, _SPANS, strict=True)}


async def show(it: ConsoleRequest) -> web.Response:
    """The page of the health; while the database is away it says so, and little else."""
    facts = await seen_facts(it)
    hidden, stats, now = hidden_from(facts), facts.stats, it.services.clock.now()
    return it.page(
        "status.html", active="health", well=stats and under_way(stats),
        troubles=[Trouble(each, each.about not in hidden) for each in newest_first(shortened(situation(facts)), now)],
        stats=stats, note=stats and count_note(stats), daemons=stats.daemons if stats else (),
        where=it.services.database.where if it.key.is_admin else "", live=True,
    )  # fmt: skip


_KINDS: Final = {
    Tally.SENT: t("Sent"), Tally.PUT_OFF: t("Deferred"), Tally.UNSURE: t("Unconfirmed"), Tally.BOUNCED: t("Bounced"),
    Tally.FAILED: t("Failed"),
}  # fmt: skip
"""What the kinds of the chart are called."""


async def chart_of(it: ConsoleRequest, span: str, senders: Sequence[str] | None = None) -> Chart:
    """The messages of a span of time, of these senders or of all that the key may see."""
    back, step, many, seconds = SPANS[span]
    tallies = it.services.tallies
    only = senders if senders is not None else it.key.senders
    try:
        points = await it.services.shared.get(
            (span, only if only is None else frozenset(only)), seconds,
            lambda: (tallies.hours if span == "14d" else tallies.minutes)(back, senders=only),
        )  # fmt: skip
    except DatabaseError:
        points = []
    names = {kind: said(words, it.language) for kind, words in _KINDS.items()}
    return Chart(
        said(t("Messages by time"), it.language),
        bars_of(points, now=it.services.clock.now(), step=step, many=many),
        step,
        names,
    )


async def facts_for(it: ConsoleRequest) -> Facts:
    """How it goes, as far as the key may see it.

    Raises:
        DatabaseError: it cannot be read.
    """
    facts, mine = it.services.facts(), it.key.senders
    if mine is None or facts.stats is None:
        return facts
    own = await it.services.shared.get(
        ("facts", mine), OWN_SHARED, lambda: it.services.stats_reader.read_of(mine, bound=TIMEOUT)
    )
    return replace(facts, stats=own)


async def seen_facts(it: ConsoleRequest) -> Facts:
    """The same; while it cannot be read, that."""
    try:
        return await facts_for(it)
    except DatabaseError:
        facts = it.services.facts()
        return replace(facts, stats=None, outage=it.services.outage(), unknown_for=facts.unknown_for or 1)


def hidden_from(facts: Facts) -> Collection[str]:
    """What findings are about that the key may not see: mailboxes of which it names only an alias."""
    senders = facts.stats.senders if facts.stats else ()
    return {f"{kind} {each.email}" for each in senders if each.alias for kind in ("sender", "inbox")}
