"""What the recipients of a job come to: a good one is a row, a bad one has its reasons."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import batched
from typing import Final

from mailerd.core.extras import NO_EXTRAS, read_metadata
from mailerd.core.i18n import joined, t
from mailerd.core.reasons import REASONS, reason
from mailerd.core.suppression import DEAD_TOKEN, canonical
from mailerd.http.errors import MAX_REASON, ApiError, FieldErrors, cut
from mailerd.intake.check_time import CheckTime
from mailerd.intake.job_reader import JobReading
from mailerd.intake.job_reader_child import RecipientRow, why_not_made
from mailerd.intake.message_size import encoded_sizes, may_be_too_large, message_size
from mailerd.mail.mime import (
    Envelope,
)
from mailerd.mail.renderer import MAX_STOPPED, CpuTime, Rendered, Renderer
from mailerd.mail.templates import Content, RecipientData, Template
from mailerd.store.write.new_jobs import NewRecipient, StoredAttachment

_SIZE_BATCH: Final = 10


@dataclass(frozen=True)
class RejectedRecipient:
    """A recipient that gets no message."""

    index: int
    email: str
    reason: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass
class CheckedRecipients:
    """All recipients of a request, in its order, and their errors."""

    rows: list[NewRecipient] = field(default_factory=list)
    rejected: list[RejectedRecipient] = field(default_factory=list)
    attached: list[StoredAttachment] = field(default_factory=list)
    """Attachments of single recipients."""
    errors: FieldErrors = field(default_factory=FieldErrors)
    repeated: int = 0
    """Messages that name an address more than once."""


def stopped_too_often(why: str) -> ApiError:
    """The 422 for a template whose rendering was stopped so often that the other messages are not
    tried.
    """
    return ApiError(
        422,
        "too_costly",
        t(
            "{max_stopped} messages had to be stopped ({reason}), and the others were not tried; nothing was "
            "stored. Simplify the template",
            max_stopped=MAX_STOPPED,
            reason=why,
        ),
    )


def _field(index: int, name: str) -> str:
    return f"recipients[{index}].{name}" if name else f"recipients[{index}]"


@dataclass
class Messages:
    """Renders the messages of a job for its check, in the cage; `origin` is what the log calls who
    has posted it.
    """

    template: Template
    renderer: Renderer
    origin: str
    cpu: CpuTime = field(default_factory=CpuTime)
    """What they have taken."""

    async def render(self, readers: Sequence[RecipientData], *, content: bool) -> list[Rendered]:
        """As `Renderer.render`."""
        return await self.renderer.render(
            self.template, readers, origin=self.origin, content=content, cpu=self.cpu
        )


class RecipientChecker:
    """Checks the recipients of a job in their order.

    `messages` None: the template has errors of its own, so recipients cannot be checked against it.
    Otherwise every message is rendered, by the code that will render it again for its sending.
    Where its attachments leave little room, it is weighed as well; `envelope` is what the messages
    have in common.
    """

    def __init__(
        self,
        reading: JobReading,
        messages: Messages | None,
        envelope: Envelope,
        *,
        within: CheckTime,
        allow_duplicates: bool,
    ) -> None:
        self._reading = reading
        self._messages = messages
        self._envelope = envelope
        self._link = envelope.unsubscribe_url.removesuffix(DEAD_TOKEN)
        self._within = within
        self._allow_duplicates = allow_duplicates
        self._shared = 0
        """Bytes of what all messages carry."""
        self._seen: dict[str, tuple[int, str]] = {}
        """Mailboxes by their canonical address: the place of their first recipient, and how that
        one is written.
        """
        self._stopped: list[str] = []
        self.found = CheckedRecipients()

    async def check(self, shared: Sequence[StoredAttachment], *, keep: bool) -> CheckedRecipients:
        """Check all of them: the messages of some are rendered while the next ones are read.

        `keep`: bad recipients are kept as such; without it, it ends once there are enough errors
        for a refusal.

        Raises:
            ApiError: 422, the template is too costly for so many recipients.
            RendererError: nothing can be rendered now.
        """
        self._shared = encoded_sizes(shared)
        first, under_way = 0, None
        try:
            async for rows in self._reading.rows():
                self._within.require(first)
                asked = None if self._reading.rendered else asyncio.create_task(self._render(rows))
                before, under_way = under_way, (first, rows, asked)
                first += len(rows)
                if before is not None:
                    await self._take(*before)
                if not keep and self.found.errors.are_enough:
                    break
            if under_way is not None:
                await self._take(*under_way)
        finally:
            # or the key's next request would wait for it
            if under_way is not None and under_way[2] is not None:
                under_way[2].cancel()
        return self.found

    async def _render(self, rows: Sequence[RecipientRow]) -> list[Rendered]:
        """What becomes of the messages of those rows that are good."""
        readers = [each.reader(self._link) for each in rows if not each.errors]
        return (
            await self._messages.render(readers, content=False)
            if self._messages and readers
            else [[]] * len(readers)
        )

    async def _take(
        self, first: int, rows: Sequence[RecipientRow], asked: "asyncio.Task[list[Rendered]] | None"
    ) -> None:
        """Add what became of some rows.

        Raises:
            ApiError: 422, the system had to stop too many messages of this template, or it takes
            too long.
        """
        if asked is not None:
            rendered = await self._within.wait_for(asked, done=first)
            for each, errors in zip(
                [each for each in rows if not each.errors], rendered, strict=True
            ):
                if isinstance(errors, list) and errors:
                    each.errors.append(("variables", why_not_made(errors)))
                    self._stopped += [str(error) for error in errors if error.bound]
        await self._weigh(first, rows)
        for index, each in enumerate(rows, first):
            self._add(index, each)
        if len(self._stopped) >= MAX_STOPPED:
            raise stopped_too_often(self._stopped[0])

    def _add(self, index: int, row: RecipientRow) -> None:
        mailbox = canonical(row.email)
        if not self._allow_duplicates and (known := self._seen.get(mailbox)):
            same = t("duplicate of recipients[{index}]", index=known[0])
            other = t(
                "duplicate of recipients[{index}], written {email}", index=known[0], email=known[1]
            )
            row.errors.append(("email", same if known[1] == row.email else other))
        self.found.repeated += row.repeats
        extras = row.extras or NO_EXTRAS
        if not row.errors:
            self._seen[mailbox] = (index, row.email)
            self.found.attached += self._reading.stored(row, index)
            at = datetime.fromisoformat(row.send_at) if row.send_at else None
            self.found.rows.append(
                NewRecipient(row.email, row.name, row.variables, extras=extras, send_at=at)
            )
            return
        said = [
            why if part in {"", "email"} else t("{part}: {why}", part=part, why=why)
            for part, why in row.errors
        ]
        why = joined(said) if len(said) > 1 else said[0]
        failed = reason("not_accepted", cause=cut(why, MAX_REASON - len(REASONS["not_accepted"])))
        self.found.rows.append(
            NewRecipient(row.email, row.name, row.variables, failed, extras=extras)
        )
        self.found.rejected.append(
            RejectedRecipient(index, row.email, cut(why), read_metadata(extras.metadata))
        )
        for name, why in row.errors:
            self.found.errors.add(partial(_field, index, name), why)

    async def _weigh(self, first: int, rows: Sequence[RecipientRow]) -> None:
        """Note which messages are larger than Google takes, a few at a time: each may have some
        megabytes.

        Raises:
            ApiError, RendererError: the time is over.
        """
        messages = self._messages
        heavy = (
            [
                (index, each)
                for index, each in enumerate(rows, first)
                if not each.errors and may_be_too_large(self._shared + each.attached_bytes)
            ]
            if messages and (self._shared or any(each.attached for each in rows))
            else []
        )
        for some in batched(heavy, _SIZE_BATCH):
            assert messages is not None  # noqa: S101 - or nothing is heavy
            readers = [each.reader(self._link) for _, each in some]
            made = await self._within.wait_for(
                messages.render(readers, content=True), done=some[0][0]
            )
            for (index, each), content in zip(some, made, strict=True):
                if not isinstance(content, Content):
                    each.errors.append(("variables", why_not_made(content)))
                    continue
                try:
                    await asyncio.to_thread(
                        message_size,
                        content,
                        self._envelope,
                        email=each.email,
                        name=each.name,
                        index=index,
                        attached=self._shared + each.attached_bytes,
                        extras=each.extras or NO_EXTRAS,
                    )
                except ValueError as error:
                    each.errors.append(("", str(error)))
