"""What is broken on purpose where neighbours are kept apart: what, file, line, what is put there, and the test."""

from typing import Final

from tests.chaos.mutation import Mutation

OF_NEIGHBOURS: Final = (
    Mutation(
        "a crash costs a message an attempt",
        "mailerd/core/moves.py",
        "attempts=max(row.attempts - 1, 0) if released else row.attempts,",
        "attempts=row.attempts,",
        "tests/store/queue/test_crashes.py::test_a_message_that_crashes_alone_is_failed_and_those_that_were_with_it_are_sent",
    ),
    Mutation(
        "a message that may have crashed daemons goes with others",
        "mailerd/store/queue/take_messages.py",
        " AND crashes < {ALONE_AFTER}",
        "",
        "tests/store/queue/test_crashes.py::test_a_message_that_crashes_alone_is_failed_and_those_that_were_with_it_are_sent",
    ),
    Mutation(
        "a message is failed by a daemon that was stopped or lives",
        "mailerd/store/queue/recovery.py",
        "COALESCE(d.stopped_at IS NULL AND d.heartbeat_at <= r.lease_until, 1)",
        "1",
        "tests/store/queue/test_crashes.py::test_a_daemon_that_was_stopped_or_lives_has_not_crashed",
    ),
    Mutation(
        "a message that was handed over is not looked for where its daemons have crashed",
        "mailerd/core/moves.py",
        "    if handed:\n        change = Transition.LOST\n",
        "    if handed and row.crashes < ALONE_AFTER + FAILED_AFTER_ALONE - 1:\n        change = Transition.LOST\n",
        "tests/store/queue/test_crashes.py::test_a_message_that_was_handed_over_is_looked_for_however_many_daemons_died",
    ),
    Mutation(
        "a message that is tried alone has company",
        "mailerd/worker/runner.py",
        "        await self.semaphore.wait_until_empty()\n        heartbeat.working",
        "        heartbeat.working",
        "tests/worker/test_runner.py::test_a_message_that_may_have_crashed_daemons_is_sent_with_nothing_beside_it",
    ),
    Mutation(
        "one sender's doubts take all the looks",
        "mailerd/store/queue/recovery.py",
        "AND j.sender_email NOT IN %s\n",
        "AND 1 NOT IN %s\n",
        "tests/store/queue/test_recovery.py::test_a_sender_has_only_its_share_of_the_looks",
    ),
    Mutation(
        "a lease that ran out waits until nobody is being looked for",
        "mailerd/worker/recovery.py",
        "lapsed = await self.expired.recover(",
        "lapsed = [] if self._looking else await self.expired.recover(",
        "tests/worker/test_recovery.py::test_a_lease_that_ran_out_and_another_senders_doubt_wait_for_no_look",
    ),
    Mutation(
        "a loop that waits for a frozen database is taken for stalled",
        "mailerd/store/db/database.py",
        "                beat()\n",
        "",
        "tests/worker/test_lost_answers.py::test_a_loop_in_doubt_is_not_taken_for_dead",
    ),
    Mutation(
        "a database that is full is well again as soon as anything is changed",
        "mailerd/store/db/database.py",
        "            and key != _key(read) and not (key == _key(done) and it.is_over(changed=changed))\n",
        "            and not changed\n",
        "tests/store/db/test_refused_writes.py::test_a_full_disk_is_told_once_with_its_remedy_until_the_same_can_be_stored",
    ),
    Mutation(
        "what was refused stands until somebody needs it again",
        "mailerd/store/db/database.py",
        "                del self._refused[key]\n",
        "                pass\n",
        "tests/store/db/test_refused_writes.py::"
        "test_a_privilege_that_is_granted_again_ends_the_outage_though_nobody_needs_it",
    ),
    Mutation(
        "a message that is slow keeps the others out",
        "mailerd/gmail/client.py",
        "            self._on_time_at_google -= message.at_google\n",
        "",
        "tests/gmail/test_concurrency.py::test_a_message_that_has_become_slow_leaves_its_slot_to_the_others",
    ),
    Mutation(
        "a sender whose calls are not answered goes on as before",
        "mailerd/gmail/client.py",
        "sender.limit = max(1, sender.limit // 2)",
        "sender.limit = max(1, sender.limit)",
        "tests/gmail/test_concurrency.py::test_a_call_without_an_answer_halves_what_a_sender_may_have_and_an_answer_adds_one",
    ),
    Mutation(
        "a slot goes to whoever came first, not to who has the fewest",
        "mailerd/gmail/client.py",
        "min(sender.limit, fewest)",
        "(sender.limit if found is None else 0)",
        "tests/gmail/test_concurrency.py::test_a_slot_that_comes_free_goes_to_the_sender_with_the_fewest",
    ),
    Mutation(
        "a job of which another daemon sends the rest is never asked for",
        "mailerd/worker/recorder.py",
        "if since <= long_ago or self._may_be_over(job)}",
        "if self._may_be_over(job)}",
        "tests/worker/test_recorder.py::test_a_job_that_has_not_ended_here_is_asked_for_once_a_second",
    ),
    Mutation(
        "a claim takes messages of a sender that has no room",
        "mailerd/store/queue/turns.py",
        "AND email NOT IN %s ORDER BY next_claim_at, email",
        "AND 1 NOT IN %s ORDER BY next_claim_at, email",
        "tests/store/queue/test_claim.py::test_a_sender_without_room_is_passed_by_and_keeps_its_turn",
    ),
    Mutation(
        "one sender's missing token is taken for a Google that is away",
        "mailerd/core/verdicts.py",
        "if isinstance(reply, TokenUnavailable):",
        "if False:",
        "tests/core/test_decisions.py::test_a_token_that_does_not_come_holds_that_sender_in_this_daemon_alone",
    ),
    Mutation(
        "a look is charged as a whole message",
        "mailerd/core/rate_limit.py",
        "timedelta(microseconds=math.ceil(self.unit * cost))",
        "self.interval",
        "tests/core/test_rate_limit_calls.py::test_a_call_is_charged_as_its_own_units",
    ),
    Mutation(
        "messages beside calls go as fast as without",
        "mailerd/core/rate_limit.py",
        "    if allowance.calls:\n",
        "    if False:\n",
        "tests/core/test_rate_limit_calls.py::test_messages_without_calls_use_all_of_the_minute",
    ),
    Mutation(
        "the first call pays nothing for the messages before it",
        "mailerd/core/rate_limit.py",
        "first = math.ceil(",
        "first = 0 * math.ceil(",
        "tests/core/test_rate_limit_calls.py::test_a_greedy_mixture_of_messages_and_looks_stays_within_a_small_minute",
    ),
)
