"""From the bytes of a body to a job that can be stored: read and rendered in the cage, judged here."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from itertools import batched
from typing import Final
from urllib.parse import quote

from mailerd.clock import new_id
from mailerd.core import copies
from mailerd.core.i18n import joined, t, tn
from mailerd.core.models import NO_EXTRAS, PROOF_LENGTH, Extras, read_metadata
from mailerd.core.reasons import REASONS, reason
from mailerd.core.replies import NoCredentials
from mailerd.core.states import JobType
from mailerd.core.suppression import DEAD_TOKEN, canonical
from mailerd.gmail import Gmail
from mailerd.http.errors import MAX_REASON, ApiError, FieldError, FieldErrors, cut, invalid
from mailerd.intake.check_copies import SuppressedCopy
from mailerd.intake.job_reader import JobHead, JobReader, JobReading
from mailerd.intake.job_reader_child import RecipientRow, template_of, why_not_made
from mailerd.intake.request_models import JobFields
from mailerd.intake.strict_json import encode
from mailerd.intake.tests_of_jobs import JobTest
from mailerd.mail.cage import Blob
from mailerd.mail.mime import (
    MAX_MESSAGE_BYTES,
    Envelope,
    ListHeaders,
    check_size,
    compose,
    encoded_size,
    merged_headers,
    unsubscribe_mailbox,
)
from mailerd.mail.renderer import MAX_STOPPED, CpuTime, Rendered, Renderer
from mailerd.mail.template_library import NamedTemplate, TemplateLibrary, TemplateLibraryError
from mailerd.mail.template_library import check as check_named
from mailerd.mail.templates import Content, RecipientData, RendererError, Template, TemplateError, TemplateErrors
from mailerd.store.api_keys import ApiKey
from mailerd.store.jobs import NewJob, NewRecipient, StoredAttachment, TemplateLanguage

# The size of the messages of a job with what they carry.

_MAX_OWN_BYTES: Final = 12_000_000
"""Bytes of a message without its attachments: two parts of a million characters, four bytes each, in base64."""
_SOME_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)


def encoded_sizes(attached: Iterable[StoredAttachment]) -> int:
    """Bytes that attachments take up in a message at most."""
    return sum(encoded_size(len(each.content), filename=each.filename) for each in attached)


def may_be_too_large(attached: int) -> bool:
    """Whether a message whose attachments take up so many bytes has to be rendered to know its size."""
    return attached + _MAX_OWN_BYTES > MAX_MESSAGE_BYTES


def message_size(
    content: Content, envelope: Envelope, *, email: str, name: str | None, index: int, attached: int, extras: Extras
) -> int:
    """Bytes of the message to a recipient of a job, whose attachments take up `attached` bytes at most.

    `envelope`: what the job's messages have in common; its key is as long as the job's id. `extras`: its own.

    Raises:
        ValueError: it cannot be made, or is larger than Google takes.
    """
    domain = envelope.sender_email.rpartition("@")[2]
    key = f"{envelope.key}-{index}"
    envelope = replace(envelope, to_email=email, to_name=name, key=key, proof="0" * PROOF_LENGTH)
    if extras.headers is not None:
        envelope = replace(envelope, headers=merged_headers(envelope.headers, json.loads(extras.headers)))
    if extras.copy_list is not None:
        envelope = replace(envelope, copies=copies.from_json(extras.copy_list))
    message = compose(content, envelope, date=_SOME_DAY, message_id=f"<{'0' * 32}@{domain}>")
    return check_size(len(message) + attached)


# The time that the check of one job may take, and whose fault it is when it does not do.

CHECK_TIMEOUT: Final = 30.0
"""Seconds for all recipients of one job: 100,000 with a plain template take some three."""


class CheckTime:
    """Begins now. `cpu`: what the work on this job has taken, in seconds of CPU."""

    def __init__(self, seconds: float, *, cpu: Callable[[], float], total: int) -> None:
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._cpu = cpu
        self._total = total
        self._used_before = cpu()

    def require(self, done: int) -> None:
        """Go on only while there is time.

        Raises:
            ApiError: 422, the template takes too long for so many recipients.
            RendererError: others had this machine meanwhile.
        """
        if time.monotonic() > self._until:
            raise self._over(done)

    async def wait_for[T](self, work: Awaitable[T], *, done: int) -> T:
        """The result of some work.

        Raises:
            ApiError, RendererError: as `require`, or what the work raises.
        """
        try:
            async with asyncio.timeout(max(self._until - time.monotonic(), 0.0)):
                return await work
        except TimeoutError:
            raise self._over(done) from None

    def _over(self, done: int) -> ApiError | RendererError:
        so_far = t(
            "only {done:,} of {total:,} recipients were checked in {seconds:g} s",
            seconds=self._seconds,
            done=done,
            total=self._total,
        )
        if (self._cpu() - self._used_before) * 2 < self._seconds:
            return RendererError(t("{so_far}: other work, or other clients' templates, used the CPU", so_far=so_far))
        return ApiError(
            422, "too_costly", t("{so_far}; nothing was stored. Simplify the template or split the job", so_far=so_far)
        )


# What the recipients of a job come to: a good one is a row, a bad one has its reasons.

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
    """The 422 for a template whose rendering was stopped so often that the other messages are not tried."""
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
    """Renders the messages of a job for its check, in the cage; `origin` is what the log calls who has posted it."""

    template: Template
    renderer: Renderer
    origin: str
    cpu: CpuTime = field(default_factory=CpuTime)
    """What they have taken."""

    async def render(self, readers: Sequence[RecipientData], *, content: bool) -> list[Rendered]:
        """As `Renderer.render`."""
        return await self.renderer.render(self.template, readers, origin=self.origin, content=content, cpu=self.cpu)


class _Checker:
    """Checks the recipients of a job in their order.

    `messages` None: the template has errors of its own, so recipients cannot be checked against it. Otherwise every
    message is rendered, by the code that will render it again for its sending. Where its attachments leave little room,
    it is weighed as well; `envelope` is what the messages have in common.
    """

    def __init__(
        self, reading: JobReading, messages: Messages | None, envelope: Envelope, *, within: CheckTime,
        allow_duplicates: bool,
    ) -> None:  # fmt: skip
        self._reading = reading
        self._messages = messages
        self._envelope = envelope
        self._link = envelope.unsubscribe_url.removesuffix(DEAD_TOKEN)
        self._within = within
        self._allow_duplicates = allow_duplicates
        self._shared = 0
        """Bytes of what all messages carry."""
        self._seen: dict[str, tuple[int, str]] = {}
        """Mailboxes by their canonical address: the place of their first recipient, and how that one is written."""
        self._stopped: list[str] = []
        self.found = CheckedRecipients()

    async def check(self, shared: Sequence[StoredAttachment], *, keep: bool) -> CheckedRecipients:
        """Check all of them: the messages of some are rendered while the next ones are read.

        `keep`: bad recipients are kept as such; without it, it ends once there are enough errors for a refusal.

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
            if under_way is not None and under_way[2] is not None:  # or the key's next request would wait for it
                under_way[2].cancel()
        return self.found

    async def _render(self, rows: Sequence[RecipientRow]) -> list[Rendered]:
        """What becomes of the messages of those rows that are good."""
        readers = [each.reader(self._link) for each in rows if not each.errors]
        return (
            await self._messages.render(readers, content=False) if self._messages and readers else [[]] * len(readers)
        )

    async def _take(
        self, first: int, rows: Sequence[RecipientRow], asked: "asyncio.Task[list[Rendered]] | None"
    ) -> None:
        """Add what became of some rows.

        Raises:
            ApiError: 422, the system had to stop too many messages of this template, or it takes too long.
        """
        if asked is not None:
            rendered = await self._within.wait_for(asked, done=first)
            for each, errors in zip([each for each in rows if not each.errors], rendered, strict=True):
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
            other = t("duplicate of recipients[{index}], written {email}", index=known[0], email=known[1])
            row.errors.append(("email", same if known[1] == row.email else other))
        self.found.repeated += row.repeats
        extras = row.extras or NO_EXTRAS
        if not row.errors:
            self._seen[mailbox] = (index, row.email)
            self.found.attached += self._reading.stored(row, index)
            at = datetime.fromisoformat(row.send_at) if row.send_at else None
            self.found.rows.append(NewRecipient(row.email, row.name, row.variables, extras=extras, send_at=at))
            return
        said = [why if part in {"", "email"} else t("{part}: {why}", part=part, why=why) for part, why in row.errors]
        why = joined(said) if len(said) > 1 else said[0]
        failed = reason("not_accepted", cause=cut(why, MAX_REASON - len(REASONS["not_accepted"])))
        self.found.rows.append(NewRecipient(row.email, row.name, row.variables, failed, extras=extras))
        self.found.rejected.append(RejectedRecipient(index, row.email, cut(why), read_metadata(extras.metadata)))
        for name, why in row.errors:
            self.found.errors.add(partial(_field, index, name), why)

    async def _weigh(self, first: int, rows: Sequence[RecipientRow]) -> None:
        """Note which messages are larger than Google takes, a few at a time: each may have some megabytes.

        Raises:
            ApiError, RendererError: the time is over.
        """
        messages = self._messages
        heavy = [
            (index, each) for index, each in enumerate(rows, first)
            if not each.errors and may_be_too_large(self._shared + each.attached_bytes)
        ] if messages and (self._shared or any(each.attached for each in rows)) else []  # fmt: skip
        for some in batched(heavy, _SIZE_BATCH):
            assert messages is not None  # noqa: S101 - or nothing is heavy
            readers = [each.reader(self._link) for _, each in some]
            made = await self._within.wait_for(messages.render(readers, content=True), done=some[0][0])
            for (index, each), content in zip(some, made, strict=True):
                if not isinstance(content, Content):
                    each.errors.append(("variables", why_not_made(content)))
                    continue
                try:
                    await asyncio.to_thread(
                        message_size, content, self._envelope, email=each.email, name=each.name, index=index,
                        attached=self._shared + each.attached_bytes, extras=each.extras or NO_EXTRAS,
                    )  # fmt: skip
                except ValueError as error:
                    each.errors.append(("", str(error)))


