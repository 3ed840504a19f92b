"""The delivery of one message: render, create the draft, record its id, send it, judge, decide,
record, log.

The order of the lines decides what a crash can cost: a message is sent only after its handover is
durable.
"""

import random
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from mailerd.clock import Clock
from mailerd.core.claims import ClaimedRecipient, Handover, Outcome, WriteResult
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
from mailerd.core.i18n import t
from mailerd.core.reasons import reason
from mailerd.core.replies import (
    Accepted,
    Call,
    MalformedResponse,
    Refused,
    Reply,
    TokenRefused,
    TooLate,
)
from mailerd.core.states import Transition
from mailerd.core.suppression import MAX_LOOKUP_AGE, Reason, why_suppressed
from mailerd.core.verdicts import Disposition, PauseCause, Verdict, judge, refused_alone
from mailerd.errors import DatabaseError, MailerdError
from mailerd.events.worker import RunnerEvents
from mailerd.gmail import Gmail, Mailbox, MessageSemaphore
from mailerd.gmail.session import begin_before
from mailerd.rate_limited_gmail import RateLimitedGmail
from mailerd.worker.delivery_log import DeliveryLog
from mailerd.worker.in_flight import CircuitBreaker, InFlight
from mailerd.worker.message_builder import MessageBuilder, why_not_built
from mailerd.worker.recorder import Recorder
from mailerd.worker.refusals import Refusals

_MAX_STOPPED: Final = 200
"""Stopped claims that are remembered; a message of an older one is begun, and refused at its own
hand-over.
"""


_MADE_ANEW_AFTER: Final = timedelta(seconds=5)
"""How long a message waits until it is made without a copy; as often a draft is deleted that Google
keeps.
"""


