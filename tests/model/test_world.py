"""One state machine for the whole store: whatever happens, in whichever order, everything agrees after each step."""

import asyncio

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.model.walk import telling
from tests.model.world import WEIGHTS, World
from tests.support.recycled import empty

# Not shrunk: the story of a run tells what led to it, and hundreds of runs would take minutes.
_SHORT = settings(
    max_examples=8, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck), database=None,
    phases=[Phase.generate],
)  # fmt: skip


def test_whatever_happens_rows_tallies_events_and_attempts_agree_and_nothing_goes_out_twice(database_url: str) -> None:
    class MessageMachine(RuleBasedStateMachine):
        """Each step is one that may happen now."""

        def __init__(self) -> None:
            super().__init__()
            self.runner = asyncio.Runner()
            self.world = World(database_url)
            empty(self.world.ledger.connection)
            self.runner.run(self.world.open())

        @rule(data=st.data())
        def step(self, data: st.DataObject) -> None:
            may = [name for name in self.world.enabled() for _ in range(WEIGHTS[name])]
            name = data.draw(st.sampled_from(may))
            with telling(self.world):
                self.runner.run(self.world.step(name, lambda number: data.draw(st.integers(0, number - 1))))

        def teardown(self) -> None:
            try:
                with telling(self.world):
                    self.runner.run(self.world.drain())
            finally:
                self.runner.run(self.world.close())
                self.runner.close()

    run_state_machine_as_test(MessageMachine, settings=_SHORT)
