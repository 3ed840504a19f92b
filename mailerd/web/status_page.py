"""How it goes: every problem with what it means and what to do, and what runs."""

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from aiohttp import web

from mailerd.core.situation import Facts, newest_first, shortened, situation, under_way
from mailerd.core.stats import count_note
from mailerd.errors import DatabaseError
from mailerd.web.services import TIMEOUT, ConsoleRequest
from mailerd.web.troubles import Trouble

OWN_SHARED: Final = 10.0
"""Seconds for which it is shared how it goes with the senders of a limited key."""


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