@dataclass(frozen=True)
class UnknownSender:
    """No mailbox sends for an address; `why` goes into the answer."""

    why: str


@dataclass(frozen=True)
class SenderResolver:
    """Looks for mailboxes in the credential files and in `gmail.aliases`."""

    gmail: Gmail
    aliases: Mapping[str, str]

    def mailbox_of(self, sender: str) -> str | UnknownSender:
        """The mailbox that sends for an address in lower case.

        It reads files, so it runs in a thread beside the loop. A credential file that cannot be used counts all the
        same: the sender is then paused with that reason, and a pause passes. While no mailbox at all is signed in,
        every address is accepted: the job waits and the log says why.
        """
        mailbox = self.aliases.get(sender, sender)
        if not isinstance(self.gmail.credential_file(mailbox), NoCredentials) or not self.gmail.credential_owners:
            return mailbox
        if mailbox != sender:
            return UnknownSender(
                t("is an alias of {mailbox} (gmail.aliases), and that mailbox is not authorized here", mailbox=mailbox)
            )
        return UnknownSender(
            t(
                "is neither a mailbox authorized here nor an alias of one; authorize it (`mailerd auth login`), "
                "or add it to gmail.aliases"
            )
        )

    def knows(self, address: str) -> bool:
        """Whether this server sends from an address; it reads files."""
        address = address.lower()
        return address in self.aliases or not isinstance(self.gmail.credential_file(address), NoCredentials)


