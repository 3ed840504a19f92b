"""The road to Google: told once when it closes, every 30 s while it is closed, once when it opens."""

from mailerd.events.worker import RunnerEvents
from mailerd.worker.circuit_breaker import CircuitBreaker
from tests.support.heard import Heard
from tests.support.ticking import Ticking

ME, YOU = "me@example.com", "you@example.com"


async def test_rests_double_up_to_a_minute_and_the_story_is_short() -> None:
    clock, heard = Ticking(), Heard()
    reach = CircuitBreaker(clock=clock, events=RunnerEvents(heard))
    rests = []
    for _ in range(9):
        reach.lost("no route")
        reach.lost("no route")  # a letter that was in hand with the first one
        rests.append(reach.seconds_left())
        await clock.move(rests[-1])
    assert rests == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert heard.names() == ["google_away", *["google_still_away"] * 4]
    reach.reached(ME)
    reach.reached(ME)
    assert heard.names()[-1] == "google_back"
    assert heard.of("google_back") == [{"seconds": sum(rests)}]
    assert not reach.closed
    assert reach.seconds_left() == 0


async def test_a_sender_without_a_token_rests_alone_and_longer_each_time() -> None:
    clock, heard = Ticking(), Heard()
    reach = CircuitBreaker(clock=clock, events=RunnerEvents(heard))
    rests = []
    for _ in range(8):
        reach.lost_for(ME, "no answer within the time-out")
        reach.lost_for(ME, "no answer within the time-out")
        assert not reach.closed, "the others go on"
        assert reach.resting().keys() == {ME}
        rests.append(reach.resting()[ME])
        await clock.move(rests[-1])
        assert reach.resting() == {}
    assert rests == [1, 2, 4, 8, 16, 32, 60, 60]
    assert set(heard.names()) == {"sender_out_of_reach"}
    reach.reached(YOU)
    assert heard.of("sender_in_reach") == []
    reach.reached(ME)
    assert heard.of("sender_in_reach") == [{"sender": ME, "seconds": sum(rests)}]
    reach.lost_for(ME, "again")
    assert reach.resting() == {ME: 1.0}
