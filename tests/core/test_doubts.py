"""What is said of a message whose draft is gone, where only a person can tell."""

from itertools import product

from mailerd.core.decisions import draft_gone, needs_person_reason


def test_nobody_is_told_that_google_took_none_of_its_sends_where_one_had_no_answer() -> None:
    for unanswered, discarding in product((True, False), repeat=2):
        if draft_gone(unanswered=unanswered, discarding=discarding) is None:
            said = needs_person_reason(unanswered=unanswered)
            assert ("accepted no send" in said) == (not unanswered)
            assert said.endswith("confirm it manually")
