"""Examines what came into an inbox: which message it concerns, what it means, and what follows."""

import asyncio
import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from mailerd.core.i18n import t
from mailerd.core.inbox_findings import (
    BouncedCopy,
    Finding,
    Found,
    InboxCursor,
    InboxLease,
    SentElsewhere,
    SentMessage,
)
from mailerd.core.message_proof import is_proof
from mailerd.core.notices import (
    DeliveryReport,
    Kind,
    ReceivedMail,
    addresses,
    failed_addresses,
    is_addressed_to,
    is_forged,
    is_googles,
    is_notice,
    message_id,
    read,
    same_address,
    unsubscribe_token,
)
from mailerd.core.rate_limit import NOTICE_UNITS, BudgetSpentError, RoundBudget
from mailerd.core.replies import Accepted, Call, NotSent, Refused, Reply, UnitsUsedUp
from mailerd.core.results import Consequence, Evidence, Result, Step, consequence
from mailerd.core.suppression import digest_of, read_token
from mailerd.core.verdicts import judge
from mailerd.mail.read_notice import MAX_NOTICE, decoded_words, read_notice
from mailerd.rate_limited_gmail import RateLimitedGmail
from mailerd.store.inbox.mailboxes import Mailboxes
from mailerd.store.write.secrets import SecretKeys

_KEY: Final = re.compile(r"([0-9A-Z]{26})-([0-9]{1,9})", re.ASCII)
_NOT_FOUND: Final = 404
MAX_SEEN: Final = 20_000
"""How much received mail of one mailbox is remembered at most."""
MAX_WAITING: Final = 10_000
"""How much received mail outside our threads waits at most.

More is not examined: a flood delays none in our threads.
"""
MAX_FETCHED: Final = 8 * 1024 * 1024
"""Bytes of a notice that is fetched whole (`MAX_RAW` of gmail/session.py); of a larger one the
headers tell.
"""
MAX_HEADERS: Final = 200
"""The most headers of one received mail that are read."""
_UNDECIDED: Final = frozenset({"sending", "unsure"})
_TYPED_BY_PERSON: Final = frozenset({"SENT"})
_NO_MAIL: Final = frozenset({"DRAFT", "CHAT"})
_NO_CATEGORY: Final = frozenset({"CATEGORY_PERSONAL"})
"""The label of the tab "Primary", where Google shows what people write."""


class MailboxTroubleError(Exception):
    """Google does not let us read at all at the moment: the fault is the mailbox's or the
    network's.
    """


class UnreadableMailError(Exception):
    """One received mail cannot be read, but others can."""

    def __init__(self, gmail_id: str, cause: str) -> None:
        super().__init__(cause)
        self.gmail_id = gmail_id


class MessageUndecidedError(UnreadableMailError):
    """A notice came for a message of which it is not known whether, or as what, it was sent; `at`:
    when it came.
    """

    def __init__(self, gmail_id: str, cause: str, *, at: datetime) -> None:
        super().__init__(gmail_id, cause)
        self.at = at


@dataclass(frozen=True)
class Arrived:
    """Mail in a mailbox as the history or a list names it."""

    gmail_id: str
    thread_id: str
    labels: frozenset[str]

    @property
    def is_answer(self) -> bool:
        """Whether it stands in a conversation that was there before it: whatever begins one gives
        it its own id.
        """
        return self.thread_id != self.gmail_id

    @property
    def came_in(self) -> bool:
        """Whether it came from elsewhere: the history of a mailbox names what it has sent, too."""
        return self.labels.isdisjoint(_TYPED_BY_PERSON | _NO_MAIL)


@dataclass
class WaitingArrival:
    """Received mail outside our threads that was not examined yet."""

    arrived: Arrived
    behind: InboxCursor
    """The cursor behind which it was found."""
    met_at: datetime | None = None
    """When it was first to be examined, by the database's clock."""


