"""The ledger: messages and look-ups draw on one account, of the sender and of its project; edges by the database."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mailerd.config import DatabaseSettings, Live, Settings
from mailerd.core.claims import ClaimedRecipient, Outcome
from mailerd.core.decisions import Decision, Pause
from mailerd.core.rate_limit import SenderLimits
from mailerd.core.states import Transition
from mailerd.core.verdicts import PauseCause
from mailerd.events.process import StoreEvents
from mailerd.sandbox.google import FakeGoogle, FakeLimits
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.queue.claim import Claims
from mailerd.store.queue.rate_limits import DefaultLimits, RateLimits, default_limits
from mailerd.store.write.sender_actions import SenderActions, SenderError
from mailerd.store.write.sender_changes import join_project
from tests.store.queue.test_record import write
from tests.support.handover import handover
from tests.support.heard import Heard
from tests.support.replayed import replayed
from tests.support.rows import post, query

ME, YOU, THEM = "me@example.com", "you@example.com", "them@example.net"


def claims(database: Database, allowance: SenderLimits, *, project: int = 0, consumer: int | None = None) -> Claims:
    defaults = DefaultLimits(allowance, consumer, project)
    return Claims(database, "D1", timedelta(seconds=60), Live(defaults), replayed(database))


async def test_a_look_waits_while_the_messages_have_used_the_minute_and_takes_its_part_of_it(
    database: Database,
) -> None:
    claimer = claims(database, SenderLimits(6000, 0, 0))
    permits = RateLimits(database, claimer.defaults)
    await post(database, recipients=50)
    assert len((await claimer.claim(10)).messages) == 1
    assert await permits.acquire(ME, units=40) < timedelta(seconds=2)
    ((before,),) = await query(database, "SELECT UTC_TIMESTAMP(6)")
    await query(database, "UPDATE senders SET tat = NULL")  # as if that message were long ago
    # At once: one after the other they take a slow machine as long as they have to wait.
    waits = sorted(await asyncio.gather(*(permits.acquire(ME, units=20) for _ in range(7))))
    assert waits[0] == timedelta(0)
    assert timedelta(0) < waits[-1] < timedelta(seconds=2)
    ((tat,),) = await query(database, "SELECT tat FROM senders")
    paid = (tat - before).total_seconds()
    units = 1.1242 * 55 / 6000  # seconds each, of a minute into which 54 messages fit
    assert paid == pytest.approx(54 * (110 * units - 1.1242) + sum(not wait for wait in waits) * 20 * units, abs=0.1)


async def test_a_look_for_a_stranger_or_without_limits_is_free(database: Database) -> None:
    assert await RateLimits(database, claims(database, SenderLimits(60, 0, 0)).defaults).acquire(
        THEM, units=40
    ) == timedelta(0)
    await post(database)
    free = RateLimits(database, claims(database, SenderLimits(0, 0, 10)).defaults)
    assert [await free.acquire(ME, units=40) for _ in range(50)] == [timedelta(0)] * 50


@pytest.mark.parametrize("cause, waits", [("throttled", True), ("manual", False), ("token_refused", False)])
async def test_a_look_waits_out_a_throttle_and_no_other_pause(database: Database, cause: str, *, waits: bool) -> None:
    await post(database)
    await query(
        database, "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 60 SECOND, pause_cause = %s", cause
    )
    permits = RateLimits(database, claims(database, SenderLimits(6000, 0, 0)).defaults)
    assert (await permits.acquire(ME, units=20) > timedelta(seconds=50)) == waits


async def test_a_sender_that_sends_directly_pays_100_units_a_message(database: Database) -> None:
    await post(database, recipients=5)
    await query(database, "UPDATE senders SET mode = 'direct'")
    ((before,),) = await query(database, "SELECT UTC_TIMESTAMP(6)")
    await claims(database, SenderLimits(6000, 0, 0)).claim(5)
    lasts = "SELECT TIMESTAMPDIFF(MICROSECOND, {}, tat) / 1e6 FROM senders"
    most, least = [(await query(database, lasts.format(it)))[0][0] for it in (f"'{before}'", "UTC_TIMESTAMP(6)")]
    assert (most > 1.0, least < 1.02) == (True, True)  # 60 s / 59.3 messages; a draft pair would be 1.124


async def test_what_a_sign_in_taught_stands_on_the_senders_row(database: Database) -> None:
    await post(database, recipients=1)
    claimer = claims(database, SenderLimits(0, 0, 0))
    (message,) = (await claimer.claim(1)).messages
    assert (message.sender_mode, message.sender_project) == (None, None)
    await write(database, handover(message, project="4242"))
    assert await query(database, "SELECT mode, project FROM senders") == [("direct", "4242")]
    await post(database, recipients=1)
    (message,) = (await claimer.claim(1)).messages
    assert (message.sender_mode, message.sender_project) == ("direct", "4242")


async def row_of_me(database: Database) -> tuple[float | None, int | None]:
    """The latency, and for how many seconds it has not been seen."""
    ((latency, ago),) = await query(
        database, "SELECT latency, TIMESTAMPDIFF(SECOND, latency_at, UTC_TIMESTAMP(6)) FROM senders"
    )
    return latency, ago


async def sent_after(database: Database, claimer: Claims, *took: float, change: Transition = Transition.SENT) -> None:
    """Messages of one claim each, recorded together after so many seconds."""
    messages: list[ClaimedRecipient] = []
    for _ in took:
        await query(database, "UPDATE senders SET tat = NULL, next_claim_at = UTC_TIMESTAMP(6)")
        messages += (await claimer.claim(1)).messages
    decision = Decision(change, message_id="m" if change is Transition.SENT else None)
    outcomes = [Outcome(message, decision, took=one) for message, one in zip(messages, took, strict=True)]
    await write(database, *outcomes)


async def test_a_message_that_was_slow_to_google_slows_its_sender_in_the_commit_of_its_outcome(
    database: Database,
) -> None:
    await post(database, recipients=50)
    claimer = claims(database, SenderLimits(6000, 0, 0))
    await sent_after(database, claimer, 0.39)
    assert await row_of_me(database) == (None, None)
    await sent_after(database, claimer, 0.5, 4.0, 2.0)
    assert await row_of_me(database) == (4.0, 0)
    await sent_after(database, claimer, 0.1)
    # Its next turn is a burst (0.27 messages) before its arrival time, and an interval is (60 s + 5 s) / 53.73.
    ((seconds,),) = await query(database, "SELECT TIMESTAMPDIFF(MICROSECOND, next_claim_at, tat) / 1e6 FROM senders")
    assert float(seconds) == pytest.approx(0.27 * 65 / 53.73, abs=0.001)
    await sent_after(database, claimer, 3.9, 3000.0)
    assert await row_of_me(database) == (8.0, 0)


async def test_a_message_that_was_slow_to_google_slows_its_project_too_and_no_other(
    database: Database, database_url: str
) -> None:
    for sender, project in ((ME, "1"), (YOU, "2")):
        await post(database, sender=sender, recipients=50)
        await query(database, "UPDATE senders SET project = %s WHERE email = %s", project, sender)
        await query(database, "INSERT INTO projects (name) VALUES (%s)", project)
    claimer = claims(database, SenderLimits(10_000_000, 0, 0), project=330_000)
    messages = (await claimer.claim(20)).messages
    of_me = next(message for message in messages if message.sender == ME)
    await write(database, Outcome(of_me, Decision(Transition.SENT, message_id="m"), took=4.0))
    assert await query(database, "SELECT name, latency, latency_at IS NULL FROM projects ORDER BY name") == [
        ("1", 4.0, 0), ("2", None, 1),
    ]  # fmt: skip
    await query(database, "UPDATE senders SET next_claim_at = NULL WHERE email = %s", YOU)
    still = Shifted(DatabaseSettings(url=database_url), events=StoreEvents(Heard()))  # its clock stands still meanwhile
    claimer = claims(still, SenderLimits(10_000_000, 0, 0), project=330_000)
    permits = RateLimits(still, claimer.defaults)
    for latency, minute in ((4.0, 65), (None, 60.4)):  # a quarter more than the latency, or the least that is left
        each = minute / 326_700  # seconds that a unit takes, of the 99 % that do not go at once
        still.at = datetime.now(UTC)
        await query(database, "UPDATE projects SET tat = NULL, latency = %s WHERE name = '1'", latency)
        assert len((await claimer.claim(20)).messages) == 20
        (paid,) = await query(
            still,
            "SELECT TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), tat) / 1e6 FROM projects WHERE name = '1'",
        )
        assert float(paid[0]) == pytest.approx(20 * 110 * each, abs=0.001)
        await query(still, "UPDATE projects SET tat = UTC_TIMESTAMP(6) + INTERVAL 2 SECOND WHERE name = '1'")
        wait = (await permits.acquire(ME, units=20)).total_seconds()
        assert wait == pytest.approx(2 + (20 - 3300) * each, abs=0.001)
    await still.close()


@pytest.mark.parametrize("change", [Transition.LOST, Transition.DEFERRED, Transition.FAILED])
async def test_a_late_message_that_google_may_have_counted_is_noted_without_an_answer_too(
    database: Database, change: Transition
) -> None:
    await post(database, recipients=50)
    await sent_after(database, claims(database, SenderLimits(6000, 0, 0)), 5.0, change=change)
    assert await row_of_me(database) == (5.0, 0)


async def test_of_a_message_that_is_given_back_only_its_draft_has_been_counted(database: Database) -> None:
    await post(database, recipients=50)
    claimer = claims(database, SenderLimits(6000, 0, 0))
    (message,) = (await claimer.claim(1)).messages
    back = Decision(Transition.RELEASED, error="throttled")
    await write(database, handover(message, "d1", "t1"))
    await write(database, Outcome(replace(message, draft_id="d1", thread_id="t1"), back, took=5.0))
    assert await row_of_me(database) == (5.0, 0)


async def test_what_google_has_not_seen_tells_nothing_of_the_way_there(database: Database) -> None:
    await post(database, recipients=50)
    await sent_after(database, claims(database, SenderLimits(6000, 0, 0)), 5.0, change=Transition.RELEASED)
    await sent_after(database, claims(database, SenderLimits(0, 0, 2000)), 5.0)  # nor does it matter without a pace
    assert await row_of_me(database) == (None, None)


@pytest.mark.parametrize(
    "ago, took, row",
    [
        (110, 3.9, (4.0, 110)),  # noted not long ago: nothing is written
        (110, 4.1, (4.1, 0)),
        (130, 3.1, (3.2, 0)),  # it falls step by step
        (130, 3.9, (3.9, 0)),
        (130, 0.3, (4.0, 130)),  # quick: it may be forgotten
        (590, 6.0, (6.0, 0)),
        (610, 1.0, (1.0, 0)),  # the old one is forgotten
    ],
)
async def test_a_spread_is_kept_up_while_it_lasts_and_forgotten_ten_minutes_after(
    database: Database, ago: int, took: float, row: tuple[float, int]
) -> None:
    await post(database, recipients=5)
    await query(database, "UPDATE senders SET latency = 4.0, latency_at = UTC_TIMESTAMP(6) - INTERVAL %s SECOND", ago)
    await sent_after(database, claims(database, SenderLimits(6000, 0, 0)), took)
    assert await row_of_me(database) == pytest.approx(row, abs=1 if row[1] else 0)


async def test_two_daemons_that_note_at_once_keep_the_greater_spread(database: Database) -> None:
    await post(database, recipients=5)
    one, other = (claims(database, SenderLimits(6000, 0, 0)) for _ in range(2))
    messages: list[ClaimedRecipient] = []
    for claimer in (one, other):
        await query(database, "UPDATE senders SET tat = NULL, next_claim_at = UTC_TIMESTAMP(6)")
        messages += (await claimer.claim(1)).messages
    for message, took in zip(messages, (3.0, 2.0), strict=True):
        await write(database, Outcome(message, Decision(Transition.SENT, message_id="m"), took=took))
    assert await row_of_me(database) == (3.0, 0)


async def test_what_comes_back_is_taken_off_the_hour_in_which_it_was_claimed(database: Database) -> None:
    hour = timedelta(hours=1)
    await post(database, recipients=20)
    claimer = claims(database, SenderLimits(0, 0, 100))
    in_hand = (await claimer.claim(4)).messages
    # The hour strikes.
    await query(database, "UPDATE sender_hours SET hour = hour - INTERVAL 1 HOUR")
    in_hand = tuple(replace(message, hour=message.hour and message.hour - hour) for message in in_hand)
    await query(database, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6)")
    sent = (await claimer.claim(6)).messages
    await write(
        database, *(Outcome(message, Decision(Transition.SENT, message_id=f"m{message.id}")) for message in sent)
    )
    await write(
        database, *(Outcome(message, Decision(Transition.RELEASED, error="throttled")) for message in in_hand[:3])
    )

    assert await query(database, "SELECT messages FROM sender_hours ORDER BY hour") == [(1,), (6,)]


async def test_a_consumer_mailbox_has_a_day_of_its_own_size(database: Database) -> None:
    for sender in ("me@gmail.com", ME):
        await post(database, sender=sender, recipients=30)
    claim = await claims(database, SenderLimits(0, 0, 20), consumer=5).claim(100)
    taken = [message.sender for message in claim.messages]
    assert (taken.count("me@gmail.com"), taken.count(ME)) == (5, 20)


async def test_reserve_and_warm_up_bound_the_day_and_a_senders_own_limits_win(database: Database) -> None:
    for sender in (ME, YOU, THEM):
        await post(database, sender=sender, recipients=60)
    await query(database, "UPDATE senders SET per_day = 40, reserve = 0, warm_up = 0 WHERE email = %s", YOU)
    await query(
        database,
        "UPDATE senders SET warm_up = 3, warm_up_growth = 4, reserve = 0, "
        "warm_up_from = UTC_TIMESTAMP(6) - INTERVAL 49 HOUR WHERE email = %s",
        THEM,
    )
    claimer = claims(database, SenderLimits(0, 0, 30, reserve=10))
    taken = [message.sender for _ in range(5) for message in (await claimer.claim(100)).messages]
    assert [taken.count(sender) for sender in (ME, YOU, THEM)] == [20, 40, 11]


async def test_a_gap_lets_one_message_go_and_names_the_time_of_the_next(database: Database) -> None:
    await post(database, recipients=5)
    claim = await claims(database, SenderLimits(0, 0, 0, min_gap=10.0)).claim(5)
    assert len(claim.messages) == 1
    assert 9.5 < (claim.next_in or 0.0) <= 15


async def test_the_senders_of_a_project_share_its_units_and_strangers_do_not(database: Database) -> None:
    for sender, project in ((ME, "1"), (YOU, "1"), (THEM, "2")):
        await post(database, sender=sender, recipients=200)
        await query(database, "UPDATE senders SET project = %s WHERE email = %s", project, sender)
    await query(database, "INSERT INTO projects (name) VALUES ('1'), ('2')")
    claimer = claims(database, SenderLimits(10_000_000, 0, 0), project=330_000)  # 1 % of it at once: 30 messages
    start = asyncio.get_running_loop().time()
    taken = [message.sender for _ in range(6) for message in (await claimer.claim(100)).messages]
    most = 31 + 50 * (asyncio.get_running_loop().time() - start)  # 330,000 units a minute: 50 messages a second
    assert all(30 <= messages <= most for messages in (taken.count(ME) + taken.count(YOU), taken.count(THEM)))
    permits = RateLimits(database, claimer.defaults)
    await query(database, "UPDATE projects SET tat = UTC_TIMESTAMP(6) + INTERVAL 60 SECOND WHERE name = '2'")
    assert timedelta(seconds=50) < await permits.acquire(THEM, units=20) < timedelta(seconds=60)


async def pause(database: Database, sender: str, cause: PauseCause, *, seconds: int = 60) -> None:
    claim = await claims(database, SenderLimits(0, 0, 0)).claim(50)
    message = next(message for message in claim.messages if message.sender == sender)
    decision = Decision(Transition.RELEASED, pause=Pause(cause, "why", timedelta(seconds=seconds)))
    await write(database, Outcome(message, decision))


async def test_a_projects_hold_pauses_all_its_senders_and_no_other(database: Database) -> None:
    for sender, project in ((ME, "1"), (YOU, "1"), (THEM, "2")):
        await post(database, sender=sender, recipients=2)
        await query(database, "UPDATE senders SET project = %s WHERE email = %s", project, sender)
    await pause(database, ME, PauseCause.PROJECT_LIMIT)
    assert await query(database, "SELECT email, pause_cause FROM senders WHERE paused_until IS NOT NULL") == [
        (ME, "project_limit"),
        (YOU, "project_limit"),
    ]


async def paused_project(database: Database) -> None:
    """Three senders of a project wait for its quota; another one is paused by a person."""
    for number, sender in enumerate((ME, YOU, THEM)):
        await post(database, sender=sender, recipients=2)
        await query(database, "UPDATE senders SET project = 'p' WHERE email = %s", sender)
        if not number:
            await pause(database, ME, PauseCause.PROJECT_LIMIT)
    await query(
        database, "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR, pause_cause = 'project_limit'"
    )
    await query(database, "UPDATE senders SET pause_cause = 'manual' WHERE email = %s", THEM)


PAUSED = "SELECT email, pause_cause FROM senders WHERE paused_until > UTC_TIMESTAMP(6) ORDER BY email"


@pytest.mark.parametrize("how", ["a sender", "the project"])
async def test_who_resumes_a_sender_lifts_the_pause_of_its_project_for_all(database: Database, how: str) -> None:
    await paused_project(database)
    senders = SenderActions(database, DefaultLimits(SenderLimits(0, 0, 0)))
    if how == "a sender":
        await senders.resume(ME, actor="x")
    else:
        assert await senders.resume_project("p", actor="x") == sorted([ME, YOU])
    assert await query(database, PAUSED) == [(THEM, "manual")]
    resumed = "SELECT sender_email FROM events WHERE type = 'sender.resumed' ORDER BY sender_email"
    assert await query(database, resumed) == [(it,) for it in sorted([ME, YOU])]
    with pytest.raises(SenderError, match="no sender uses"):
        await senders.resume_project("other", actor="x")


async def test_a_limited_key_resumes_its_own_senders_alone_and_nothing_but_the_pause_ends(database: Database) -> None:
    await paused_project(database)
    await query(database, "UPDATE senders SET concurrency = 2, gap_until = '2031-01-01' WHERE email = %s", YOU)
    senders = SenderActions(database, DefaultLimits(SenderLimits(0, 0, 0)))
    await senders.resume(ME, actor="x", others=[ME])
    assert dict(await query(database, PAUSED)) == {YOU: "project_limit", THEM: "manual"}
    await senders.resume(ME, actor="x")
    assert dict(await query(database, PAUSED)) == {YOU: "project_limit", THEM: "manual"}, "it was not paused"
    await query(
        database, "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR, pause_cause = 'project_limit' "
        "WHERE email = %s", ME
    )  # fmt: skip
    await senders.resume(ME, actor="x")
    assert dict(await query(database, PAUSED)) == {THEM: "manual"}
    own = "SELECT concurrency, YEAR(gap_until), bounces_seen FROM senders WHERE email = %s"
    assert await query(database, own, YOU) == [(2, 2031, None)]


@pytest.mark.parametrize("refused_since, lifted", [(False, True), (True, False)])
async def test_a_success_lifts_the_pause_of_a_project_unless_google_has_refused_since(
    database: Database, *, refused_since: bool, lifted: bool
) -> None:
    await paused_project(database)
    over = "UPDATE senders SET paused_until = UTC_TIMESTAMP(6), next_claim_at = UTC_TIMESTAMP(6) WHERE email = %s"
    await query(database, over, ME)
    (message,) = (await claims(database, SenderLimits(0, 0, 0)).claim(1)).messages
    assert (message.sender, message.probing) == (ME, True)
    if refused_since:  # which pauses all senders of the project, in one transaction
        again = "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR WHERE email = %s"
        await query(database, again, ME)
    await write(database, Outcome(message, Decision(Transition.SENT, message_id="m")))
    assert ((YOU, "project_limit") in await query(database, PAUSED)) is not lifted


async def test_a_new_mailbox_of_a_paused_project_waits_and_pauses_no_other_one(database: Database) -> None:
    await paused_project(database)
    await query(database, "UPDATE senders SET paused_until = NULL, pause_cause = NULL WHERE email = %s", ME)
    new = "new@example.com"
    await post(database, sender=new, recipients=1)
    (message,) = [it for it in (await claims(database, SenderLimits(0, 0, 0)).claim(9)).messages if it.sender == new]
    pause_ = await join_project(database, new, "p", "draft")
    assert pause_ is not None
    await write(database, Outcome(message, Decision(Transition.RELEASED, error="x", pause=pause_)))
    assert dict(await query(database, PAUSED)) == {YOU: "project_limit", THEM: "manual", new: "project_limit"}


async def test_a_project_limit_of_a_sender_without_a_known_project_pauses_it_alone(database: Database) -> None:
    await post(database, sender=ME, recipients=2)
    await post(database, sender=YOU, recipients=2)
    await pause(database, ME, PauseCause.PROJECT_LIMIT)
    assert await query(database, "SELECT email FROM senders WHERE paused_until IS NOT NULL") == [(ME,)]


async def test_too_many_at_once_halves_what_a_sender_may_have_in_hand_for_all_daemons(database: Database) -> None:
    job = await post(database, recipients=60)
    free = claims(database, SenderLimits(0, 0, 0))
    messages = [message for _ in range(2) for message in (await free.claim(10)).messages]
    assert len(messages) == 20
    refused = Decision(
        Transition.RELEASED, pause=Pause(PauseCause.TOO_MANY_CONCURRENT, "too many", timedelta(microseconds=1))
    )
    await write(database, *(Outcome(message, refused) for message in messages[:10]))
    await write(database, Outcome(messages[10], refused))  # the same trouble, told a moment later: not halved again
    assert await query(database, "SELECT concurrency FROM senders") == [(5,)]
    await query(database, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6), pause_cause = NULL")
    assert (await free.claim(10)).messages == ()  # nine are in hand still
    sent = Decision(Transition.SENT, message_id="m")
    await write(database, *(Outcome(message, sent) for message in messages[11:]))
    await query(database, "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6)")
    assert len((await free.claim(10)).messages) == 5
    await query(
        database,
        "UPDATE senders SET next_claim_at = UTC_TIMESTAMP(6), concurrency_at = concurrency_at - INTERVAL 130 SECOND",
    )
    assert len((await free.claim(10)).messages) == 2  # two minutes, two more
    assert job


async def test_after_a_pause_one_message_goes_first_and_its_success_ends_the_story(database: Database) -> None:
    await post(database, recipients=20)
    await pause(database, ME, PauseCause.DAILY_LIMIT)
    assert await query(database, "SELECT pauses FROM senders") == [(1,)]
    await query(database, "UPDATE senders SET paused_until = UTC_TIMESTAMP(6), next_claim_at = UTC_TIMESTAMP(6)")
    claimer = claims(database, SenderLimits(0, 0, 0))
    claim = await claimer.claim(10)
    (message,) = claim.messages
    assert message.probing
    assert claim.next_in is not None
    assert 1 < claim.next_in <= 2
    await write(database, Outcome(message, Decision(Transition.SENT, message_id="m1")))
    row = await query(database, "SELECT pauses, pause_cause, pause_reason, paused_until FROM senders")
    assert row == [(0, None, None, None)]


async def test_a_message_that_was_in_hand_does_not_end_a_pause_that_came_after_it(database: Database) -> None:
    await post(database, recipients=20)
    await query(database, "UPDATE senders SET pause_cause = 'throttled'")
    (message,) = (await claims(database, SenderLimits(0, 0, 0)).claim(5)).messages
    await query(
        database, "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR, pause_cause = 'manual'"
    )
    await write(database, Outcome(message, Decision(Transition.SENT, message_id="m1")))
    assert await query(database, "SELECT pause_cause, paused_until IS NOT NULL FROM senders") == [("manual", 1)]


class Shifted(Database):
    """A database whose own clock stands where the test says: `SET timestamp` is what UTC_TIMESTAMP obeys."""

    at = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)

    async def transaction[T](
        self, work: Callable[[Cursor], Awaitable[T]], *, what: str, bound: float | None = None, **how: bool
    ) -> T:
        async def shifted(cursor: Cursor) -> T:
            await cursor.execute("SET timestamp = %s", (self.at.timestamp(),))
            try:
                return await work(cursor)
            finally:
                await cursor.execute("SET timestamp = DEFAULT")

        return await super().transaction(shifted, what=what, bound=bound, **how)


@pytest.mark.usefixtures("database")
async def test_two_days_at_2000_a_day_by_the_databases_own_clock(database_url: str) -> None:
    """Jobs arrive all the time; two daemons claim; no 24 hours have more than 2,000 and 95 % of two days are used."""
    shifted = Shifted(DatabaseSettings(url=database_url), events=StoreEvents(Heard()))
    begin = shifted.at
    claimers = [claims(shifted, SenderLimits(0, 0, 2000)) for _ in range(2)]
    taken: list[tuple[datetime, int]] = []
    for step in range(2 * 24 * 6):
        shifted.at = begin + timedelta(minutes=10 * step)
        if step % 12 == 0:
            await post(shifted, recipients=300)
        both = await asyncio.gather(*(claimer.claim(100) for claimer in claimers))
        taken.append((shifted.at, sum(len(claim.messages) for claim in both)))
    await shifted.close()
    for end, _ in taken:
        assert sum(messages for at, messages in taken if end - timedelta(days=1) < at <= end) <= 2000
    assert sum(messages for _, messages in taken) >= 0.95 * 4000


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("tier, own", [("standard", False), ("standard", True), ("scaled", True)])
async def test_across_the_night_of_googles_new_tier_two_daemons_slow_down_in_time(
    database_url: str, *, tier: str, own: bool
) -> None:
    """By the database's clock, with looks beside the messages; Google counts each claim when it is made."""
    midnight = datetime(2027, 4, 1, tzinfo=UTC)
    pace = {"units_per_minute": 6000 if own else 15_000, "per_day": 0, "tier": tier}
    defaults = default_limits(Settings.model_validate({"pace": pace}))
    shifted = Shifted(DatabaseSettings(url=database_url), events=StoreEvents(Heard()))
    shifted.at = midnight - timedelta(minutes=2, seconds=15)
    google = FakeGoogle(
        FakeLimits(units_per_minute=15_000, standard_from=midnight.timestamp() if tier == "standard" else 0.0)
    )
    box = google.mailbox(ME)
    await post(shifted, recipients=1000)
    if own:
        await query(shifted, "UPDATE senders SET units_per_minute = 15000")
    claimers = [
        Claims(shifted, it, timedelta(seconds=60), Live(defaults), replayed(shifted, it)) for it in ("D1", "D2")
    ]
    looks = RateLimits(shifted, Live(defaults))
    taken: list[datetime] = []
    for step in range(4 * 255):
        for _ in (await claimers[step % 2].claim(100)).messages:
            for units in (10, 100):
                google.limits.charge(box, units, now=shifted.at.timestamp())
            taken.append(shifted.at)
        if step % 120 == 0 and not await looks.acquire(ME, units=20):
            google.limits.charge(box, 20, now=shifted.at.timestamp())
        shifted.at += timedelta(seconds=0.25)
    await shifted.close()

    def within_minute(seconds: int) -> int:
        return sum(0 <= (at - midnight).total_seconds() - seconds < 60 for at in taken)

    assert box.usage.throttled == {}
    slow, fast = range(48, 55), range(115, 137)
    assert within_minute(-135) in fast
    assert {within_minute(0) in slow, within_minute(60) in slow} == {tier == "standard"}
    assert {within_minute(0) in fast, within_minute(60) in fast} == {tier == "scaled"}
