"""What each change of a message writes: one function per transition makes a move out of the locked
row.

A row is read under its lock, a function here says what it becomes, and `store/write/messages.py`
writes that and all that follows. A function that returns None says that the row does not allow it:
another claim has the message, it has ended, or Google has it. So the fence of every change stands
here, and nowhere else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from mailerd.core.claims import (
    ALONE_AFTER,
    FAILED_AFTER_ALONE,
    ClaimedRecipient,
    Handover,
    Mode,
    Outcome,
    Resolution,
    mode_of,
)
from mailerd.core.inbox_findings import Finding
from mailerd.core.labels import said_of_row
from mailerd.core.reasons import code_of, reason
from mailerd.core.states import REFUNDED, UNSENT, Proof, State, Transition
from mailerd.core.states import after as after_of


class Row(NamedTuple):
    """A row of `job_recipients` under its lock; the names are its columns, and `error` is also its
    code and fields.
    """

    id: int
    job_id: str
    seq: int
    to_email: str
    status: State
    due_at: datetime | None = None
    claim_token: str | None = None
    daemon_id: str | None = None
    lease_until: datetime | None = None
    attempts: int = 0
    crashes: int = 0
    mode: Mode | None = None
    draft_id: str | None = None
    thread_id: str | None = None
    handed_over_at: datetime | None = None
    unanswered: int = 0
    discarding: int = 0
    checks: int = 0
    nothing_found_at: datetime | None = None
    message_id: str | None = None
    proof: str | None = None
    error: str | None = None
    result: str | None = None
    result_kind: str | None = None
    result_code: str | None = None
    result_reason: str | None = None
    result_at: datetime | None = None
    came_back: int = 0
    given_back: int = 0
    sent_at: datetime | None = None
    updated_at: datetime | None = None
    copies: int = 0
    """What its copies cost of the sender's day, beside the one of the message."""
    is_test: int = 0
    """Its job is a test, which is in no tally: no column of its own."""

    @property
    def is_forgotten(self) -> bool:
        """Whether the statement of docs/how-to/security.md took its person out.

        What it leaves as an address gets no message.
        """
        return self.to_email == f"forgotten-{self.id}@example.invalid"

    def is_held(self, message: ClaimedRecipient) -> bool:
        """Whether the claim of this message holds the row."""
        return self.status == State.SENDING and self.claim_token == message.token


class Line(NamedTuple):
    """A line of `attempts`: what happened to a recipient under one claim.

    Unique by recipient, token and event.

    `event` is a transition, or: `lapsed` (its lease ran out), `answered` (Google accepted it, and
    its claim had ended), `unanswered` (no answer came, and its claim had ended), `late` (its claim
    ended otherwise, and had ended before).
    """

    recipient_id: int
    attempt: int
    claim_token: str
    event: str
    draft_id: str | None = None
    message_id: str | None = None
    error: str | None = None
    id: int = 0
    """Its place in the log; 0: it is not written yet."""


NOT_APPLIED: Final = frozenset({"answered", "unanswered", "late"})
"""Events of claims that had ended: what the row made of them is another matter."""
_ANSWERS: Final = frozenset({"sent", "answered"})
_NO_ANSWERS: Final = frozenset({"lost", "unanswered"})
_REFUSALS: Final = frozenset({"deferred", "released", "failed", "late"})