@dataclass
class Walk:
    """How far a walk through a mailbox has come."""

    start: InboxCursor
    """The cursor at which the walk began; it goes back in time down to that moment."""
    began_ms: int
    labels: list[str]
    """The labels that are still to be walked."""
    page: str = ""
    """The token of the next page of the first label."""


@dataclass
class SeenMail:
    """What this daemon has seen of one mailbox: a walk that needs several rounds asks for nothing
    twice.
    """

    unrelated: set[str] = field(default_factory=set)
    """The ids of received mail that concerns no message."""
    dates: dict[str, datetime] = field(default_factory=dict)
    message_ids: dict[str, str] = field(default_factory=dict)
    """The Message-ID of messages of ours, by Gmail's id."""
    half_read: tuple[str, ReceivedMail, datetime] | None = None
    """A notice of which all is read, by its Gmail id: no units were left to ask for the message
    that it is about.
    """
    waiting: dict[str, WaitingArrival] = field(default_factory=dict)
    """Received mail outside our threads that was not examined yet.

    Other servers' notices are among them; most are the person's own mail, for which no notice shall
    wait. And what may be about a message whose thread is known only once its outcome is.
    """
    written: InboxCursor | None = None
    """The cursor that this daemon has written last: what waits before it stands in `waiting`; None:
    it is not known.
    """
    walk: Walk | None = None

    def prune(self, *, at_most: int = MAX_SEEN) -> None:
        """Forget what was seen if it is more than that: it is then asked for again."""
        if len(self.dates) > at_most:
            self.unrelated.clear()
            self.dates.clear()
        if len(self.message_ids) > at_most:
            self.message_ids.clear()


