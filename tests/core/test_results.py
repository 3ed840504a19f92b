"""What follows from a message: the table, and what holds for every message."""

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.core.notices import Classification, Kind
from mailerd.core.results import Consequence, Evidence, Result, Step, consequence, prevails

ADA = "ada@example.org"
GOOGLES = Evidence(from_google=True, forged=False, in_thread=True, has_key=False, is_about=True, body_read=True)
HEADERS_ONLY = Evidence(from_google=True, forged=False, in_thread=True, has_key=False, is_about=True, body_read=False)
FOREIGN = Evidence(from_google=False, forged=False, in_thread=False, has_key=True, is_about=True, body_read=True)
NOBODYS = Evidence(from_google=False, forged=False, in_thread=True, has_key=False, is_about=True, body_read=True)
OWNERS = replace(GOOGLES, is_about=False)
DISOWNED = Evidence(from_google=False, forged=True, in_thread=True, has_key=True, is_about=True, body_read=True)
NOTHING = Consequence(None, believed=False)


@pytest.mark.parametrize(
    "kind,evidence,follows",
    [
        (Kind.HARD, GOOGLES, Consequence(Result.BOUNCED, Step.SUPPRESS)),
        (Kind.HARD, FOREIGN, Consequence(Result.BOUNCED, Step.SUPPRESS)),
        (Kind.HARD, HEADERS_ONLY, Consequence(Result.BOUNCED)),
        (Kind.SOFT, GOOGLES, Consequence(Result.BOUNCED, Step.COUNT_SOFT)),
        (Kind.BLOCKED, GOOGLES, Consequence(Result.BOUNCED, Step.COUNT_BLOCKED)),
        (Kind.UNKNOWN, GOOGLES, Consequence(Result.BOUNCED)),
        (Kind.UNKNOWN, HEADERS_ONLY, Consequence(Result.BOUNCED, Step.COUNT_UNKNOWN)),
        (Kind.DELAYED, GOOGLES, Consequence(None)),
        (Kind.OVER_LIMIT, GOOGLES, Consequence(None, Step.UNDO)),
        (Kind.OVER_LIMIT, FOREIGN, NOTHING),
        (Kind.OVER_LIMIT, HEADERS_ONLY, NOTHING),
        (Kind.REPLY, NOBODYS, Consequence(Result.REPLIED)),
        (Kind.AUTO_REPLY, NOBODYS, Consequence(Result.AUTO_REPLIED)),
        (Kind.UNSUBSCRIBE, NOBODYS, Consequence(Result.UNSUBSCRIBED, Step.UNSUBSCRIBE)),
        (Kind.OTHER, GOOGLES, Consequence(None)),
        *[(kind, evidence, NOTHING)
          for kind in (Kind.HARD, Kind.SOFT, Kind.BLOCKED, Kind.UNKNOWN, Kind.DELAYED, Kind.OVER_LIMIT)
          for evidence in (NOBODYS, DISOWNED, OWNERS, replace(FOREIGN, is_about=False))],
        (Kind.REPLY, DISOWNED, NOTHING),
        (Kind.REPLY, FOREIGN, NOTHING),
    ],
)  # fmt: skip
def test_the_table(kind: Kind, evidence: Evidence, follows: Consequence) -> None:
    assert consequence(Classification(kind, addresses=(ADA,)), evidence, to=ADA) == follows


@pytest.mark.parametrize("kind", [Kind.HARD, Kind.OVER_LIMIT])
def test_a_notice_about_somebody_else_is_not_believed(kind: Kind) -> None:
    assert consequence(Classification(kind, addresses=("eve@example.org",)), GOOGLES, to=ADA) == NOTHING


def test_a_foreign_notice_must_name_whom_it_is_about() -> None:
    assert consequence(Classification(Kind.HARD), FOREIGN, to=ADA) == NOTHING
    assert consequence(Classification(Kind.HARD), GOOGLES, to=ADA) == Consequence(Result.BOUNCED, Step.SUPPRESS)


def test_an_answer_from_elsewhere_is_another_persons() -> None:
    it = consequence(Classification(Kind.REPLY, addresses=("boss@example.org",)), GOOGLES, to=ADA)
    assert it == Consequence(Result.OTHER_REPLIED)


EVIDENCE = st.builds(Evidence, *[st.booleans()] * 6)
MEANINGS = st.builds(
    Classification,
    st.sampled_from(Kind),
    addresses=st.sampled_from([(), (ADA,), ("x@example.org",)]),
    counts=st.booleans(),
)


@given(MEANINGS, EVIDENCE)
def test_nothing_suppresses_or_undoes_without_its_proof(meaning: Classification, evidence: Evidence) -> None:
    it = consequence(meaning, evidence, to=ADA)
    if it.step is Step.SUPPRESS:
        assert (meaning.kind, evidence.body_read) == (Kind.HARD, True)
        assert evidence.is_about
        assert evidence.from_google or (evidence.has_key and not evidence.forged)
    if it.step is Step.UNDO:
        assert it.result is None
        assert all((evidence.from_google, evidence.in_thread, evidence.is_about, evidence.body_read))
    if meaning.kind in (Kind.BLOCKED, Kind.OVER_LIMIT):
        assert it.step is not Step.SUPPRESS
    if not it.believed:
        assert (it.result, it.step) == (None, Step.NOTHING)


RESULTS = [
    (Result.BOUNCED, "hard"),
    (Result.BOUNCED, "soft"),
    (Result.BOUNCED, "blocked"),
    (Result.BOUNCED, "unknown"),
    (Result.REPLIED, ""),
    (Result.OTHER_REPLIED, ""),
    (Result.AUTO_REPLIED, ""),
    (Result.UNSUBSCRIBED, ""),
]


@given(st.lists(st.sampled_from(RESULTS), min_size=1, max_size=4))
def test_the_order_in_which_messages_are_read_does_not_matter(found: list[tuple[Result, str]]) -> None:
    ends = set()
    for order in permutations(found):
        known: tuple[Result, str] | None = None
        for it in order:
            known = it if prevails(it, known) else known
        ends.add(known)
    assert len(ends) == 1
