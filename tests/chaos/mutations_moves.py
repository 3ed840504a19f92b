"""What every change of a message depends on: store/write/messages.py, the moves and what follows from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mailerd.core.states import FOLLOWS, Consequences
from tests.chaos.mutation import Mutation, noticed_by

_IN_MOVES: Final = "mailerd/core/moves.py"
_IN_MESSAGES: Final = "mailerd/store/write/messages.py"
_IN_STATES: Final = "mailerd/core/states.py"
_IN_RECORD: Final = "mailerd/store/queue/record.py"
_MOVES: Final = "tests/core/test_moves.py::"
_LOG: Final = "tests/core/test_attempt_log.py::"
_MESSAGES: Final = "tests/store/test_messages.py::"
_STATES: Final = "tests/core/test_states.py::"
_HAND_OVER: Final = "tests/store/queue/test_hand_over.py::"
_RECORD: Final = "tests/store/queue/test_record.py::"


def _flipped(it: Consequences) -> Iterator[tuple[str, tuple[str, str, str], str]]:
    """The consequences with one field that is another: its name, the fields, and the test that notices."""
    tally, event = (f"{type(each).__name__}.{each.name}" if each else "None" for each in (it.tally, it.event))
    counted = "test_what_waits_again_has_its_turn_and_what_ends_or_is_in_doubt_is_counted"
    heard = "test_the_application_hears_of_what_failed_and_of_what_was_not_sent_after_all"
    yield "tally", ("None" if it.tally else "Tally.PUT_OFF", event, str(it.waits)), counted
    yield "event", (tally, "None" if it.event else "EventType.RECIPIENT_FAILED", str(it.waits)), heard
    yield "turn", (tally, event, str(not it.waits)), counted


# Steps of `messages.move`, each dropped in turn.
OF_THE_DOOR: Final = (
    *noticed_by(
        _HAND_OVER + "test_what_another_has_or_google_has_is_not_handed_over", _IN_MESSAGES,
        ("a new message is handed over under another claim", "AND (id, claim_token) IN %s AND status = 'sending' AND",
         "AND (id, %s) IS NOT NULL AND status = 'sending' AND"),
        ("a new message is handed over after its claim", "AND status = 'sending' AND message_id IS NULL\n   AND NOT",
         "AND message_id IS NULL\n   AND NOT"),
        ("a new message is handed over that Google has", "AND status = 'sending' AND message_id IS NULL\n   AND NOT",
         "AND status = 'sending'\n   AND NOT"),
        ("of new messages one that is not handed over is told as such",
         "    return cursor.rowcount == len(ids)\n", "    return cursor.rowcount > 0\n"),
    ),
    *noticed_by(
        _HAND_OVER + "test_one_that_arrives_late_keeps_that_the_draft_is_being_deleted", _IN_MESSAGES,
        ("a hand-over that arrives late forgets that the draft is being deleted",
         "thread_id = ELT(FIELD(id, {each}), {each}),\n",
         "thread_id = ELT(FIELD(id, {each}), {each}), discarding = 0,\n"),
    ),
    *noticed_by(
        _HAND_OVER + "test_where_one_has_opted_out_none_is_handed_over", _IN_MESSAGES,
        ("a new message is handed over though its address has opted out",
         "AND NOT EXISTS (SELECT 1 FROM suppressions FORCE INDEX (PRIMARY) WHERE digest IN %s AND list_id IN %s)",
         "AND (%s, %s) IS NOT NULL"),
    ),
    *noticed_by(
        _HAND_OVER + "test_none_is_handed_over_of_a_job_or_sender_that_a_person_has_stopped", _IN_MESSAGES,
        ("a new message of a job that was cancelled or paused is handed over",
         "id IN %s AND status IN ('paused', 'cancelled'))\n   AND", "id IN %s AND status = 'none')\n   AND"),
        ("a new message of a sender that a person has paused is handed over",
         "email IN %s AND pause_cause = 'manual' AND paused_until > UTC_TIMESTAMP(6))",
         "email IN %s AND pause_cause = 'none' AND paused_until > UTC_TIMESTAMP(6))"),
        ("an old message of a job that was stopped is handed over",
         "(j.status IN ('paused', 'cancelled')\n", "(j.status = 'none'\n"),
    ),
    *noticed_by(
        "tests/store/queue/test_recovery.py::"
        "test_a_lapsed_claim_gives_back_its_part_of_the_day_unless_google_may_have_the_message", _IN_MOVES,
        ("a claim that lapses keeps its part of the day", "hour = None if handed else", "hour = None if True else"),
        ("a claim that lapses gives back the day of what Google may have", "hour = None if handed else",
         "hour = None if False else"),
    ),
    *noticed_by(
        _HAND_OVER + "test_only_a_message_of_which_the_log_has_nothing_is_new", _IN_MESSAGES,
        ("a message of which the log has something is new", "is_new=it.id not in logged and", "is_new="),
    ),
    *noticed_by(
        _HAND_OVER + "test_a_message_that_is_not_new_or_tells_more_is_recorded_as_any_other", _IN_RECORD,
        ("a message that is not new is handed over without its log",
         "isinstance(record, Handover) and record.message.is_new and", "isinstance(record, Handover) and"),
        ("a draft that is to be deleted is handed over as a new message",
         "is_new and not record.discarding and", "is_new and"),
        ("a sender does not learn of a new message", "discarding and not updates_sender(record)\n", "discarding\n"),
    ),
    *noticed_by(
        _HAND_OVER + "test_the_others_are_handed_over_when_each_is_looked_at", "mailerd/worker/recorder.py",
        ("new messages that were not all handed over are told as such", "                if written:\n",
         "                if True:\n"),
    ),
    *noticed_by(
        _MESSAGES + "test_a_move_that_the_table_of_transitions_does_not_know_writes_nothing", _IN_MESSAGES,
        ("a move that the table does not know is written",
         "if it.transition and after(it.before.status, it.transition) != it.after.status:", "if False:"),
        ("a move goes where its transition does not lead",
         "if it.transition and after(it.before.status, it.transition) != it.after.status:",
         "if it.transition and not after(it.before.status, it.transition):"),
    ),
    *noticed_by(
        _RECORD + "test_an_outcome_ends_the_claim_and_keeps_what_google_said", _IN_MESSAGES,
        ("rows are not written",
         "    await _write_rows(cursor, [(first[id_], row) for id_, row in last.items() if row != first[id_]])\n", ""),
        ("lines are not written", "        await write_lines(cursor, lines, by=by)\n", "        pass\n"),
    ),
    *noticed_by(
        _MESSAGES + "test_of_two_moves_of_one_message_both_are_written", _IN_MESSAGES,
        ("of two moves of a message the first is lost", "first.setdefault(it.before.id, it.before)",
         "first[it.before.id] = it.before"),
    ),
    *noticed_by(
        _MESSAGES + "test_a_line_that_is_logged_stays_as_it_is", _IN_MESSAGES,
        ("a line that is logged is written over", "UPDATE recipient_id = attempts.recipient_id",
         "UPDATE message_id = VALUES(message_id)"),
    ),
    *noticed_by(
        _MESSAGES + "test_whether_a_line_is_logged_is_told_after_the_commit_that_is_under_way", _IN_MESSAGES,
        ("whether a line is logged is asked before the COMMIT that is under way", "AND daemon_id = %s FOR UPDATE",
         "AND daemon_id = %s"),
    ),
    *noticed_by(
        "tests/worker/test_lost_answers.py::test_a_lease_that_somebody_else_has_put_right_meanwhile_is_not_told_as_ours",
        _IN_MESSAGES,
        ("what another daemon has written is taken for our own", "AND daemon_id = %s FOR UPDATE",
         "AND %s IS NOT NULL FOR UPDATE"),
    ),
    *noticed_by(
        _MESSAGES + "test_a_row_is_read_after_the_change_that_is_under_way", _IN_MESSAGES,
        ("rows are read without a lock", " WHERE id IN %s ORDER BY id FOR UPDATE",
         " WHERE id IN %s ORDER BY id"),
    ),
    *noticed_by(
        _MESSAGES + "test_what_was_sent_and_came_back_is_known_to_the_log_as_sent_no_longer", _IN_MESSAGES,
        ("the log keeps the message of what came back", "await cursor.execute(_FORGET_MESSAGES, (tuple(back),))",
         "pass"),
        ("the log forgets that a message came back", "WHERE recipient_id IN %s AND event IN ('sent', 'answered')",
         "WHERE recipient_id IN %s"),
    ),
    *noticed_by(
        _MESSAGES + "test_a_job_and_its_sender_have_their_turn_when_the_first_of_its_messages_is_due", _IN_MESSAGES,
        ("a job has no turn for what waits again", "await jobs.wake_job(cursor, job, waits.get(id_))", "pass"),
        ("a job has its turn for the last of its messages", "waits[job] = min(it.wait, waits.get(job, it.wait))",
         "waits[job] = it.wait"),
        ("a sender has no turn for what waits again", "    await wake_senders(cursor, senders)\n", ""),
        ("a sender has its turn for the last of its messages",
         "senders[it.sender] = min(it.wait, senders.get(it.sender, it.wait))", "senders[it.sender] = it.wait"),
    ),
    *noticed_by(
        _MESSAGES + "test_a_place_that_comes_free_is_the_senders_now_whatever_else_waits", _IN_MESSAGES,
        ("a place that comes free waits for another message", "elif it.frees_place:",
         "elif it.frees_place and it.sender not in senders:"),
    ),
    *noticed_by(
        _RECORD + "test_the_next_message_of_the_sender_has_the_place_of_one_that_was_not_sent_at_once", _IN_MESSAGES,
        ("a place that comes free is nobody's", "elif it.frees_place:", "elif False:"),
    ),
    *noticed_by(
        _MESSAGES + "test_a_job_counts_what_has_come_back_and_was_answered_and_no_more_what_is_not_so", _IN_MESSAGES,
        ("a job does not count what came back", "await jobs.count_results(cursor, id_, results.get(id_))", "pass"),
        ("a job counts what came back for good", "((before.result, -1), (now.result, 1))", "((now.result, 1),)"),
        ("a bounce that is told anew is counted anew", "if it.after.result == Result.BOUNCED != it.before.result:",
         "if it.after.result == Result.BOUNCED:"),
        ("what comes back is not counted", "if it.after.result == Result.BOUNCED != it.before.result:", "if False:"),
    ),
    *noticed_by(
        _MESSAGES + "test_the_hour_that_was_debited_gets_back_what_was_not_sent", _IN_MESSAGES,
        ("the day gets nothing back",
         "    await refund_hours(cursor, [(it.sender, it.hour, it.copies_cost) for it in moves if it.hour])\n", ""),
    ),
    *noticed_by(
        _MESSAGES + "test_what_the_caller_changes_too_is_done_in_the_same_transaction_and_once", _IN_MESSAGES,
        ("what the caller changes too is not done", "    if also:\n", "    if False:\n"),
    ),
    *noticed_by(
        "tests/store/test_tallies.py::test_each_outcome_is_counted_in_its_own_commit_and_once", _IN_MESSAGES,
        ("nothing is counted", "if statement := count_tallies(by, counts):", "if statement := None:"),
    ),
    *noticed_by(
        "tests/store/test_event_feed.py::test_a_sent_message_that_is_taken_back_has_an_event", _IN_MESSAGES,
        ("no event is written", "if events := [event for it in moves if (event := _event(it))]:", "if events := []:"),
    ),
    *noticed_by(
        "tests/store/test_event_feed.py::test_a_message_that_fails_anew_after_a_retry_has_an_event_anew", _IN_MESSAGES,
        ("a message that fails anew has no event anew", 'f"{row.id}:{it.token}"', 'f"{row.id}:"'),
    ),
    *noticed_by(
        _MESSAGES + "test_what_comes_back_into_a_cancelled_job_has_nothing_to_wait_for", _IN_MESSAGES,
        ("what comes back into a cancelled job waits for ever", "and job.is_cancelled\n", "and False\n"),
    ),
    *noticed_by(
        "tests/store/queue/test_recovery.py::test_what_a_look_says_is_cut_to_its_column", "mailerd/core/reasons.py",
        ("a text is longer than its column", "_cut(str.__str__(text), limit)", "str.__str__(text)"),
    ),
    *noticed_by(
        _RECORD + "test_a_worker_whose_claim_has_gone_teaches_its_sender_nothing_beside_one_whose_has_not",
        _IN_RECORD,
        ("a worker whose claim has gone says how its sender sends",
         "own = [it for it, (_, _, own) in zip(some, judged, strict=True) if own]", "own = some"),
    ),
    *noticed_by(
        _RECORD + "test_two_records_of_one_claim_in_one_batch_are_taken_once", _IN_RECORD,
        ("a record does not see what another of its batch has made of the row",
         "rows[row.id], logs[row.id] = made.move.after, log.with_lines(made.move.lines)", "pass"),
    ),
    *noticed_by(
        _RECORD + "test_repeating_a_record_after_a_commit_in_doubt_changes_nothing", _IN_RECORD,
        ("an outcome that is written again is taken for a late one", "    if log.has(token, change.value):\n",
         "    if False:\n"),
    ),
)  # fmt: skip

# Whole jobs, and what holds a message.
OF_WHOLE_JOBS: Final = (
    *noticed_by(
        _MESSAGES + "test_a_bounce_that_is_retried_is_known_to_the_log_as_sent_no_longer", _IN_MESSAGES,
        ("a bounce that is retried is known to the log as sent",
         "    await cursor.execute(_FORGET_MESSAGES_OF_BOUNCED, given)\n", ""),
    ),
    *noticed_by(
        "tests/store/queue/test_given_back.py::test_a_bounce_that_is_retried_is_not_settled_by_the_answer_of_the_sending_that_bounced",
        _IN_MESSAGES,
        ("a bounce that is retried leaves no line",
         'await cursor.execute(_LOG_RETRIED.format(columns=_WHY_BOUNCED) + _BOUNCED + " FOR UPDATE", '
         "(token, token, *given))",
         "pass"),
    ),
    *noticed_by(
        "tests/store/test_pruned.py::test_a_message_that_had_failed_by_then_is_not_tried_anew", _IN_MESSAGES,
        ("a message that was given up and that Google has is tried anew", "attempts > 0 AND message_id IS NULL AND",
         "attempts > 0 AND"),
    ),
    *noticed_by(
        "tests/store/queue/test_recovery.py::test_a_former_claim_is_not_held_because_a_later_one_of_the_same_row_is",
        _IN_MESSAGES,
        ("a lease is renewed for who has lost it",
         " WHERE id IN %s AND (id, claim_token) IN %s AND status = 'sending'\"\"\"\n_READ_HELD",
         " WHERE id IN %s AND (id, claim_token) IN %s OR status = 'sending'\"\"\"\n_READ_HELD"),
    ),
)  # fmt: skip

# What a transition costs: an attempt, and a place of the day.
OF_REFUNDS: Final = (
    *noticed_by(
        _MOVES + "test_an_outcome_costs_an_attempt_and_a_place_of_the_day_only_where_it_was_tried_or_sent",
        _IN_STATES,
        ("what is released costs an attempt", "frozenset({Transition.RELEASED, Transition.SUPPRESSED})",
         "frozenset({Transition.SUPPRESSED})"),
        ("what is deferred costs a place of the day",
         "UNSENT: Final = REFUNDED | {Transition.DEFERRED, Transition.FAILED}",
         "UNSENT: Final = REFUNDED | {Transition.FAILED}"),
        ("what failed costs a place of the day",
         "UNSENT: Final = REFUNDED | {Transition.DEFERRED, Transition.FAILED}",
         "UNSENT: Final = REFUNDED | {Transition.DEFERRED}"),
        ("what was lost costs nothing of the day",
         "UNSENT: Final = REFUNDED | {Transition.DEFERRED, Transition.FAILED}",
         "UNSENT: Final = REFUNDED | {Transition.DEFERRED, Transition.FAILED, Transition.LOST}"),
    ),
)  # fmt: skip

# Who may make a move, and of which row.
OF_FENCES: Final = (
    *noticed_by(
        _MOVES + "test_a_draft_disproves_only_what_its_absence_alone_had_proved", _IN_MOVES,
        ("a forgotten person is a person", 'return self.to_email == f"forgotten-{self.id}@example.invalid"',
         "return False"),
        ("a draft takes back what is not sent",
         "row.status != State.SENT\n        or row.proof != Proof.GONE\n",
         "row.proof != Proof.GONE\n"),
        ("a draft takes back the message of a forgotten person",
         "or row.draft_id != draft\n        or row.is_forgotten\n",
         "or row.draft_id != draft\n"),
    ),
    *noticed_by(
        _MOVES + "test_who_does_not_hold_the_row_changes_nothing", _IN_MOVES,
        ("a hand-over is written whoever holds the row",
         "not row.is_held(message)\n        or row.message_id is not None", "row.message_id is not None"),
        ("who has lost a row calls it sent", "if answer is None or not row.is_held(message):", "if answer is None:"),
        ("who has lost a row puts it in doubt", "if (doubt := log.unresolved) is None or not row.is_held(message):",
         "if (doubt := log.unresolved) is None:"),
        ("an outcome is written whoever holds the row",
         "    if not row.is_held(message):\n        return None\n    lost, waits", "    lost, waits"),
    ),
    *noticed_by(
        _MOVES + "test_a_hand_over_says_what_is_asked_of_google_and_since_when", _IN_MOVES,
        ("the search of the sent mail begins at the last hand-over", "handed_over_at=row.handed_over_at or (now",
         "handed_over_at=(now"),
        ("a message whose draft is only deleted was handed over",
         "if message.unanswered or not it.discarding else None", "if True else None"),
        ("a hand-over does not say that a send had no answer",
         "unanswered=int(message.unanswered),\n        discarding=int(it.discarding), crashes=0",
         "discarding=int(it.discarding), crashes=0"),
    ),
    *noticed_by(
        _MOVES + "test_a_claimed_message_that_google_has_is_sent_by_what_is_known_of_it", _IN_MOVES,
        ("what only the row knows to be sent is not found",
         "answer = log.answer or ((row.draft_id, row.message_id) if row.message_id is not None else None)",
         "answer = log.answer"),
    ),
    *noticed_by(
        _MOVES + "test_a_claimed_message_of_which_the_log_knows_a_doubt_is_looked_for_by_that_draft", _IN_MOVES,
        ("a former doubt is looked for by a draft that was refused since",
         "discarding=int(log.was_refused(draft)), error=error", "discarding=0, error=error"),
    ),
    *noticed_by(
        _MOVES + "test_an_outcome_costs_an_attempt_and_a_place_of_the_day_only_where_it_was_tried_or_sent", _IN_MOVES,
        ("the same doubt costs an attempt", "if change in REFUNDED or decision.same_doubt else it.attempt",
         "if change in REFUNDED else it.attempt"),
        ("what was lost gives back a place of the day", "hour=message.hour if change in UNSENT else None,",
         "hour=message.hour,"),
        ("what waits again frees a place", "frees_place=ends, reason", "frees_place=True, reason"),
    ),
    *noticed_by(
        _MOVES + "test_a_lost_message_may_have_been_sent_unless_google_has_refused_each_send", _IN_MOVES,
        ("what was lost is not looked for in time", "lease_until=now + decision.wait if lost else None,",
         "lease_until=None,"),
        ("what Google has refused may have been sent", "return it.message.unanswered or not it.decision.refused",
         "return True"),
        ("a draft whose earlier send had no answer cannot have been sent",
         "return it.message.unanswered or not it.decision.refused", "return not it.decision.refused"),
    ),
    *noticed_by(
        _MOVES + "test_a_draft_that_is_deleted_is_forgotten_and_one_that_stays_is_kept", _IN_MOVES,
        ("a failed message keeps its draft", "draft_id=None if ends or gone else draft,",
         "draft_id=None if gone else draft,"),
        ("a message keeps the draft that was deleted", "draft_id=None if ends or gone else draft,",
         "draft_id=None if ends else draft,"),
        ("a deleted draft may have been sent", "unanswered=0 if ends or gone else int(lost",
         "unanswered=0 if ends else int(lost"),
    ),
    *noticed_by(
        _MOVES + "test_a_message_that_waits_again_without_a_draft_was_never_handed_over", _IN_MOVES,
        ("a message that waits without a draft was sent directly",
         "mode=None if waits and (draft is None or gone) else mode,", "mode=None if waits and gone else mode,"),
    ),
    *noticed_by(
        _MOVES + "test_the_checks_go_on_where_the_doubt_is_the_same", _IN_MOVES,
        ("a draft that Google did not say to have deleted is there",
         "discarding=int(decision.discarding), checks=message.checks", "discarding=0, checks=message.checks"),
        ("the checks of the same doubt begin anew", "checks=message.checks if decision.same_doubt else 0,",
         "checks=0,"),
    ),
    *noticed_by(
        _MOVES + "test_googles_answer_is_the_proof_and_a_message_that_is_known_stays_where_an_outcome_names_none",
        _IN_MOVES,
        ("what was sent has no proof", "proof=Proof.ANSWERED if change is Transition.SENT else None,", "proof=None,"),
        ("what was lost was sent at a time", "sent_at=now if change is Transition.SENT else None,", "sent_at=now,"),
        ("the known message is forgotten by a doubt",
         "message_id=row.message_id if decision.message_id is None else decision.message_id,",
         "message_id=decision.message_id,"),
    ),
    *noticed_by(
        _MOVES + "test_whatever_is_asked_of_any_row_leaves_it_as_every_row_is", _IN_MOVES,
        ("an outcome keeps its claim", "return row._replace(claim_token=None, lease_until=None, updated_at=now)",
         "return row._replace(lease_until=None, updated_at=now)"),
        ("what has ended keeps its lease", "return row._replace(claim_token=None, lease_until=None, updated_at=now)",
         "return row._replace(claim_token=None, updated_at=now)"),
    ),
    *noticed_by(
        _MOVES + "test_an_answer_about_what_came_back_settles_nothing_and_its_message_is_not_kept", _IN_MOVES,
        ("an answer about what came back settles the next sending", "if log.answer_came_back(it):", "if False:"),
    ),
    *noticed_by(
        _MOVES + "test_a_late_answer_leaves_the_message_where_another_claim_or_an_end_has_the_row", _IN_MOVES,
        ("a late answer takes a row from another claim", "if row.status in {State.WAITING, State.UNSURE}:",
         "if row.status in {State.WAITING, State.UNSURE, State.SENDING}:"),
        ("a failed message has a proof that it is sent",
         "proof = Proof.ANSWERED.value if row.status == State.SENT else row.proof", "proof = Proof.ANSWERED.value"),
    ),
    *noticed_by(
        _MOVES + "test_a_late_answer_is_a_better_proof_and_overwrites_none", _IN_MOVES,
        ("a late answer overwrites the message that is known", "    if row.message_id is None:\n        proof =",
         "    if True:\n        proof ="),
        ("a late answer is no better proof",
         "proof = Proof.ANSWERED.value if row.status == State.SENT else row.proof", "proof = row.proof"),
    ),
    *noticed_by(
        _MOVES + "test_a_late_doubt_is_no_matter_of_a_row_that_knows_better", _IN_MOVES,
        ("a late doubt is told of a row that has its message",
         "or row.message_id is not None\n        or log.answer is not None\n    ):\n        return None\n    match",
         "or log.answer is not None\n    ):\n        return None\n    match"),
        ("a late doubt is told of a message that the log knows to be sent",
         "or row.message_id is not None\n        or log.answer is not None\n    ):\n        return None\n    match",
         "or row.message_id is not None\n    ):\n        return None\n    match"),
        ("a late doubt takes a message that waits with another draft",
         "takes = row.draft_id is None or row.draft_id == draft", "takes = True"),
        ("a late doubt takes a row that is being sent directly",
         "takes = not other or (row.mode is None and row.draft_id is None)",
         "takes = not other or row.draft_id is None"),
        ("a late doubt takes a row that is being sent by a draft",
         "takes = not other or (row.mode is None and row.draft_id is None)", "takes = not other or row.mode is None"),
        ("a late doubt takes what has ended", "        case _:\n            takes = False",
         "        case _:\n            takes = True"),
    ),
    *noticed_by(
        _MOVES + "test_a_late_doubt_gives_the_row_all_that_a_check_needs", _IN_MOVES,
        ("a late doubt leaves a message that waits with its draft",
         "takes = row.draft_id is None or row.draft_id == draft", "takes = row.draft_id is None"),
        ("a late doubt leaves a row that is claimed again",
         "takes = not other or (row.mode is None and row.draft_id is None)", "takes = not other"),
        ("the claim from which a doubt takes its row has not ended", "    if other and row.claim_token:",
         "    if False:"),
    ),
    *noticed_by(
        _MOVES + "test_a_late_doubt_whose_draft_may_be_deleted_is_not_settled_by_its_being_gone", _IN_MOVES,
        ("a late doubt whose draft was refused is settled by its being gone",
         "discarding=int(log.was_refused(draft) or decision.discarding)", "discarding=int(decision.discarding)"),
        ("a late doubt whose draft may be deleted is settled by its being gone",
         "discarding=int(log.was_refused(draft) or decision.discarding)", "discarding=int(log.was_refused(draft))"),
    ),
    *noticed_by(
        _MOVES + "test_what_comes_too_late_is_a_line_and_no_more", _IN_MOVES,
        ("a late doubt without an answer is a late answer",
         'event = "unanswered" if decision.transition is Transition.LOST else "late"', 'event = "late"'),
    ),
    *noticed_by(
        _MOVES + "test_a_claim_gets_no_row_back_that_is_not_its_own_or_that_google_has", _IN_MOVES,
        ("a claim gets a row back that has its message",
         "known = row.message_id is not None or log.answer is not None", "known = log.answer is not None"),
        ("a claim gets a row back that the log knows to be sent",
         "known = row.message_id is not None or log.answer is not None", "known = row.message_id is not None"),
        ("a claim gets a row back from another claim", "not (row.status == State.WAITING or row.is_held(message))",
         "row.status not in {State.WAITING, State.SENDING}"),
        ("a claim gets a row back that has ended",
         "if known or not (row.status == State.WAITING or row.is_held(message)):",
         "if known:"),
    ),
    *noticed_by(
        _MOVES + "test_that_a_deleted_draft_is_gone_proves_nothing", _IN_MOVES,
        ("a draft is forgotten of a message that is being sent",
         "    if row.status != State.WAITING:\n        return Move", "    if False:\n        return Move"),
    ),
    *noticed_by(
        _MOVES + "test_a_deleted_draft_is_forgotten_where_the_message_waits_with_it_and_nowhere_else", _IN_MOVES,
        ("a draft is forgotten of a message that was sent",
         "or row.status not in {State.WAITING, State.SENDING, State.UNSURE}:", "or False:"),
        ("another draft than the deleted one is forgotten",
         "if row.draft_id != draft or row.status not in", "if row.status not in"),
    ),
    *noticed_by(
        _MOVES + "test_a_lease_that_has_not_run_out_is_left_alone", _IN_MOVES,
        ("what is not being sent lapses", "if row.status != State.SENDING or row.lease_until is None or",
         "if row.lease_until is None or"),
        ("a lease lapses that runs", " or row.lease_until >= now:", ":"),
        ("a lease lapses at its end", " or row.lease_until >= now:", " or row.lease_until > now:"),
    ),
    *noticed_by(
        _MOVES + "test_a_message_that_may_be_at_google_is_looked_for_once_nothing_is_in_flight", _IN_MOVES,
        ("what was handed over by a draft is sent anew",
         'handed = row.draft_id is not None or row.mode == "direct" or', 'handed = row.mode == "direct" or'),
        ("what was handed over directly is sent anew",
         'handed = row.draft_id is not None or row.mode == "direct" or', "handed = row.draft_id is not None or"),
        ("what Google has answered is sent anew", 'row.mode == "direct" or row.message_id is not None',
         'row.mode == "direct"'),
        ("a message is blamed that was handed over", "crash = crashed and row.daemon_id != by and not handed",
         "crash = crashed and row.daemon_id != by"),
        ("a direct send that lapsed is looked for by a draft",
         'mode="direct" if lost and row.draft_id is None else row.mode,', "mode=row.mode,"),
    ),
    *noticed_by(
        _MOVES + "test_only_another_daemons_crash_is_held_against_a_message", _IN_MOVES,
        ("a message is blamed where its daemon lives", "crash = crashed and row.daemon_id != by and not handed",
         "crash = row.daemon_id != by and not handed"),
        ("a message is blamed for a lease of our own", "crash = crashed and row.daemon_id != by and not handed",
         "crash = crashed and not handed"),
    ),
    *noticed_by(
        _MOVES + "test_a_message_fails_at_the_last_of_its_crashes", _IN_MOVES,
        ("a message fails one crash early", "elif crash and crashes >= ALONE_AFTER + FAILED_AFTER_ALONE:",
         "elif crash and crashes >= ALONE_AFTER + FAILED_AFTER_ALONE - 1:"),
        ("a message fails without a crash", "elif crash and crashes >= ALONE_AFTER + FAILED_AFTER_ALONE:",
         "elif crashes + 1 >= ALONE_AFTER + FAILED_AFTER_ALONE:"),
        ("crashes are more than their column holds", "crashes=min(crashes, 255),", "crashes=crashes,"),
    ),
    *noticed_by(
        _MOVES + "test_a_message_that_never_reached_google_waits_again_and_pays_nothing", _IN_MOVES,
        ("a row that a person wrote into holds up all others", "attempts=max(row.attempts - 1, 0) if released",
         "attempts=row.attempts - 1 if released"),
    ),
    *noticed_by(
        _MOVES + "test_a_check_counts_only_under_its_own_token_and_where_there_is_a_doubt", _IN_MOVES,
        ("a check settles what is no doubt", "if row.status != State.UNSURE or row.claim_token != message.token:",
         "if row.claim_token != message.token:"),
        ("a check settles under another's token",
         "if row.status != State.UNSURE or row.claim_token != message.token:", "if row.status != State.UNSURE:"),
    ),
    *noticed_by(
        _MOVES + "test_a_check_without_a_result_leaves_the_doubt_and_remembers_when_it_first_found_nothing",
        _IN_MOVES,
        ("the sent mail had nothing from the last check on",
         "found = row.nothing_found_at or (now if it.nothing_found else None)",
         "found = now if it.nothing_found else None"),
        ("a check that failed has found nothing",
         "found = row.nothing_found_at or (now if it.nothing_found else None)", "found = row.nothing_found_at or now"),
        ("a check without a result keeps its token",
         "            claim_token=None, checks=checks, error=it.error, lease_until=until,",
         "            checks=checks, error=it.error, lease_until=until,"),
    ),
    *noticed_by(
        _MOVES + "test_a_message_that_is_missing_waits_and_says_why_it_was_in_doubt", _IN_MOVES,
        ("a missing message keeps a draft that is gone",
         "draft_id=None if gone else row.draft_id, thread_id=None if gone else it.thread_id",
         "draft_id=row.draft_id, thread_id=None if gone else it.thread_id"),
        ("a missing message keeps its draft and forgets that it has one",
         "mode=None if missing and (row.draft_id is None or gone) else row.mode,",
         "mode=None if missing else row.mode,"),
        ("a missing message was sent directly",
         "mode=None if missing and (row.draft_id is None or gone) else row.mode,", "mode=None if gone else row.mode,"),
        ("a missing message does not say why it was in doubt", "error=log.last_doubt if missing else it.error",
         "error=it.error"),
        ("what was missing was sent at a time", "sent_at=None if missing else now, due_at=now,",
         "sent_at=now, due_at=now,"),
    ),
    *noticed_by(
        _MOVES + "test_a_message_that_is_found_is_sent_by_its_proof_and_keeps_what_was_known", _IN_MOVES,
        ("the known message is forgotten by a check",
         "message_id=row.message_id if it.message_id is None else it.message_id, proof=it.proof,",
         "message_id=it.message_id, proof=it.proof,"),
    ),
    *noticed_by(
        _MOVES + "test_a_person_settles_nothing_but_a_doubt", _IN_MOVES,
        ("a person settles what is no doubt", "    if row.status != State.UNSURE:\n        return None\n    sent =",
         "    sent ="),
    ),
    *noticed_by(
        _MOVES + "test_what_a_person_calls_sent_is_sent_by_that_proof_and_what_not_goes_out_anew", _IN_MOVES,
        ("what a person calls sent has no proof", "proof=Proof.PERSON.value if sent else None,", "proof=None,"),
        ("what a person calls unsent keeps its result", "thread_id=None, unanswered=0, **NO_RESULT)",
         "thread_id=None, unanswered=0)"),
    ),
    *noticed_by(
        _MOVES + "test_after_a_restore_a_draft_that_is_gone_proves_nothing", _IN_MOVES,
        ("after a restore a draft that is gone proves a send", "unanswered=1, discarding=1, error=error,",
         "unanswered=1, discarding=0, error=error,"),
        ("after a restore the search begins at a hand-over that is known",
         "checks=0, handed_over_at=None, nothing_found_at=None,", "checks=0, nothing_found_at=None,"),
    ),
    *noticed_by(
        _MOVES + "test_what_is_disproved_waits_with_that_draft_and_has_its_attempt_back", _IN_MOVES,
        ("what is taken back keeps its proof", "status=State.WAITING, proof=None, sent_at=None, checks=0, attempts",
         "status=State.WAITING, sent_at=None, checks=0, attempts"),
    ),
    *noticed_by(
        _MOVES + "test_a_limit_notice_gives_back_its_own_message_once_and_no_other", _IN_MOVES,
        ("a limit notice of no message gives one back",
         "message is None or row.status not in {State.SENT, State.WAITING}",
         "row.status not in {State.SENT, State.WAITING}"),
        ("a limit notice gives back what is in doubt or has failed",
         "message is None or row.status not in {State.SENT, State.WAITING} or row.thread_id",
         "message is None or row.thread_id"),
        ("a limit notice of another thread gives a message back", " or row.thread_id != it.thread_id\n", "\n"),
        ("a limit notice gives back the message of a forgotten person", "or row.given_back or row.is_forgotten or",
         "or row.given_back or"),
        ("a limit notice of another one gives a message back",
         " or message.message_id not in {None, row.message_id}\n", "\n"),
    ),
    *noticed_by(
        _MOVES + "test_a_message_that_was_given_back_waits_as_if_it_had_never_been_handed_over", _IN_MOVES,
        ("what is given back keeps what Google knew of it", "        updated_at=now, **NEVER_HANDED_OVER,\n",
         "        updated_at=now,\n"),
        ("what is given back is known to the log as sent", "forgets_messages=True, reason=error",
         "reason=error"),
    ),
    *noticed_by(
        _MOVES + "test_the_draft_that_was_sent_stays_on_a_row_that_has_forgotten_its_hand_over", _IN_MOVES,
        ("what was sent forgets the draft that was sent", "if lost or change is Transition.SENT:", "if lost:"),
        ("the draft of a claim is taken for that of its row", "draft = draft or message.draft_id",
         "draft = message.draft_id"),
    ),
    *noticed_by(
        _MOVES + "test_what_came_back_of_a_message_is_no_result_of_its_next_sending", _IN_MOVES,
        ("what waits again keeps its result", "**NO_RESULT if waits else {},", "**{},"),
        ("what has lapsed keeps its result", "**NO_RESULT if released else {},", "**{},"),
        ("what is missing keeps its result", "**NO_RESULT if missing else {},", "**{},"),
        ("what is taken back keeps its result", "updated_at=now, **NO_RESULT,", "updated_at=now,"),
        ("what is given back keeps its result", '"came_back": 1, **NO_RESULT,', '"came_back": 1,'),
    ),
    *noticed_by(
        _MOVES + "test_what_is_lost_or_sent_keeps_its_result", _IN_MOVES,
        ("what bounced before its outcome was recorded has no result", "**NO_RESULT if waits else {},", "**NO_RESULT,"),
        ("what bounced before it lapsed has no result", "**NO_RESULT if released else {},", "**NO_RESULT,"),
        ("what bounced before it was found has no result", "**NO_RESULT if missing else {},", "**NO_RESULT,"),
    ),
    *noticed_by(
        _MOVES + "test_only_what_was_sent_or_may_be_has_a_result", _IN_MOVES,
        ("what waits has a result", "if row.status not in {State.SENT, State.SENDING, State.UNSURE}:",
         "if row.status not in {State.SENT, State.SENDING, State.UNSURE, State.WAITING}:"),
        ("what bounces before its outcome is recorded has no result",
         "if row.status not in {State.SENT, State.SENDING, State.UNSURE}:", "if row.status != State.SENT:"),
    ),
)  # fmt: skip

# What the log of attempts says.
OF_THE_LOG: Final = (
    *noticed_by(
        _LOG + "test_a_claim_ended_in_doubt_by_its_own_lines", _IN_MOVES,
        ("another claim's line is this one's",
         "return any(it.claim_token == token and it.event in events for it in self.lines)",
         "return any(it.event in events for it in self.lines)"),
        ("any line of a claim ends it in doubt",
         "return any(it.claim_token == token and it.event in events for it in self.lines)",
         "return any(it.claim_token == token for it in self.lines)"),
        ("a claim that lapsed has not ended", '_ENDS: Final = ("lost", "unanswered", "lapsed")',
         '_ENDS: Final = ("lost", "unanswered")'),
    ),
    *noticed_by(
        _LOG + "test_lines_that_are_written_in_the_same_transaction_stand_behind_all_others", _IN_MOVES,
        ("what is being written stands before what is there", "_BEING_WRITTEN: Final = 1 << 63",
         "_BEING_WRITTEN: Final = 0"),
    ),
    *noticed_by(
        _LOG + "test_the_answer_is_the_first_message_that_google_has_accepted_whatever_a_check_found", _IN_MOVES,
        ("a draft that a check found gone is Google's answer", '_ANSWERS: Final = frozenset({"sent", "answered"})',
         '_ANSWERS: Final = frozenset({"sent", "answered", "found"})'),
        ("what came back is Google's answer", "if it.event in _ANSWERS and it.message_id)",
         "if it.event in _ANSWERS)"),
    ),
    *noticed_by(
        _MOVES + "test_what_google_has_or_may_have_is_not_handed_over", _IN_MOVES,
        ("a late answer is none", '_ANSWERS: Final = frozenset({"sent", "answered"})',
         '_ANSWERS: Final = frozenset({"sent"})'),
    ),
    *noticed_by(
        _LOG + "test_what_came_back_is_what_was_retried_or_given_back_not_a_draft_that_was_found_again", _IN_MOVES,
        ("what came back as a bounce did not come back",
         'it.event == "retried" or (it.event == "undone" and code_of(it.error) == "given_back")',
         'it.event == "undone" and code_of(it.error) == "given_back"'),
        ("what was given back did not come back",
         'it.event == "retried" or (it.event == "undone" and code_of(it.error) == "given_back")',
         'it.event == "retried"'),
        ("a message that a limit notice gave back proves the next sending",
         'if it.event in {"undone", "retried"} and it.message_id}', 'if it.event == "retried" and it.message_id}'),
    ),
    *noticed_by(
        _LOG + "test_the_last_doubt_is_the_last_one_that_had_no_answer", _IN_MOVES,
        ("the first doubt is the last", "for it in reversed(self.lines) if it.event in _NO_ANSWERS), None)",
         "for it in self.lines if it.event in _NO_ANSWERS), None)"),
    ),
    *noticed_by(
        _LOG + "test_a_send_without_an_answer_is_unresolved_until_somebody_has_looked", _IN_MOVES,
        ("a late doubt is none", '_NO_ANSWERS: Final = frozenset({"lost", "unanswered"})',
         '_NO_ANSWERS: Final = frozenset({"lost"})'),
        ("a doubt is resolved by a look before it", "for line in reversed(self.lines):", "for line in self.lines:"),
        ("a message that was found is in doubt", 'if line.event in {"missing", "found"}:',
         'if line.event == "missing":'),
    ),
    *noticed_by(
        _LOG + "test_an_answer_is_about_what_came_back_by_its_message_or_its_draft", _IN_MOVES,
        ("an answer did not come back by its message", "(b.message_id is not None and b.message_id == id_) or ",
         ""),
        ("an answer without a message is about whatever came back",
         "(b.message_id is not None and b.message_id == id_)", "b.message_id == id_"),
        ("an answer without a draft is about whatever came back", "(b.draft_id is not None and b.draft_id == draft)",
         "b.draft_id == draft"),
    ),
    *noticed_by(
        _LOG + "test_a_send_came_back_by_its_draft_or_directly_by_a_claim_that_had_ended_before", _IN_MOVES,
        ("a direct doubt is of what came back whenever its claim ended", " and ended is not None and ended < b.id))",
         "))"),
        ("a direct doubt is of a claim that goes on", "and ended is not None and ended < b.id",
         "and (ended is None or ended < b.id)"),
        ("a direct doubt is of a sending whose message was never known",
         "(b.message_id is not None and ended is not None", "(ended is not None"),
        ("the claim of a direct doubt is any that ended",
         "if it.claim_token == token and it.event in _ENDS), default=None)", "if it.event in _ENDS), default=None)"),
        ("a claim ends with any line", "if it.claim_token == token and it.event in _ENDS), default=None)",
         "if it.claim_token == token), default=None)"),
        ("a claim ends with its last line", "ended = min((it.id", "ended = max((it.id"),
    ),
    *noticed_by(
        _LOG + "test_a_draft_was_refused_where_the_log_says_so_of_that_draft", _IN_MOVES,
        ("a message without a draft was refused by any other", "return draft is not None and any(", "return any("),
        ("a draft was refused where another was",
         "any(it.draft_id == draft and it.event in _REFUSALS for it in self.lines)",
         "any(it.event in _REFUSALS for it in self.lines)"),
        ("a draft was refused whatever became of it",
         "any(it.draft_id == draft and it.event in _REFUSALS for it in self.lines)",
         "any(it.draft_id == draft for it in self.lines)"),
        ("a late refusal is none", '_REFUSALS: Final = frozenset({"deferred", "released", "failed", "late"})',
         '_REFUSALS: Final = frozenset({"deferred", "released", "failed"})'),
    ),
)  # fmt: skip

# What follows from a transition: each field of each another.
OF_CONSEQUENCES: Final = tuple(
    Mutation(
        f"what is {change} has another {field}",
        _IN_STATES,
        "\n\nREFUNDED: Final =",
        f"\n\nFOLLOWS = {{**FOLLOWS, Transition.{change.name}: Consequences({', '.join(fields)})}}\nREFUNDED: Final =",
        _STATES + test,
    )
    for change, it in FOLLOWS.items()
    for field, fields, test in _flipped(it)
)
