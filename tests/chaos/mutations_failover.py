"""What keeps a failover from sending letters twice, broken on purpose."""

from __future__ import annotations

from typing import Final

from tests.chaos.mutation import Mutation

_HISTORY: Final = "tests/store/queue/test_failover.py::"
_ENDED: Final = "tests/store/queue/test_forgotten_ends.py::"
_ALIVE: Final = "tests/store/queue/test_failover_alive.py::"
_DOUBTED: Final = "tests/store/queue/test_forgotten_sends.py::"
_TERM: Final = "tests/store/db/test_writer_term.py::"
OF_FAILOVER: Final = (
    Mutation(
        "a server that was never told is claimed from",
        "mailerd/store/queue/failover.py",
        "if not self.is_replayed(cursor):",
        "if False:",
        "tests/store/queue/test_failover.py::test_what_was_sent_and_forgotten_is_told_again_before_anything_is_claimed",
    ),
    Mutation(
        "what is in hand is not told again",
        "mailerd/store/queue/failover.py",
        "forgotten += await self._restore_claim(cursor, one)",
        "forgotten += 0",
        _HISTORY + "test_what_is_in_hand_stays_in_hand",
    ),
    Mutation(
        "a letter is taken back whose claim has lapsed",
        "mailerd/store/queue/failover.py",
        "status == State.WAITING.value and not await is_logged(cursor, one.letter)",
        "status == State.WAITING.value",
        _HISTORY + "test_a_letter_whose_claim_has_lapsed_is_not_taken_back_by_its_former_worker",
    ),
    Mutation(
        "a former primary is used",
        "mailerd/store/db/server_role.py",
        "if role.writes and role.term and role.term.number < newest:",
        "if False:",
        _TERM + "test_a_daemon_that_starts_while_the_right_primary_is_silent_does_not_use_the_former_one",
    ),
    Mutation(
        "the term of a new writer is not raised",
        "mailerd/store/db/writer.py",
        "if writer.term.server == writer.identity and writer.term.number >= self._term:",
        "if writer.identity:",
        _TERM + "test_the_term_grows_with_every_move_and_stays_where_a_server_is_restarted",
    ),
    Mutation(
        "a daemon that starts takes the word of a server that is all alone",
        "mailerd/store/db/writer.py",
        "if known or only.backed or",
        "if True or",
        _TERM + "test_a_daemon_that_starts_takes_no_server_at_its_word_that_is_all_alone",
    ),
    Mutation(
        "a process that was stopped for long uses the connection that it had",
        "mailerd/store/db/pool.py",
        "while self._idle and not self.writer.overdue:",
        "while self._idle:",
        _TERM + "test_whoever_was_stopped_for_long_looks_before_the_next_use",
    ),
    Mutation(
        "a hand-over that was refused is told again",
        "mailerd/store/queue/failover.py",
        "what is not WriteResult.APPLIED:",
        "what is None:",
        _HISTORY + "test_a_hand_over_that_its_row_did_not_take_is_not_told",
    ),
    Mutation(
        "a row is given back to a delivery that ends while the replay is under way",
        "mailerd/store/queue/failover.py",
        "in _latest(self._known_now(known)):",
        "in _latest(known):",
        _HISTORY + "test_a_row_is_not_given_back_to_a_delivery_that_ends_while_the_replay_is_under_way",
    ),
    Mutation(
        "a hand-over that its row refuses is known as refused only once the COMMIT is answered",
        "mailerd/worker/recorder.py",
        "self._memory.before_commit(record, what)",
        "pass",
        "tests/worker/test_failover.py::"
        "test_a_row_that_refuses_a_hand_over_is_not_given_back_to_it_though_the_commit_is_answered_late",
    ),
    Mutation(
        "other daemons are not waited for",
        "mailerd/store/queue/failover.py",
        "if others and time.monotonic() - met.at < OTHER_DAEMONS_TIMEOUT:",
        "if False:",
        _HISTORY + "test_others_that_are_alive_are_waited_for",
    ),
    Mutation(
        "what is remembered of a lost letter is told of another that has its number",
        "mailerd/store/queue/failover.py",
        "if job != one.letter.job_id:",
        "if job is None:",
        _HISTORY + "test_a_letter_whose_number_is_anothers_now_tells_nothing_of_that_one",
    ),
    Mutation(
        "a doubt is not told again",
        "mailerd/store/queue/failover.py",
        "return int(await mark_unsure_late(cursor, one, by=self.daemon_id))",
        "return 0",
        _DOUBTED + "test_a_doubt_that_was_forgotten_is_told_again",
    ),
    Mutation(
        "a doubt that was looked into is told again",
        "mailerd/store/queue/failover.py",
        "if await is_logged(cursor, one.letter):",
        "if False:",
        _DOUBTED + "test_a_doubt_that_somebody_has_looked_into_is_not_told_again",
    ),
    Mutation(
        "a doubt outlives the refusal of a later attempt",
        "mailerd/store/queue/failover.py",
        "self._forget(before.record.letter)",
        "pass",
        _DOUBTED + "test_a_doubt_is_not_told_once_its_letter_was_refused_by_a_later_attempt",
    ),
    Mutation(
        "what is known first of a letter is told, not what is known last",
        "mailerd/store/queue/failover.py",
        "is None or not before.sent:",
        "is None:",
        _DOUBTED + "test_of_a_letter_that_is_in_hand_again_the_former_doubt_is_not_told",
    ),
    Mutation(
        "a doubt does not come to a row that has forgotten its claim",
        "mailerd/store/queue/record.py",
        "if lost and await mark_unsure_late(",
        "if False and await mark_unsure_late(",
        _DOUBTED + "test_a_doubt_comes_to_a_row_that_has_forgotten_its_claim",
    ),
    Mutation(
        "a letter of which the log knows a doubt is handed over",
        "mailerd/store/queue/record.py",
        " AND {NONE_UNRESOLVED}",
        "",
        _DOUBTED + "test_a_letter_of_which_the_log_knows_a_doubt_is_not_handed_over",
    ),
    Mutation(
        "a look that was fenced off settles a doubt",
        "mailerd/store/queue/forgotten_sends.py",
        " AND s.applied = 1",
        "",
        _DOUBTED + "test_it_is_handed_over_once_somebody_has_looked",
    ),
    Mutation(
        "a doubt does not say what is to be looked for",
        "mailerd/store/queue/record.py",
        "COALESCE(r.draft_id, v.draft_id)",
        "r.draft_id",
        _DOUBTED + "test_a_doubt_says_itself_what_is_to_be_looked_for",
    ),
    Mutation(
        "a claim of what was sent goes on",
        "mailerd/store/queue/failover.py",
        "if known.sent or not await is_logged(cursor, known.record.letter):",
        "if False:",
        _DOUBTED + "test_a_letter_that_is_claimed_again_shows_that_the_database_has_forgotten",
    ),
    Mutation(
        "a claim that has lapsed is taken for a forgotten one",
        "mailerd/store/queue/failover.py",
        "if known.sent or not await is_logged(cursor, known.record.letter):",
        "if True:",
        _DOUBTED + "test_a_letter_whose_claim_has_lapsed_is_claimed_again",
    ),
    Mutation(
        "a letter that waits for other reasons holds up all claims",
        "mailerd/store/queue/failover.py",
        "if known.seen_again:",
        "if False:",
        _DOUBTED + "test_a_letter_that_waits_for_other_reasons_holds_up_no_claim_for_ever",
    ),
    Mutation(
        "a claim that is over early is no sign",
        "mailerd/store/queue/failover.py",
        "if early and what in {",
        "if False and what in {",
        _DOUBTED + "test_a_claim_that_is_over_before_its_lease_shows_that_the_database_has_forgotten",
    ),
    Mutation(
        "a claim that is over after its lease is a sign",
        "mailerd/store/queue/failover.py",
        "and record.took < self.lease.total_seconds()",
        "",
        _DOUBTED + "test_a_claim_that_is_over_before_its_lease_shows_that_the_database_has_forgotten",
    ),
    Mutation(
        "a letter that is tried alone is claimed from a server that was never told",
        "mailerd/store/queue/claim.py",
        "self.replay_log.require_replayed(cursor)",
        "pass",
        _HISTORY + "test_a_letter_that_is_tried_alone_is_claimed_only_where_all_was_told",
    ),
    Mutation(
        "a daemon whose heartbeat is old is taken for dead though the database was away",
        "mailerd/store/queue/failover.py",
        "OTHER_DAEMONS_TIMEOUT + silent",
        "OTHER_DAEMONS_TIMEOUT",
        _ALIVE + "test_others_are_waited_for_though_their_heartbeats_are_old",
    ),
    Mutation(
        "the others' time to replay runs out while the new server takes no writes",
        "mailerd/store/queue/failover.py",
        "met.replayed_at, met.at = since, time.monotonic()",
        "met.replayed_at = since",
        _ALIVE + "test_others_have_their_time_from_when_a_new_server_takes_writes",
    ),
    Mutation(
        "a server that was left before all had told it is not met anew",
        "mailerd/store/queue/failover.py",
        "if met is None or now - met.tried_at > OTHER_DAEMONS_TIMEOUT:",
        "if met is None:",
        _ALIVE + "test_others_have_their_time_also_where_the_server_was_met_and_left_before",
    ),
    Mutation(
        "a server that was used before another one is taken for told",
        "mailerd/store/queue/failover.py",
        "if self._used_at - self._servers.get(server, -math.inf) > OTHER_DAEMONS_TIMEOUT:",
        "if server not in self._servers:",
        _ALIVE + "test_a_server_that_was_used_before_another_one_is_told_again",
    ),
    Mutation(
        "a daemon that claims nothing tells nothing",
        "mailerd/store/daemons.py",
        "await self.on_server(server)",
        "pass",
        _ALIVE + "test_a_daemon_that_claims_nothing_tells_by_its_heartbeat",
    ),
    Mutation(
        "what was not sent is not told again",
        "mailerd/store/queue/failover.py",
        "        if held:",
        "        if False:",
        _ENDED + "test_what_was_not_sent_is_told_where_its_row_waits_for_that",
    ),
    Mutation(
        "a draft that was deleted in a claim that was forgotten is sent again",
        "mailerd/store/queue/failover.py",
        "await cursor.execute(_FORGET_DRAFT, (letter.id, letter.job_id, letter.draft_id))",
        "pass",
        _ENDED + "test_a_draft_that_was_deleted_is_forgotten_where_the_whole_claim_was",
    ),
    Mutation(
        "a letter that waits again since it was put off is a sign of forgotten commits",
        "mailerd/store/queue/failover.py",
        "or _is_over(known.record)",
        "",
        _ENDED + "test_a_letter_that_was_put_off_with_its_draft_is_claimed_again_at_once",
    ),
)