@dataclass
class Examiner:
    """Examines what came into one mailbox, in one round."""

    lease: InboxLease
    gmail: RateLimitedGmail
    mailboxes: Mailboxes
    budget: RoundBudget
    keys: SecretKeys
    bodies: bool
    """Whether the sign-in allows to read mail whole."""
    seen: SeenMail
    own: frozenset[str]
    """The addresses of the mailbox: its own, and those of its aliases in the settings."""
    braked: set[str] = field(default_factory=set)
    """Jobs that wait until what came back of them is read; while there are any, it is read
    first.
    """
    _large: set[str] = field(default_factory=set, init=False)
    """Received mail that is too large to be fetched whole."""

    async def examine(self, it: Arrived, messages: Sequence[SentMessage]) -> Found | None:
        """What received mail is; `messages`: those in its thread. None: it concerns no message.

        Raises:
            UnreadableMailError: it cannot be read.
            MailboxTroubleError: nothing can be read at the moment.
            BudgetSpentError: the round is over.
        """
        if self._is_no_matter(it, messages):
            return None
        if it.labels & _TYPED_BY_PERSON:
            return await self._sent(it, messages)
        half, self.seen.half_read = self.seen.half_read, None
        if half is not None and half[0] == it.gmail_id:
            _, received, at = half
        else:
            got = await self._headers(it, units=NOTICE_UNITS if self.bodies else 0)
            if got is None:
                return None
            received, at = got
        found = await self._found(it, received, at, messages)
        if found is None:
            self.seen.unrelated.add(it.gmail_id)
        return found

    def postpone(self, it: Arrived, messages: Sequence[SentMessage], behind: InboxCursor) -> bool:
        """Whether received mail waits until the round has read what stands in our threads.

        `behind`: where it was found. While jobs wait for what came back of them, our other threads
        wait too.
        """
        if (
            messages
            and self.braked.isdisjoint(it.job_id for it in messages)
            and len(self.seen.waiting) < MAX_WAITING
        ):
            messages = () if self.braked else messages
        if messages or not it.came_in:
            return False
        # An answer of any category may stand in the thread of a message whose thread is not known
        # yet.
        if not it.is_answer and self._is_no_matter(it, messages):
            return False
        if len(self.seen.waiting) < MAX_WAITING:
            self.seen.waiting.setdefault(it.gmail_id, WaitingArrival(it, behind))
        return True

    def _is_no_matter(self, it: Arrived, messages: Sequence[SentMessage]) -> bool:
        """Whether received mail concerns no message for sure.

        Google's categories are for what programs send to many, but for the one that says that it is
        none of them.
        """
        if it.labels & _NO_MAIL or it.gmail_id in self.seen.unrelated:
            return True
        return not messages and any(
            label.startswith("CATEGORY_") for label in it.labels - _NO_CATEGORY
        )

    async def _sent(self, it: Arrived, messages: Sequence[SentMessage]) -> Found | None:
        """A message that left the mailbox: ours, or one that its owner or another program has
        sent.
        """
        if any(message.message_id in (None, it.gmail_id) for message in messages):
            return None
        got = await self._headers(it)
        if got is None or _KEY.fullmatch(got[0].first("x-mailerd-key").strip()):
            return None  # gone, or ours: its row does not have the answer yet, or was given back
        return SentElsewhere(it.gmail_id, it.thread_id, got[1])

    async def _found(
        self, it: Arrived, received: ReceivedMail, at: datetime, messages: Sequence[SentMessage]
    ) -> Finding | None:
        if token := unsubscribe_token(received):
            return await self._unsubscribe(it, received, at, token)
        notice = is_notice(received)
        if not notice and any(
            same_address(it, self.lease.email) for it in addresses(received.first("from"))
        ):
            # the owner's own words, sent by another program than Gmail, or a list's copy of the
            # message
            return None
        if notice and self.bodies and received.report is None and it.gmail_id not in self._large:
            received = ReceivedMail(received.headers, await self._report(it))
        message, by_key = await self._message(received, messages)
        if message is None:
            return None
        report = received.report
        meaning = read(received, about=message.to_email)
        # the row may have changed since those were read
        in_thread = message.id in {other.id for other in messages}
        # With a limit notice Google returns the message that it did not send: ours has its key and
        # its proof.
        returns_another = (
            meaning.kind is Kind.OVER_LIMIT and not by_key and bool(report and report.has_returned)
        )
        evidence = Evidence(
            from_google=is_googles(received) and is_addressed_to(received, self.own),
            forged=is_forged(received),
            in_thread=in_thread,
            has_key=by_key,
            is_about=not returns_another,
            body_read=report is not None,
        )
        # who has a copy knows key and proof of the message, and may not bounce it for another
        if message.copies:
            evidence = replace(evidence, has_key=False)
        follows, copies = (
            consequence(meaning, evidence, to=message.to_email),
            self._copies(received, message, evidence),
        )
        if (
            notice
            and (follows.believed or copies)
            and not await self._is_about(
                it, received, at, message, proven=by_key and not message.copies
            )
        ):
            follows, copies = (
                consequence(meaning, replace(evidence, is_about=False), to=message.to_email),
                (),
            )
        if copies and not follows.believed:
            meaning, follows = copies[0].meaning, Consequence(None, copies[0].step)
        if follows.step is Step.UNDO and message.status in _UNDECIDED:
            raise MessageUndecidedError(
                it.gmail_id,
                t(
                    "its message is still {status}; a limit notice waits for that",
                    status=message.status,
                ),
                at=at,
            )
        return Finding(it.gmail_id, it.thread_id, at, message, meaning, follows, copies=copies)

    def _copies(
        self, received: ReceivedMail, message: SentMessage, evidence: Evidence
    ) -> tuple[BouncedCopy, ...]:
        """The copies of a message that bounced: those that a notice names."""
        named = [it for it in failed_addresses(received) if not same_address(it, message.to_email)]
        found = list[BouncedCopy]()
        for email in message.copies if named else ():
            if any(same_address(it, email) for it in named):
                meaning = read(received, about=email)
                follows = consequence(meaning, evidence, to=email)
                if follows.believed and follows.result is Result.BOUNCED:
                    found.append(BouncedCopy(email, meaning, follows.step))
        return tuple(found)

    async def _is_about(
        self,
        it: Arrived,
        received: ReceivedMail,
        at: datetime,
        message: SentMessage,
        *,
        proven: bool,
    ) -> bool:
        """Whether a notice is about the present sending of a message; `proven`: its key came back,
        with its proof.

        Without the key, or where an earlier sending with the same key has come back, the Message-ID
        tells. Google gives it, so Google is asked for it.

        Raises:
            MessageUndecidedError: it is not known yet which id at Google the message has.
        """
        if proven and not message.came_back:
            return True
        named = message_id(received)
        if not named:
            return False
        if message.message_id is None:
            if message.status in _UNDECIDED:
                cause = t(
                    "its message is still {status}; a notice without the message waits for that",
                    status=message.status,
                )
                raise MessageUndecidedError(it.gmail_id, cause, at=at)
            return False
        known = self.seen.message_ids
        if message.message_id not in known:
            try:
                self.budget.spend(Call.MESSAGES_GET)
            except BudgetSpentError:
                self.seen.half_read = (it.gmail_id, received, at)
                raise
            reply = await self.gmail.get_headers(self.lease.email, message_id=message.message_id)
            ours = ReceivedMail(shown_headers(_listed(self.body(reply, it.gmail_id) or {})))
            is_its = ours.first("x-mailerd-key").strip() == f"{message.job_id}-{message.seq}"
            known[message.message_id] = ours.first("message-id").strip() if is_its else ""
        return known[message.message_id] == named

    async def _message(
        self, received: ReceivedMail, messages: Sequence[SentMessage]
    ) -> tuple[SentMessage | None, bool]:
        """The message that received mail concerns, and whether its own key came back in it with its
        proof.
        """
        keyed, proven = await self._by_key(received.report)
        if proven or not messages:
            return keyed, proven
        if len(messages) == 1:
            return messages[0], False
        named = received.report.recipients if received.report else ()
        whom = [*(r.address for r in named), *addresses(received.first("x-failed-recipients"))]
        whom = whom or addresses(received.first("from"))
        meant = [
            it
            for it in messages
            if any(same_address(own, each) for own in (it.to_email, *it.copies) for each in whom)
        ]
        return (meant[0] if len(meant) == 1 else None), False

    async def _by_key(self, report: DeliveryReport | None) -> tuple[SentMessage | None, bool]:
        """The message whose key came back, and whether its proof did: any recipient of its job can
        guess the key.
        """
        parts = _KEY.fullmatch(report.key) if report else None
        if report is None or parts is None:
            return None, False
        message = await self.mailboxes.message_by_key(parts[1], int(parts[2]))
        if message is None or message.sender != self.lease.email:
            return None, False
        return message, is_proof(report.proof, report.key, self.keys.address)

    async def _unsubscribe(
        self, it: Arrived, received: ReceivedMail, at: datetime, text: str
    ) -> Finding | None:
        token = read_token(text, self.keys.tokens)
        if token is None:
            return None
        # Of any sender: a mailbox may be forwarded to another one that is read, and the first to
        # see it tells of it.
        message = await self.mailboxes.message_by_id(token.recipient_id)
        if message is not None and digest_of(message.to_email, self.keys.address) != token.digest:
            # a database that has lost commits gives their numbers anew: it is another person's
            message = None
        meaning = read(received)
        nothing = Evidence(
            from_google=False,
            forged=False,
            in_thread=False,
            has_key=False,
            is_about=False,
            body_read=False,
        )
        follows = consequence(meaning, nothing, to=message.to_email if message else "")
        return Finding(
            it.gmail_id, it.thread_id, at, message, meaning, follows, (token.list_id, token.digest)
        )

    async def _headers(
        self, it: Arrived, *, units: int = 0
    ) -> tuple[ReceivedMail, datetime] | None:
        """The headers, and when it came; None: it is gone.

        `units`: what has to be left for it and what follows.
        """
        self.budget.require(units)
        self.budget.spend(Call.MESSAGES_GET)
        body = self.body(
            await self.gmail.get_headers(self.lease.email, message_id=it.gmail_id), it.gmail_id
        )
        if body is None:
            return None
        if isinstance(size := body.get("sizeEstimate"), int) and size > MAX_FETCHED:
            self._large.add(it.gmail_id)
        at = self.seen.dates[it.gmail_id] = arrived_at(body, self.lease.now)
        return ReceivedMail(shown_headers(_listed(body))), at

    async def _report(self, it: Arrived) -> DeliveryReport | None:
        self.budget.spend(Call.MESSAGES_GET)
        reply = await self.gmail.get_raw(self.lease.email, message_id=it.gmail_id)
        body = self.body(reply, it.gmail_id)
        coded = str(body.get("raw", "")) if body else ""
        try:
            raw = base64.urlsafe_b64decode(coded[: MAX_NOTICE * 4 // 3 // 4 * 4].encode("ascii"))
        except (ValueError, binascii.Error) as error:
            raise UnreadableMailError(
                it.gmail_id, t("its raw form is not valid base64url: {error}", error=error)
            ) from error
        # Strangers write it, and a hostile one may take a while: never in the event loop.
        return await asyncio.to_thread(read_notice, raw)

    async def date_of(self, it: Arrived) -> datetime | None:
        """When received mail came; None where it is gone."""
        if it.gmail_id not in self.seen.dates:
            await self._headers(it)
        return self.seen.dates.get(it.gmail_id)

    def body(self, reply: Reply, gmail_id: str) -> Mapping[str, object] | None:
        """The answer about one id; None where it is gone."""
        if isinstance(reply, Accepted) and isinstance(reply.body, Mapping):
            return reply.body
        if isinstance(reply, Refused) and reply.status == _NOT_FOUND:
            return None
        trouble(Call.MESSAGES_GET, reply)
        raise UnreadableMailError(gmail_id, judge(Call.MESSAGES_GET, reply).reason)


def _listed(body: Mapping[str, object]) -> object:
    """The headers in an answer about received mail."""
    payload = body.get("payload")
    return payload.get("headers") if isinstance(payload, Mapping) else None


def shown_headers(items: object) -> tuple[tuple[str, str], ...]:
    """The headers of received mail as Google lists them; total: a stranger wrote them.

    Of these only a subject is text for people, whose encoded words are decoded (RFC 2047, 5): in
    any other one they would become quotes, brackets and addresses that it does not have. Those that
    are read first stand first.
    """
    listed = items[:MAX_HEADERS] if isinstance(items, list) else []
    given = [
        (str(it.get("name", "")), str(it.get("value", "")))
        for it in listed
        if isinstance(it, Mapping)
    ]
    return tuple(
        (name, decoded_words(value) if name.lower() == "subject" else _whole(value))
        for name, value in given
    )


def _whole(value: str) -> str:
    # half a character is none that the database takes
    return value.encode("utf-8", "replace").decode("utf-8")


def trouble(call: Call, reply: Reply) -> None:
    """Raise MailboxTroubleError where a reply says nothing about the one thing that was asked
    for.
    """
    if isinstance(reply, UnitsUsedUp):
        raise MailboxTroubleError(reply.cause)
    verdict = judge(call, reply)
    if isinstance(reply, NotSent) or verdict.backoff is not None:
        raise MailboxTroubleError(verdict.reason)


def arrived_at(body: Mapping[str, object], now: datetime) -> datetime:
    """internalDate, milliseconds since 1970; `now` where it is missing."""
    millis = str(body.get("internalDate", ""))
    if millis.isdecimal() and len(millis) < 15:  # noqa: PLR2004 - past the year 30,000
        return datetime.fromtimestamp(int(millis) / 1000, UTC)
    return now
