"""The road to Google: told once when it closes, every 30 s while it is closed, once when it opens."""

from mailerd.events.worker import RunnerEvents
from mailerd.worker.in_flight import CircuitBreaker
from tests.support.heard import Heard
from tests.support.ticking import Ticking

ME, YOU = "me@example.com", "you@example.com"


async def test_rests_double_up_to_a_minute_and_the_story_is_short() -> None:
    clock, heard = Ticking(), Heard()
    breaker = CircuitBreaker(clock=clock, events=RunnerEvents(heard))
    rests = []
    for _ in range(9):
        breaker.failure("no route")
        breaker.failure("no route")  # a message that was in hand with the first one
        rests.append(breaker.retry_in())
        await clock.move(rests[-1])
    assert rests == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert heard.names() == ["google_unreachable", *["google_still_unreachable"] * 4]
    breaker.success(ME)
    breaker.success(ME)
    assert heard.names()[-1] == "google_back"
    assert heard.of("google_back") == [{"seconds": sum(rests)}]
    assert not breaker.is_open
    assert breaker.retry_in() == 0


async def test_a_sender_without_a_token_rests_alone_and_longer_each_time() -> None:
    clock, heard = Ticking(), Heard()
    breaker = CircuitBreaker(clock=clock, events=RunnerEvents(heard))
    rests = []
    for _ in range(8):
        breaker.sender_failure(ME, "no answer within the time-out")
        breaker.sender_failure(ME, "no answer within the time-out")
        assert not breaker.is_open, "the others go on"
        assert breaker.blocked_senders().keys() == {ME}
        rests.append(breaker.blocked_senders()[ME])
        await clock.move(rests[-1])
        assert breaker.blocked_senders() == {}
    assert rests == [1, 2, 4, 8, 16, 32, 60, 60]
    assert set(heard.names()) == {"sender_unreachable"}
    breaker.success(YOU)
    assert heard.of("sender_reachable") == []
    breaker.success(ME)
    assert heard.of("sender_reachable") == [{"sender": ME, "seconds": sum(rests)}]
    breaker.sender_failure(ME, "again")
    assert breaker.blocked_senders() == {ME: 1.0}
