"""Resolves unresolved sends: only what Google shows decides, and a check that fails decides nothing."""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, assert_never

from mailerd.core.decisions import draft_gone, needs_person_reason
from mailerd.core.models import UnresolvedSend
from mailerd.core.replies import Accepted, Call, Refused, Reply
from mailerd.core.states import Proof, Transition
from mailerd.core.verdicts import Disposition, judge
from mailerd.gmail import Mailbox
from mailerd.rate_limited_gmail import RateLimitedGmail
from mailerd.store.queue.recovery import Resolution

_FIRST_RETRY_DELAY: Final = timedelta(seconds=30)
_MAX_RETRY_DELAY: Final = timedelta(hours=1)
_MAX_READ: Final = 500
"""Sent messages that one check reads at most: 10,000 of Google's units. The next check goes on from there."""
_GOES_ON: Final = timedelta(seconds=1)
"""How long until the next check then."""
_MAX_CLOCK_DIFFERENCE: Final = timedelta(hours=1)
_MAX_MESSAGES: Final = 50_000
"""Sent messages whose key is remembered: one of them never changes, and reading it costs 20 of Google's units. A search
goes no further back than that."""
_NO_DRAFTS: Final = "its draft may have been sent, and this sign-in may neither use drafts nor look: settle it"
_HOW_SENT: Final = {
    "direct": "sent directly, without an answer",
    "draft": "its draft is not known any more",
    None: "it is not known how it was handed over",
}
KEY_HEADER: Final = "X-Mailerd-Key"