@dataclass(frozen=True)
class AttemptLog:
    """The lines of one recipient, the oldest first.

    They are complete: who writes one holds the row's lock.
    """

    lines: Sequence[Line] = ()

    def with_lines(self, lines: Sequence[Line]) -> "AttemptLog":
        """The log once these are written, in the same transaction."""
        return (
            AttemptLog([*self.lines, *(it._replace(id=_BEING_WRITTEN) for it in lines)])
            if lines
            else self
        )

    def has(self, token: str, *events: str) -> bool:
        """Whether the log has one of these events of this claim."""
        return any(it.claim_token == token and it.event in events for it in self.lines)

    @property
    def answer(self) -> tuple[str | None, str] | None:
        """Draft and message of the first sending that Google has accepted, as far as any worker has
        said.

        A check that found a draft gone (`found`) may have been wrong.
        """
        return next(
            (
                (it.draft_id, it.message_id)
                for it in self.lines
                if it.event in _ANSWERS and it.message_id
            ),
            None,
        )

    @property
    def came_back(self) -> list[Line]:
        """The sendings that came back: each line names its draft, and its message if that is known.

        By the reason, since a draft that is found again is logged as `undone` too.
        """
        return [
            it
            for it in self.lines
            if it.event == "retried" or (it.event == "undone" and code_of(it.error) == "given_back")
        ]

    @property
    def known_message(self) -> str | None:
        """The message that Google has accepted, as far as any worker has said."""
        return self.answer[1] if self.answer else None

    @property
    def messages_that_came_back(self) -> set[str]:
        """Google's ids of the messages that came back."""
        return {
            it.message_id
            for it in self.lines
            if it.event in {"undone", "retried"} and it.message_id
        }

    @property
    def last_doubt(self) -> str | None:
        """Why it was not known last whether the message was sent."""
        return next((it.error for it in reversed(self.lines) if it.event in _NO_ANSWERS), None)

    @property
    def unresolved(self) -> Line | None:
        """The last send without an answer that was not looked for since; None: there is none.

        A database that forgets commits forgets with them that a message was on its way to Google.
        Its worker still learns that no answer comes, and writes so into the log, whatever the row
        is by then.
        """
        for line in reversed(self.lines):
            if line.event in {"missing", "found"}:
                return None
            if line.event in _NO_ANSWERS and not self.send_came_back(
                line.claim_token, line.draft_id
            ):
                return line
        return None

    def answer_came_back(self, it: Outcome) -> bool:
        """Whether what this answer says was accepted came back since, by a limit notice or as a
        bounce that is retried.

        The message may not be known: its draft was gone, and that was all. Then the draft tells,
        which is sent once at most.
        """
        id_, draft = it.decision.message_id, it.message.draft_id
        return any(
            (b.message_id is not None and b.message_id == id_)
            or (b.draft_id is not None and b.draft_id == draft)
            for b in self.came_back
        )

    def send_came_back(self, token: str, draft: str | None) -> bool:
        """Whether a send without an answer came back, however late its worker says that it got no
        answer.

        A draft is sent once at most, and what was sent directly by a claim that had ended by then
        was found. To look for it would find what came back: the message would be `sent`, and no
        recipient would have it.
        """
        ended = min(
            (it.id for it in self.lines if it.claim_token == token and it.event in _ENDS),
            default=None,
        )
        return any(
            b.draft_id == draft
            and (
                draft is not None
                or (b.message_id is not None and ended is not None and ended < b.id)
            )
            for b in self.came_back
        )

    def was_refused(self, draft: str | None) -> bool:
        """Whether Google refused this draft too, and we may have deleted it: that it is gone then
        proves nothing.
        """
        return draft is not None and any(
            it.draft_id == draft and it.event in _REFUSALS for it in self.lines
        )

    def ended_in_doubt(self, token: str) -> bool:
        """Whether the database knows that this claim ended in doubt, or lapsed."""
        return self.has(token, *_ENDS)


_ENDS: Final = ("lost", "unanswered", "lapsed")
_BEING_WRITTEN: Final = 1 << 63
"""Behind all that are there."""
NO_LOG: Final = AttemptLog()


@dataclass(frozen=True)
class Move:
    """A change of one message, with all that belongs to it; what else follows is in core/states.py:
    `FOLLOWS`.
    """

    before: Row
    after: Row
    transition: Transition | None
    """None: it stays what it is, and something about it is noted."""
    sender: str = ""
    """Whose turn, day and tallies it concerns."""
    lines: Sequence[Line] = ()
    wait: timedelta = timedelta(0)
    """The time until it is due, where it waits again."""
    hour: datetime | None = None
    """The hour of the sender's day that gets it back: nothing was sent."""
    copies_cost: int = 0
    """What that day gets back beside, for its copies."""
    frees_place: bool = False
    """It has ended unsent: its sender may send another one in its place, at once."""
    forgets_messages: bool = False
    """What Google accepted came back: the log says no longer that it has the message."""
    reason: str | None = None
    """What the event says."""

    @property
    def token(self) -> str:
        """The token of its first line: under it an event is written once."""
        return self.lines[0].claim_token if self.lines else ""


