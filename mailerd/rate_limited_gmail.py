"""Gmail's calls beside the messages: each waits for the units of its sender's rate limit before it
is made.

The units of a message itself are debited by its claim. Beyond replies, every call may raise the
store's DatabaseError.
"""

import asyncio
import base64
import html
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, override

from mailerd.clock import Clock
from mailerd.core.i18n import t
from mailerd.core.quantities import in_words
from mailerd.core.rate_limit import UNITS
from mailerd.core.replies import Accepted, Call, MalformedResponse, Reply, UnitsUsedUp
from mailerd.core.verdicts import Disposition, judge
from mailerd.errors import DatabaseError, MailerdError
from mailerd.gmail import Gmail, Mailbox
from mailerd.gmail.client import GmailCalls
from mailerd.gmail.session import MAX_RAW, GmailRequest
from mailerd.mail.read_notice import KEY_HEADER, decoded_words
from mailerd.store.queue.rate_limits import RateLimits


class RateLimitedGmail(GmailCalls):
    """Gmail for all that reconciles, deletes and reads.

    `max_wait`: a call that would have to wait longer is not made: its reply is NotSent, which
    decides nothing.
    """

    def __init__(
        self, gmail: Gmail, rate_limits: RateLimits, max_wait: timedelta, clock: Clock
    ) -> None:
        super().__init__(gmail.endpoints)
        self.gmail = gmail
        self.rate_limits = rate_limits
        self.max_wait = max_wait
        self.clock = clock

    async def authenticate(self, sender: str) -> Mailbox | Reply:
        """The sender's mailbox, or why there is none; debits the call that asks Google whose
        mailbox it is.
        """

        async def pay() -> None:
            # One unit is not worth a message's delay: it is debited where that is granted at once.
            with suppress(DatabaseError):
                await self.rate_limits.acquire(sender, units=UNITS[Call.GET_PROFILE])

        return await self.gmail.authenticate(sender, pay=pay)

    @override
    async def call(self, request: GmailRequest) -> Reply:
        """Make the call once its units are granted."""
        sender, until = request.sender, self.clock.monotonic() + self.max_wait.total_seconds()
        while wait := await self.rate_limits.acquire(sender, units=UNITS[request.call]):
            if self.clock.monotonic() + wait.total_seconds() > until:
                return UnitsUsedUp(
                    t(
                        "{call} postponed: {sender} has no quota units left for {span}",
                        call=request.call.value,
                        sender=sender,
                        span=in_words(wait.total_seconds()),
                    )
                )
            await self.clock.sleep(wait.total_seconds())
        # debits the question whose mailbox it is, where it is due
        mailbox = await self.authenticate(sender)
        return await self.gmail.call(request) if isinstance(mailbox, Mailbox) else mailbox


# The drafts that a person has written in Gmail.

MAX_NEWEST: Final = 10
"""Drafts that a list has: with the list itself they cost 205 units, as much as two messages."""
_MAX_SNIPPET: Final = 120
_LONG: Final = 15
"""Digits of a time in milliseconds that is none."""


class DraftsUnreadableError(MailerdError):
    """Google shows no draft; the text says why."""


@dataclass(frozen=True)
class PersonalDraft:
    """A draft in a list."""

    id: str
    subject: str
    snippet: str
    at: datetime
    """When it was last changed."""


@dataclass(frozen=True)
class PersonalDrafts:
    """Reads the drafts of a mailbox that a person has written, never those of mailerd's messages;
    changes none.
    """

    gmail: RateLimitedGmail
    own: Callable[..., Awaitable[set[str]]]
    """Those of some drafts that messages know as theirs: they need not be read."""

    async def newest(self, mailbox: str) -> list[PersonalDraft]:
        """The newest drafts of a mailbox.

        Raises:
            DraftsUnreadableError: Google does not show them.
        """
        await self._authenticate(mailbox)
        listed = _body(mailbox, Call.DRAFTS_LIST, await self.gmail.list_drafts(mailbox)).get(
            "drafts", ()
        )
        ids = [str(each["id"]) for each in listed]
        own = await self.own(ids, sender=mailbox) if ids else set()
        others = [it for it in ids if it not in own][:MAX_NEWEST]
        replies = await asyncio.gather(
            *(self.gmail.get_draft_headers(mailbox, draft_id=it) for it in others)
        )
        found = [
            _personal(_body(mailbox, Call.DRAFTS_GET, reply))
            for reply in replies
            if judge(Call.DRAFTS_GET, reply).disposition is not Disposition.DRAFT_GONE
        ]
        return sorted(filter(None, found), key=lambda it: it.at, reverse=True)

    async def read(self, mailbox: str, draft_id: str) -> bytes:
        """A whole draft, at most some 9 MB; its headers say whether it is mailerd's own.

        Raises:
            DraftsUnreadableError: Google does not show it.
        """
        await self._authenticate(mailbox)
        reply = await self.gmail.get_raw_draft(mailbox, draft_id=draft_id)
        if isinstance(reply, MalformedResponse):
            most = MAX_RAW // 4 * 3 // 1_000_000
            why = t(
                "the draft is larger than {n} MB, or Google's response is incomplete. Remove files from it",
                n=most,
            )
            raise _unreadable(mailbox, why)
        raw = str(_body(mailbox, Call.DRAFTS_GET, reply)["message"].get("raw", ""))
        try:
            return await asyncio.to_thread(base64.urlsafe_b64decode, raw + "=" * (-len(raw) % 4))
        except ValueError as error:
            raise _unreadable(mailbox, t("Google's response is incomplete")) from error

    async def _authenticate(self, mailbox: str) -> None:
        found = await self.gmail.authenticate(mailbox)
        if not isinstance(found, Mailbox):
            raise _unreadable(mailbox, judge(Call.TOKEN, found).reason)
        if not found.can_read_drafts:
            raise _unreadable(
                mailbox,
                t(
                    "its authorization does not allow it. Run `mailerd auth login --sender {sender} --readonly`",
                    sender=mailbox,
                ),
            )


def _personal(body: Mapping[str, Any]) -> PersonalDraft | None:
    """A draft by its headers; None: it is a message of mailerd's."""
    message = body["message"]
    payload = message.get("payload")
    named = payload.get("headers", ()) if isinstance(payload, Mapping) else ()
    headers = {
        str(it.get("name")).lower(): str(it.get("value")) for it in named if isinstance(it, Mapping)
    }
    if headers.get(KEY_HEADER.lower()):
        return None
    millis = str(message.get("internalDate", ""))
    at = datetime.fromtimestamp(
        int(millis) / 1000 if millis.isdecimal() and len(millis) < _LONG else 0, UTC
    )
    snippet = html.unescape(str(message.get("snippet", "")))[:_MAX_SNIPPET]
    return PersonalDraft(str(body["id"]), decoded_words(headers.get("subject", "")), snippet, at)


def _unreadable(mailbox: str, why: str) -> DraftsUnreadableError:
    return DraftsUnreadableError(
        t("Drafts of {email} cannot be read: {why}", email=mailbox, why=why)
    )


def _body(mailbox: str, call: Call, reply: Reply) -> Mapping[str, Any]:
    """What Google has answered.

    Raises:
        DraftsUnreadableError: it has refused, or not answered.
    """
    if isinstance(reply, Accepted) and isinstance(reply.body, Mapping):
        return reply.body
    raise _unreadable(
        mailbox, reply.cause if isinstance(reply, UnitsUsedUp) else judge(call, reply).reason
    )
