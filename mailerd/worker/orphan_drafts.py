"""Finds and deletes drafts that were created and never recorded; finds drafts that prove a letter was not sent."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from mailerd.core.replies import Accepted, Call
from mailerd.core.states import State
from mailerd.core.verdicts import Disposition, judge
from mailerd.events.worker import RecoveryEvents
from mailerd.gmail import Mailbox
from mailerd.rate_limited_gmail import RateLimitedGmail
from mailerd.store.queue.recovery import RecoveryQueries
from mailerd.worker.reconcile import key_of

_MAX_FOREIGN_DRAFTS: Final = 200_000
"""The most foreign drafts that are remembered, so that each is read once; others are read at every sweep. None is
dropped for a newer one: each sweep begins with the first drafts of the list, so these are needed again."""

_WHAT_FOLLOWS: Final = {State.WAITING: "it is sent by that draft", State.CANCELLED: "it is cancelled with its job"}
_OURS: Final = re.compile(r"([0-9A-Z]{1,26})-([0-9]{1,9})", re.ASCII)
"""An X-Mailerd-Key as mailerd writes it: a job's id and a place in it. Any client may write a draft with any other."""


@dataclass
class OrphanDrafts:
    """The search for orphan drafts, one mailbox at a time."""

    gmail: RateLimitedGmail
    rows: RecoveryQueries
    events: RecoveryEvents
    _foreign: dict[str, set[str]] = field(default_factory=dict)
    """The drafts that are not ours, by sender, as they were last listed."""

    def retain(self, senders: Collection[str]) -> None:
        """Forget the mailboxes that are no longer searched."""
        self._foreign = {sender: drafts for sender, drafts in self._foreign.items() if sender in senders}

    async def sweep(self, sender: str, *, progress: Callable[[], None]) -> int:
        """Delete the orphans of one mailbox; how many. `progress` is called after each answer, for it may take long.

        Raises:
            DatabaseError: the rows cannot be read; nothing more is deleted.
        """
        mailbox = await self.gmail.authenticate(sender)
        if not isinstance(mailbox, Mailbox) or mailbox.mode != "draft":
            return 0
        foreign = self._foreign.setdefault(sender, set())
        deleted, page = 0, ""
        listed: set[str] = set()
        while True:
            reply = await self.gmail.list_drafts(sender, page_token=page)
            progress()
            if not isinstance(reply, Accepted) or not isinstance(reply.body, Mapping):
                self.events.orphans_not_searched(sender=sender, cause=judge(Call.DRAFTS_LIST, reply).reason)
                return deleted
            drafts = [str(item.get("id")) for item in reply.body.get("drafts", ()) if isinstance(item, Mapping)]
            listed.update(drafts)
            unknown = [draft for draft in drafts if draft not in foreign]
            known = await self.rows.own_drafts(unknown, sender=sender) if unknown else set()
            if known:
                await self.rows.check_again(known, sender=sender)
            for draft in unknown:
                if draft not in known:
                    deleted += await self._check_draft(sender, draft, progress)
                    progress()
            if not (page := str(reply.body.get("nextPageToken", ""))):
                foreign &= listed  # the whole list was read: the others are no longer there
                return deleted

    async def _check_draft(self, sender: str, draft: str, progress: Callable[[], None]) -> int:
        reply = await self.gmail.get_draft_headers(sender, draft_id=draft)
        if not isinstance(reply, Accepted) or not isinstance(reply.body, Mapping):
            return 0
        message = reply.body.get("message")
        key = key_of(message) if isinstance(message, Mapping) else ""
        ours = _OURS.fullmatch(key)
        orphan = await self.rows.is_orphan(job=ours[1], seq=int(ours[2]), draft=draft) if ours else None
        if orphan is None:
            if sum(map(len, self._foreign.values())) < _MAX_FOREIGN_DRAFTS:
                self._foreign[sender].add(draft)
            return 0
        if not orphan:
            if ours and (undone := await self.rows.undo(job=ours[1], seq=int(ours[2]), draft=draft, on_retry=progress)):
                self.events.letter_undone(
                    job=undone.job_id, recipient=undone.recipient, to=undone.to_email, sender=sender, draft=draft,
                    then=_WHAT_FOLLOWS[undone.status],
                )  # fmt: skip
            return 0
        verdict = judge(Call.DRAFTS_DELETE, await self.gmail.delete_draft(sender, draft_id=draft))
        if verdict.disposition is Disposition.ACCEPTED:
            self.events.orphan_deleted(sender=sender, draft=draft, key=key)
            return 1
        return 0