NO_RESULT: Final[Mapping[str, Any]] = {
    "result": None,
    "result_kind": None,
    "result_code": None,
    "result_reason": None,
    "result_at": None,
}
"""What is set where a message waits again: what came back of it before is no result of the next
sending.
"""
NEVER_HANDED_OVER: Final[Mapping[str, Any]] = {
    "mode": None,
    "draft_id": None,
    "thread_id": None,
    "message_id": None,
    "proof": None,
    "sent_at": None,
    "handed_over_at": None,
    "unanswered": 0,
    "discarding": 0,
    "checks": 0,
    "crashes": 0,
    "nothing_found_at": None,
    "came_back": 1,
    **NO_RESULT,
}
"""What is set where a message that came back waits again, as if Google had never been asked to send
it.
"""
TRIED_ANEW: Final[Mapping[str, Any]] = {
    "attempts": 0,
    "checks": 0,
    "crashes": 0,
    "mode": None,
    "draft_id": None,
    "thread_id": None,
}
"""What is set where a failed message is tried anew.

It forgets its draft: one that is gone would look like sent.
"""


def claimed(
    row: Row, *, token: str, daemon: str, until: datetime, now: datetime, sender: str
) -> Move:
    """A daemon takes it: the attempt is counted, and the lease begins."""
    after = row._replace(
        status=State.SENDING,
        attempts=row.attempts + 1,
        claim_token=token,
        daemon_id=daemon,
        lease_until=until,
        updated_at=now,
    )
    return Move(row, after, Transition.CLAIMED, sender)


def handed_over(row: Row, log: AttemptLog, it: Handover, *, now: datetime) -> Move | None:
    """Google is asked next.

    A message that Google has said to have, or may have, is not handed over again.
    """
    message = it.message
    if (
        not row.is_held(message)
        or row.message_id is not None
        or log.answer is not None
        or log.unresolved is not None
    ):
        return None
    after = row._replace(
        mode=it.mode,
        draft_id=message.draft_id,
        thread_id=message.thread_id,
        unanswered=int(message.unanswered),
        discarding=int(it.discarding),
        crashes=0,
        updated_at=now,
        handed_over_at=row.handed_over_at
        or (now if message.unanswered or not it.discarding else None),
    )
    return Move(row, after, Transition.HANDED_OVER, message.sender)


def sent_before(
    row: Row, log: AttemptLog, message: ClaimedRecipient, *, now: datetime
) -> Move | None:
    """A claimed message that Google has accepted from another worker."""
    answer = log.answer or ((row.draft_id, row.message_id) if row.message_id is not None else None)
    if answer is None or not row.is_held(message):
        return None
    draft, message_id = answer
    after = _ended(row, now)._replace(
        status=State.SENT,
        message_id=message_id,
        draft_id=draft or row.draft_id,
        error=None,
        proof=Proof.ANSWERED,
        sent_at=now,
    )
    line = Line(row.id, row.attempts, message.token, "found", draft, message_id)
    return Move(row, after, Transition.FOUND, message.sender, [line])


def in_doubt_before(
    row: Row, log: AttemptLog, message: ClaimedRecipient, *, now: datetime
) -> Move | None:
    """A claimed message of which the result of a send by a former claim is not known: it is looked
    for first.
    """
    if (doubt := log.unresolved) is None or not row.is_held(message):
        return None
    draft, why = doubt.draft_id, doubt.error
    error = reason("sent_by_lost_claim_after", reason=why) if why else reason("sent_by_lost_claim")
    after = _ended(row, now)._replace(
        status=State.UNSURE,
        lease_until=now,
        mode=mode_of(draft),
        draft_id=draft,
        thread_id=None,
        unanswered=1,
        discarding=int(log.was_refused(draft)),
        error=error,
        checks=0,
        handed_over_at=None,
    )
    line = Line(row.id, row.attempts, message.token, "lost", draft, error=why)
    return Move(row, after, Transition.LOST, message.sender, [line])


def may_be_carried_out(it: Outcome) -> bool:
    """Whether a send of the message's draft, this one or an earlier one, had no answer."""
    return it.message.unanswered or not it.decision.refused


