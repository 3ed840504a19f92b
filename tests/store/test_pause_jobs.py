"""A job whose list is bad is paused in the transaction that writes its bounces, once, and a person is not overruled."""

import asyncio
import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Final

import pytest

from mailerd.config import Live
from mailerd.core.bounce_rule import NO_RULES, BounceRule, BounceRules
from mailerd.core.inbox_findings import BadList, Finding, InboxCursor, InboxLease, Written
from mailerd.core.notices import Classification, Kind
from mailerd.core.rate_limit import SenderLimits
from mailerd.core.results import Consequence, Result, Step
from mailerd.core.states import JobChange
from mailerd.store.db.connection import Cursor
from mailerd.store.db.database import Database
from mailerd.store.inbox.mailboxes import Mailboxes, brake_jobs, has_young_job
from mailerd.store.inbox.record_findings import FindingsWriter
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.read.audit import audit
from mailerd.store.write.job_actions import JobActions
from mailerd.store.write.job_changes import lock_jobs, wake_job
from mailerd.store.write.sender_actions import SenderActions
from tests.support.in_doubt import in_doubt
from tests.support.rows import post, query

ME: Final = "me@example.com"
MINUTE: Final = timedelta(minutes=1)
JOB: Final = BounceRule(5, 0.1)
HARD: Final = Classification(Kind.HARD, "5.1.1", "no such user")
SOFT: Final = Classification(Kind.SOFT, "5.2.2", "mailbox full")
MICROSOFT: Final = Classification(Kind.SOFT, "5.4.1", "Recipient address rejected: Access denied")


class Place:
    """A job of which some messages are sent, and an inbox that tells of them."""

    def __init__(self, database: Database, *, sender: BounceRule = NO_RULES.sender) -> None:
        defaults = DefaultLimits(SenderLimits(6000, 0, 2000))
        self.database = database
        self.boxes = Mailboxes(database, Live(defaults), lease_time=MINUTE, interval=MINUTE)
        self.writer = FindingsWriter(
            database, Live(defaults), "D", MINUTE, min_pause=MINUTE, undo=True, rules=BounceRules(JOB, sender)
        )
        self.actions = JobActions(database, timeout=10, late_arrival=timedelta(0))
        self.notices = 0
        self.job = ""
        self.lease: InboxLease | None = None

    async def post(self, *, sent: int, waiting: int = 100) -> str:
        self.job = await post(self.database, recipients=sent + waiting)
        await query(
            self.database, "UPDATE jobs SET status = 'sending', started_at = created_at WHERE id = %s", self.job
        )
        await query(self.database, "INSERT IGNORE INTO mailboxes (email, next_at) VALUES (%s, UTC_TIMESTAMP(6))", ME)
        await self.send(sent)
        return self.job

    async def send(self, upto: int) -> None:
        await query(
            self.database,
            "UPDATE job_recipients SET status = 'sent', thread_id = CONCAT(job_id, seq), message_id = CONCAT('m', id),"
            " proof = 'answered', sent_at = UTC_TIMESTAMP(6) WHERE job_id = %s AND seq < %s AND status = 'waiting'",
            self.job,
            upto,
        )
        await query(
            self.database,
            "INSERT INTO tallies (minute, sender_email, daemon, sent) VALUES (DATE_FORMAT(UTC_TIMESTAMP(), "
            "'%%Y-%%m-%%d %%H:%%i:00'), %s, 'D', %s) ON DUPLICATE KEY UPDATE sent = tallies.sent + VALUES(sent)",
            ME,
            upto,
        )

    async def found(self, numbers: Iterable[int], what: Classification = HARD) -> list[Finding]:
        self.lease = self.lease or await self.boxes.lease(ME)
        assert self.lease is not None
        threads = {f"{self.job}{number}" for number in numbers}
        messages = await self.boxes.messages_in(ME, threads)
        found = []
        for thread in sorted(threads):
            self.notices += 1
            follows = Consequence(Result.BOUNCED, Step.NOTHING)
            found.append(Finding(f"g{self.notices}", thread, self.lease.now, messages[thread][0], what, follows))
        return found

    async def write(self, found: list[Finding]) -> Written:
        assert self.lease is not None
        return await self.writer.write(self.lease, found, InboxCursor(5, 5), address_key=b"k" * 32)

    async def bounce(self, numbers: Iterable[int], what: Classification = HARD) -> list[BadList]:
        return (await self.write(await self.found(numbers, what))).bad_lists

    async def ask(self, change: JobChange) -> bool:
        return (await self.actions.apply(self.job, change, actor="ada")).changed

    async def shown(self) -> tuple[object, ...]:
        return (
            await query(
                self.database, "SELECT status, pause_cause, next_claim_at IS NULL FROM jobs WHERE id = %s", self.job
            )
        )[0]


