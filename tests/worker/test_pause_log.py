"""What is told of pauses: once, again for a new cause, now and then while it lasts, and its end."""

from datetime import timedelta

from mailerd.core.decisions import Pause
from mailerd.core.verdicts import PauseCause
from mailerd.events.worker import RunnerEvents
from mailerd.worker.delivery_log import REMINDER_INTERVAL, PauseLog
from tests.support.heard import Heard
from tests.support.ticking import Ticking


async def test_a_pause_is_logged_once_and_so_is_its_end() -> None:
    clock, heard = Ticking(), Heard()
    pause_log = PauseLog(clock=clock, events=RunnerEvents(heard))
    dead = Pause(PauseCause.TOKEN_REFUSED, "run it", timedelta(seconds=60))
    for _ in range(int(2 * REMINDER_INTERVAL / 60)):
        began = clock.monotonic()
        for _ in range(20):  # messages that were in hand together
            pause_log.paused("me", dead, began=began - 1)
        await clock.move(60)
    assert len(heard.of("sender_paused")) == 2
    pause_log.paused("me", Pause(PauseCause.DAILY_LIMIT, "limit", timedelta(hours=1)), began=clock.monotonic())
    assert heard.of("sender_paused")[-1]["cause"] == "daily_limit"
    now = clock.monotonic()
    pause_log.sender_recovered("me", began=now - 1)  # it was in hand already when the pause came
    assert heard.of("sender_resumed") == []
    pause_log.sender_recovered("you", began=now)
    pause_log.sender_recovered("me", began=now)
    pause_log.sender_recovered("me", began=now)
    assert [told["sender"] for told in heard.of("sender_resumed")] == ["me"]


async def test_another_reason_that_a_person_has_to_mend_is_told_at_once_and_another_time_of_a_throttle_is_not() -> None:
    clock, heard = Ticking(), Heard()
    pause_log = PauseLog(clock=clock, events=RunnerEvents(heard))
    for cause, first, second in (
        (PauseCause.CLIENT_REFUSED, "invalid_client", "unauthorized_client"), (PauseCause.THROTTLED, "11:16", "11:17"),
    ):  # fmt: skip
        for reason in (first, second, second):
            pause_log.paused("me", Pause(cause, reason, timedelta(seconds=60)), began=clock.monotonic())
            await clock.move(60)
    assert [told["reason"] for told in heard.of("sender_paused")] == ["invalid_client", "unauthorized_client", "11:16"]


async def test_hours_of_pause_are_told_each_time() -> None:
    clock, heard = Ticking(), Heard()
    pause_log = PauseLog(clock=clock, events=RunnerEvents(heard))
    for hours in (1, 2, 4):
        pause_log.paused("me", Pause(PauseCause.DAILY_LIMIT, "limit", timedelta(hours=hours)), began=clock.monotonic())
        await clock.move(hours * 3600)
    assert [told["seconds"] for told in heard.of("sender_paused")] == [3600, 7200, 14_400]


async def test_a_project_is_told_as_one() -> None:
    heard = Heard()
    pause_log = PauseLog(clock=Ticking(), events=RunnerEvents(heard))
    pause_log.paused("me", Pause(PauseCause.PROJECT_LIMIT, "quota", timedelta(hours=1)), began=0.0)
    assert heard.names() == ["project_paused"]


async def test_a_pause_that_a_person_lifted_and_google_orders_anew_is_told_anew_and_not_called_over() -> None:
    clock, heard = Ticking(), Heard()
    pause_log = PauseLog(clock=clock, events=RunnerEvents(heard))
    closed = Pause(PauseCause.PROJECT_LIMIT, "quota", timedelta(hours=1))
    pause_log.paused("me", closed, began=clock.monotonic())
    await clock.move(60)  # `mailerd senders resume`
    both = clock.monotonic()
    await clock.move(1)
    pause_log.paused("me", closed, began=both)
    pause_log.sender_recovered("me", began=both)
    assert heard.names() == ["project_paused", "project_paused"]