def ended(row: Row, it: Outcome, *, now: datetime) -> Move | None:
    """The outcome of an attempt.

    A message that is failed or suppressed forgets its draft, which is deleted: were it tried again,
    a draft that is gone would look like sent. So does one whose draft was deleted before it waits.
    An unresolved one says itself what to check: the row may have forgotten its hand-over.
    """
    message, decision, change = it.message, it.decision, it.decision.transition
    if not row.is_held(message):
        return None
    lost, waits = change is Transition.LOST, change in {Transition.DEFERRED, Transition.RELEASED}
    ends, gone = change in {Transition.FAILED, Transition.SUPPRESSED}, decision.forgets
    thread, mode, draft = message.thread_id if lost else decision.thread_id, row.mode, row.draft_id
    if lost:
        mode = mode or mode_of(message.draft_id)
    # the row may have forgotten its hand-over: what was sent stays its draft
    if lost or change is Transition.SENT:
        draft = draft or message.draft_id
    after = _ended(row, now)._replace(
        status=after_of(row.status, change),
        attempts=message.attempt - 1 if change in REFUNDED or decision.same_doubt else it.attempt,
        error=decision.error,
        message_id=row.message_id if decision.message_id is None else decision.message_id,
        thread_id=None if gone else thread or row.thread_id,
        proof=Proof.ANSWERED if change is Transition.SENT else None,
        sent_at=now if change is Transition.SENT else None,
        due_at=now + decision.wait if waits else row.due_at,
        lease_until=now + decision.wait if lost else None,
        mode=None if waits and (draft is None or gone) else mode,
        draft_id=None if ends or gone else draft,
        unanswered=0 if ends or gone else int(lost and may_be_carried_out(it)) or row.unanswered,
        discarding=int(decision.discarding),
        checks=message.checks if decision.same_doubt else 0,
        nothing_found_at=None,
        crashes=0,
        **NO_RESULT if waits else {},
    )
    line = Line(
        row.id,
        it.attempt,
        message.token,
        change.value,
        message.draft_id,
        decision.message_id,
        decision.error,
    )
    return Move(
        row,
        after,
        change,
        message.sender,
        [line],
        decision.wait,
        hour=message.hour if change in UNSENT else None,
        copies_cost=message.copies_cost,
        frees_place=ends,
        reason=decision.error,
    )


def late_answer(
    row: Row, log: AttemptLog, it: Outcome, *, now: datetime, event: str = "answered"
) -> Move:
    """Google's answer to a worker that has lost its claim: it is used, never overwritten.

    A row that waits is one whose claim the database has forgotten. The draft that was sent stays on
    the row, so that any other is found to be an orphan. A row that belongs to another claim, or has
    ended, keeps at least the message: a hand-over reads it there too, so that nothing depends on
    how long the log is kept. And it is a better proof.

    `event`: what the log says where the row takes it.
    """
    message, message_id, thread = it.message, it.decision.message_id, it.decision.thread_id
    line = Line(row.id, message.attempt, message.token, "answered", message.draft_id, message_id)
    if log.answer_came_back(it):  # the next hand-over would take the message for sent
        return Move(row, row, None, message.sender, [line._replace(message_id=None)])
    if row.status in {State.WAITING, State.UNSURE}:
        after = _ended(row, now)._replace(
            status=State.SENT,
            message_id=message_id,
            thread_id=thread or row.thread_id,
            draft_id=message.draft_id or row.draft_id,
            attempts=max(row.attempts, message.attempt),
            error=None,
            proof=Proof.ANSWERED,
            sent_at=now,
        )
        return Move(row, after, Transition.FOUND, message.sender, [line._replace(event=event)])
    after = row
    if row.message_id is None:
        proof = Proof.ANSWERED.value if row.status == State.SENT else row.proof
        after = row._replace(message_id=message_id, thread_id=thread or row.thread_id, proof=proof)
    return Move(row, after, None, message.sender, [line])