@dataclass(frozen=True)
class ParsedJob:
    """A request that can be stored."""

    job: NewJob
    rejected: list[RejectedRecipient]
    """The recipients that get no message; only with `on_invalid` "skip", or in a dry run."""
    dry_run: bool
    template: Template
    envelope: Envelope
    """What the envelopes of its messages have in common; a link in its list's headers does nothing."""
    list_name: str | None = None
    refusal: str = ""
    """Why a post of it is refused; only a dry run has got so far with one."""
    suppressed: list[RejectedRecipient] = field(default_factory=list)
    """The recipients that have opted out."""
    suppressed_copies: Sequence[SuppressedCopy] = ()
    """The suppressed addresses, which get no copy."""
    repeated: int = 0
    """Messages that name an address more than once."""
    overridden: int = 0
    """Addresses that have opted out and get a message all the same."""
    warnings: list[str] = field(default_factory=list)
    """What the answer warns of."""

    @property
    def total(self) -> int:
        """Recipients in the request."""
        return len(self.job.recipients)

    @property
    def accepted(self) -> int:
        """Recipients that get a message."""
        return self.total - len(self.rejected) - len(self.suppressed)


async def parse_job(
    raw: Blob,
    *,
    key: ApiKey | None,
    now: datetime,
    max_recipients: int,
    reader: JobReader,
    origin: str,
    senders: SenderResolver | None = None,
    library: TemplateLibrary | None = None,
    base_url: str = "",
    dry_run: bool = False,
    type_: JobType = JobType.TEMPLATE,
) -> ParsedJob:
    """Read and check a request, in the cage; `senders` None: every sender has a mailbox.

    `dry_run`: it is one, whatever its field says. `type_`: what the body is. `key` None: the command line
    asks, which may use every sender. `origin`: what the log calls who has posted it.

    Raises:
        ApiError: 422 naming everything that is wrong, or 403 when the key may not use the sender.
        RendererError: nothing can be read or rendered now.
    """
    link = f"{base_url}/u/" if base_url else ""
    async with reader.reading(raw, now=now, origin=origin, link=link, type_=type_) as reading:
        head = await reading.head()
        fields, errors = head.fields, head.errors
        if key is not None and fields.sender_email and not key.may_send(fields.sender_email):
            raise ApiError(
                403,
                "sender_not_allowed",
                t("key {name!r} may not send from {sender_email}", name=key.name, sender_email=fields.sender_email),
            )
        if dry_run:
            fields = fields.model_copy(update={"dry_run": True})
        # Without the job's variables or its template, what a recipient lacks is not known.
        judged = not any(error.field.startswith(("variables", "template_name")) for error in errors)
        cpu = CpuTime()
        within = CheckTime(CHECK_TIMEOUT, cpu=lambda: cpu.seconds + reading.cpu, total=head.recipients or 0)
        mailbox = await asyncio.to_thread(_mailbox, fields, errors, senders=senders)
        errors += await asyncio.to_thread(_not_for_tests, head.test, fields.sender_email, senders, key)
        library = library or TemplateLibrary(None)
        named = await _named(fields, library, reader.renderer, errors, origin=origin, key=key)
        pictures = [
            StoredAttachment(it.filename, it.content_type, it.content, sha256(it.content).digest(), it.filename)
            for it in (named.images if named else ())
        ]
        template = replace(named.template, variables=fields.variables or {}) if named else template_of(fields)
        await reading.begin(template if named and judged else None, pictures)
        if template and not named:
            wrong = reading.template_errors
            if wrong is None:
                wrong = await _template_errors(template, reader.renderer, origin=origin)
            errors += [FieldError(f"template.{error.part}", str(error)) for error in wrong]
            template = None if wrong else template
        errors += reading.attachment_errors
        if list_error := _list_error(head.recipients, max_recipients):
            raise invalid([*errors, list_error])
        envelope = _envelope(fields, mailbox, base_url)
        if head.extras.copy_list:
            envelope = replace(envelope, copies=copies.from_json(head.extras.copy_list))
        shared = [*pictures, *reading.attached]
        messages = Messages(template, reader.renderer, origin, cpu) if template and judged else None
        checker = _Checker(reading, messages, envelope, within=within, allow_duplicates=fields.allow_duplicates)
        checked = await checker.check(shared, keep=fields.on_invalid == "skip" or fields.dry_run)
        if template is None or errors:
            raise invalid(checked.errors.after(errors))
        refusal = _refusal(fields, checked)
        if refusal and not fields.dry_run:
            raise invalid(checked.errors)
    checked.attached[:0] = shared
    job = replace(_job(fields, checked, head=head, key=key, mailbox=mailbox, named=named), type=type_)
    return ParsedJob(
        job, checked.rejected, fields.dry_run, template, envelope, fields.list, refusal, repeated=checked.repeated,
        warnings=_past(job, now=now),
    )  # fmt: skip


