"""The delivery of one letter: render, create the draft, record its id, send it, judge, decide, record.

The order of the lines decides what a crash can cost: a letter is sent only after its handover is durable.
"""

import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Final

from mailerd.clock import Clock
from mailerd.core.decisions import (
    Decision,
    Pause,
    RetryPolicy,
    after_deletion,
    decide,
    delay_repeated_check,
    given_up,
    no_drafts,
    should_delete_draft,
)
from mailerd.core.models import ClaimedRecipient, Handover, Outcome, WriteResult
from mailerd.core.replies import Accepted, Call, MalformedResponse, Refused, Reply, TokenRefused, TooLate
from mailerd.core.states import Transition
from mailerd.core.suppression import MAX_LOOKUP_AGE, Reason, why_suppressed
from mailerd.core.verdicts import Disposition, PauseCause, Verdict, judge, refused_alone
from mailerd.errors import DatabaseError, MailerdError
from mailerd.events.worker import RunnerEvents
from mailerd.gmail import Gmail, LetterSemaphore, Mailbox
from mailerd.gmail.session import begin_before
from mailerd.rate_limited_gmail import RateLimitedGmail
from mailerd.worker.circuit_breaker import CircuitBreaker
from mailerd.worker.delivery_log import DeliveryLog
from mailerd.worker.in_flight import InFlight
from mailerd.worker.message_builder import MessageBuilder, why_not_built
from mailerd.worker.recorder import Recorder
from mailerd.worker.refusals import Refusals

_SUPPRESSION_UNKNOWN: Final = "it could not be looked up whether the address has opted out"
_LEASE_NEARLY_OVER: Final = "the claim is about to end: it is left to the next one"