def late_doubt(row: Row, log: AttemptLog, it: Outcome, *, now: datetime) -> Move | None:
    """A worker that has lost its claim got no answer: the row gets all that a check needs.

    A row that is under another claim is taken from it only before it is handed over: the hand-over
    is refused then.
    """
    message, decision = it.message, it.decision
    draft, other = (
        message.draft_id,
        row.status == State.SENDING and row.claim_token != message.token,
    )
    if (
        log.send_came_back(message.token, draft)
        or row.message_id is not None
        or log.answer is not None
    ):
        return None
    match row.status:
        case State.WAITING:
            takes = row.draft_id is None or row.draft_id == draft
        case State.SENDING:
            takes = not other or (row.mode is None and row.draft_id is None)
        case _:
            takes = False
    if not takes:
        return None
    after = _ended(row, now)._replace(
        status=State.UNSURE,
        lease_until=now + decision.wait,
        mode=mode_of(draft),
        draft_id=draft,
        thread_id=message.thread_id,
        unanswered=int(may_be_carried_out(it)),
        discarding=int(log.was_refused(draft) or decision.discarding),
        attempts=max(row.attempts, message.attempt),
        error=decision.error,
        checks=0,
        handed_over_at=None,
        crashes=0,
    )
    lines = [Line(row.id, message.attempt, message.token, "lost", draft, error=decision.error)]
    # or its worker would take the row back, with a draft that is deleted by then
    if other and row.claim_token:
        lines.append(
            Line(row.id, row.attempts, row.claim_token, "lapsed", error=reason("taken_from_claim"))
        )
    return Move(row, after, Transition.LOST, message.sender, lines)


def too_late(row: Row, it: Outcome) -> Move:
    """What the row does not take of a worker that has lost its claim: it stands in the log."""
    decision = it.decision
    event = "unanswered" if decision.transition is Transition.LOST else "late"
    line = Line(
        row.id, it.attempt, it.message.token, event, it.message.draft_id, error=decision.error
    )
    return Move(row, row, None, it.message.sender, [line])


def given_back_to_claim(
    row: Row, log: AttemptLog, it: Handover, *, daemon: str, lease: timedelta, now: datetime
) -> Move | None:
    """A row that has forgotten a claim, or only its hand-over: Google may have the message, so its
    worker keeps it.
    """
    message = it.message
    known = row.message_id is not None or log.answer is not None
    if known or not (row.status == State.WAITING or row.is_held(message)):
        return None
    after = row._replace(
        status=State.SENDING,
        claim_token=message.token,
        daemon_id=daemon,
        mode=it.mode,
        draft_id=message.draft_id,
        thread_id=message.thread_id,
        unanswered=int(message.unanswered),
        discarding=int(it.discarding),
        attempts=max(row.attempts, message.attempt),
        lease_until=now + lease,
        updated_at=now,
    )
    return Move(row, after, Transition.CLAIMED, message.sender)


def draft_forgotten(
    row: Row, message: ClaimedRecipient, draft: str, *, now: datetime
) -> Move | None:
    """It was forgotten that its draft was deleted: the next send would find it gone, and so would a
    check.
    """
    if row.draft_id != draft or row.status not in {State.WAITING, State.SENDING, State.UNSURE}:
        return None
    if row.status != State.WAITING:
        return Move(row, row._replace(discarding=1, updated_at=now), None, message.sender)
    after = row._replace(
        mode=None, draft_id=None, thread_id=None, unanswered=0, discarding=0, updated_at=now
    )
    return Move(row, after, None, message.sender)