RUNS: Final = ("sending", None, 0)
PAUSED: Final = ("paused", "bounces", 1)


@pytest.fixture
def place(database: Database) -> Place:
    return Place(database)


async def test_the_sixth_dead_address_pauses_a_job_with_its_cause_its_event_and_its_action(place: Place) -> None:
    job = await place.post(sent=10)
    assert await place.bounce(range(2)) == []
    (warned,) = await place.bounce(range(2, 5))
    assert (warned.paused, await place.shown()) == (False, RUNS)
    (bad,) = await place.bounce([5])
    assert (bad.paused, await place.shown()) == (True, PAUSED)
    reason = (
        "6 of the last 6 messages with a known result bounced because their addresses do not exist. Check "
        f"`mailerd bounces --job {job}`; cancel the job and post the rest from a clean list, or resume it if the "
        "addresses are right"
    )
    assert await query(place.database, "SELECT pause_reason, bounce_warning FROM jobs") == [(reason, None)]
    ((data,),) = await query(place.database, "SELECT data FROM events WHERE type = 'job.paused'")
    assert {name: json.loads(data)[name] for name in ("actor", "cause", "reason", "bounced", "of")} == {
        "actor": "mailerd", "cause": "bounces", "reason": reason, "bounced": 6, "of": 6,
    }  # fmt: skip
    assert await query(place.database, "SELECT action, actor, detail FROM job_actions") == [("pause", "mailerd", "6/6")]
    assert await place.bounce([6, 7]) == [], "it is paused"
    assert (await audit(place.database))[1] == []


async def test_ten_notices_about_one_message_are_one_message(place: Place) -> None:
    await place.post(sent=20)
    for _ in range(10):
        await place.bounce([3])
    assert await place.bounce([4]) == []
    assert await place.shown() == RUNS


async def test_soft_and_blocked_messages_pause_no_job_and_those_of_microsoft_do(place: Place) -> None:
    await place.post(sent=50)
    await place.bounce(range(10), SOFT)
    await place.bounce(range(10, 20), Classification(Kind.BLOCKED, "5.7.1", "spam"))
    await place.bounce([20])
    assert await place.shown() == RUNS
    await place.bounce(range(21, 31), MICROSOFT)
    assert await place.shown() == PAUSED
    assert await query(place.database, "SELECT COUNT(*) FROM job_recipients WHERE result_kind = 'hard'") == [(1,)]


async def test_what_was_sent_after_the_newest_dead_one_makes_no_bad_list_look_good(place: Place) -> None:
    """While the reader is behind, hundreds are sent of which nothing is known."""
    await place.post(sent=500)
    await place.bounce(range(7))
    assert await place.shown() == PAUSED


async def test_messages_that_were_retried_are_the_newest_though_their_numbers_are_the_lowest(place: Place) -> None:
    await place.post(sent=20)
    await place.bounce([19])
    retried = "UPDATE job_recipients SET due_at = UTC_TIMESTAMP(6) + INTERVAL 1 SECOND WHERE job_id = %s AND seq < 12"
    await query(place.database, retried, place.job)
    await place.bounce(range(12))
    assert await place.shown() == PAUSED