_PAST_AFTER: Final = timedelta(minutes=5)
"""A `send_at` that is past for no longer needs no warning: the request took its time, or a clock is slow."""


def is_past(send_at: datetime | None, *, now: datetime) -> bool:
    """Whether a time is so long past that it may be a mistake."""
    return send_at is not None and send_at < now - _PAST_AFTER


def why_past(send_at: datetime) -> str:
    """The warning of a job whose time is past."""
    return t("send_at {at} is in the past: the job is sent immediately", at=f"{send_at:%Y-%m-%dT%H:%M:%SZ}")


def _past(job: NewJob, *, now: datetime) -> list[str]:
    """The warnings of times that are past."""
    recipients = sum(is_past(each.send_at, now=now) for each in job.recipients if each.error is None)
    found: list[str] = [why_past(job.send_at)] if job.send_at and is_past(job.send_at, now=now) else []
    if recipients:
        found.append(
            tn("{n:,} recipient has a send_at in the past: its message is sent immediately",
               "{n:,} recipients have a send_at in the past: their messages are sent immediately", recipients)
        )  # fmt: skip
    return found


def _envelope(fields: JobFields, mailbox: str, base_url: str) -> Envelope:
    """What the envelopes of its messages have in common; an id is as long as any other."""
    sender, name = fields.sender_email or "", fields.sender_name or None
    headers = _list_headers(fields.list, sender, mailbox, base_url) if fields.list else None
    return Envelope(
        sender, name, fields.reply_to, to_email="", to_name=None, key="0" * 26, list_headers=headers,
        headers=fields.headers or {},
    )  # fmt: skip