@dataclass(frozen=True)
class Reconciler:
    """Checks at Google whether a letter was sent."""

    gmail: RateLimitedGmail
    late_arrival: timedelta
    """How long a request without an answer may still reach Google, and its effect may be hidden from a check."""
    _read: "OrderedDict[tuple[str, str], tuple[str, datetime]]" = field(default_factory=OrderedDict)
    """The key of each sent message that was read and the time when it was sent, by sender and message id."""
    _scanning: "defaultdict[str, asyncio.Lock]" = field(default_factory=lambda: defaultdict(asyncio.Lock))
    """A lock for each mailbox: one scan at a time, so that many checks together read each message once."""

    async def reconcile(self, letter: UnresolvedSend, *, progress: Callable[[], None]) -> Resolution:
        """Check a letter. `progress` is called after each answer, since a check may take long."""
        if letter.known_message_id:
            return Resolution(letter, Transition.FOUND, message_id=letter.known_message_id, proof=Proof.ANSWERED)
        if letter.draft_id:
            return await self._by_draft(letter, letter.draft_id, progress)
        return await self._search_sent(letter, progress)

    async def _by_draft(self, letter: UnresolvedSend, draft_id: str, progress: Callable[[], None]) -> Resolution:
        mailbox = await self.gmail.authenticate(letter.sender)
        if isinstance(mailbox, Mailbox) and mailbox.mode == "direct":
            return await self._without_drafts(letter, mailbox, progress)
        verdict = judge(Call.DRAFTS_GET, await self.gmail.get_draft(letter.sender, draft_id=draft_id))
        progress()
        match verdict.disposition:
            case Disposition.ACCEPTED:
                return await self._shown(letter, progress)
            case Disposition.DRAFT_GONE:
                return await self._draft_gone(letter, progress)
            case Disposition.REJECTED | Disposition.TRANSIENT | Disposition.NOT_COUNTED | Disposition.UNKNOWN:
                return unresolved(letter, verdict.reason)
            case _:
                assert_never(verdict.disposition)

    async def _without_drafts(
        self, letter: UnresolvedSend, mailbox: Mailbox, progress: Callable[[], None]
    ) -> Resolution:
        """The sign-in may no longer use drafts, so it cannot be read whether this one exists."""
        if mailbox.can_read_metadata:
            return await self._search_thread_or_sent(letter, progress, drafts=False)
        if letter.discarding and not letter.unanswered:
            return Resolution(letter, Transition.MISSING, forgets=True)
        return Resolution(letter, None, error=_NO_DRAFTS)

    async def _shown(self, letter: UnresolvedSend, progress: Callable[[], None]) -> Resolution:
        """The draft is there: it was not sent, or a replica lags. At a second check the sent mail is read as well."""
        there = Resolution(letter, Transition.MISSING)
        if not letter.unanswered or not letter.checks:
            return there
        mailbox = await self.gmail.authenticate(letter.sender)
        progress()
        if not isinstance(mailbox, Mailbox) or not mailbox.can_read_metadata:
            return there
        seen = await self._search_thread_or_sent(letter, progress)
        return seen if seen.transition is Transition.FOUND else there

    async def _search_thread_or_sent(
        self, letter: UnresolvedSend, progress: Callable[[], None], *, drafts: bool = True
    ) -> Resolution:
        if letter.thread_id:
            return await self._in_thread(letter, letter.thread_id, progress, drafts=drafts)
        return await self._scan(letter, progress)

    async def _draft_gone(self, letter: UnresolvedSend, progress: Callable[[], None]) -> Resolution:
        """It was sent, or a person deleted it: the sent mail shows which, where the sign-in may read it."""
        mailbox = await self.gmail.authenticate(letter.sender)
        progress()
        if not isinstance(mailbox, Mailbox):
            return unresolved(letter, judge(Call.TOKEN, mailbox).reason)
        if mailbox.can_read_metadata:
            return await self._search_thread_or_sent(letter, progress)
        match draft_gone(unanswered=letter.unanswered, discarding=letter.discarding):
            case Transition.FOUND:
                return Resolution(letter, Transition.FOUND, proof=Proof.GONE)
            case Transition.MISSING:
                return Resolution(letter, Transition.MISSING, forgets=True)
            case _:
                return Resolution(letter, None, error=needs_person_reason(unanswered=letter.unanswered))

    async def _in_thread(
        self, letter: UnresolvedSend, thread_id: str, progress: Callable[[], None], *, drafts: bool
    ) -> Resolution:
        """A draft that was sent left a message in its thread (https://developers.google.com/gmail/api/guides/drafts).

        `drafts`: Google has just said that the draft is gone; otherwise it may lie there, unsent.
        """
        reply = await self.gmail.get_thread(letter.sender, thread_id=thread_id)
        progress()
        if not isinstance(reply, Accepted) and not _is_not_found(reply):
            return unresolved(letter, judge(Call.THREADS_GET, reply).reason)
        for message in _items(reply, "messages"):
            labels = message.get("labelIds")
            if not isinstance(labels, list) or key_of(message) != letter.key or message.get("id") in letter.came_back:
                continue
            if "SENT" in labels:
                return Resolution(letter, Transition.FOUND, message_id=str(message.get("id")), proof=Proof.SEEN)
            if "DRAFT" in labels and drafts:
                return unresolved(letter, "Google says that the draft is gone, and shows it in its thread")
        # A letter sent twice is worse than a search: what may have been sent is looked for among all sent mail, too.
        return await self._scan(letter, progress) if letter.unanswered else self._nothing_sent(letter)

    def _nothing_sent(self, letter: UnresolvedSend) -> Resolution:
        """The sent mail was read, and the letter is not there.

        A sent letter may show a moment later: if a send had no answer, two such checks must be `late_arrival` apart.
        """
        rested = letter.nothing_found_for or timedelta(0)
        if letter.unanswered and rested < self.late_arrival:
            error = "not settled yet: no sent message is there, and it is looked for once more"
            return Resolution(letter, None, error=error, retry_in=self.late_arrival - rested, nothing_found=True)
        return Resolution(letter, Transition.MISSING, forgets=True)

    async def _search_sent(self, letter: UnresolvedSend, progress: Callable[[], None]) -> Resolution:
        mailbox = await self.gmail.authenticate(letter.sender)
        progress()
        if not isinstance(mailbox, Mailbox):
            return unresolved(letter, judge(Call.TOKEN, mailbox).reason)
        if not mailbox.can_read_metadata:
            return Resolution(letter, None, error=f"{_HOW_SENT[letter.mode]}, and this sign-in may not look: settle it")
        return await self._scan(letter, progress)

    async def _scan(self, letter: UnresolvedSend, progress: Callable[[], None]) -> Resolution:
        async with self._scanning[letter.sender]:
            return await self._read_sent(letter, progress)

    async def _read_sent(self, letter: UnresolvedSend, progress: Callable[[], None]) -> Resolution:
        # What was read is kept even when this check's lease is over before its end: the next one goes on from there.
        search, page = _Search(letter), ""
        while search.passed < _MAX_MESSAGES:
            reply = await self.gmail.list_sent(letter.sender, page_token=page)
            progress()
            if not isinstance(reply, Accepted):
                return unresolved(letter, judge(Call.MESSAGES_LIST, reply).reason)
            if (settled := await self._on_page(search, reply, progress)) is not None:
                return settled
            if not (page := _next_page(reply)):
                return self._nothing_sent(letter)
        error = (
            f"it is not among the last {search.passed:,} sent messages, and no more are read: search the mailbox for a "
            f"letter to {letter.to_email} since {letter.since:%Y-%m-%d %H:%M} UTC, and settle it"
        )
        return Resolution(letter, None, error=error)

    async def _on_page(self, search: "_Search", page: Accepted, progress: Callable[[], None]) -> Resolution | None:
        """Newest first: found, or missing once a message is older than the letter can be; None: read on."""
        letter = search.letter
        for item in _items(page, "messages"):
            search.passed += 1
            message_id = str(item.get("id"))
            if message_id in letter.came_back:
                continue
            if (known := self._read.get((letter.sender, message_id))) is None:
                if search.read == _MAX_READ:
                    error = f"not settled yet: {search.passed - 1:,} sent messages are read, and the search goes on"
                    return Resolution(letter, None, error=error, retry_in=_GOES_ON)
                search.read += 1
                found = await self.gmail.get_message(letter.sender, message_id=message_id)
                progress()
                if not isinstance(found, Accepted) or not isinstance(found.body, Mapping):
                    return unresolved(letter, judge(Call.MESSAGES_GET, found).reason)
                known = self._remember(letter.sender, message_id, found.body)
            key, sent_at = known
            if (
                sent_at < letter.since - _MAX_CLOCK_DIFFERENCE
            ):  # its key may be on it: a limit notice undid an earlier send
                return self._nothing_sent(letter)
            if key == letter.key:
                thread = str(item.get("threadId") or "") or None
                return Resolution(letter, Transition.FOUND, message_id=message_id, thread_id=thread, proof=Proof.SEEN)
        return None

    def _remember(self, sender: str, message_id: str, message: Mapping[str, object]) -> tuple[str, datetime]:
        known = self._read[sender, message_id] = (key_of(message), _sent_at(message))
        if len(self._read) > _MAX_MESSAGES:
            self._read.popitem(last=False)
        return known