def lapsed(
    row: Row, *, sender: str, by: str, crashed: bool, late_arrival: timedelta, now: datetime
) -> Move | None:
    """Its lease has run out.

    Whether it was sent is not known if it was handed over, or Google's answer is known.

    Unless its worker was deleting the draft by then, which it does only where Google has refused
    the message. One that was never handed over gives back what its claim took of the sender's day.
    The minute has come back by itself: a lease is longer than what the minute counts ahead.

    `crashed`: its daemon may have crashed over it; `by`: the daemon that recovers it.
    """
    if row.status != State.SENDING or row.lease_until is None or row.lease_until >= now:
        return None
    handed = row.draft_id is not None or row.mode == "direct" or row.message_id is not None
    crash = crashed and row.daemon_id != by and not handed
    crashes, daemon = row.crashes + crash, row.daemon_id
    change, error = (
        Transition.RELEASED,
        reason("lease_expired", daemon=daemon, attempt=row.attempts),
    )
    if handed:
        change = Transition.LOST
    elif crash and crashes >= ALONE_AFTER + FAILED_AFTER_ALONE:
        change = Transition.FAILED
        together = ALONE_AFTER + FAILED_AFTER_ALONE
        error = reason("crashed_alone", crashes=together, alone=FAILED_AFTER_ALONE, daemon=daemon)
    released, lost = change is Transition.RELEASED, change is Transition.LOST
    after = _ended(row, now)._replace(
        status=State.UNSURE if lost else State.WAITING if released else State.FAILED,
        # Within the columns, whatever a person has written there: a row that fails would hold up
        # every other one.
        attempts=max(row.attempts - 1, 0) if released else row.attempts,
        crashes=min(crashes, 255),
        checks=0,
        nothing_found_at=None,
        mode="direct" if lost and row.draft_id is None else row.mode,
        unanswered=1 if lost and not row.discarding else row.unanswered,
        lease_until=now + late_arrival if lost else None,
        due_at=now,
        error=error,
        **NO_RESULT if released else {},
    )
    why = reason(f"lapsed_{change.value}", reason=error)
    line = Line(row.id, row.attempts, row.claim_token or "", "lapsed", row.draft_id, error=why)
    claimed_at = row.updated_at or now  # nothing else has written a row that was not handed over
    hour = None if handed else claimed_at.replace(minute=0, second=0, microsecond=0)
    return Move(row, after, change, sender, [line], hour=hour, copies_cost=row.copies, reason=error)


def checked(row: Row, log: AttemptLog, it: Resolution, *, now: datetime) -> Move | None:
    """The result of a check at Google, under the check's token.

    A message that is missing says why it was in doubt.
    """
    message = it.message
    if row.status != State.UNSURE or row.claim_token != message.token:
        return None
    checks = message.checks + 1
    if it.transition is None:
        found = row.nothing_found_at or (now if it.nothing_found else None)
        until = now + it.retry_in if it.retry_in is not None else None
        after = row._replace(
            claim_token=None,
            checks=checks,
            error=it.error,
            lease_until=until,
            nothing_found_at=found,
            thread_id=it.thread_id or row.thread_id,
            due_at=now,
        )
        return Move(row, after, None, message.sender)
    missing, gone = it.transition is Transition.MISSING, it.forgets
    after = _ended(row, now)._replace(
        status=State.WAITING if missing else State.SENT,
        checks=checks,
        discarding=0,
        nothing_found_at=None,
        message_id=row.message_id if it.message_id is None else it.message_id,
        proof=it.proof,
        error=log.last_doubt if missing else it.error,
        sent_at=None if missing else now,
        due_at=now,
        mode=None if missing and (row.draft_id is None or gone) else row.mode,
        draft_id=None if gone else row.draft_id,
        thread_id=None if gone else it.thread_id or row.thread_id,
        unanswered=0 if gone else row.unanswered,
        **NO_RESULT if missing else {},
    )
    line = Line(
        row.id,
        message.attempt,
        message.token,
        it.transition.value,
        message.draft_id,
        it.message_id,
        it.error,
    )
    return Move(row, after, it.transition, message.sender, [line])


def settled(
    row: Row,
    change: Transition,
    *,
    actor: str,
    message_id: str | None,
    token: str,
    sender: str,
    now: datetime,
) -> Move | None:
    """What a person found out.

    What was not sent goes out by a new draft: the old one is an orphan if it is there.

    What came back or was answered before is no result of the next sending: a retry of bounces would
    send that once more.
    """
    if row.status != State.UNSURE:
        return None
    sent = change is Transition.FOUND
    note = reason("settled_sent" if sent else "settled_not_sent", actor=said_of_row(actor) or actor)
    after = _ended(row, now)._replace(
        status=State.SENT if sent else State.WAITING,
        error=note,
        proof=Proof.PERSON.value if sent else None,
        message_id=row.message_id if message_id is None else message_id,
        discarding=0,
        nothing_found_at=None,
        sent_at=now if sent else None,
        due_at=now,
    )
    if not sent:
        after = after._replace(mode=None, draft_id=None, thread_id=None, unanswered=0, **NO_RESULT)
    line = Line(row.id, row.attempts, token, change.value, message_id=message_id, error=note)
    return Move(row, after, change, sender, [line])