@dataclass(frozen=True)
class Delivery:
    """Delivers letters; one object for all of them."""

    gmail: Gmail
    """It makes the letter's own calls, whose units the claim has debited."""
    limited_gmail: RateLimitedGmail
    """It makes authentications and deletions, which wait for units of their own."""
    semaphore: LetterSemaphore
    recorder: Recorder
    builder: MessageBuilder
    in_flight: InFlight
    breaker: CircuitBreaker
    log: DeliveryLog
    policy: RetryPolicy
    request_timeout: float
    """Seconds that one call to Google may take."""
    clock: Clock
    events: RunnerEvents
    refusals: Refusals = field(default_factory=Refusals)

    async def deliver(self, letter: ClaimedRecipient) -> None:
        """Bring one letter to a recorded outcome; an error concerns this letter only."""
        state = _DeliveryState(letter)
        try:
            decision = await self._bring_to_google(state)
            if decision:
                it = state.letter
                decision = delay_repeated_check(
                    decision, unanswered=it.unanswered, checks=it.checks, policy=self.policy
                )
                await self._record(state, decision)
        except Exception as error:  # noqa: BLE001 - a bug met by one letter must not stop the others
            await self._handle_bug(state, error)
        finally:
            self.in_flight.remove(letter)
            self.log.progress.end(letter.job_id, letter.id)

    async def _bring_to_google(self, state: "_DeliveryState") -> Decision | None:
        """The decision to write; None when the claim had ended before anything was sent.

        What may take long is done before the slot at Google is taken: the access token, and the letter itself.
        """
        letter = state.letter
        if (failed := given_up(letter.attempt, reason=letter.error, policy=self.policy)) and not letter.unanswered:
            return failed
        mailbox = await self.limited_gmail.authenticate(letter.sender)
        if not isinstance(mailbox, Mailbox):
            return self._judged(state, Call.TOKEN, mailbox)
        if letter.draft_id and mailbox.mode == "direct":  # the sign-in was exchanged for one that has no drafts
            if letter.unanswered:
                return no_drafts(late_arrival=self.policy.late_arrival)
            state.letter = letter = replace(letter, draft_id=None, thread_id=None)
        async with AsyncExitStack() as state.room:
            if letter.draft_id is None and (early := await self._make(state, mailbox)):
                self._announce(state.letter)
                return early
            try:
                async with self.semaphore.slot(letter):
                    state.began = self.clock.monotonic()
                    return await self._attempt(state)
            finally:
                state.raw = b""  # its record may wait for hours

    async def _make(self, state: "_DeliveryState", mailbox: Mailbox) -> Decision | None:
        """Make the bytes of a new letter, unless it is not to be sent; a decision where there will be none now."""
        if state.letter.suppressed:
            return None
        state.began = self.clock.monotonic()
        try:
            if resting := await self._join_project(state, mailbox):
                return resting
            letter = state.letter
            state.raw = await self.builder.build(
                letter, room=state.room, on_slow=lambda: self.semaphore.set_aside(letter)
            )
        except (MailerdError, ValueError) as error:
            if (decision := why_not_built(error)) is None:
                raise
            return decision
        return None

    def _announce(self, letter: ClaimedRecipient) -> None:
        number, total = self.log.progress.begin(letter.job_id, letter.id)
        self.events.letter_started(
            job=letter.job_id, recipient=letter.id, to=letter.to_email, sender=letter.sender,
            number=number, total=total, attempt=letter.attempt,
        )  # fmt: skip

    async def _attempt(self, state: "_DeliveryState") -> Decision | None:
        letter = state.letter
        mailbox = await self.limited_gmail.authenticate(letter.sender)  # again: it may have waited long for its slot
        if not isinstance(mailbox, Mailbox):
            return self._judged(state, Call.TOKEN, mailbox)
        if failed := given_up(letter.attempt, reason=letter.error, policy=self.policy):
            return await self._discard(state, mailbox, failed)  # unless its draft was sent: then it is gone
        if letter.suppressed:
            return await self._suppress(state, mailbox)
        self._announce(letter)
        if letter.draft_id is None:
            return await self._send_new(state, mailbox)
        await self._record_handover(state, mailbox)
        return None if state.claim_lost else await self._send_draft(state, mailbox)

    async def _send_new(self, state: "_DeliveryState", mailbox: Mailbox) -> Decision | None:
        try:
            early = await self._submit(state, mailbox)
        finally:
            await state.room.aclose()
        return early if early is not None or state.claim_lost else await self._send_draft(state, mailbox)

    async def _submit(self, state: "_DeliveryState", mailbox: Mailbox) -> Decision | None:
        """Submit the letter; None when it is a draft at Google now, or the claim has ended."""
        raw, state.raw = state.raw, b""
        if mailbox.mode == "direct":
            return await self._send_directly(state, raw, mailbox)
        return await self._create_draft(state, raw, mailbox)

    async def _join_project(self, state: "_DeliveryState", mailbox: Mailbox) -> Decision | None:
        """Note the project of a sender that has none yet; a decision where that project rests."""
        letter = state.letter
        if letter.sender_project or not mailbox.project:
            return None
        if pause := await self.recorder.join_project(letter, mailbox.project, mailbox.mode):
            return Decision(Transition.RELEASED, error=pause.reason, pause=pause)
        # Its row says so now: no record of this letter has to.
        state.letter = replace(letter, sender_project=mailbox.project, sender_mode=mailbox.mode)
        return None

    async def _create_draft(self, state: "_DeliveryState", raw: bytes, mailbox: Mailbox) -> Decision | None:
        """None when the draft exists and its id is durable, or the claim has ended."""
        if not self._time_for_a_call(state):
            return Decision(Transition.RELEASED, error=_LEASE_NEARLY_OVER)
        reply = await self.gmail.create_draft(state.letter.sender, raw=raw)
        if not isinstance(reply, Accepted):
            return self._judged(state, Call.DRAFTS_CREATE, reply)
        self._note_reply(state, reply)
        state.letter = replace(state.letter, draft_id=reply.id, thread_id=reply.thread_id or None, unanswered=False)
        # After a crash before this commit, nothing is sent and the draft is an orphan, found by its key.
        async with self.semaphore.released(state.letter):
            await self._record_handover(state, mailbox)
        return None

    async def _send_draft(self, state: "_DeliveryState", mailbox: Mailbox) -> Decision | None:
        if not self._time_for_a_call(state):
            return Decision(Transition.RELEASED, error=_LEASE_NEARLY_OVER)
        letter, draft_id = state.letter, state.letter.draft_id or ""
        # After a crash from here on, the row names the draft to check: gone means sent, there means not sent.
        reply = await self._send(
            state, lambda: self.gmail.send_draft(letter.sender, draft_id=draft_id, thread_id=letter.thread_id)
        )
        if reply is None:
            return await self._withhold(state, mailbox)
        decision = self._judged(state, Call.DRAFTS_SEND, reply)
        if should_delete_draft(decision, reply, unanswered=state.letter.unanswered):
            return await self._discard(state, mailbox, decision)
        return decision

    async def _discard(self, state: "_DeliveryState", mailbox: Mailbox, decision: Decision) -> Decision | None:
        """Delete the draft that Google refused to send; the decision to write then, None when the claim has ended."""
        letter, deletion = state.letter, Disposition.TRANSIENT
        state.refused = True
        if self._time_for_a_call(state):
            # After a crash from here on, the row says that Google refused the letter, and that we deleted the draft.
            await self._record_handover(state, mailbox, discarding=True, pause=decision.pause)
            if state.claim_lost:
                return None
            if self._time_for_a_call(state):  # the commit may have taken long, and a successor may send this very draft
                # Its units are debited with the send: one that Google refuses uses none.
                reply = await self.gmail.delete_draft(letter.sender, draft_id=letter.draft_id or "")
                self._note_reply(state, reply)
                deletion = judge(Call.DRAFTS_DELETE, reply).disposition
        if deletion is Disposition.ACCEPTED:
            self.events.draft_discarded(
                job=letter.job_id, recipient=letter.id, to=letter.to_email, sender=letter.sender,
                draft=letter.draft_id or "", cause=decision.error or "",
            )  # fmt: skip
        return after_deletion(decision, deletion, late_arrival=self.policy.late_arrival, unanswered=letter.unanswered)

    async def _send_directly(self, state: "_DeliveryState", raw: bytes, mailbox: Mailbox) -> Decision | None:
        await self._record_handover(state, mailbox)
        if state.claim_lost:
            return None
        if not self._time_for_a_call(state):
            return Decision(Transition.RELEASED, error=_LEASE_NEARLY_OVER)
        reply = await self._send(state, lambda: self.gmail.send_message(state.letter.sender, raw=raw))
        return await self._withhold(state, mailbox) if reply is None else self._judged(state, Call.MESSAGES_SEND, reply)

    async def _send(self, state: "_DeliveryState", send: Callable[[], Awaitable[Reply]]) -> Reply | None:
        """Ask Google to send. None: it was not asked, since the address has opted out, or this could not be read.

        A send whose first byte would be later than MAX_LOOKUP_AGE after the look does not begin: a token or a
        connection may take that long. Then it is looked up anew.
        """
        before = state.maybe_sent
        while await self._may_send(state):
            state.maybe_sent = True
            with begin_before(state.checked + MAX_LOOKUP_AGE):
                reply = await send()
            if not isinstance(reply, TooLate):
                return reply
            state.maybe_sent = before
            if not self._time_for_a_call(state):
                return None
        return None

    async def _withhold(self, state: "_DeliveryState", mailbox: Mailbox) -> Decision | None:
        """What to write of a letter that was not sent because of `_may_send`."""
        if state.suppressed:
            return await self._suppress(state, mailbox)
        return Decision(Transition.RELEASED, error=_SUPPRESSION_UNKNOWN)

    async def _may_send(self, state: "_DeliveryState") -> bool:
        """Whether a look that is no older than MAX_LOOKUP_AGE shows that the address has not opted out.

        The hand-over was refused where its address had opted out. Its COMMIT may have taken long, and the answer to an
        unsubscribe waits for no more than ANSWER_DELAY: then it is looked up anew.
        """
        while not state.suppressed and self.clock.monotonic() - state.checked > MAX_LOOKUP_AGE:
            state.checked = self.clock.monotonic()
            try:
                state.suppressed = await self.recorder.suppression(state.letter) is not None
            except DatabaseError:
                return False
            if not self._time_for_a_call(state):
                return False
        return not state.suppressed

    async def _suppress(self, state: "_DeliveryState", mailbox: Mailbox) -> Decision | None:
        """Cancel the letter, and delete its draft; None when the claim has ended."""
        reason = state.letter.suppressed or await self._reason(state.letter)
        decision = Decision(Transition.SUPPRESSED, error=why_suppressed(reason))
        return decision if state.letter.draft_id is None else await self._discard(state, mailbox, decision)

    async def _reason(self, letter: ClaimedRecipient) -> Reason:
        """Why an address is suppressed since the claim; nearly always by its owner."""
        with suppress(DatabaseError):
            return await self.recorder.suppression(letter) or Reason.UNSUBSCRIBED
        return Reason.UNSUBSCRIBED

    async def _record_handover(
        self, state: "_DeliveryState", mailbox: Mailbox, *, discarding: bool = False, pause: Pause | None = None
    ) -> None:
        state.checked = self.clock.monotonic()
        match await self.recorder.record(Handover(state.letter, mailbox.project or None, discarding, pause)):
            case WriteResult.APPLIED:
                return
            case WriteResult.SUPPRESSED:
                state.suppressed = True
                return
            case WriteResult.RESOLVED:
                self.log.found(state.letter, "Google had said so to a worker whose record the row had forgotten")
            case WriteResult.IN_DOUBT:
                self.log.decision(
                    state.letter,
                    Decision(Transition.LOST, error="a former claim, which its row forgot, had no answer"),
                    began=state.began,
                )
            case _:
                self.log.handover_lost(state.letter)
        # The draft stays: only the recovery, which reads the row, knows whether another worker needs it.
        state.claim_lost = True

    def _time_for_a_call(self, state: "_DeliveryState") -> bool:
        return self.in_flight.lease_allows(state.letter, seconds=self.request_timeout)

    def _judged(self, state: "_DeliveryState", call: Call, reply: Reply) -> Decision:
        self._note_reply(state, reply)
        letter, chance = state.letter, random.random()  # noqa: S311 - jitter
        return decide(
            self._verdict(state, call, reply), reply, attempt=letter.attempt, policy=self.policy, now=self.clock.now(),
            pauses=letter.pauses, chance=chance,
        )  # fmt: skip

    def _verdict(self, state: "_DeliveryState", call: Call, reply: Reply) -> Verdict:
        verdict, letter, now = judge(call, reply), state.letter, self.clock.monotonic()
        if verdict.disposition is Disposition.ACCEPTED:
            self.refusals.accepted(letter.sender, began=state.began, now=now)
        refused = verdict.backoff is not None and verdict.backoff.cause is PauseCause.MAILBOX_REFUSED
        if isinstance(reply, Refused) and refused and call is not Call.TOKEN:  # at its sign-in it was not shown
            alone = self.refusals.concerns(letter.id, letter.sender, began=state.began, now=now)
            return refused_alone(reply) if alone else verdict
        return verdict

    def _note_reply(self, state: "_DeliveryState", reply: Reply) -> None:
        """Every answer shows that Google can be reached."""
        if isinstance(reply, Accepted | Refused | TokenRefused | MalformedResponse):
            self.breaker.success(state.letter.sender)

    async def _record(self, state: "_DeliveryState", decision: Decision) -> None:
        letter = state.letter
        if decision.global_backoff:
            self.breaker.failure(decision.global_backoff)
        if decision.sender_backoff:
            self.breaker.sender_failure(letter.sender, decision.sender_backoff)
        written = await self.recorder.record(Outcome(letter, decision, took=self.in_flight.age(letter)))
        self.log.result(letter, decision, written, began=state.began)
        if written in {WriteResult.STALE, WriteResult.RESOLVED}:
            return
        if decision.pause:
            self.log.pause_log.paused(letter.sender, decision.pause, began=state.began)
        ended = decision.transition in {Transition.FAILED, Transition.SUPPRESSED} or written is WriteResult.CANCELLED
        if ended and letter.draft_id and not decision.forgets:
            try:
                await self.limited_gmail.delete_draft(letter.sender, draft_id=letter.draft_id)
            except DatabaseError as error:  # the search for orphans finds it
                self.events.step_failed(what="deleting an unsent letter's draft", again_in=0.0, error=error)

    async def _handle_bug(self, state: "_DeliveryState", error: Exception) -> None:
        if isinstance(error, DatabaseError):
            decision, then = None, "its lease will expire, and the recovery checks it"  # the record itself was refused
        elif state.maybe_sent or state.letter.unanswered:
            decision = Decision(
                Transition.LOST, error=f"unforeseen: {error!r}", wait=self.policy.late_arrival, refused=state.refused,
                discarding=state.refused,
            )  # fmt: skip
            then = "it may have been sent, and is looked for"
        else:
            decision = Decision(Transition.FAILED, error=f"unforeseen: {error!r}")
            then = "this letter only is failed"
        self.log.bug(state.letter, then, error)
        if decision is None:
            return
        try:
            await self._record(state, decision)
        except Exception as again:  # noqa: BLE001 - it can only be logged
            self.log.bug(state.letter, "its lease will expire, and the recovery checks it", again)


@dataclass
class _DeliveryState:
    """The state of one delivery."""

    letter: ClaimedRecipient
    began: float = 0.0
    """When the attempt began, in monotonic seconds."""
    room: AsyncExitStack = field(default_factory=AsyncExitStack)
    """It holds the memory slot of a large letter, until Google has the letter."""
    raw: bytes = b""
    """The letter, from its making until it is submitted."""
    maybe_sent: bool = False
    refused: bool = False
    """Google has refused it, and its draft is being deleted."""
    claim_lost: bool = False
    suppressed: bool = False
    checked: float = 0.0
    """When the suppression of its address was last looked up, or earlier, in monotonic seconds."""
