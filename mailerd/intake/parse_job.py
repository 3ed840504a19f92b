"""From the bytes of a body to a job that can be stored: read and rendered in the cage, judged
here.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final
from urllib.parse import quote

from mailerd.clock import new_id
from mailerd.core import copies
from mailerd.core.i18n import t, tn
from mailerd.core.states import JobType
from mailerd.core.suppression import DEAD_TOKEN
from mailerd.http.errors import ApiError, FieldError, invalid
from mailerd.intake.check_copies import SuppressedCopy
from mailerd.intake.check_recipients import (
    CheckedRecipients,
    Messages,
    RecipientChecker,
    RejectedRecipient,
)
from mailerd.intake.check_time import CHECK_TIMEOUT, CheckTime
from mailerd.intake.job_reader import JobHead, JobReader
from mailerd.intake.job_reader_child import template_of
from mailerd.intake.request_models import JobFields
from mailerd.intake.sender_resolver import SenderResolver, UnknownSender
from mailerd.intake.strict_json import encode
from mailerd.intake.tests_of_jobs import JobTest
from mailerd.mail.cage import Blob
from mailerd.mail.mime import (
    Envelope,
    ListHeaders,
    unsubscribe_mailbox,
)
from mailerd.mail.renderer import CpuTime, Renderer
from mailerd.mail.template_library import NamedTemplate, TemplateLibrary, TemplateLibraryError
from mailerd.mail.template_library import check as check_named
from mailerd.mail.templates import Template, TemplateError, TemplateErrors
from mailerd.store.write.api_keys import ApiKey
from mailerd.store.write.new_jobs import NewJob, StoredAttachment, TemplateLanguage


@dataclass(frozen=True)
class ParsedJob:
    """A request that can be stored."""

    job: NewJob
    rejected: list[RejectedRecipient]
    """The recipients that get no message; only with `on_invalid` "skip", or in a dry run."""
    dry_run: bool
    template: Template
    envelope: Envelope
    """What the envelopes of its messages have in common; a link in its list's headers does
    nothing.
    """
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

    `dry_run`: it is one, whatever its field says. `type_`: what the body is. `key` None: the
    command line asks, which may use every sender. `origin`: what the log calls who has posted it.

    Raises:
        ApiError: 422 naming everything that is wrong, or 403 when the key may not use the sender.
        RendererError: nothing can be read or rendered now.
    """
    link = f"{base_url}/u/" if base_url else ""
    async with reader.reading(raw, now=now, origin=origin, link=link, type_=type_) as reading:
        head = await reading.head()
        fields, errors = head.fields, head.errors
        _refuse_foreign(fields.sender_email, key)
        if dry_run:
            fields = fields.model_copy(update={"dry_run": True})
        # Without the job's variables or its template, what a recipient lacks is not known.
        judged = not any(error.field.startswith(("variables", "template_name")) for error in errors)
        cpu = CpuTime()
        within = CheckTime(
            CHECK_TIMEOUT, cpu=lambda: cpu.seconds + reading.cpu, total=head.recipients or 0
        )
        mailbox = await asyncio.to_thread(_mailbox, fields, errors, senders=senders)
        errors += await asyncio.to_thread(
            _not_for_tests, head.test, fields.sender_email, senders, key
        )
        library = library or TemplateLibrary(None)
        named = await _named(fields, library, reader.renderer, errors, origin=origin, key=key)
        pictures = _pictures(named)
        template = (
            replace(named.template, variables=fields.variables or {})
            if named
            else template_of(fields)
        )
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
        checker = RecipientChecker(
            reading, messages, envelope, within=within, allow_duplicates=fields.allow_duplicates
        )
        checked = await checker.check(shared, keep=fields.on_invalid == "skip" or fields.dry_run)
        if template is None or errors:
            raise invalid(checked.errors.after(errors))
        refusal = _refusal(fields, checked)
        if refusal and not fields.dry_run:
            raise invalid(checked.errors)
    checked.attached[:0] = shared
    job = replace(
        _job(fields, checked, head=head, key=key, mailbox=mailbox, named=named), type=type_
    )
    return ParsedJob(
        job,
        checked.rejected,
        fields.dry_run,
        template,
        envelope,
        fields.list,
        refusal,
        repeated=checked.repeated,
        warnings=_past(job, now=now),
    )