def _list_headers(name: str, sender: str, mailbox: str, base_url: str) -> ListHeaders:
    """As long as the headers of a message will be, with a link that does nothing."""
    return ListHeaders(
        url=f"{base_url}/u/{DEAD_TOKEN}" if base_url else "",
        mailto=f"mailto:{quote(unsubscribe_mailbox(mailbox), safe='@+')}?subject=u.{DEAD_TOKEN}",
        title=name,
        list_id=f"{name.lower().replace('_', '-')}.{sender.rpartition('@')[2] or 'example.com'}",
    )


def _mailbox(fields: JobFields, errors: list[FieldError], *, senders: SenderResolver | None) -> str:
    """The mailbox that sends for the sender; adds an error when there is none."""
    if not fields.sender_email:
        return ""
    found = senders.mailbox_of(fields.sender_email) if senders else fields.sender_email
    if isinstance(found, UnknownSender):
        errors.append(FieldError("sender_email", found.why))
        return ""
    return found


def _not_for_tests(
    test: JobTest, sender: str | None, senders: SenderResolver | None, key: ApiKey | None
) -> list[FieldError]:
    """The addresses that get no tests of the sender; where any sender has a mailbox, those outside its domain."""
    if not test.to or not sender:
        return []
    return test.not_allowed(sender, [_may_test(it, senders, key) for it in test.to])


def _may_test(address: str, senders: SenderResolver | None, key: ApiKey | None) -> bool:
    """Whether the key may send from an address; of others it learns nothing."""
    return bool(senders and (key is None or key.may_send(address.lower())) and senders.knows(address))


