"""A refusal concerns one message when Google takes others of its sender, and the mailbox when it takes none."""

from mailerd.worker.refusals import Refusals

ME = "me@example.com"


def test_the_first_refusal_of_a_message_says_nothing() -> None:
    it = Refusals()
    it.accepted(ME, began=0.0, now=1.0)
    assert not it.concerns(1, ME, began=0.5, now=1.1)


def test_a_message_that_is_refused_again_while_younger_ones_are_taken_is_the_one_at_fault() -> None:
    it = Refusals()
    assert not it.concerns(1, ME, began=0.0, now=1.0)
    assert not it.concerns(2, ME, began=0.0, now=1.0)
    it.accepted(ME, began=2.0, now=3.0)
    assert it.concerns(1, ME, began=60.0, now=61.0)
    assert it.concerns(2, ME, began=60.0, now=61.0)
    assert not it.concerns(1, ME, began=70.0, now=71.0), "a retry starts anew"


def test_the_only_one_to_be_refused_among_those_that_went_together_is_at_fault() -> None:
    it = Refusals()
    it.accepted(ME, began=0.0, now=1.0)
    assert not it.concerns(1, ME, began=0.0, now=1.1)
    it.accepted(ME, began=0.0, now=1.2)
    assert it.concerns(1, ME, began=61.0, now=62.0)


def test_a_mailbox_that_is_closed_while_its_messages_are_in_flight_fails_none_of_them() -> None:
    it = Refusals()
    it.accepted(ME, began=0.0, now=1.0)
    for round_ in range(5):
        began = 60.0 * round_
        assert not any(it.concerns(message, ME, began=began, now=began + 1.1) for message in range(5))


def test_a_mailbox_that_takes_nothing_fails_no_message() -> None:
    it = Refusals()
    it.accepted("other@example.com", began=0.0, now=1.0)
    assert not any(it.concerns(1, ME, began=60.0 * again, now=60.0 * again + 1) for again in range(20))