@dataclass(frozen=True)
class Delivery:
    """Delivers messages; one object for all of them."""

    gmail: Gmail
    """It makes the message's own calls, whose units the claim has debited."""
    limited_gmail: RateLimitedGmail
    """It makes authentications and deletions, which wait for units of their own."""
    semaphore: MessageSemaphore
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
    stopped: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=_MAX_STOPPED))
    """Claims and jobs of which a hand-over was refused, since the job or its sender was stopped: no
    message of them is begun any more. What is claimed after that has another token.
    """

    async def deliver(self, message: ClaimedRecipient) -> None:
        """Bring one message to a recorded outcome; an error concerns this message only."""
        state = _DeliveryState(message)
        try:
            decision = await self._bring_to_google(state)
            if decision:
                it = state.message
                decision = delay_repeated_check(
                    decision, unanswered=it.unanswered, checks=it.checks, policy=self.policy
                )
                await self._record(state, decision)
        except Exception as error:  # noqa: BLE001 - a bug met by one message must not stop the others
            await self._handle_bug(state, error)
        finally:
            self.in_flight.remove(message)
            self.log.progress.end(message.job_id, message.id)

    async def _bring_to_google(self, state: "_DeliveryState") -> Decision | None:
        """The decision to write; None when the claim had ended before anything was sent.

        What may take long is done before the slot at Google is taken: the access token, and the
        message itself.
        """
        message = state.message
        if (
            failed := given_up(message.attempt, reason=message.error, policy=self.policy)
        ) and not message.unanswered:
            return failed
        mailbox = await self.limited_gmail.authenticate(message.sender)
        if not isinstance(mailbox, Mailbox):
            return self._judged(state, Call.TOKEN, mailbox)
        # the sign-in was exchanged for one that has no drafts
        if message.draft_id and mailbox.mode == "direct":
            if message.unanswered:
                return no_drafts(late_arrival=self.policy.late_arrival)
            state.message = message = message.without_draft()
        async with AsyncExitStack() as state.room:
            if message.draft_id is None and (early := await self._make(state, mailbox)):
                self._announce(state.message)
                return early
            try:
                async with self.semaphore.slot(message):
                    state.began = self.clock.monotonic()
                    return await self._attempt(state)
            finally:
                state.raw = b""  # its record may wait for hours

    async def _make(self, state: "_DeliveryState", mailbox: Mailbox) -> Decision | None:
        """Make the bytes of a new message, unless it is not to be sent; a decision where there will
        be none now.
        """
        if state.message.suppressed:
            return None
        state.began = self.clock.monotonic()
        try:
            if resting := await self._join_project(state, mailbox):
                return resting
            message = state.message
            state.raw = await self.builder.build(
                message, room=state.room, on_slow=lambda: self.semaphore.set_aside(message)
            )
        except (MailerdError, ValueError) as error:
            if (decision := why_not_built(error)) is None:
                raise
            return decision
        return None

    def _announce(self, message: ClaimedRecipient) -> None:
        number, total = self.log.progress.begin(message.job_id, message.id)
        self.events.message_started(
            job=message.job_id,
            recipient=message.id,
            to=message.to_email,
            sender=message.sender,
            number=number,
            total=total,
            attempt=message.attempt,
        )

    async def _attempt(self, state: "_DeliveryState") -> Decision | None:
        message = state.message
        # again: it may have waited long for its slot
        mailbox = await self.limited_gmail.authenticate(message.sender)
        if not isinstance(mailbox, Mailbox):
            return self._judged(state, Call.TOKEN, mailbox)
        if failed := given_up(message.attempt, reason=message.error, policy=self.policy):
            # unless its draft was sent: then it is gone
            return await self._discard(state, mailbox, failed)
        if message.suppressed:
            return await self._suppress(state, mailbox)
        if message.draft_id is None and (message.token, message.job_id) in self.stopped:
            return Decision(Transition.RELEASED, error=reason("stopped"))
        self._announce(message)
        if message.draft_id is None:
            return await self._send_new(state, mailbox)
        await self._record_handover(state, mailbox)
        return None if state.claim_lost else await self._send_draft(state, mailbox)

    async def _send_new(self, state: "_DeliveryState", mailbox: Mailbox) -> Decision | None:
        try:
            early = await self._submit(state, mailbox)
        finally:
            await state.room.aclose()
        return (
            early
            if early is not None or state.claim_lost
            else await self._send_draft(state, mailbox)
        )

    async def _submit(self, state: "_DeliveryState", mailbox: Mailbox) -> Decision | None:
        """Submit the message; None when it is a draft at Google now, or the claim has ended."""
        raw, state.raw = state.raw, b""
        if mailbox.mode == "direct":
            return await self._send_directly(state, raw, mailbox)
        return await self._create_draft(state, raw, mailbox)

    async def _join_project(self, state: "_DeliveryState", mailbox: Mailbox) -> Decision | None:
        """Note the project of a sender that has none yet; a decision where that project rests."""
        message = state.message
        if message.sender_project or not mailbox.project:
            return None
        if pause := await self.recorder.join_project(message, mailbox.project, mailbox.mode):
            return Decision(Transition.RELEASED, error=pause.reason, pause=pause)
        # Its row says so now: no record of this message has to.
        state.message = replace(message, sender_project=mailbox.project, sender_mode=mailbox.mode)
        return None

    async def _create_draft(
        self, state: "_DeliveryState", raw: bytes, mailbox: Mailbox
    ) -> Decision | None:
        """None when the draft exists and its id is durable, or the claim has ended."""
        if not self._time_for_a_call(state):
            return Decision(Transition.RELEASED, error=reason("lease_nearly_over"))
        reply = await self.gmail.create_draft(state.message.sender, raw=raw)
        if not isinstance(reply, Accepted):
            return self._judged(state, Call.DRAFTS_CREATE, reply)
        self._note_reply(state, reply)
        state.message = replace(
            state.message, draft_id=reply.id, thread_id=reply.thread_id or None, unanswered=False
        )
        # After a crash before this commit, nothing is sent and the draft is an orphan, found by its
        # key.
        async with self.semaphore.released(state.message):
            await self._record_handover(state, mailbox)
        return None

    async def _send_draft(self, state: "_DeliveryState", mailbox: Mailbox) -> Decision | None:
        if not self._time_for_a_call(state):
            return Decision(Transition.RELEASED, error=reason("lease_nearly_over"))
        message, draft_id = state.message, state.message.draft_id or ""
        # After a crash from here on, the row names the draft to check: gone means sent, there means
        # not sent.
        reply = await self._send(
            state,
            lambda: self.gmail.send_draft(
                message.sender, draft_id=draft_id, thread_id=message.thread_id
            ),
        )
        if reply is None:
            return await self._withhold(state, mailbox)
        decision = self._judged(state, Call.DRAFTS_SEND, reply)
        if should_delete_draft(decision, reply, unanswered=state.message.unanswered):
            return await self._discard(state, mailbox, decision)
        return decision

    async def _discard(
        self, state: "_DeliveryState", mailbox: Mailbox, decision: Decision
    ) -> Decision | None:
        """Delete the draft that Google refused to send; the decision to write then, None when the
        claim has ended.
        """
        message, deletion = state.message, Disposition.TRANSIENT
        state.refused = True
        if self._time_for_a_call(state):
            # After a crash from here on, the row says that Google refused the message, and that we
            # deleted the draft.
            await self._record_handover(state, mailbox, discarding=True, pause=decision.pause)
            if state.claim_lost:
                return None
            # the commit may have taken long, and a successor may send this very draft
            if self._time_for_a_call(state):
                # Its units are debited with the send: one that Google refuses uses none.
                reply = await self.gmail.delete_draft(
                    message.sender, draft_id=message.draft_id or ""
                )
                self._note_reply(state, reply)
                deletion = judge(Call.DRAFTS_DELETE, reply).disposition
        if deletion is Disposition.ACCEPTED:
            self.events.draft_discarded(
                job=message.job_id,
                recipient=message.id,
                to=message.to_email,
                sender=message.sender,
                draft=message.draft_id or "",
                cause=decision.error or "",
            )
        return after_deletion(
            decision, deletion, late_arrival=self.policy.late_arrival, unanswered=message.unanswered
        )

    async def _send_directly(
        self, state: "_DeliveryState", raw: bytes, mailbox: Mailbox
    ) -> Decision | None:
        await self._record_handover(state, mailbox)
        if state.claim_lost:
            return None
        if not self._time_for_a_call(state):
            return Decision(Transition.RELEASED, error=reason("lease_nearly_over"))
        reply = await self._send(
            state, lambda: self.gmail.send_message(state.message.sender, raw=raw)
        )
        return (
            await self._withhold(state, mailbox)
            if reply is None
            else self._judged(state, Call.MESSAGES_SEND, reply)
        )

    async def _send(
        self, state: "_DeliveryState", send: Callable[[], Awaitable[Reply]]
    ) -> Reply | None:
        """Ask Google to send.

        None: it was not asked, since something withholds it, or this could not be read.

        A send whose first byte would be later than MAX_LOOKUP_AGE after the look does not begin: a
        token or a connection may take that long. Then it is looked up anew.
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
        """What to write of a message that was not sent because of `_may_send`."""
        if state.suppressed:
            return await self._suppress(state, mailbox)
        if state.stopped:
            return await self._put_back(
                state, mailbox, Decision(Transition.RELEASED, error=reason("stopped"))
            )
        # its draft may name that copy; the next claim makes one without it
        if state.copy_suppressed:
            anew = Decision(
                Transition.RELEASED, error=reason("copy_suppressed"), wait=_MADE_ANEW_AFTER
            )
            return await self._put_back(state, mailbox, anew)
        return Decision(Transition.RELEASED, error=reason("suppression_unknown"))

    async def _may_send(self, state: "_DeliveryState") -> bool:
        """Whether a look that is no older than MAX_LOOKUP_AGE shows that none of the addresses is
        suppressed.

        The hand-over was refused where its address had opted out. Its COMMIT may have taken long,
        and the answer to an unsubscribe waits for no more than ANSWER_DELAY: then it is looked up
        anew.
        """
        while not state.is_withheld and self.clock.monotonic() - state.checked > MAX_LOOKUP_AGE:
            state.checked = self.clock.monotonic()
            try:
                now = await self.recorder.suppression(state.message)
            except DatabaseError:
                return False
            state.suppressed, state.copy_suppressed = now.suppressed is not None, bool(now.barred)
            if not self._time_for_a_call(state):
                return False
        return not state.is_withheld

    async def _suppress(self, state: "_DeliveryState", mailbox: Mailbox) -> Decision | None:
        """Cancel the message, and delete its draft; None when the claim has ended."""
        why = state.message.suppressed or await self._reason(state.message)
        decision = Decision(Transition.SUPPRESSED, error=why_suppressed(why))
        return (
            decision
            if state.message.draft_id is None
            else await self._discard(state, mailbox, decision)
        )

    async def _put_back(
        self, state: "_DeliveryState", mailbox: Mailbox, decision: Decision
    ) -> Decision | None:
        """Delete the draft of a message that waits again."""
        if (
            state.message.draft_id is None
            or (after := await self._discard(state, mailbox, decision)) is None
        ):
            return None if state.claim_lost else decision
        # Google was not asked to send it
        return replace(after, untried=after.transition is Transition.LOST)

    async def _reason(self, message: ClaimedRecipient) -> Reason:
        """Why an address is suppressed since the claim; nearly always by its owner."""
        with suppress(DatabaseError):
            return (await self.recorder.suppression(message)).suppressed or Reason.UNSUBSCRIBED
        return Reason.UNSUBSCRIBED

    async def _record_handover(
        self,
        state: "_DeliveryState",
        mailbox: Mailbox,
        *,
        discarding: bool = False,
        pause: Pause | None = None,
    ) -> None:
        state.checked = self.clock.monotonic()
        match await self.recorder.record(
            Handover(state.message, mailbox.project or None, discarding, pause)
        ):
            case WriteResult.APPLIED:
                return
            case WriteResult.SUPPRESSED:
                state.suppressed = True
                return
            case WriteResult.COPY_SUPPRESSED:
                state.copy_suppressed = True
                return
            case WriteResult.STOPPED:
                state.stopped = True
                self.stopped.append((state.message.token, state.message.job_id))
                return
            case WriteResult.RESOLVED:
                self.log.found(
                    state.message,
                    t("Google had confirmed it to a worker whose record the row had lost"),
                )
            case WriteResult.IN_DOUBT:
                self.log.decision(
                    state.message,
                    Decision(Transition.LOST, error=reason("sent_by_lost_claim")),
                    began=state.began,
                )
            case _:
                self.log.handover_lost(state.message)
        # The draft stays: only the recovery, which reads the row, knows whether another worker
        # needs it.
        state.claim_lost = True

    def _time_for_a_call(self, state: "_DeliveryState") -> bool:
        return self.in_flight.lease_allows(state.message, seconds=self.request_timeout)

    def _judged(self, state: "_DeliveryState", call: Call, reply: Reply) -> Decision:
        self._note_reply(state, reply)
        message, chance = state.message, random.random()  # noqa: S311 - jitter
        return decide(
            self._verdict(state, call, reply),
            reply,
            attempt=message.attempt,
            policy=self.policy,
            now=self.clock.now(),
            pauses=message.pauses,
            chance=chance,
        )

    def _verdict(self, state: "_DeliveryState", call: Call, reply: Reply) -> Verdict:
        verdict, message, now = judge(call, reply), state.message, self.clock.monotonic()
        if verdict.disposition is Disposition.ACCEPTED:
            self.refusals.accepted(message.sender, began=state.began, now=now)
        refused = (
            verdict.backoff is not None and verdict.backoff.cause is PauseCause.MAILBOX_REFUSED
        )
        # at its sign-in it was not shown
        if isinstance(reply, Refused) and refused and call is not Call.TOKEN:
            alone = self.refusals.concerns(message.id, message.sender, began=state.began, now=now)
            return refused_alone(reply) if alone else verdict
        return verdict

    def _note_reply(self, state: "_DeliveryState", reply: Reply) -> None:
        """Every answer shows that Google can be reached."""
        if isinstance(reply, Accepted | Refused | TokenRefused | MalformedResponse):
            self.breaker.success(state.message.sender)

    async def _record(self, state: "_DeliveryState", decision: Decision) -> None:
        message = state.message
        if decision.global_backoff:
            self.breaker.failure(decision.global_backoff)
        if decision.sender_backoff:
            self.breaker.sender_failure(message.sender, decision.sender_backoff)
        written = await self.recorder.record(
            Outcome(message, decision, took=self.in_flight.age(message))
        )
        self.log.result(message, decision, written, began=state.began)
        if written in {WriteResult.STALE, WriteResult.RESOLVED}:
            return
        if decision.pause:
            self.log.pause_log.paused(message.sender, decision.pause, began=state.began)
        ended = (
            decision.transition in {Transition.FAILED, Transition.SUPPRESSED}
            or written is WriteResult.CANCELLED
        )
        if ended and message.draft_id and not decision.forgets:
            try:
                await self.limited_gmail.delete_draft(message.sender, draft_id=message.draft_id)
            except DatabaseError as error:  # the search for orphans finds it
                self.events.step_failed(what="drafts.delete", again_in=0.0, error=error)

    async def _handle_bug(self, state: "_DeliveryState", error: Exception) -> None:
        if isinstance(error, DatabaseError):
            # the record itself was refused
            decision, then = (
                None,
                t("the recovery checks it after its lease"),
            )
        elif state.maybe_sent or state.message.unanswered:
            decision = Decision(
                Transition.LOST,
                error=reason("internal_error", error=repr(error)),
                wait=self.policy.late_arrival,
                refused=state.refused,
                discarding=state.refused,
            )
            then = t("it may have been sent; checking at Google")
        else:
            decision = Decision(
                Transition.FAILED, error=reason("internal_error", error=repr(error))
            )
            then = t("only this message fails")
        self.log.bug(state.message, then, error)
        if decision is None:
            return
        try:
            await self._record(state, decision)
        except Exception as again:  # noqa: BLE001 - it can only be logged
            self.log.bug(state.message, t("its lease will expire, then it is checked"), again)


@dataclass
class _DeliveryState:
    """The state of one delivery."""

    message: ClaimedRecipient
    began: float = 0.0
    """When the attempt began, in monotonic seconds."""
    room: AsyncExitStack = field(default_factory=AsyncExitStack)
    """It holds the memory slot of a large message, until Google has the message."""
    raw: bytes = b""
    """The message, from its making until it is submitted."""
    maybe_sent: bool = False
    refused: bool = False
    """Google has refused it, and its draft is being deleted."""
    claim_lost: bool = False
    suppressed: bool = False
    copy_suppressed: bool = False
    stopped: bool = False
    """Its job or its sender was paused or cancelled before the hand-over."""
    checked: float = 0.0
    """When the suppressions of its addresses were last looked up, or earlier, in monotonic
    seconds.
    """

    @property
    def is_withheld(self) -> bool:
        """Whether an address, its own or a copy's, is suppressed, or its job or sender was
        stopped.
        """
        return self.suppressed or self.copy_suppressed or self.stopped
