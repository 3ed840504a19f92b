"""What holds up that whoever has opted out gets nothing more, broken on purpose."""

from __future__ import annotations

from typing import Final

from tests.chaos.mutation import Mutation

_DAEMON: Final = "tests/daemon/test_suppression.py::"
_COPIES: Final = "tests/daemon/test_copies.py::"
_SITE: Final = "tests/intake/test_unsubscribe_site.py::"
OF_OPT_OUT: Final = (
    Mutation(
        "a hand-over passes by a suppression that came after the claim",
        "mailerd/store/queue/record.py",
        "            if it.suppressed or it.barred\n",
        "            if it.barred\n",
        _DAEMON + "test_one_that_opts_out_while_its_message_is_on_its_way_gets_none",
    ),
    Mutation(
        "a send whose hand-over took long does not look again",
        "mailerd/worker/delivery.py",
        "state.suppressed, state.copy_suppressed = now.suppressed is not None, bool(now.barred)",
        "state.suppressed, state.copy_suppressed = False, False",
        _DAEMON + "test_a_send_whose_hand_over_took_long_looks_again",
    ),
    Mutation(
        "a send that waits for a token or a connection begins however late that is",
        "mailerd/gmail/session.py",
        "if request.call in _SENDS and time.monotonic() > _BEGIN_BEFORE.get():",
        "if request.call in _SENDS and time.monotonic() > _BEGIN_BEFORE.get() + 3600:",
        _DAEMON + "test_a_send_that_waits_for_a_token_looks_again",
    ),
    Mutation(
        "an unsubscribe is answered before the sends that it did not stop have begun",
        "mailerd/intake/unsubscribe_site.py",
        "await self._clock.sleep(ANSWER_DELAY)",
        "await self._clock.sleep(0)",
        _SITE + "test_an_answer_waits_until_no_send_that_was_allowed_before_can_begin",
    ),
    Mutation(
        "a suppressed message costs its sender a message of its day",
        "mailerd/core/states.py",
        "frozenset({Transition.RELEASED, Transition.SUPPRESSED})",
        "frozenset({Transition.RELEASED})",
        _DAEMON + "test_one_that_waits_is_cancelled_at_no_cost_and_its_job_ends",
    ),
    Mutation(
        "a job whose people have all opted out waits for the search for what a death has left",
        "mailerd/store/queue/take_messages.py",
        "next_at[selection.job.id] is None and not selection.messages",
        "False",
        "tests/daemon/test_suppression.py::test_a_job_whose_people_have_all_opted_out_ends_at_the_next_claim",
    ),
    Mutation(
        "a hand-over passes by the suppression of a copy that came after the claim",
        "mailerd/store/queue/record.py",
        "            if it.suppressed or it.barred\n",
        "            if it.suppressed\n",
        _COPIES + "test_a_copy_that_opts_out_while_the_message_is_on_its_way_gets_none",
    ),
    Mutation(
        "a hand-over of new messages asks for the addresses of To alone",
        "mailerd/core/claims.py",
        'return (self.digest or b"", *(it.digest for it in self.copies))',
        'return (self.digest or b"",)',
        _COPIES + "test_a_copy_that_opts_out_while_the_message_is_on_its_way_gets_none",
    ),
    Mutation(
        "a draft that was not deleted is taken for gone",
        "mailerd/worker/delivery.py",
        "state.message.draft_id is None\n"
        "            or (after := await self._discard(state, mailbox, decision)) is None",
        "(after := replace(decision, forgets=True)) is None",
        _COPIES + "test_the_draft_of_a_message_that_was_throttled_is_made_again_without_the_copy",
    ),
    Mutation(
        "a claim takes a message though its copies have no room in the day",
        "mailerd/store/queue/take_messages.py",
        "        if not selection.turn.take(cost):\n            continue\n",
        "        selection.turn.take(cost)\n",
        "tests/store/queue/test_claim_of_copies.py::test_the_day_is_debited_with_the_copies_and_the_rest_waits_for_room",
    ),
    Mutation(
        "a person who has a message can forge the bounce of another address of it",
        "mailerd/inbox/examine.py",
        "evidence = replace(evidence, has_key=False)",
        "pass",
        "tests/inbox/test_copies.py::test_who_has_the_message_cannot_forge_a_bounce_of_another_address",
    ),
)
