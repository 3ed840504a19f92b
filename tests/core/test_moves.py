"""Moves: what each change makes of a row, and who may make it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from inspect import isfunction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailerd.core import moves
from mailerd.core.claims import (
    ALONE_AFTER,
    FAILED_AFTER_ALONE,
    ClaimedRecipient,
    Handover,
    Outcome,
    Resolution,
    UnresolvedSend,
)
from mailerd.core.decisions import Decision
from mailerd.core.inbox_findings import Finding, SentMessage
from mailerd.core.moves import NO_LOG, AttemptLog, Line, Move, Row
from mailerd.core.notices import Classification, Kind
from mailerd.core.reasons import reason
from mailerd.core.results import Consequence, Step
from mailerd.core.states import OPEN, UNSENT, Proof, State, Transition, after

GIVEN_BACK = reason("given_back")
NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
BEFORE, LATER = NOW - timedelta(hours=1), NOW + timedelta(hours=1)
HOUR = NOW.replace(minute=0)
MINUTE = timedelta(minutes=1)
MESSAGE = ClaimedRecipient(7, "J", 3, "me@example.com", "ada@example.org", None, None, 2, "T", hour=HOUR)
DRAFTED = replace(MESSAGE, draft_id="d1", thread_id="t1")
CHECK = UnresolvedSend(
    7, "J", 3, "me@example.com", "ada@example.org", "T", 2, 4, "draft", "d1", "t1", unanswered=True, discarding=False,
    known_message_id=None, nothing_found_for=None, since=BEFORE,
)  # fmt: skip
IN_THREAD = SentMessage(7, "J", 3, "ada@example.org", "me@example.com", "sent", "t1", "m1", came_back=False)
NOTICE = Finding("n1", "t1", NOW, IN_THREAD, Classification(Kind.OVER_LIMIT), Consequence(None, Step.UNDO))
SENT = Decision(Transition.SENT, message_id="m1", thread_id="t1")
LOST = Decision(Transition.LOST, error="no answer", wait=MINUTE)
HELD: dict[str, Any] = {"claim_token": "T", "daemon_id": "D1", "lease_until": LATER}
ANOTHERS: dict[str, Any] = {**HELD, "claim_token": "U"}
IS_SENT: dict[str, Any] = {"proof": Proof.ANSWERED, "message_id": "m1", "thread_id": "t1", "sent_at": BEFORE}


def row(status: State = State.SENDING, **others: Any) -> Row:
    """A message after its second claim; one that is `sending` is held by the claim of MESSAGE."""
    return Row(
        7, "J", 3, "ada@example.org", status, **{"attempts": 2, **(HELD if status == "sending" else {}), **others}
    )


def line(event: str, draft: str | None = None, message_id: str | None = None, **others: Any) -> Line:
    return Line(7, 1, others.pop("token", "S"), event, draft, message_id, **others)


def log(*lines: Line) -> AttemptLog:
    return AttemptLog([it._replace(id=place) for place, it in enumerate(lines, 1)])


def made(move: Move | None) -> Move:
    assert move is not None
    return move


# Properties: for any row and any change of it.

WORDS = st.none() | st.sampled_from(["1", "2"])
TIMES = st.none() | st.sampled_from([BEFORE, NOW, LATER])
SMALL = st.integers(0, 6)
EVENTS = [
    "sent", "failed", "deferred", "released", "suppressed", "lost", "found", "missing", "retried", "undone", "lapsed",
    "answered", "unanswered", "late",
]  # fmt: skip


@st.composite
def any_row(draw: st.DrawFn) -> Row:
    """Any that can be: only what is in flight or being checked has a claim, only what is sent has a proof."""
    status = draw(st.sampled_from(State))
    claimed = status is State.SENDING or (status is State.UNSURE and draw(st.booleans()))
    sent = status is State.SENT
    return Row(
        7, "J", 3, draw(st.sampled_from(["ada@example.org", "forgotten-7@example.invalid"])), status,
        due_at=BEFORE, claim_token=draw(st.sampled_from("TU")) if claimed else None,
        daemon_id=draw(st.none() | st.sampled_from(["D1", "D2"])),
        lease_until=draw(st.sampled_from([BEFORE, LATER])) if claimed else draw(TIMES) if status == "unsure" else None,
        attempts=draw(SMALL), crashes=draw(SMALL), mode=draw(st.none() | st.sampled_from(["draft", "direct"])),
        draft_id=draw(WORDS), thread_id=draw(WORDS), handed_over_at=draw(TIMES), unanswered=draw(st.integers(0, 1)),
        discarding=draw(st.integers(0, 1)), checks=draw(SMALL), nothing_found_at=draw(TIMES), message_id=draw(WORDS),
        proof=draw(st.sampled_from(Proof)) if sent else None, error=draw(WORDS),
        result=draw(st.none() | st.sampled_from(["bounced", "replied"])), came_back=draw(st.integers(0, 1)),
        given_back=draw(st.integers(0, 1)), sent_at=BEFORE if sent else None,
    )  # fmt: skip


MESSAGES = st.builds(
    ClaimedRecipient, st.just(7), st.just("J"), st.just(3), st.just("me@example.com"), st.just("ada@example.org"),
    st.none(), st.none(), st.integers(1, 6), st.sampled_from("TU"), draft_id=WORDS, thread_id=WORDS,
    unanswered=st.booleans(), checks=SMALL, hour=st.just(HOUR),
)  # fmt: skip
FORGETS = st.booleans()
OUTCOMES = st.one_of(
    st.builds(Decision, st.just(Transition.SENT), message_id=st.sampled_from(["1", "2"]), thread_id=WORDS),
    st.builds(Decision, st.just(Transition.LOST), WORDS, st.just(MINUTE), refused=FORGETS, same_doubt=FORGETS),
    st.builds(Decision, st.sampled_from(sorted(UNSENT)), WORDS, st.just(MINUTE), untried=FORGETS, forgets=FORGETS),
)
RESULTS = st.one_of(
    st.tuples(st.just(Transition.FOUND), st.sampled_from(Proof), st.just(value=False)),
    st.tuples(st.just(Transition.MISSING), st.none(), st.booleans()),
    st.tuples(st.none(), st.none(), st.just(value=False)),
)
LINES = st.builds(
    Line, st.just(7), SMALL, st.sampled_from("STU"), st.sampled_from(EVENTS), WORDS, WORDS, st.just(GIVEN_BACK)
)


@dataclass(frozen=True)
class Asked:
    """A row, what its log says, and what is asked of it, by its holder or not."""

    row: Row
    log: AttemptLog
    message: ClaimedRecipient
    outcome: Decision
    result: Resolution
    notice: Finding
    flag: bool
    word: str

    @property
    def draft(self) -> str:
        return self.message.draft_id or "1"


@st.composite
def any_asked(draw: st.DrawFn) -> Asked:
    row, message, (result, proof, forgets), flag = draw(any_row()), draw(MESSAGES), draw(RESULTS), draw(st.booleans())
    if draw(st.booleans()):  # it is of this very row
        message = replace(message, token=row.claim_token or message.token, draft_id=row.draft_id)
    check = replace(CHECK, token=message.token, checks=message.checks, draft_id=message.draft_id)
    word, message_id = (
        draw(st.sampled_from([row.thread_id or "1", "2"])),
        draw(st.sampled_from([row.message_id, "1", None])),
    )
    resolution = Resolution(
        check, result, draw(WORDS), message_id if result is Transition.FOUND else None, draw(WORDS), proof, forgets,
        nothing_found=flag, retry_in=draw(st.none() | st.just(MINUTE)),
    )  # fmt: skip
    notice = replace(NOTICE, thread_id=word, message=replace(IN_THREAD, message_id=message_id))
    past = log(*draw(st.lists(LINES, max_size=4)))
    return Asked(row, past, message, draw(OUTCOMES), resolution, notice, flag, word)


WHO: dict[str, Any] = {"token": "V", "sender": "me@example.com", "now": NOW}
CLAIM: dict[str, Any] = {"daemon": "D1", "until": LATER}
LEASE: dict[str, Any] = {"daemon": "D1", "lease": MINUTE}
LAPSE: dict[str, Any] = {"sender": "me@example.com", "by": "D1", "late_arrival": MINUTE, "now": NOW}
BOUNCE: dict[str, Any] = {"result": "bounced", "kind": "hard", "code": None, "reason": None, "at": NOW}


def settle(its: Row, change: Transition, message_id: str | None = None) -> Move | None:
    return moves.settled(its, change, actor="ada", message_id=message_id, **WHO)


# Every change that there is. Of a few the caller says what they are asked of: a claim and a cancel of what waits, a
# doubt after a restore of what is open, a late answer or doubt by what it says.
CHANGES: dict[str, Callable[[Asked], Move | None]] = {
    "claimed": lambda it: moves.claimed(it.row, **CLAIM, **WHO) if it.row.status == "waiting" else None,
    "handed_over": lambda it: moves.handed_over(it.row, it.log, Handover(it.message, discarding=it.flag), now=NOW),
    "sent_before": lambda it: moves.sent_before(it.row, it.log, it.message, now=NOW),
    "in_doubt_before": lambda it: moves.in_doubt_before(it.row, it.log, it.message, now=NOW),
    "ended": lambda it: moves.ended(it.row, Outcome(it.message, it.outcome), now=NOW),
    "late_answer": lambda it: moves.late_answer(
        it.row, it.log, Outcome(it.message, replace(SENT, message_id=it.word)), now=NOW
    ),
    "late_doubt": lambda it: moves.late_doubt(
        it.row, it.log, Outcome(it.message, replace(LOST, refused=it.flag)), now=NOW
    ),
    "too_late": lambda it: moves.too_late(it.row, Outcome(it.message, it.outcome)),
    "given_back_to_claim": lambda it: moves.given_back_to_claim(
        it.row, it.log, Handover(it.message, discarding=it.flag), now=NOW, **LEASE
    ),
    "draft_forgotten": lambda it: moves.draft_forgotten(it.row, it.message, it.draft, now=NOW),
    "lapsed": lambda it: moves.lapsed(it.row, crashed=it.flag, **LAPSE),
    "checked": lambda it: moves.checked(it.row, it.log, it.result, now=NOW),
    "settled": lambda it: settle(it.row, Transition.FOUND if it.flag else Transition.MISSING, it.message.draft_id),
    "doubted": lambda it: moves.doubted(it.row, **WHO) if it.row.status in OPEN else None,
    "undone": lambda it: moves.undone(it.row, it.draft, **WHO),
    "given_back": lambda it: moves.given_back(it.row, it.notice, **WHO),
    "resulted": lambda it: moves.resulted(it.row, **BOUNCE, sender="me@example.com", now=NOW),
    "cancelled": lambda it: moves.cancelled(it.row, "ada", now=NOW) if it.row.status == "waiting" else None,
}  # fmt: skip
IN_HAND = {State.SENDING, State.UNSURE}
WITHOUT_LINE = {None, Transition.CLAIMED, Transition.HANDED_OVER, Transition.CANCELLED}


def true_of(was: Row, now: Row, move: Move) -> dict[str, bool]:
    """What is true of every move."""
    leads_to = after(was.status, move.transition) if move.transition else was.status
    learnt = was._replace(message_id=now.message_id, thread_id=now.thread_id)
    return {
        "it leads where the table of transitions says": now.status is leads_to,
        "whatever has a token has a lease": now.claim_token is None or now.lease_until is not None,
        "only what is sent or checked has a lease": now.lease_until is None or now.status in IN_HAND,
        "what is being sent has a token": now.status is not State.SENDING or now.claim_token is not None,
        "it is sent where something proves it": (now.status is State.SENT) is (now.proof is not None),
        "it is sent since a time": (now.status is State.SENT) is (now.sent_at is not None),
        "a message is forgotten only where it came back": not was.message_id or bool(
            now.message_id or move.forgets_messages
        ),
        "what has ended stays": was.status not in {State.FAILED, State.CANCELLED} or now == learnt,
        "it stays whose it is": was[:4] == now[:4],
        "it counts from nothing up": min(now.attempts, now.crashes, now.checks) >= 0,
        "its lines are of itself": {it.recipient_id for it in move.lines} <= {was.id},
        "its lines are events": {it.event for it in move.lines} <= set(EVENTS),
        "what changes its state is in the log": move.transition in WITHOUT_LINE or bool(move.token),
        "the day gets back only what was not sent": move.hour is None or move.transition in UNSENT,
        "what waits anew has no result": was.status is now.status or now.status is not State.WAITING or not now.result,
        "only what has ended frees a place": not move.frees_place or now.status not in OPEN,
    }  # fmt: skip


def test_every_change_is_tried() -> None:
    made_here = {name for name, it in vars(moves).items() if isfunction(it) and it.__module__ == moves.__name__}
    assert {name for name in made_here if not name.startswith("_")} - {"may_be_carried_out"} == set(CHANGES)


@settings(max_examples=200)
@given(any_asked())
def test_whatever_is_asked_of_any_row_leaves_it_as_every_row_is(asked: Asked) -> None:
    for name, change in CHANGES.items():
        if move := change(asked):
            broken = [what for what, holds in true_of(move.before, move.after, move).items() if not holds]
            assert broken == [], name


# A claim: who holds the row, and what is not handed over.


@pytest.mark.parametrize("held", [row(**ANOTHERS), row(State.UNSURE, **HELD)], ids=["another's", "not sending"])
def test_who_does_not_hold_the_row_changes_nothing(held: Row) -> None:
    known, doubt = log(line("sent", "d1", "m1")), log(line("lost", "d1"))
    assert moves.handed_over(held, NO_LOG, Handover(MESSAGE), now=NOW) is None
    assert moves.sent_before(held, known, MESSAGE, now=NOW) is None
    assert moves.in_doubt_before(held, doubt, MESSAGE, now=NOW) is None
    assert moves.ended(held, Outcome(MESSAGE, SENT), now=NOW) is None


@pytest.mark.parametrize(
    "its, past",
    [({"message_id": "m1"}, ()), ({}, (line("sent", "d1", "m1"),)), ({}, (line("answered", "d1", "m1"),)),
     ({}, (line("lost", "d1"),)), ({}, (line("unanswered", "d1"),))],
    ids=["the row says so", "sent", "answered", "lost", "unanswered"],
)  # fmt: skip
def test_what_google_has_or_may_have_is_not_handed_over(its: dict[str, Any], past: tuple[Line, ...]) -> None:
    assert moves.handed_over(row(**its), log(*past), Handover(DRAFTED), now=NOW) is None


def test_a_hand_over_says_what_is_asked_of_google_and_since_when() -> None:
    it = Handover(replace(DRAFTED, unanswered=True), discarding=True)
    now = made(moves.handed_over(row(crashes=2), NO_LOG, it, now=NOW)).after
    assert (now.mode, now.draft_id, now.thread_id, now.unanswered, now.discarding) == ("draft", "d1", "t1", 1, 1)
    assert (now.handed_over_at, now.crashes, now.claim_token) == (NOW, 0, "T")
    again = made(moves.handed_over(row(handed_over_at=BEFORE), NO_LOG, Handover(MESSAGE), now=NOW)).after
    assert (again.mode, again.handed_over_at) == ("direct", BEFORE), "the search begins at the first"
    deleted = made(moves.handed_over(row(), NO_LOG, Handover(DRAFTED, discarding=True), now=NOW)).after
    assert deleted.handed_over_at is None, "Google is asked to delete it, and was never asked to send it"


@pytest.mark.parametrize(
    "its, past, found",
    [({"draft_id": "d2"}, (line("sent", "d1", "m1"),), ("d1", "m1")),
     ({"draft_id": "d2"}, (line("answered", None, "m1"),), ("d2", "m1")),
     ({"draft_id": "d2", "message_id": "m2"}, (), ("d2", "m2"))],
)  # fmt: skip
def test_a_claimed_message_that_google_has_is_sent_by_what_is_known_of_it(
    its: dict[str, Any], past: tuple[Line, ...], found: tuple[str, str]
) -> None:
    move = made(moves.sent_before(row(**its), log(*past), MESSAGE, now=NOW))
    now = move.after
    assert (now.status, now.draft_id, now.message_id, now.proof) == (State.SENT, *found, Proof.ANSWERED)
    assert (move.lines[0].event, move.lines[0].message_id) == ("found", found[1])
    assert moves.sent_before(row(), NO_LOG, MESSAGE, now=NOW) is None


@pytest.mark.parametrize("refused", [False, True])
def test_a_claimed_message_of_which_the_log_knows_a_doubt_is_looked_for_by_that_draft(*, refused: bool) -> None:
    past = log(line("lost", "d1", error="cut off"), *([line("late", "d1")] if refused else []))
    move = made(moves.in_doubt_before(row(draft_id="d2", handed_over_at=BEFORE, checks=3), past, MESSAGE, now=NOW))
    now = move.after
    assert (now.status, now.mode, now.draft_id, now.unanswered, now.checks) == (State.UNSURE, "draft", "d1", 1, 0)
    assert (now.discarding, now.handed_over_at, now.lease_until) == (int(refused), None, NOW)
    assert "cut off" in (now.error or "")
    assert (move.lines[0].event, move.lines[0].draft_id, move.lines[0].claim_token) == ("lost", "d1", "T")
    assert moves.in_doubt_before(row(), NO_LOG, MESSAGE, now=NOW) is None


# An outcome.


@pytest.mark.parametrize(
    "decision, attempts, hour, frees",
    [(SENT, 2, None, False), (LOST, 2, None, False), (replace(LOST, same_doubt=True), 1, None, False),
     (Decision(Transition.DEFERRED), 2, HOUR, False), (Decision(Transition.DEFERRED, untried=True), 1, HOUR, False),
     (Decision(Transition.RELEASED), 1, HOUR, False), (Decision(Transition.FAILED), 2, HOUR, True),
     (Decision(Transition.SUPPRESSED), 1, HOUR, True)],
    ids=["sent", "lost", "the same doubt", "deferred", "untried", "released", "failed", "suppressed"],
)  # fmt: skip
def test_an_outcome_costs_an_attempt_and_a_place_of_the_day_only_where_it_was_tried_or_sent(
    decision: Decision, attempts: int, hour: datetime | None, *, frees: bool
) -> None:
    move = made(moves.ended(row(), Outcome(MESSAGE, decision), now=NOW))
    assert (move.after.attempts, move.hour, move.frees_place) == (attempts, hour, frees)


@pytest.mark.parametrize("change", sorted(UNSENT))
@pytest.mark.parametrize("forgets", [False, True])
def test_a_draft_that_is_deleted_is_forgotten_and_one_that_stays_is_kept(change: Transition, *, forgets: bool) -> None:
    """A draft that is gone would look like sent."""
    held = row(mode="draft", draft_id="d1", thread_id="t1", unanswered=1)
    now = made(moves.ended(held, Outcome(DRAFTED, Decision(change, forgets=forgets)), now=NOW)).after
    gone = forgets or change in {Transition.FAILED, Transition.SUPPRESSED}
    assert (now.draft_id, now.unanswered) == ((None, 0) if gone else ("d1", 1))
    assert (now.thread_id is None) is forgets
    if change in {Transition.DEFERRED, Transition.RELEASED}:
        assert now.mode == (None if gone else "draft")


def test_a_message_that_waits_again_without_a_draft_was_never_handed_over() -> None:
    now = made(moves.ended(row(mode="direct"), Outcome(MESSAGE, Decision(Transition.RELEASED)), now=NOW)).after
    assert now.mode is None


@pytest.mark.parametrize(
    "message, refused, may_be",
    [(MESSAGE, False, 1), (MESSAGE, True, 0), (replace(MESSAGE, unanswered=True), True, 1)],
    ids=["no answer", "refused", "an earlier one had no answer"],
)
def test_a_lost_message_may_have_been_sent_unless_google_has_refused_each_send(
    message: ClaimedRecipient, *, refused: bool, may_be: int
) -> None:
    now = made(moves.ended(row(), Outcome(message, replace(LOST, refused=refused)), now=NOW)).after
    assert (now.status, now.unanswered, now.lease_until) == (State.UNSURE, may_be, NOW + MINUTE)


@pytest.mark.parametrize("message, found", [(DRAFTED, ("draft", "d1", "t1")), (MESSAGE, ("direct", None, None))])
def test_a_lost_message_says_itself_what_to_look_for_where_the_row_has_forgotten(
    message: ClaimedRecipient, found: tuple[str, str | None, str | None]
) -> None:
    now = made(moves.ended(row(), Outcome(message, LOST), now=NOW)).after
    assert (now.mode, now.draft_id, now.thread_id) == found


@pytest.mark.parametrize("same, checks", [(False, 0), (True, 5)])
def test_the_checks_go_on_where_the_doubt_is_the_same(*, same: bool, checks: int) -> None:
    decision = replace(LOST, same_doubt=same, discarding=True)
    now = made(moves.ended(row(checks=1), Outcome(replace(DRAFTED, checks=5), decision), now=NOW)).after
    assert (now.checks, now.discarding) == (checks, 1)


def test_an_outcome_ends_the_suspicion_of_a_crash_and_says_when_the_message_is_due() -> None:
    decision = Decision(Transition.DEFERRED, error="busy", wait=MINUTE)
    move = made(moves.ended(row(crashes=4, due_at=BEFORE), Outcome(MESSAGE, decision), now=NOW))
    assert (move.after.crashes, move.after.due_at, move.wait, move.after.error) == (0, NOW + MINUTE, MINUTE, "busy")
    assert made(moves.ended(row(due_at=BEFORE), Outcome(MESSAGE, SENT), now=NOW)).after.due_at == BEFORE


def test_googles_answer_is_the_proof_and_a_message_that_is_known_stays_where_an_outcome_names_none() -> None:
    now = made(moves.ended(row(), Outcome(MESSAGE, SENT), now=NOW)).after
    assert (now.message_id, now.proof, now.sent_at) == ("m1", Proof.ANSWERED, NOW)
    now = made(moves.ended(row(message_id="m0"), Outcome(MESSAGE, LOST), now=NOW)).after
    assert (now.message_id, now.proof, now.sent_at) == ("m0", None, None)


@pytest.mark.parametrize("decision", [SENT, LOST])
def test_the_draft_that_was_sent_stays_on_a_row_that_has_forgotten_its_hand_over(decision: Decision) -> None:
    assert made(moves.ended(row(), Outcome(DRAFTED, decision), now=NOW)).after.draft_id == "d1"
    assert made(moves.ended(row(draft_id="d2"), Outcome(DRAFTED, decision), now=NOW)).after.draft_id == "d2"


# What a worker says that has lost its claim.


@pytest.mark.parametrize("status", [State.WAITING, State.UNSURE])
def test_a_late_answer_settles_what_waits_or_is_in_doubt(status: State) -> None:
    move = made(moves.late_answer(row(status, draft_id="d2"), NO_LOG, Outcome(DRAFTED, SENT), now=NOW))
    now = move.after
    assert (move.transition, now.status, now.message_id) == (Transition.FOUND, State.SENT, "m1")
    assert (now.draft_id, now.thread_id, now.proof) == ("d1", "t1", Proof.ANSWERED), "any other draft is an orphan"
    assert [it.event for it in move.lines] == ["answered"]
    replayed = moves.late_answer(row(status), NO_LOG, Outcome(DRAFTED, SENT), now=NOW, event="sent")
    assert [it.event for it in replayed.lines] == ["sent"]


@pytest.mark.parametrize("its", [row(**ANOTHERS), row(State.FAILED), row(State.CANCELLED)], ids=lambda it: it.status)
def test_a_late_answer_leaves_the_message_where_another_claim_or_an_end_has_the_row(its: Row) -> None:
    move = moves.late_answer(its, NO_LOG, Outcome(DRAFTED, SENT), now=NOW)
    assert (move.transition, move.after) == (None, its._replace(message_id="m1", thread_id="t1"))
    assert [(it.event, it.message_id) for it in move.lines] == [("answered", "m1")]


def test_a_late_answer_is_a_better_proof_and_overwrites_none() -> None:
    gone = row(State.SENT, **{**IS_SENT, "proof": Proof.GONE, "message_id": None})
    now = moves.late_answer(gone, NO_LOG, Outcome(DRAFTED, SENT), now=NOW).after
    assert (now.proof, now.message_id) == (Proof.ANSWERED, "m1")
    known = row(State.SENT, **{**IS_SENT, "message_id": "m0"})
    assert moves.late_answer(known, NO_LOG, Outcome(DRAFTED, SENT), now=NOW).after == known


@pytest.mark.parametrize("status", [State.WAITING, State.UNSURE])
def test_an_answer_about_what_came_back_settles_nothing_and_its_message_is_not_kept(status: State) -> None:
    past = log(line("undone", "d1", "m1", error=GIVEN_BACK))
    move = moves.late_answer(row(status), past, Outcome(DRAFTED, SENT), now=NOW)
    assert (move.transition, move.after) == (None, row(status))
    assert [(it.event, it.message_id) for it in move.lines] == [("answered", None)]


FREE = row(State.WAITING)


@pytest.mark.parametrize(
    "its, past",
    [(FREE, (line("undone", "d1", error=GIVEN_BACK),)), (FREE._replace(message_id="m1"), ()),
     (FREE, (line("sent", "d0", "m0"),)), (FREE._replace(draft_id="d2"), ()), (row(**ANOTHERS, mode="direct"), ()),
     (row(**ANOTHERS, draft_id="d2"), ()), (row(State.UNSURE), ()), (row(State.SENT, **IS_SENT), ()),
     (row(State.FAILED), ()), (row(State.CANCELLED), ())],
    ids=["it came back", "the row has a message", "the log has one", "another draft waits", "it is being sent directly",
         "it is being sent by a draft", "unsure", "sent", "failed", "cancelled"],
)  # fmt: skip
def test_a_late_doubt_is_no_matter_of_a_row_that_knows_better(its: Row, past: tuple[Line, ...]) -> None:
    its = its._replace(message_id=None) if its.status is State.SENT else its
    assert moves.late_doubt(its, log(*past), Outcome(DRAFTED, LOST), now=NOW) is None


@pytest.mark.parametrize(
    "its, ended",
    [(FREE, []), (FREE._replace(draft_id="d1"), []), (row(**ANOTHERS), [("lapsed", "U")]),
     (row(draft_id="d1", mode="draft"), [])],
    ids=["it waits", "it waits with that draft", "it is claimed again", "its own claim has it"],
)  # fmt: skip
def test_a_late_doubt_gives_the_row_all_that_a_check_needs(its: Row, ended: list[tuple[str, str]]) -> None:
    its = its._replace(attempts=1, handed_over_at=BEFORE, checks=3, crashes=1)
    move = made(moves.late_doubt(its, NO_LOG, Outcome(DRAFTED, LOST), now=NOW))
    now = move.after
    assert (now.status, now.mode, now.draft_id, now.thread_id) == (State.UNSURE, "draft", "d1", "t1")
    assert (now.unanswered, now.discarding, now.attempts, now.lease_until) == (1, 0, 2, NOW + MINUTE)
    assert (now.claim_token, now.handed_over_at, now.checks, now.crashes) == (None, None, 0, 0)
    assert [(it.event, it.claim_token) for it in move.lines] == [("lost", "T"), *ended]


@pytest.mark.parametrize("past, decision", [((line("late", "d1"),), LOST), ((), replace(LOST, discarding=True))])
def test_a_late_doubt_whose_draft_may_be_deleted_is_not_settled_by_its_being_gone(
    past: tuple[Line, ...], decision: Decision
) -> None:
    assert made(moves.late_doubt(FREE, log(*past), Outcome(DRAFTED, decision), now=NOW)).after.discarding == 1


@pytest.mark.parametrize(
    "decision, event", [(LOST, "unanswered"), (Decision(Transition.FAILED, error="no"), "late"), (SENT, "late")]
)
def test_what_comes_too_late_is_a_line_and_no_more(decision: Decision, event: str) -> None:
    its = row(**ANOTHERS)
    move = moves.too_late(its, Outcome(DRAFTED, decision))
    assert (move.transition, move.after, [it.event for it in move.lines]) == (None, its, [event])
    assert move.hour is None
    assert not move.frees_place


# What a replay brings back.


@pytest.mark.parametrize(
    "its, past",
    [(FREE._replace(message_id="m1"), ()), (FREE, (line("sent", "d1", "m1"),)), (row(**ANOTHERS), ()),
     (row(State.UNSURE), ()), (row(State.FAILED), ()), (row(State.CANCELLED), ())],
    ids=["the row has a message", "the log has one", "another claim", "unsure", "failed", "cancelled"],
)  # fmt: skip
def test_a_claim_gets_no_row_back_that_is_not_its_own_or_that_google_has(its: Row, past: tuple[Line, ...]) -> None:
    back = moves.given_back_to_claim(its, log(*past), Handover(DRAFTED), daemon="D1", lease=MINUTE, now=NOW)
    assert back is None


@pytest.mark.parametrize("its", [FREE._replace(attempts=0), row(attempts=0)], ids=["waits", "its hand-over is gone"])
def test_a_claim_gets_its_row_back_with_all_that_was_forgotten(its: Row) -> None:
    it = Handover(replace(DRAFTED, unanswered=True), discarding=True)
    now = made(moves.given_back_to_claim(its, NO_LOG, it, daemon="D1", lease=MINUTE, now=NOW)).after
    assert (now.status, now.claim_token, now.daemon_id, now.lease_until) == (State.SENDING, "T", "D1", NOW + MINUTE)
    assert (now.mode, now.draft_id, now.thread_id, now.unanswered, now.discarding) == ("draft", "d1", "t1", 1, 1)
    assert now.attempts == 2


def test_a_deleted_draft_is_forgotten_where_the_message_waits_with_it_and_nowhere_else() -> None:
    its = row(State.WAITING, mode="draft", draft_id="d1", thread_id="t1", unanswered=1, discarding=1)
    now = made(moves.draft_forgotten(its, MESSAGE, "d1", now=NOW)).after
    assert now == its._replace(mode=None, draft_id=None, thread_id=None, unanswered=0, discarding=0, updated_at=NOW)
    assert moves.draft_forgotten(its, MESSAGE, "d2", now=NOW) is None
    assert moves.draft_forgotten(row(State.SENT, draft_id="d1"), MESSAGE, "d1", now=NOW) is None


@pytest.mark.parametrize("state", [State.UNSURE, State.SENDING])
def test_that_a_deleted_draft_is_gone_proves_nothing(state: State) -> None:
    its = row(state, mode="draft", draft_id="d1")
    assert made(moves.draft_forgotten(its, MESSAGE, "d1", now=NOW)).after == its._replace(discarding=1, updated_at=NOW)


# A lease that ran out.

LAPSED = row(lease_until=BEFORE, daemon_id="D9")


def lapse(its: Row, *, crashed: bool = False) -> Move | None:
    return moves.lapsed(its, crashed=crashed, **LAPSE)


@pytest.mark.parametrize(
    "its", [row(), row(lease_until=None), row(lease_until=NOW), row(State.UNSURE, lease_until=BEFORE)],
    ids=["it runs", "there is none", "it ends now", "not sending"],
)  # fmt: skip
def test_a_lease_that_has_not_run_out_is_left_alone(its: Row) -> None:
    assert lapse(its) is None


@pytest.mark.parametrize("its", [{"draft_id": "d1"}, {"mode": "direct"}, {"message_id": "m1"}])
@pytest.mark.parametrize("discarding", [0, 1])
def test_a_message_that_may_be_at_google_is_looked_for_once_nothing_is_in_flight(
    its: dict[str, Any], discarding: int
) -> None:
    move = made(lapse(LAPSED._replace(**its, discarding=discarding, crashes=9, checks=3), crashed=True))
    now = move.after
    assert (move.transition, now.status, now.lease_until) == (Transition.LOST, State.UNSURE, NOW + MINUTE)
    assert (now.unanswered, now.attempts, now.crashes, now.checks) == (1 - discarding, 2, 9, 0)
    assert now.mode == (None if "draft_id" in its else "direct")


@pytest.mark.parametrize("attempts, left", [(2, 1), (0, 0)])
def test_a_message_that_never_reached_google_waits_again_and_pays_nothing(attempts: int, left: int) -> None:
    move = made(lapse(LAPSED._replace(attempts=attempts, due_at=BEFORE)))
    now = move.after
    assert (move.transition, now.status, now.attempts, now.due_at) == (Transition.RELEASED, State.WAITING, left, NOW)
    assert [(it.event, it.claim_token, it.attempt) for it in move.lines] == [("lapsed", "T", attempts)]


WORN = ALONE_AFTER + FAILED_AFTER_ALONE - 1


@pytest.mark.parametrize(
    "its, crashed, crashes",
    [(LAPSED, True, 1), (LAPSED, False, 0), (LAPSED._replace(daemon_id="D1"), True, 0)],
    ids=["its daemon crashed", "its daemon lives", "our own"],
)
def test_only_another_daemons_crash_is_held_against_a_message(its: Row, *, crashed: bool, crashes: int) -> None:
    assert made(lapse(its, crashed=crashed)).after.crashes == crashes


@pytest.mark.parametrize("before, end", [(WORN, State.FAILED), (WORN - 1, State.WAITING)])
def test_a_message_fails_at_the_last_of_its_crashes(before: int, end: State) -> None:
    now = made(lapse(LAPSED._replace(crashes=before), crashed=True)).after
    assert (now.status, now.crashes) == (end, before + 1)
    assert made(lapse(LAPSED._replace(crashes=300), crashed=True)).after.crashes == 255, "within its column"
    assert made(lapse(LAPSED._replace(crashes=WORN))).after.status is State.WAITING, "no crash, no failure"


# A check at Google, and what a person says.

CHECKED = row(State.UNSURE, claim_token="T", lease_until=LATER, mode="draft", draft_id="d1", thread_id="t1", checks=4)


@pytest.mark.parametrize(
    "its", [CHECKED._replace(claim_token="U"), CHECKED._replace(claim_token=None), row(State.SENDING)]
)
@pytest.mark.parametrize("change", [Transition.FOUND, Transition.MISSING, None])
def test_a_check_counts_only_under_its_own_token_and_where_there_is_a_doubt(
    its: Row, change: Transition | None
) -> None:
    assert moves.checked(its, NO_LOG, Resolution(CHECK, change), now=NOW) is None


@pytest.mark.parametrize("retry, until", [(MINUTE, NOW + MINUTE), (None, None)], ids=["again", "a person"])
def test_a_check_without_a_result_leaves_the_doubt_and_remembers_when_it_first_found_nothing(
    retry: timedelta | None, until: datetime | None
) -> None:
    it = Resolution(CHECK, None, error="busy", thread_id="t2", nothing_found=True, retry_in=retry)
    move = made(moves.checked(CHECKED, NO_LOG, it, now=NOW))
    now = move.after
    assert (move.transition, now.status, now.claim_token, now.lease_until) == (None, State.UNSURE, None, until)
    assert (now.checks, now.error, now.nothing_found_at, now.thread_id) == (5, "busy", NOW, "t2")
    known = CHECKED._replace(nothing_found_at=BEFORE)
    assert made(moves.checked(known, NO_LOG, it, now=NOW)).after.nothing_found_at == BEFORE
    assert (
        made(moves.checked(CHECKED, NO_LOG, replace(it, nothing_found=False), now=NOW)).after.nothing_found_at is None
    )


@pytest.mark.parametrize("forgets", [False, True])
def test_a_message_that_is_missing_waits_and_says_why_it_was_in_doubt(*, forgets: bool) -> None:
    it = Resolution(CHECK, Transition.MISSING, error="not there", forgets=forgets)
    its = CHECKED._replace(unanswered=1, discarding=1, nothing_found_at=BEFORE)
    now = made(moves.checked(its, log(line("lost", "d1", error="cut off")), it, now=NOW)).after
    assert (now.status, now.error, now.discarding, now.nothing_found_at) == (State.WAITING, "cut off", 0, None)
    assert now.sent_at is None
    kept = (None, None, None, 0) if forgets else ("draft", "d1", "t1", 1)
    assert (now.mode, now.draft_id, now.thread_id, now.unanswered) == kept
    direct = made(moves.checked(its._replace(draft_id=None), NO_LOG, it, now=NOW)).after
    assert direct.mode is None


def test_a_message_that_is_found_is_sent_by_its_proof_and_keeps_what_was_known() -> None:
    it = Resolution(CHECK, Transition.FOUND, message_id="m1", thread_id="t2", proof=Proof.SEEN)
    now = made(moves.checked(CHECKED._replace(message_id="m0"), NO_LOG, it, now=NOW)).after
    assert (now.status, now.message_id, now.thread_id, now.proof) == (State.SENT, "m1", "t2", Proof.SEEN)
    unnamed = replace(it, message_id=None, thread_id=None, proof=Proof.GONE)
    now = made(moves.checked(CHECKED._replace(message_id="m0"), NO_LOG, unnamed, now=NOW)).after
    assert (now.message_id, now.thread_id, now.mode, now.draft_id) == ("m0", "t1", "draft", "d1")


@pytest.mark.parametrize("status", sorted(set(State) - {State.UNSURE}))
@pytest.mark.parametrize("change", [Transition.FOUND, Transition.MISSING])
def test_a_person_settles_nothing_but_a_doubt(status: State, change: Transition) -> None:
    assert settle(row(status), change) is None


def test_what_a_person_calls_sent_is_sent_by_that_proof_and_what_not_goes_out_anew() -> None:
    its = CHECKED._replace(
        message_id="m0", unanswered=1, discarding=1, result="bounced", result_kind="hard", result_at=BEFORE
    )
    sent = made(settle(its, Transition.FOUND)).after
    assert (sent.status, sent.proof, sent.message_id, sent.draft_id) == (State.SENT, Proof.PERSON, "m0", "d1")
    assert made(settle(its, Transition.FOUND, "m5")).after.message_id == "m5"
    assert sent.result == "bounced"
    again = made(settle(its, Transition.MISSING)).after
    assert (again.status, again.mode, again.draft_id, again.thread_id) == (State.WAITING, None, None, None)
    assert (again.unanswered, again.discarding) == (0, 0)
    assert (again.result, again.result_kind, again.result_at) == (None, None, None), (
        "a retry of bounces would send it again"
    )


def test_after_a_restore_a_draft_that_is_gone_proves_nothing() -> None:
    its = row(State.WAITING, draft_id="d1", handed_over_at=BEFORE, checks=2, nothing_found_at=BEFORE)
    now = made(moves.doubted(its, token="V", sender="me@example.com", now=NOW)).after
    assert (now.status, now.mode, now.unanswered, now.discarding) == (State.UNSURE, "draft", 1, 1)
    assert (now.checks, now.handed_over_at, now.nothing_found_at, now.lease_until) == (0, None, None, NOW)


# What was not sent after all, and what came back.

BELIEVED = row(State.SENT, proof=Proof.GONE, draft_id="d1", sent_at=BEFORE, message_id=None)
FORGOTTEN = "forgotten-7@example.invalid"


def take_back(its: Row) -> Move | None:
    return moves.undone(its, "d1", token="V", sender="me@example.com", now=NOW)


@pytest.mark.parametrize(
    "other",
    [{"status": State.UNSURE}, {"proof": Proof.ANSWERED}, {"proof": Proof.PERSON}, {"draft_id": "d2"},
     {"to_email": FORGOTTEN}],
    ids=["it is not sent", "answered", "a person said so", "another draft", "its person was forgotten"],
)  # fmt: skip
def test_a_draft_disproves_only_what_its_absence_alone_had_proved(other: dict[str, Any]) -> None:
    assert take_back(BELIEVED._replace(**other)) is None


def test_what_is_disproved_waits_with_that_draft_and_has_its_attempt_back() -> None:
    now = made(take_back(BELIEVED._replace(checks=3))).after
    assert (now.status, now.proof, now.sent_at, now.draft_id) == (State.WAITING, None, None, "d1")
    assert (now.attempts, now.checks, now.due_at) == (1, 0, NOW)
    assert made(take_back(BELIEVED._replace(attempts=0))).after.attempts == 0
    assert made(take_back(BELIEVED._replace(result="bounced"))).after.result is None, (
        "that came back of another sending"
    )


IN_GMAIL = row(State.SENT, **IS_SENT, draft_id="d1", result="bounced", unanswered=1, handed_over_at=BEFORE)


def give_back(its: Row, notice: Finding = NOTICE) -> Move | None:
    return moves.given_back(its, notice, token="V", sender="me@example.com", now=NOW)


@pytest.mark.parametrize(
    "its, notice",
    [(IN_GMAIL, replace(NOTICE, message=None)), (IN_GMAIL._replace(status=State.FAILED), NOTICE),
     (IN_GMAIL._replace(status=State.UNSURE), NOTICE), (IN_GMAIL, replace(NOTICE, thread_id="t2")),
     (IN_GMAIL._replace(given_back=1), NOTICE), (IN_GMAIL._replace(to_email=FORGOTTEN), NOTICE),
     (IN_GMAIL._replace(message_id="m2"), NOTICE)],
    ids=["of no message", "failed", "unsure", "another thread", "given back before", "forgotten", "another message"],
)  # fmt: skip
def test_a_limit_notice_gives_back_its_own_message_once_and_no_other(its: Row, notice: Finding) -> None:
    assert give_back(its, notice) is None


@pytest.mark.parametrize("message_id", ["m1", None], ids=["known", "known since"])
@pytest.mark.parametrize("its", [IN_GMAIL, row(State.WAITING, draft_id="d1", thread_id="t1", message_id="m1")])
def test_a_message_that_was_given_back_waits_as_if_it_had_never_been_handed_over(
    its: Row, message_id: str | None
) -> None:
    move = made(give_back(its, replace(NOTICE, message=replace(IN_THREAD, message_id=message_id))))
    now = move.after
    assert now._replace(updated_at=None, due_at=None) == row(
        State.WAITING, attempts=1, error=GIVEN_BACK, given_back=1, came_back=1
    )
    assert move.forgets_messages
    assert [(it.event, it.draft_id, it.message_id) for it in move.lines] == [("undone", "d1", "m1")]


@pytest.mark.parametrize("status", State)
def test_only_what_was_sent_or_may_be_has_a_result(status: State) -> None:
    result: dict[str, Any] = {"kind": "hard", "code": "5.1.1", "reason": "no such user", "at": NOW}
    move = moves.resulted(row(status), result="bounced", sender="me@example.com", now=NOW, **result)
    assert (move is not None) is (status in {State.SENT, State.SENDING, State.UNSURE})
    if move:
        now = move.after
        assert (now.result, now.result_kind, now.result_code, now.result_reason) == (
            "bounced",
            "hard",
            "5.1.1",
            "no such user",
        )
        assert (now.status, now.result_at) == (status, NOW)


AGAIN: dict[str, Callable[[Row], Move | None]] = {
    "deferred": lambda it: moves.ended(it, Outcome(MESSAGE, Decision(Transition.DEFERRED)), now=NOW),
    "released": lambda it: moves.ended(it, Outcome(MESSAGE, Decision(Transition.RELEASED)), now=NOW),
    "lapsed": lambda it: lapse(it._replace(lease_until=BEFORE)),
    "missing": lambda it: moves.checked(
        it._replace(status=State.UNSURE), NO_LOG, Resolution(CHECK, Transition.MISSING), now=NOW
    ),
    "not sent, says a person": lambda it: settle(it._replace(status=State.UNSURE), Transition.MISSING),
    "its draft is there": lambda it: take_back(BELIEVED._replace(result=it.result, result_kind=it.result_kind)),
    "given back": lambda it: give_back(IN_GMAIL._replace(result=it.result, result_kind=it.result_kind)),
}


@pytest.mark.parametrize("how", AGAIN)
def test_what_came_back_of_a_message_is_no_result_of_its_next_sending(how: str) -> None:
    """A retry of bounces would send it once more."""
    now = made(AGAIN[how](row(result="bounced", result_kind="hard"))).after
    assert (now.status, now.result, now.result_kind) == (State.WAITING, None, None)


def test_what_is_lost_or_sent_keeps_its_result() -> None:
    """It may bounce before its own outcome is recorded."""
    for decision in (SENT, LOST):
        assert made(moves.ended(row(result="bounced"), Outcome(MESSAGE, decision), now=NOW)).after.result == "bounced"
    assert made(lapse(LAPSED._replace(result="bounced", draft_id="d1"))).after.result == "bounced"
    found = Resolution(CHECK, Transition.FOUND, proof=Proof.SEEN)
    assert made(moves.checked(CHECKED._replace(result="bounced"), NO_LOG, found, now=NOW)).after.result == "bounced"
