"""What the reader says: each finding once it is committed, and each change of a mailbox once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from mailerd.core.bounce_rule import BRAKE
from mailerd.core.fates import Fate, kind_of
from mailerd.core.models import Finding, PassedOver, Written
from mailerd.core.suppression import masked
from mailerd.events.inbox import InboxEvents
from mailerd.events.intake import SuppressionEvents

_FATES: Final = {False: "it waits to be sent again", True: "its job was cancelled, and it with that"}


@dataclass
class InboxLog:
    """Remembers what was said of each mailbox, so that a state that lasts is said once."""

    events: InboxEvents
    suppression_events: SuppressionEvents
    _said: dict[str, str] = field(default_factory=dict)

    def opened(self, sender: str, scope: str) -> None:
        """Log once that the mailbox can be read."""
        if self._said.get(sender) not in (scope, "unreadable"):
            self._said[sender] = scope
            self.events.inbox_opened(sender=sender, scope=scope)

    def not_allowed(self, sender: str) -> None:
        """Log once that its sign-in does not allow reading."""
        if self._said.get(sender) != "not allowed":
            self._said[sender] = "not allowed"
            self.events.inbox_not_allowed(sender=sender)

    def unreadable(self, sender: str, cause: str, *, again_in: float) -> None:
        """Log once that Google refused the reading."""
        if self._said.get(sender) != "unreadable":
            self._said[sender] = "unreadable"
            self.events.inbox_unreadable(sender=sender, cause=cause, again_in=again_in)

    def readable(self, sender: str, scope: str) -> None:
        """Log that it can be read again, if it could not be read before."""
        if self._said.get(sender) == "unreadable":
            self._said[sender] = scope
            self.events.inbox_readable_again(sender=sender)

    def history_forgotten(self, sender: str, since_ms: int) -> None:
        """Log that Google has forgotten what came since the last round."""
        since = datetime.fromtimestamp(since_ms / 1000, UTC)
        self.events.history_forgotten(sender=sender, since=f"{since:%Y-%m-%d %H:%M:%S} UTC")

    def braked(self, sender: str, jobs: Mapping[str, int]) -> None:
        """Log which jobs wait from now on, since much came back of them."""
        for job, messages in jobs.items():
            self.events.job_braked(job=job, sender=sender, messages=messages, seconds=BRAKE.total_seconds())

    def written(self, sender: str, done: Written) -> None:
        """Log what a commit has changed."""
        for it in done.fresh:
            if isinstance(it, PassedOver):
                self.events.notice_passed_over(sender=sender, gmail_id=it.gmail_id, cause=it.cause)
            elif isinstance(it, Finding) and not it.consequence.believed:
                to = it.letter.to_email if it.letter else ""
                self.events.notice_not_believed(sender=sender, gmail_id=it.gmail_id, kind=it.meaning.kind, to=to)
        for found in done.changed:
            self._fate(found)
        for undone in done.undone:
            letter = undone.letter
            self.events.letter_given_back(
                job=letter.job_id, recipient=letter.id, to=letter.to_email, sender=sender, fate=_FATES[undone.cancelled]
            )
        for added in done.suppressed:
            self.suppression_events.suppression_added(
                address=masked(added.address), mailing_list=added.mailing_list,
                reason=added.reason, source=added.source,
            )  # fmt: skip
        for bad in done.bad_lists:
            if bad.paused:
                self.events.job_paused_for_bounces(job=bad.job, sender=bad.sender, reason=bad.reason)
            else:
                self.events.job_bounces(job=bad.job, sender=bad.sender, reason=bad.reason)
        for pause, reason, seconds in done.paused:
            self.events.sender_rests(sender=sender, pause=pause, reason=reason, seconds=seconds)

    def _fate(self, it: Finding) -> None:
        letter, fate, meaning = it.letter, it.consequence.fate, it.meaning
        if letter is None or fate is None:
            return
        if fate is Fate.BOUNCED:
            self.events.letter_bounced(
                job=letter.job_id, recipient=letter.id, to=letter.to_email, kind=kind_of(meaning), code=meaning.code,
                reason=meaning.reason,
            )  # fmt: skip
        else:
            by = next(iter(meaning.addresses), "")
            self.events.letter_answered(job=letter.job_id, recipient=letter.id, to=letter.to_email, fate=fate, by=by)