async def test_dead_addresses_that_are_retried_are_not_the_newest_dead_ones(place: Place) -> None:
    """Else all that was sent would count, and a bad list look good."""
    job = await place.post(sent=100)
    await place.bounce([50])
    await place.ask(JobChange.PAUSE)
    await place.actions.apply(job, JobChange.RETRY, actor="ada", bounced=["hard"])
    await query(place.database, "UPDATE jobs SET status = 'sending', next_claim_at = UTC_TIMESTAMP(6)")
    (*_, bad) = [*await place.bounce([1, 2, 3]), *await place.bounce([4, 5, 6])]
    assert (bad.paused, await place.shown()) == (True, PAUSED)


async def test_a_list_with_few_dead_addresses_goes_on(place: Place) -> None:
    await place.post(sent=500)
    await place.bounce(range(3, 500, 30))
    assert await place.shown() == RUNS


@pytest.mark.parametrize("order", [range(8), range(7, -1, -1), (3, 7, 0, 5, 1, 6, 2, 4)])
async def test_notices_in_any_order_give_the_same_end(place: Place, order: Iterable[int]) -> None:
    await place.post(sent=30)
    for number in order:
        await place.bounce([number])
    assert await place.shown() == PAUSED


async def test_a_job_that_shall_go_on_and_one_of_which_nothing_waits_are_not_paused(place: Place) -> None:
    await place.post(sent=20)
    await query(place.database, "UPDATE jobs SET on_bounces = 'go_on'")
    assert await place.bounce(range(20)) == []
    await place.post(sent=20, waiting=0)
    await query(place.database, "UPDATE jobs SET next_claim_at = NULL WHERE id = %s", place.job)
    assert await place.bounce(range(20)) == []
    assert await query(place.database, "SELECT COUNT(*) FROM jobs WHERE status = 'paused'") == [(0,)]


async def test_a_person_who_resumes_is_not_overruled_by_what_was_sent_before(place: Place) -> None:
    await place.post(sent=40)
    await place.bounce(range(10))
    assert await place.ask(JobChange.RESUME)
    assert await place.shown() == RUNS
    assert await place.bounce(range(10, 40)) == []
    await place.send(60)
    await place.bounce(range(40, 45))
    assert await place.shown() == RUNS, "five of five since then"
    await place.bounce([45])
    assert await place.shown() == PAUSED


async def test_a_persons_pause_is_manual_and_stays_that(place: Place) -> None:
    await place.post(sent=20)
    assert await place.ask(JobChange.PAUSE)
    assert await place.bounce(range(20)) == []
    assert await place.shown() == ("paused", "manual", 1)
    ((data,),) = await query(place.database, "SELECT data FROM events WHERE type = 'job.paused'")
    assert json.loads(data)["cause"] == "manual"
    await place.ask(JobChange.RESUME)
    assert await place.shown() == RUNS


async def test_a_pause_that_is_asked_for_after_the_rule_changes_nothing(place: Place) -> None:
    await place.post(sent=20)
    await place.bounce(range(20))
    assert not await place.ask(JobChange.PAUSE)
    assert await place.shown() == PAUSED


@pytest.mark.parametrize("change", [JobChange.CANCEL, JobChange.PAUSE, JobChange.RETRY, JobChange.RESUME])
async def test_whatever_a_person_asks_at_the_same_moment_comes_wholly_before_or_after(
    place: Place, change: JobChange
) -> None:
    for _ in range(5):
        await place.post(sent=20)
        found = await place.found(range(20))
        await asyncio.gather(place.write(found), place.ask(change))
        status, cause, idle = await place.shown()
        expected: dict[JobChange, set[tuple[object, ...]]] = {
            JobChange.CANCEL: {("cancelled", None, 1)},
            JobChange.PAUSE: {PAUSED, ("paused", "manual", 1)},
            JobChange.RETRY: {PAUSED},
            JobChange.RESUME: {PAUSED, RUNS},
        }
        assert (status, cause, idle) in expected[change]
    assert (await audit(place.database))[1] == []


async def test_a_commit_whose_answer_is_lost_pauses_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await place.post(sent=20)
    found = await place.found(range(20))
    with in_doubt(place.database, monkeypatch):
        done = await place.write(found)
    assert [it.paused for it in done.bad_lists] == [True]
    assert await place.shown() == PAUSED
    for table in ("events WHERE type = 'job.paused'", "job_actions"):
        assert await query(place.database, f"SELECT COUNT(*) FROM {table}") == [(1,)]


