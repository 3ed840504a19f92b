"""What the model of the store has found, and what it would find at once."""

from __future__ import annotations

from typing import Final

from tests.chaos.mutation import Mutation

_TALLIES: Final = "tests/store/test_tallies.py::"
OF_MODEL: Final = (
    Mutation(
        "a claim that lapses is not counted",
        "mailerd/store/queue/recovery.py",
        "if statement := count_changes(self.daemon_id, [(one.sender, _CHANGES[one.status]) for one in found]):",
        "if statement := None:",
        _TALLIES + "test_a_claim_that_lapses_is_counted_by_what_became_of_its_letter",
    ),
    Mutation(
        "what a person settles is not counted",
        "mailerd/store/queue/recovery.py",
        "if statement := count_changes(token, [(sender, change)]):",
        "if statement := None:",
        _TALLIES + "test_what_a_person_settles_as_sent_is_counted",
    ),
    Mutation(
        "an answer that comes late is not counted",
        "mailerd/store/queue/record.py",
        "count_changes(self.daemon_id, [*changes, *late])",
        "count_changes(self.daemon_id, changes)",
        _TALLIES + "test_an_answer_that_comes_late_is_counted_once",
    ),
    Mutation(
        "what a failover had forgotten is not counted again",
        "mailerd/store/queue/failover.py",
        "if statement := count_changes(self.daemon_id, changes):",
        "if statement := None:",
        _TALLIES + "test_what_a_failover_had_forgotten_is_counted_again",
    ),
    Mutation(
        "a dead address that is retried counts as the newest dead one",
        "mailerd/store/inbox/pause_jobs.py",
        "   AND r.status = 'sent' AND r.fate = 'bounced'",
        "",
        "tests/store/test_pause_jobs.py::test_dead_addresses_that_are_retried_are_not_the_newest_dead_ones",
    ),
    Mutation(
        "a mailbox whose first letter was forgotten is not read",
        "mailerd/store/queue/failover.py",
        "await cursor.execute(*learnt_mode(sender, mode))",
        "await cursor.execute(*learnt_mode('', mode))",
        "tests/store/queue/test_failover.py::test_a_senders_first_letter_that_was_forgotten_lets_its_mailbox_be_read",
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
        "a released letter gets no attempt back",
        "mailerd/store/queue/record.py",
        "attempts = letter.attempt - 1 if uncounted else one.attempt",
        "attempts = one.attempt",
        "tests/store/queue/test_record.py::test_a_released_letter_gets_its_attempt_and_its_place_in_the_day_back",
    ),
    Mutation(
        "a claim that lapses leaves no line in the log of attempts",
        "mailerd/store/queue/recovery.py",
        'AttemptRow(id_, attempts, token, self.daemon_id, "lapsed", draft_id=draft, error=note)',
        'AttemptRow(0, attempts, token, self.daemon_id, "lapsed", draft_id=draft, error=note)',
        "tests/store/queue/test_recovery.py::test_a_claim_that_lapses_is_a_line_in_the_log_of_its_letter",
    ),
    Mutation(
        "a job whose letter is missing is not woken",
        "mailerd/store/queue/recovery.py",
        "await reschedule(cursor, jobs={letter.job_id: 0}, senders={letter.sender: 0}, back=[letter.id])",
        "False",
        "tests/store/queue/test_recovery.py::test_the_job_of_a_missing_letter_and_its_sender_have_their_turn_now",
    ),
)
