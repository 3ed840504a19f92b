"""The storms in the sizes that CI runs: the same code as the long run, and nothing may be lost or sent twice."""

import pytest

from tests.chaos.report import line
from tests.chaos.running import run
from tests.chaos.scenario import Scenario
from tests.chaos.scenarios import ALL


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)
async def test_a_storm_loses_nothing_and_doubles_nothing(scenario: Scenario) -> None:
    result = await run(scenario, scenario.short, seed=1)
    assert result.breaches == [], line(result)
    assert (result.truth.lost, result.truth.twice, result.truth.orphans) == (0, 0, 0)
    assert result.truth.letters >= scenario.short.letters
