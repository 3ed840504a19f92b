"""The road to Google: told once when it closes, every 30 s while it is closed, once when it opens."""

from mailerd.dispatch.reach import Reach
from mailerd.events.runner import RunnerEvents
from tests.support.heard import Heard
from tests.support.ticking import Ticking


async def test_rests_double_up_to_a_minute_and_the_story_is_short() -> None:
    clock, heard = Ticking(), Heard()
    reach = Reach(clock=clock, events=RunnerEvents(heard))
    rests = []
    for _ in range(9):
        reach.lost("no route")
        reach.lost("no route")  # a letter that was in hand with the first one
        rests.append(reach.seconds_left())
        await clock.move(rests[-1])
    assert rests == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert heard.names() == ["google_away", *["google_still_away"] * 4]
    reach.reached()
    reach.reached()
    assert heard.names()[-1] == "google_back"
    assert heard.of("google_back") == [{"seconds": sum(rests)}]
    assert not reach.closed
    assert reach.seconds_left() == 0