@dataclass
class _Search:
    """How far one check has got in the sent mail."""

    letter: UnresolvedSend
    passed: int = 0
    """How many messages the search has passed, the newest first."""
    read: int = 0
    """How many of them had to be read from Google for this search."""


def _is_not_found(reply: Reply) -> bool:
    """Gmail's own 404; a proxy's proves nothing."""
    return isinstance(reply, Refused) and (reply.status, reply.reason) == (404, "notFound")


def _sent_at(message: Mapping[str, object]) -> datetime:
    """internalDate, milliseconds since 1970; the end of time when it is not there, so that a scan reads on."""
    millis = str(message.get("internalDate", ""))
    return datetime.fromtimestamp(int(millis) / 1000, UTC) if millis.isdecimal() else datetime.max.replace(tzinfo=UTC)


def key_of(message: Mapping[str, object]) -> str:
    """X-Mailerd-Key of a message as messages.get, threads.get and drafts.get show it; "" without one."""
    payload = message.get("payload")
    headers = payload.get("headers", ()) if isinstance(payload, Mapping) else ()
    for header in headers:
        if isinstance(header, Mapping) and str(header.get("name", "")).lower() == KEY_HEADER.lower():
            return str(header.get("value", "")).strip()
    return ""


def _items(reply: Reply, name: str) -> list[Mapping[str, object]]:
    body = reply.body if isinstance(reply, Accepted) else None
    items = body.get(name, ()) if isinstance(body, Mapping) else ()
    return [item for item in items if isinstance(item, Mapping)]


def _next_page(reply: Accepted) -> str:
    return str(reply.body.get("nextPageToken", "")) if isinstance(reply.body, Mapping) else ""


def unresolved(letter: UnresolvedSend, reason: str) -> Resolution:
    """Nothing was decided: it is checked again later, with growing delays."""
    wait = min(_MAX_RETRY_DELAY, _FIRST_RETRY_DELAY * (1 << min(letter.checks, 10)))
    return Resolution(letter, None, error=f"not settled yet: {reason}", retry_in=wait)
