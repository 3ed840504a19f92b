"""What holds up that `sent` needs proof, broken on purpose."""

from __future__ import annotations

from typing import Final

from tests.chaos.mutation import Mutation

_MUTANTS: Final = "tests/daemon/test_mutants.py::"
_PROOF: Final = "tests/daemon/test_proof.py::"
_UNDOING: Final = "tests/store/queue/test_undo_sent.py::"
OF_PROOF: Final = (
    Mutation(
        "an answer that comes twice is taken for the next request's",
        "mailerd/gmail/session.py",
        "                _recognise(request, data)\n",
        "                pass\n",
        "tests/gmail/test_repeated_answers.py::test_an_answer_that_comes_twice_is_not_the_next_ones",
    ),
    Mutation(
        "a send's answer about another thread is taken for its own",
        "mailerd/gmail/responses.py",
        "or (thread and reply.thread_id != thread)",
        "or False",
        "tests/gmail/test_repeated_answers.py::test_a_send_whose_answer_is_about_another_thread_is_in_doubt",
    ),
    Mutation(
        "a connection whose answer is not understood yet is given to another request",
        "mailerd/gmail/session.py",
        "                if not state.in_use:\n",
        "                if True:\n",
        "tests/gmail/test_repeated_answers.py::test_a_refusal_costs_no_other_request_its_connection",
    ),
    Mutation(
        "a connection that gave a refusal is used again",
        "mailerd/gmail/session.py",
        "if response.status >= _REFUSED_FROM:",
        "if False:",
        "tests/gmail/test_repeated_answers.py::test_a_connection_that_gave_a_refusal_is_not_used_again",
    ),
    Mutation(
        "a draft is deleted whose deletion is not recorded before",
        "mailerd/worker/delivery.py",
        "discarding=True, pause=decision.pause",
        "discarding=False, pause=decision.pause",
        _MUTANTS + "test_that_a_draft_is_to_be_deleted_is_durable_before_google_is_asked_to",
    ),
    Mutation(
        "a worker that was fenced off deletes a draft all the same",
        "mailerd/worker/delivery.py",
        "            if state.claim_lost:\n                return None\n",
        "",
        _MUTANTS + "test_a_worker_whose_claim_has_gone_deletes_no_draft",
    ),
    Mutation(
        "a worker that died while it deleted a draft is taken for one that may have sent it",
        "mailerd/store/queue/expired_claims.py",
        "IF(%s = 'unsure' AND discarding = 0, 1, unanswered)",
        "IF(%s = 'unsure', 1, unanswered)",
        "tests/store/queue/test_recovery.py::"
        "test_a_worker_that_dies_while_it_deletes_a_refused_draft_leaves_what_google_had_answered",
    ),
    Mutation(
        "a draft that was gone when it was to be deleted is taken for deleted by us",
        "mailerd/core/decisions.py",
        'return _doubt(decision, "when it was to be deleted, its draft was gone", wait=late_arrival)',
        "return replace(decision, forgets=True)",
        _PROOF + "test_a_draft_that_is_gone_when_it_is_to_be_deleted_is_a_doubt",
    ),
    Mutation(
        "a deletion is repeated over another connection",
        "mailerd/gmail/session.py",
        'if request.maybe_sent and request.method != "GET":',
        'if request.maybe_sent and request.method == "POST":',
        _PROOF + "test_no_lost_answer_to_the_deletion_of_a_draft_loses_or_doubles_a_letter",
    ),
    Mutation(
        "a draft that may have been sent is failed by its rejection",
        "mailerd/core/decisions.py",
        "        return unanswered\n",
        "        return False\n",
        _PROOF
        + "test_a_rejection_of_a_draft_that_may_have_been_sent_fails_the_letter_only_when_the_draft_can_be_deleted",
    ),
    Mutation(
        "a draft that is gone speaks for sent though Google has refused every send",
        "mailerd/core/decisions.py",
        "we have asked for the deletion ourselves\n        case _:\n            return None",
        "we have asked for the deletion ourselves\n        case _:\n            return Transition.FOUND",
        _PROOF + "test_a_draft_that_its_owner_deletes_after_a_refusal_is_not_taken_for_sent",
    ),
    Mutation(
        "sent mail that cannot be read is taken for sent mail without the letter",
        "mailerd/worker/reconcile.py",
        "if not isinstance(reply, Accepted) and not _is_not_found(reply):",
        "if False:",
        _PROOF + "test_sent_mail_that_cannot_be_read_decides_nothing",
    ),
    Mutation(
        "sent mail is looked at once, however young it is",
        "mailerd/worker/reconcile.py",
        "if letter.unanswered and rested < self.late_arrival:",
        "if False:",
        _PROOF + "test_a_letter_is_not_sent_again_before_two_looks_into_the_sent_mail_have_found_nothing",
    ),
    Mutation(
        "a draft that is shown and cannot be sent costs an attempt",
        "mailerd/core/decisions.py",
        "if decision.transition is not Transition.LOST or not decision.refused or not unanswered:",
        "if True:",
        "tests/daemon/test_given_up.py::test_a_draft_that_is_shown_and_cannot_be_sent_costs_no_attempt",
    ),
    Mutation(
        "a letter that may have been sent is given up at once",
        "mailerd/worker/delivery.py",
        "policy=self.policy)) and not letter.unanswered:",
        "policy=self.policy)):",
        "tests/daemon/test_given_up.py"
        "::test_a_letter_that_may_have_been_sent_is_not_given_up_unless_its_draft_can_be_deleted",
    ),
    Mutation(
        "a draft that may have been sent is forgotten where the sign-in has no drafts any more",
        "mailerd/worker/delivery.py",
        "            if letter.unanswered:\n                return no_drafts",
        "            if False:\n                return no_drafts",
        "tests/daemon/test_scopes_reduced.py"
        "::test_a_letter_that_waits_with_a_draft_that_may_have_been_sent_is_not_sent_directly_at_once",
    ),
    Mutation(
        "a look that failed counts as one that found nothing",
        "mailerd/worker/reconcile.py",
        "if letter.unanswered and rested < self.late_arrival:",
        "if letter.unanswered and not letter.checks:",
        _PROOF + "test_a_look_that_failed_is_not_one_of_the_two_that_found_nothing",
    ),
    Mutation(
        "two looks that found nothing may follow each other at once",
        "mailerd/worker/reconcile.py",
        "if letter.unanswered and rested < self.late_arrival:",
        "if letter.unanswered and letter.nothing_found_for is None:",
        _PROOF + "test_two_looks_that_found_nothing_lie_a_rest_apart",
    ),
    Mutation(
        "a letter that a person calls unsent keeps its draft",
        "mailerd/store/queue/manual_resolution.py",
        "draft_id = IF(%s, NULL, draft_id)",
        "draft_id = IF(%s, draft_id, draft_id)",
        "tests/store/queue/test_manual_resolution.py::test_a_letter_that_was_not_sent_goes_out_by_a_new_draft",
    ),
    Mutation(
        "whatever proof a sent letter has, a draft takes it back",
        "mailerd/store/queue/undo_sent.py",
        "status = 'sent' AND proof = 'draft gone' AND draft_id = %s",
        "status = 'sent' AND draft_id = %s",
        _UNDOING + "test_a_better_proof_stands",
    ),
    Mutation(
        "any draft disproves",
        "mailerd/store/queue/undo_sent.py",
        "AND proof = 'draft gone' AND draft_id = %s",
        "AND proof = 'draft gone' AND %s IS NOT NULL",
        _UNDOING + "test_another_draft_disproves_nothing",
    ),
    Mutation(
        "a sent letter is taken back by everybody who finds its draft",
        "mailerd/store/queue/undo_sent.py",
        "AND status = 'sent' AND proof = 'draft gone' AND draft_id = %s",
        "AND draft_id = %s",
        _UNDOING + "test_it_is_taken_back_once_however_many_find_the_draft",
    ),
    Mutation(
        "a completed job stays completed when a letter of it is taken back",
        "mailerd/store/queue/undo_sent.py",
        "if status is JobStatus.COMPLETED:",
        "if False:",
        _UNDOING + "test_it_is_claimed_again_with_that_draft_and_its_job_is_open_again",
    ),
    Mutation(
        "every refusal that seems to concern a mailbox pauses it",
        "mailerd/worker/delivery.py",
        "return refused_alone(reply) if alone else verdict",
        "return verdict",
        _PROOF + "test_a_letter_that_google_refuses_alone_fails_and_pauses_its_sender_once",
    ),
    Mutation(
        "letters that were in flight when their mailbox was closed are failed",
        "mailerd/worker/refusals.py",
        "(it.accepted > first_began and not others)",
        "it.accepted > first_began",
        "tests/worker/test_refusals.py::"
        "test_a_mailbox_that_is_closed_while_its_letters_are_in_flight_fails_none_of_them",
    ),
    Mutation(
        "what Google answered late stands in the log of attempts alone",
        "mailerd/store/queue/late_answers.py",
        "await cursor.execute(_KEEP_MESSAGE_ID, (message, thread, *row))",
        "pass",
        "tests/store/test_pruned.py::test_a_letter_that_had_failed_by_then_is_not_tried_anew",
    ),
    Mutation(
        "a hand-over looks into the log of attempts alone",
        "mailerd/store/queue/late_answers.py",
        "r.message_id IS NULL AND NOT EXISTS (",
        "NOT EXISTS (",
        "tests/store/test_pruned.py::test_a_letter_that_somebody_else_holds_by_then_is_not_handed_over",
    ),
    Mutation(
        "of a letter that was given back the message alone tells",
        "mailerd/store/queue/late_answers.py",
        "(message_id = %s OR (draft_id = %s AND (event = 'retried' OR error = %s)))",
        "(message_id = %s AND %s IS NOT NULL AND %s IS NOT NULL)",
        "tests/store/queue/test_given_back.py::test_an_answer_that_comes_after_it_says_nothing_of_the_next_sending",
    ),
    Mutation(
        "the log keeps the message that was given back",
        "mailerd/store/queue/late_answers.py",
        "await cursor.execute(_FORGET_MESSAGE_ID, (letter.id, letter.token))",
        "pass",
        "tests/store/queue/test_given_back.py::test_an_answer_that_comes_after_it_says_nothing_of_the_next_sending",
    ),
    Mutation(
        "a draft that was found again is taken for given back",
        "mailerd/store/queue/late_answers.py",
        "(draft_id = %s AND (event = 'retried' OR error = %s))",
        "(draft_id = %s AND %s IS NOT NULL)",
        "tests/store/queue/test_given_back.py::test_an_answer_still_settles_what_only_a_missing_draft_had_spoken_for",
    ),
    Mutation(
        "a limit notice undoes nothing whose message became known since it was read",
        "mailerd/store/inbox/undo_limit.py",
        "(message_id = %s OR %s IS NULL)",
        "(message_id <=> %s AND (%s IS NULL OR 1))",
        "tests/store/queue/test_given_back.py::test_it_waits_again_though_the_answer_came_while_the_notice_was_read",
    ),
    Mutation(
        "a limit notice says nothing of a letter that waits with its draft",
        "mailerd/store/inbox/undo_limit.py",
        "status IN ('sent', 'waiting')",
        "status = 'sent'",
        "tests/store/queue/test_given_back.py::"
        "test_a_letter_that_waits_with_the_draft_that_was_given_back_gets_another",
    ),
    Mutation(
        "a message that came back proves the next sending",
        "mailerd/worker/reconcile.py",
        " and message_id not in letter.returned",
        "",
        "tests/worker/test_reconcile.py::test_a_message_that_came_back_does_not_prove_that_the_letter_was_sent_again",
    ),
    Mutation(
        "the thread of a letter that was found is not kept",
        "mailerd/store/queue/recovery.py",
        "COALESCE(%s, thread_id)",
        "IF(%s IS NULL, thread_id, thread_id)",
        "tests/inbox/test_direct.py::test_an_answer_to_a_letter_that_was_found_is_known",
    ),
    Mutation(
        "a limit notice does not wait for a letter whose thread is not known",
        "mailerd/inbox/examine.py",
        "(follows.step is Step.UNDO or unknown)",
        "follows.step is Step.UNDO",
        "tests/inbox/test_direct.py::test_a_limit_notice_waits_for_a_letter_in_doubt_whose_thread_is_not_known",
    ),
    Mutation(
        "a walk's messages that wait are in no cursor",
        "mailerd/inbox/reading_round.py",
        "waiting_from=oldest.history_id or _FORGOTTEN)",
        "waiting_from=None)",
        "tests/inbox/test_rounds.py::test_what_waits_of_a_walk_is_known_to_the_next_daemon",
    ),
    Mutation(
        "a daemon with messages that wait looks for no others",
        "mailerd/inbox/reading_round.py",
        "at.waiting_from is not None and at != seen.written",
        "at.waiting_from is not None and not seen.waiting",
        "tests/inbox/test_rounds.py::test_what_another_daemon_has_left_is_known",
    ),
    Mutation(
        "a letter that changes while its notice is read is not in its thread",
        "mailerd/inbox/examine.py",
        "letter.id in {other.id for other in letters}",
        "letter in letters",
        "tests/inbox/test_reader.py::test_a_limit_notice_is_believed_though_its_letter_changes_while_it_is_read",
    ),
)
