"""How it goes: every problem with what it means and what to do, and what runs."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from typing import Final

from aiohttp import web

from mailerd.core.situation import Facts, newest_first, shortened, situation, under_way
from mailerd.core.stats import count_note
from mailerd.errors import DatabaseError
from mailerd.web.frame.services import TIMEOUT, ConsoleRequest
from mailerd.web.frame.troubles import Trouble, seen_by

OWN_SHARED: Final = 10.0
"""Seconds for which it is shared how it goes with the senders of a limited key."""


async def show(it: ConsoleRequest) -> web.Response:
    """The page of the health; while the database is away it says so, and little else."""
    facts, is_admin, past = await seen_facts(it), it.key.is_admin, None
    with suppress(DatabaseError):
        past = await it.services.shared.get(
            ("past troubles", is_admin, it.key.senders),
            OWN_SHARED,
            lambda: it.services.troubles.past(is_admin=is_admin, senders=it.key.senders),
        )
    stats = facts.stats
    return it.page(
        "status.html",
        active="health",
        well=stats and under_way(stats),
        troubles=troubles_for(it, facts, short=True),
        stats=stats,
        note=stats and count_note(stats),
        daemons=stats.daemons if stats else (),
        past=past,
        where=it.services.database.where,
        checks=it.services.checks,
        live=True,
    )


async def check(it: ConsoleRequest) -> web.Response:
    """Run the checks, and show what they found.

    Raises:
        ApiError: 403, the key is limited.
    """
    it.require_admin()
    await it.services.checks.run()
    return it.back("/status#checks")


def troubles_for(it: ConsoleRequest, facts: Facts, *, short: bool = False) -> list[Trouble]:
    """What is wrong, as the key may see it; `short`: of what many have in common a few."""
    found, hidden, is_admin = (
        seen_by(situation(facts), is_admin=it.key.is_admin),
        hidden_from(facts),
        it.key.is_admin,
    )
    found = newest_first(shortened(found) if short else found, it.services.clock.now())
    return [Trouble(each, each.about not in hidden, is_admin) for each in found]


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
        return replace(
            facts, stats=None, outage=it.services.outage(), unknown_for=facts.unknown_for or 1
        )


def hidden_from(facts: Facts) -> Collection[str]:
    """What findings are about that the key may not see: mailboxes of which it names only an
    alias.
    """
    senders = facts.stats.senders if facts.stats else ()
    return {
        f"{kind} {each.email}" for each in senders if each.alias for kind in ("sender", "inbox")
    }