async def _named(
    fields: JobFields, library: TemplateLibrary, renderer: Renderer, errors: list[FieldError], *, origin: str,
    key: ApiKey | None,
) -> NamedTemplate | None:  # fmt: skip
    if fields.template_name is None or fields.template is not None:
        return None
    library = library.seen_by(key.senders if key else None)
    try:
        found = await library.find(fields.template_name, fields.template_version)
        if found is not None:
            await check_named(found, renderer, origin=origin)
    except TemplateLibraryError as error:
        errors.append(FieldError("template_name", str(error)))
        return None
    if found is not None and found.is_layout:
        why = t("template {name!r} is a layout; name a template that has it", name=found.name)
        errors.append(FieldError("template_name", why))
        return None
    if found is None and fields.template_version:
        errors.append(FieldError("template_version", t("template {name!r} has no such version",
                                                       name=fields.template_name)))  # fmt: skip
    elif found is None:
        errors.append(FieldError("template_name", await library.why_missing(fields.template_name)))
    return found


async def _template_errors(template: Template, renderer: Renderer, *, origin: str) -> list[TemplateError]:
    try:
        await renderer.compile(template, origin=origin)
    except TemplateErrors as found:
        return [*found.errors]
    return []


def _list_error(recipients: int | None, max_recipients: int) -> FieldError | None:
    """Why the list of recipients is not checked at all."""
    match recipients:
        case None:
            return FieldError("recipients", t("is required"))
        case 0:
            return FieldError("recipients", t("is empty"))
        case -1:
            return FieldError("recipients", t("must be a list"))
        case _ if recipients > max_recipients:
            return FieldError(
                "recipients",
                t(
                    "has {recipients:,} entries, above the limit of {max_recipients:,}",
                    recipients=recipients,
                    max_recipients=max_recipients,
                ),
            )
    return None


def _refusal(fields: JobFields, checked: CheckedRecipients) -> str:
    """Why the whole job is refused for its recipients; empty: it is not."""
    bad, total = len(checked.rejected), len(checked.rows)
    if not bad or (fields.on_invalid == "skip" and bad < total):
        return ""
    if bad == total:
        return t("a post of this job is rejected (422): none of its recipients is valid")
    which = tn(
        "{n:,} of its {total:,} recipients is invalid",
        "{n:,} of its {total:,} recipients are invalid",
        bad,
        total=total,
    )
    return t(
        'a post of this job is rejected (422): {which}; fix them, or skip them with "on_invalid": "skip"', which=which
    )


def _job(
    fields: JobFields,
    checked: CheckedRecipients,
    *,
    head: JobHead,
    key: ApiKey | None,
    mailbox: str,
    named: NamedTemplate | None,
) -> NewJob:
    source = named.template.default if named else fields.template
    assert source is not None  # noqa: S101 - read_job_fields insists on one of the two
    languages = named.template.languages.items() if named else ()
    return NewJob(
        id=new_id(),
        sender_email=mailbox,
        from_email=None if fields.sender_email == mailbox else fields.sender_email,
        sender_name=fields.sender_name or None,
        reply_to=fields.reply_to,
        subject=source.subject,
        html=source.html or None,
        text=source.text or None,
        variables=head.variables,
        extras=head.extras,
        reference=fields.reference,
        tags=fields.tags or (),
        priority=fields.priority,
        send_at=fields.send_at,
        api_key_id=key.id if key else None,
        recipients=checked.rows,
        template_name=named.name if named else None,
        template_version=named.version if named else None,
        inline_css=named.template.inline_css if named else False,
        defaults=encode(dict(named.template.defaults)) if named and named.template.defaults else None,
        languages=[TemplateLanguage(tag, each.subject, each.html, each.text) for tag, each in languages],
        attachments=checked.attached,
        override_suppression=fields.override_suppression,
        on_bounces=fields.on_bounces,
    )
