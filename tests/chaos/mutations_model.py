"""What the model of the store has found, and what it would find at once."""

from __future__ import annotations

from typing import Final

from tests.chaos.mutation import Mutation

_TALLIES: Final = "tests/store/test_tallies.py::"
OF_MODEL: Final = (
    Mutation(
        "a claim that lapses is not counted",
        "mailerd/core/states.py",
        "Transition.LOST: Consequences(Tally.UNSURE),",
        "Transition.LOST: Consequences(),",
        _TALLIES + "test_a_claim_that_lapses_is_counted_by_what_became_of_its_message",
    ),
    Mutation(
        "what a person settles is not counted",
        "mailerd/core/states.py",
        "Transition.FOUND: Consequences(Tally.SENT),",
        "Transition.FOUND: Consequences(),",
        _TALLIES + "test_what_a_person_settles_as_sent_is_counted",
    ),
    Mutation(
        "an answer that comes late is not counted",
        "mailerd/core/moves.py",
        "return Move(row, after, Transition.FOUND, message.sender, [line._replace(event=event)])",
        "return Move(row, after, None, message.sender, [line._replace(event=event)])",
        _TALLIES + "test_an_answer_that_comes_late_is_counted_once",
    ),
    Mutation(
        "what a failover had forgotten is not counted again",
        "mailerd/store/write/messages.py",
        "if statement := count_tallies(by, counts):",
        "if statement := None:",
        _TALLIES + "test_what_a_failover_had_forgotten_is_counted_again",
    ),
    Mutation(
        "a dead address that is retried counts as the newest dead one",
        "mailerd/store/inbox/record_findings.py",
        "   AND r.status = 'sent' AND r.result = 'bounced'",
        "",
        "tests/store/test_pause_jobs.py::test_dead_addresses_that_are_retried_are_not_the_newest_dead_ones",
    ),
    Mutation(
        "a mailbox whose first message was forgotten is not read",
        "mailerd/store/queue/failover.py",
        "await sender_changes.learn_mode(cursor, sender, mode)",
        'await sender_changes.learn_mode(cursor, "", mode)',
        "tests/store/queue/test_failover.py::test_a_senders_first_message_that_was_forgotten_lets_its_mailbox_be_read",
    ),
    Mutation(
        "an inbox is read before the database was told what it forgot",
        "mailerd/store/inbox/mailboxes.py",
        "if self.replay_log is not None and not self.replay_log.is_replayed(cursor):",
        "if False:",
        "tests/store/queue/test_failover.py::test_no_inbox_is_read_and_nothing_noted_before_all_was_told",
    ),
    Mutation(
        "what was read is written before the database was told what it forgot",
        "mailerd/store/inbox/record_findings.py",
        "told = self.replay_log is None or self.replay_log.is_replayed(database_cursor)",
        "told = True",
        "tests/store/queue/test_failover.py::test_no_inbox_is_read_and_nothing_noted_before_all_was_told",
    ),
    Mutation(
        "a released message gets no attempt back",
        "mailerd/core/moves.py",
        "attempts=message.attempt - 1 if change in REFUNDED or decision.same_doubt else it.attempt,",
        "attempts=it.attempt,",
        "tests/store/queue/test_record.py::test_a_released_message_gets_its_attempt_and_its_place_in_the_day_back",
    ),
    Mutation(
        "a claim that lapses leaves no line in the log of attempts",
        "mailerd/core/moves.py",
        "return Move(row, after, change, sender, [line], hour=hour,",
        "return Move(row, after, change, sender, [], hour=hour,",
        "tests/store/queue/test_recovery.py::test_a_claim_that_lapses_is_a_line_in_the_log_of_its_message",
    ),
    Mutation(
        "a job whose message is missing is not woken",
        "mailerd/core/states.py",
        "Transition.MISSING: Consequences(waits=True),",
        "Transition.MISSING: Consequences(),",
        "tests/store/queue/test_recovery.py::test_the_job_of_a_missing_message_and_its_sender_have_their_turn_now",
    ),
)