def _refuse_foreign(sender: str, key: ApiKey | None) -> None:
    if key is not None and sender and not key.may_send(sender):
        raise ApiError(
            403,
            "sender_not_allowed",
            t("key {name!r} may not send from {sender_email}", name=key.name, sender_email=sender),
        )


def _pictures(named: NamedTemplate | None) -> list[StoredAttachment]:
    """What every message of a template of the library carries; a picture is named by its file."""
    return [
        StoredAttachment(
            it.filename, it.content_type, it.content, sha256(it.content).digest(), it.filename
        )
        for it in (named.images if named else ())
    ]


_PAST_AFTER: Final = timedelta(minutes=5)
"""A `send_at` that is past for no longer needs no warning: the request took its time, or a clock is
slow.
"""


def is_past(send_at: datetime | None, *, now: datetime) -> bool:
    """Whether a time is so long past that it may be a mistake."""
    return send_at is not None and send_at < now - _PAST_AFTER


def why_past(send_at: datetime) -> str:
    """The warning of a job whose time is past."""
    return t(
        "send_at {at} is in the past: the job is sent immediately",
        at=f"{send_at:%Y-%m-%dT%H:%M:%SZ}",
    )


def _past(job: NewJob, *, now: datetime) -> list[str]:
    """The warnings of times that are past."""
    recipients = sum(
        is_past(each.send_at, now=now) for each in job.recipients if each.error is None
    )
    found: list[str] = (
        [why_past(job.send_at)] if job.send_at and is_past(job.send_at, now=now) else []
    )
    if recipients:
        found.append(
            tn(
                "{n:,} recipient has a send_at in the past: its message is sent immediately",
                "{n:,} recipients have a send_at in the past: their messages are sent immediately",
                recipients,
            )
        )
    return found


def _envelope(fields: JobFields, mailbox: str, base_url: str) -> Envelope:
    """What the envelopes of its messages have in common; an id is as long as any other."""
    sender, name = fields.sender_email or "", fields.sender_name or None
    headers = _list_headers(fields.list, sender, mailbox, base_url) if fields.list else None
    return Envelope(
        sender,
        name,
        fields.reply_to,
        to_email="",
        to_name=None,
        key="0" * 26,
        list_headers=headers,
        headers=fields.headers or {},
    )


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
    """The addresses that get no tests of the sender; where any sender has a mailbox, those outside
    its domain.
    """
    if not test.to or not sender:
        return []
    return test.not_allowed(sender, [_may_test(it, senders, key) for it in test.to])


def _may_test(address: str, senders: SenderResolver | None, key: ApiKey | None) -> bool:
    """Whether the key may send from an address; of others it learns nothing."""
    return bool(
        senders and (key is None or key.may_send(address.lower())) and senders.knows(address)
    )


async def _named(
    fields: JobFields,
    library: TemplateLibrary,
    renderer: Renderer,
    errors: list[FieldError],
    *,
    origin: str,
    key: ApiKey | None,
) -> NamedTemplate | None:
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
        errors.append(
            FieldError(
                "template_version",
                t("template {name!r} has no such version", name=fields.template_name),
            )
        )
    elif found is None:
        errors.append(FieldError("template_name", await library.why_missing(fields.template_name)))
    return found


async def _template_errors(
    template: Template, renderer: Renderer, *, origin: str
) -> list[TemplateError]:
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
        'a post of this job is rejected (422): {which}; fix them, or skip them with "on_invalid": "skip"',
        which=which,
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
        defaults=encode(dict(named.template.defaults))
        if named and named.template.defaults
        else None,
        languages=[
            TemplateLanguage(tag, each.subject, each.html, each.text) for tag, each in languages
        ],
        attachments=checked.attached,
        override_suppression=fields.override_suppression,
        on_bounces=fields.on_bounces,
    )