def doubted(row: Row, *, token: str, sender: str, now: datetime) -> Move:
    """The database was restored: it may have been sent since.

    Whether it may is for the caller to say.

    Another draft may have been made and deleted since: that one is gone proves nothing, and where
    the sent mail cannot be read a person decides. The search goes back to the time when the job was
    accepted.
    """
    error = reason("restored")
    after = _ended(row, now)._replace(
        status=State.UNSURE,
        lease_until=now,
        mode=mode_of(row.draft_id),
        unanswered=1,
        discarding=1,
        error=error,
        checks=0,
        handed_over_at=None,
        nothing_found_at=None,
    )
    line = Line(row.id, row.attempts, token, "lost", row.draft_id, error=error)
    return Move(row, after, Transition.LOST, sender, [line])


def undone(row: Row, draft: str, *, token: str, sender: str, now: datetime) -> Move | None:
    """Its draft, which was gone, and that was all that spoke for its being sent, is there: it was
    not sent.

    The draft stays the message's own, so that it can go out once at most, whatever else is still
    under way. The attempt is refunded: nothing was sent by it.
    """
    if (
        row.status != State.SENT
        or row.proof != Proof.GONE
        or row.draft_id != draft
        or row.is_forgotten
    ):
        return None
    error = reason("draft_still_there")
    after = row._replace(
        status=State.WAITING,
        proof=None,
        sent_at=None,
        checks=0,
        attempts=max(row.attempts, 1) - 1,
        error=error,
        due_at=now,
        updated_at=now,
        **NO_RESULT,
    )
    line = Line(row.id, row.attempts, token, "undone", draft, error=error)
    return Move(row, after, Transition.UNDONE, sender, [line], reason=error)


def given_back(row: Row, it: Finding, *, token: str, sender: str, now: datetime) -> Move | None:
    """Google accepted it and did not send it, by a limit notice: it waits again, as if it had never
    been handed over.

    Fenced by the state, the thread and the message id of the notice's message: a notice undoes
    once, and nothing else. And by the row: no message is given back twice, whatever notices say. An
    id that was not known when the notice was read may be known by now; then the thread alone tells.
    One that waits with that draft was sent by a daemon that was taken for dead: its next hand-over
    would find the draft gone, and call it sent.
    """
    message = it.message
    if (
        message is None
        or row.status not in {State.SENT, State.WAITING}
        or row.thread_id != it.thread_id
        or row.given_back
        or row.is_forgotten
        or message.message_id not in {None, row.message_id}
    ):
        return None
    error = reason("given_back")
    after = row._replace(
        status=State.WAITING,
        attempts=max(row.attempts, 1) - 1,
        error=error,
        given_back=1,
        due_at=now,
        updated_at=now,
        **NEVER_HANDED_OVER,
    )
    line = Line(row.id, row.attempts, token, "undone", row.draft_id, row.message_id, error)
    return Move(row, after, Transition.UNDONE, sender, [line], forgets_messages=True, reason=error)


def resulted(
    row: Row,
    *,
    result: str,
    kind: str | None,
    code: str | None,
    reason: str | None,
    at: datetime,
    sender: str,
    now: datetime,
) -> Move | None:
    """What came back of it, or was answered.

    A message may bounce before its own outcome is recorded, or in doubt.
    """
    if row.status not in {State.SENT, State.SENDING, State.UNSURE}:
        return None
    after = row._replace(
        result=result,
        result_kind=kind,
        result_code=code,
        result_reason=reason,
        result_at=at,
        updated_at=now,
    )
    return Move(row, after, None, sender)


def cancelled(row: Row, actor: str, *, now: datetime, code: str = "job_cancelled") -> Move:
    """It has nothing to wait for: it came back into a cancelled job, or was cancelled alone, as
    `code` says.
    """
    after = row._replace(status=State.CANCELLED, error=reason(code, actor=actor), updated_at=now)
    return Move(row, after, Transition.CANCELLED)


def _ended(row: Row, now: datetime) -> Row:
    """The claim is over."""
    return row._replace(claim_token=None, lease_until=None, updated_at=now)
