"""The log of attempts: what the lines of a message say together, and what they do not."""

import pytest

from mailerd.core.claims import Outcome
from mailerd.core.decisions import Decision
from mailerd.core.moves import Line
from mailerd.core.reasons import reason
from mailerd.core.states import Transition
from tests.core.test_moves import DRAFTED, GIVEN_BACK, MESSAGE, SENT, line, log


def test_the_answer_is_the_first_message_that_google_has_accepted_whatever_a_check_found() -> None:
    assert log(line("found", "d1", "m1"), line("sent", "d2"), line("answered", "d3", "m3"), line("sent", "d4", "m4")
               ).answer == ("d3", "m3")  # fmt: skip
    assert log(line("answered", "d3", "m3")).known_message == "m3"
    assert log(line("found", "d1", "m1"), line("sent", "d2")).known_message is None


def test_what_came_back_is_what_was_retried_or_given_back_not_a_draft_that_was_found_again() -> None:
    back = log(
        line("undone", "d1", "m1", error=GIVEN_BACK), line("undone", "d2", "m2", error=reason("draft_still_there")),
        line("retried", "d3", "m3"), line("sent", "d4", "m4"),
    )  # fmt: skip
    assert [it.draft_id for it in back.came_back] == ["d1", "d3"]
    assert back.messages_that_came_back == {"m1", "m2", "m3"}
    assert log(line("retried", "d3")).messages_that_came_back == set()


def test_the_last_doubt_is_the_last_one_that_had_no_answer() -> None:
    past = log(
        line("lost", error="a"), line("unanswered", error="b"), line("lapsed", error="c"), line("late", error="d")
    )
    assert past.last_doubt == "b"
    assert log(line("late", error="d")).last_doubt is None


@pytest.mark.parametrize("event", ["lost", "unanswered"])
@pytest.mark.parametrize("looked", ["missing", "found"])
def test_a_send_without_an_answer_is_unresolved_until_somebody_has_looked(event: str, looked: str) -> None:
    doubt = line(event, "d1")
    assert (it := log(line("lost", "d0"), doubt, line("late", "d1"), line("lapsed")).unresolved) is not None
    assert it.draft_id == "d1", "the last one"
    assert log(doubt, line(looked)).unresolved is None
    assert log(line(looked), doubt).unresolved is not None
    assert log(line("late", "d1"), line("sent", "d1", "m1"), line("lapsed", "d1")).unresolved is None


def test_a_doubt_of_what_came_back_is_none_and_an_earlier_one_stands() -> None:
    back = line("undone", "d1", error=GIVEN_BACK)
    assert log(back, line("unanswered", "d1")).unresolved is None
    assert log(line("lost", "d0"), back, line("unanswered", "d1")).unresolved is not None
    assert log(back, line("unanswered", "d2")).unresolved is not None


@pytest.mark.parametrize(
    "its, came",
    [(line("retried", "d2", "m1"), True), (line("retried", "d1", "m2"), True), (line("retried", "d2", "m2"), False),
     (line("retried"), False), (line("undone", "d1", "m1", error=reason("draft_still_there")), False)],
    ids=["that message", "that draft", "another", "nothing known", "found again"],
)  # fmt: skip
def test_an_answer_is_about_what_came_back_by_its_message_or_its_draft(its: Line, *, came: bool) -> None:
    assert log(its).answer_came_back(Outcome(DRAFTED, SENT)) is came
    unnamed = Outcome(MESSAGE, Decision(Transition.SENT))
    assert not log(its).answer_came_back(unnamed), "what is not known is not the same"


BACK = line("retried", None, "m1")


@pytest.mark.parametrize(
    "past, draft, came",
    [((line("retried", "d1"),), "d1", True), ((line("retried", "d2"),), "d1", False), ((BACK,), "d1", False),
     ((line("lapsed", token="T"), BACK), None, True), ((BACK, line("lapsed", token="T")), None, False),
     ((line("late", token="T"), BACK), None, False), ((line("lapsed", token="U"), BACK), None, False),
     ((line("lapsed", token="T"), line("retried")), None, False),
     ((line("lapsed", token="T"), line("retried", "d1", "m1")), None, False),
     ((line("lost", token="T"), BACK, line("lapsed", token="T")), None, True)],
    ids=["its draft", "another draft", "a direct one", "it had ended before", "it ended after", "it has not ended",
         "another had ended", "no message was known", "a draft came back", "it first ended before"],
)  # fmt: skip
def test_a_send_came_back_by_its_draft_or_directly_by_a_claim_that_had_ended_before(
    past: tuple[Line, ...], draft: str | None, *, came: bool
) -> None:
    assert log(*past).send_came_back("T", draft) is came


@pytest.mark.parametrize("event", ["deferred", "released", "failed", "late"])
def test_a_draft_was_refused_where_the_log_says_so_of_that_draft(event: str) -> None:
    assert log(line(event, "d1")).was_refused("d1")
    assert not log(line(event, "d2"), line("lost", "d1")).was_refused("d1")
    assert not log(line(event)).was_refused(None)


def test_a_claim_ended_in_doubt_by_its_own_lines() -> None:
    for event in ("lost", "unanswered", "lapsed"):
        assert log(line(event, token="T")).ended_in_doubt("T")
        assert not log(line(event, token="U")).ended_in_doubt("T")
    assert not log(line("late", token="T"), line("sent", token="T")).ended_in_doubt("T")


def test_lines_that_are_written_in_the_same_transaction_stand_behind_all_others() -> None:
    past = log(BACK).with_lines([line("lapsed", token="T")])
    assert past.has("T", "lapsed")
    assert not past.has("T", "lost")
    assert not past.send_came_back("T", None), "it ended after the other came back"