async def test_a_transaction_that_is_undone_leaves_neither_results_nor_a_pause(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a kill -9 before its COMMIT: the next reader finds the same, and comes to the same end."""
    await place.post(sent=20)
    found = await place.found(range(20))

    def dies(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("mailerd.store.write.messages.count_tallies", dies)
        with pytest.raises(RuntimeError, match="killed"):
            await place.write(found)
    assert await place.shown() == RUNS
    assert await query(place.database, "SELECT COUNT(*) FROM job_recipients WHERE result IS NOT NULL") == [(0,)]
    await place.write(found)
    assert await place.shown() == PAUSED


async def test_a_list_that_is_posted_as_many_jobs_rests_the_mailbox_for_a_day(database: Database) -> None:
    place = Place(database, sender=BounceRule(20, 0.1))
    for number in range(30):
        await place.post(sent=1, waiting=0)
        await place.bounce([0])
        paused = "SELECT pause_cause, paused_until > UTC_TIMESTAMP() + INTERVAL 23 HOUR FROM senders"
        expected = [("bounces", 1)] if number >= 19 else [(None, None)]
        assert await query(database, paused) == expected, number
    await query(database, "UPDATE senders SET paused_until = NULL, pause_cause = NULL")
    await place.post(sent=1, waiting=0)
    await place.bounce([0])
    assert await query(database, "SELECT pause_cause FROM senders") == [(None,)], "a person has resumed it"


SENDER: Final = BounceRule(20, 0.08)
RESTS: Final = "SELECT pause_cause FROM senders"


async def test_the_dead_addresses_of_tests_rest_no_mailbox(database: Database) -> None:
    place = Place(database, sender=BounceRule(20, 0.1))
    for _ in range(25):
        await place.post(sent=1, waiting=0)
        await query(database, "UPDATE jobs SET type = 'test'")
        await place.bounce([0])
    assert await query(database, RESTS) == [(None,)]


async def test_one_job_that_is_paused_early_does_not_stop_the_mailboxs_other_jobs(database: Database) -> None:
    place = Place(database, sender=SENDER)
    await place.post(sent=15)
    await place.bounce(range(15))
    assert await place.shown() == PAUSED
    await place.post(sent=30)
    await place.bounce(range(4))
    assert await query(database, RESTS) == [(None,)]


@pytest.mark.parametrize("change", [None, JobChange.RESUME, JobChange.CANCEL])
async def test_a_list_that_is_posted_anew_each_time_it_is_paused_rests_the_mailbox(
    database: Database, change: JobChange | None
) -> None:
    place = Place(database, sender=SENDER)
    for number in range(4):
        assert await query(database, RESTS) != [("bounces",)], number
        await place.post(sent=6)
        await place.bounce(range(6))
        assert await place.shown() == PAUSED
        if change:
            await place.ask(change)
    assert await query(database, RESTS) == [("bounces",)]


async def test_a_person_who_resumes_the_mailbox_is_not_overruled_by_what_was_sent_before(database: Database) -> None:
    place = Place(database, sender=SENDER)
    limits = DefaultLimits(SenderLimits(6000, 0, 2000))
    await place.post(sent=60)
    await place.bounce(range(25))
    assert await query(database, RESTS) == [("bounces",)]
    await SenderActions(database, limits).resume(ME, actor="ada")
    await place.bounce(range(25, 60))
    assert await query(database, RESTS) == [(None,)]
    await place.post(sent=19)
    await place.bounce(range(19))
    assert await query(database, RESTS) == [(None,)]
    await place.post(sent=1)
    await place.bounce([0])
    ((cause, reason),) = await query(database, "SELECT pause_cause, pause_reason FROM senders")
    assert (cause, reason.split(" messages")[0]) == ("bounces", "20 of its last 80"), "its minute counts whole"


async def test_a_program_that_pauses_and_resumes_a_job_has_seen_nothing(place: Place) -> None:
    await place.post(sent=40)
    await place.bounce(range(5))
    for _ in range(3):
        assert await place.ask(JobChange.PAUSE)
        assert await place.ask(JobChange.RESUME)
    assert (await query(place.database, "SELECT bounce_warning IS NULL FROM jobs")) == [(0,)]
    await place.bounce([5])
    assert await place.shown() == PAUSED


async def test_nothing_but_its_time_and_a_person_ends_a_brake(place: Place) -> None:
    waits = "SELECT next_claim_at >= braked_until, braked_until > UTC_TIMESTAMP() + INTERVAL 100 SECOND FROM jobs"
    job = await place.post(sent=40)
    await brake_jobs(place.database, ME, [f"{job}{n}" for n in range(20)], JOB)
    assert await query(place.database, waits) == [(1, 1)]

    async def come_back(cursor: Cursor) -> None:
        await wake_job(cursor, (await lock_jobs(cursor, [job]))[job], timedelta(0))

    await place.database.transaction(come_back, what="a message comes back")
    assert await query(place.database, waits) == [(1, 1)]
    assert await place.ask(JobChange.PAUSE)
    assert await place.ask(JobChange.RESUME)
    assert await query(place.database, waits) == [(1, 1)]
    await place.bounce(range(6))
    assert await place.ask(JobChange.RESUME)
    claimable = "SELECT next_claim_at <= UTC_TIMESTAMP(6), braked_until FROM jobs"
    assert await query(place.database, claimable) == [(1, None)], "a person has seen what came back"


async def test_a_job_waits_while_much_that_came_back_is_unread_five_times_in_a_row(place: Place) -> None:
    job = await place.post(sent=40)
    few, many = ([f"{job}{n}" for n in range(number)] for number in (4, 5))
    assert await brake_jobs(place.database, ME, few, JOB) == ({}, set(), len(few))
    for number in range(6):
        begun, braked, _ = await brake_jobs(place.database, ME, many, JOB)
        assert (begun, braked) == (({job: 5}, {job}) if number < 5 else ({}, set())), number
        assert (await brake_jobs(place.database, ME, many, JOB))[0] == {}, "it waits already"
        waits = "SELECT next_claim_at > UTC_TIMESTAMP() + INTERVAL 110 SECOND FROM jobs"
        assert await query(place.database, waits) == [(int(number < 5),)]
        over = "UPDATE jobs SET braked_until = braked_until - INTERVAL 3 MINUTE, next_claim_at = UTC_TIMESTAMP(6)"
        await query(place.database, over)
    await query(place.database, "UPDATE jobs SET braked_until = braked_until - INTERVAL 1 HOUR")
    assert (await brake_jobs(place.database, ME, many, JOB))[0] == {job: 5}


async def test_what_is_old_or_known_or_shall_go_on_brakes_nothing(place: Place) -> None:
    job = await place.post(sent=40)
    threads = [f"{job}{n}" for n in range(40)]
    for change in (
        "UPDATE jobs SET on_bounces = 'go_on'", "UPDATE jobs SET on_bounces = 'pause', status = 'paused'",
        "UPDATE jobs SET status = 'sending', next_claim_at = NULL",
        "UPDATE job_recipients SET sent_at = sent_at - INTERVAL 31 MINUTE",
    ):  # fmt: skip
        await query(place.database, change)
        assert (await brake_jobs(place.database, ME, threads, JOB))[:2] == ({}, set()), change


async def test_a_job_is_young_until_two_hundred_are_sent_and_a_quarter_of_an_hour_more(place: Place) -> None:
    async def young() -> bool:
        statement, values = has_young_job(ME)
        return bool(await query(place.database, statement, *values))

    assert not await young()
    await place.post(sent=199, waiting=10)
    assert await young()
    await query(
        place.database, "UPDATE job_recipients SET sent_at = sent_at - INTERVAL 16 MINUTE WHERE status = 'sent'"
    )
    assert await young(), "199 are sent"
    await place.send(200)
    assert await young(), "the 200th has just been sent"
    await query(
        place.database, "UPDATE job_recipients SET sent_at = sent_at - INTERVAL 16 MINUTE WHERE status = 'sent'"
    )
    assert not await young()
