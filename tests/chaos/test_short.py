"""A few storms, small: each kind of fault once, and nothing is lost or sent twice. `make chaos` runs all storms."""

from typing import Final

import pytest

from tests.chaos.report import line
from tests.chaos.running import run
from tests.chaos.scenarios import ALL

_AIMS: Final = {
    "kill9": ("lease_lapsed",),
    "db_freeze": ("database_unavailable", "database_back"),
    "failover_and_a_death": ("outcomes_rewritten", "lease_lapsed"),
    "cluster_semi_synchronous": ("writer_changed", "outcomes_rewritten"),
    "poison": ("renderer_ended",),
    "hanging": ("google_call_failed",),
    "drafts_by_hand": ("draft_discarded", "message_missing"),
    "opt_out": ("message_suppressed",),
}
"""The storms of the suite, and the events that show that the fault was met: a daemon killed, a database that stands
still, commits lost with a primary, one of three servers killed and all restarted, a template that ends its renderer, a
mailbox that hangs, drafts that are deleted."""


@pytest.mark.slow
@pytest.mark.parametrize("name", _AIMS)
async def test_a_storm_loses_nothing_and_doubles_nothing(name: str) -> None:
    (scenario,) = (each for each in ALL if each.name == name)
    result = await run(scenario, scenario.short, seed=1)
    assert result.breaches == [], line(result)
    assert (result.truth.lost, result.truth.twice, result.truth.orphans) == (0, 0, 0)
    assert result.truth.messages >= scenario.short.messages
    assert result.faults > 0
    assert [aim for aim in _AIMS[name] if not result.events[aim]] == [], line(result)
