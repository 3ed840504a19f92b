"""From the bytes of a body to a job that can be stored; it only computes, and runs in a thread beside the loop."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from mailerd.clock import new_id
from mailerd.core.replies import NoCredentials
from mailerd.core.suppression import DEAD_TOKEN
from mailerd.gmail import Gmail
from mailerd.intake.attachments import AttachmentSet
from mailerd.intake.check_recipients import CheckedRecipients, RejectedRecipient, check
from mailerd.intake.errors import ApiError, FieldError, invalid
from mailerd.intake.request_models import JobFields, read_job_fields
from mailerd.intake.strict_json import encode, parse
from mailerd.mail.addresses import unsubscribe_mailbox
from mailerd.mail.mime import Envelope, ListHeaders
from mailerd.mail.renderer import ThreadRenderer
from mailerd.mail.template_library import NamedTemplate, TemplateLibrary, TemplateLibraryError
from mailerd.mail.template_library import check as check_named
from mailerd.mail.templates import Source, Template, TemplateErrors
from mailerd.store.api_keys import ApiKey
from mailerd.store.new_job import NewJob, StoredAttachment, TemplateLanguage


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
        if not isinstance(self.gmail.credential_file(mailbox), NoCredentials) or not self.gmail.has_credentials:
            return mailbox
        if mailbox != sender:
            return UnknownSender(f"is an alias of {mailbox} (gmail.aliases), and that mailbox is not signed in here")
        return UnknownSender(
            "is no mailbox that is signed in here, nor an alias of one: sign it in (`mailerd auth login`), or name the "
            "mailbox that it is an alias of in gmail.aliases"
        )


@dataclass(frozen=True)
class ParsedJob:
    """A request that can be stored."""

    job: NewJob
    rejected: list[RejectedRecipient]
    """The recipients that get no letter; only with `on_invalid` "skip", or in a dry run."""
    dry_run: bool
    template: Template
    envelope: Envelope
    """What the envelopes of its letters have in common; a link in its list's headers does nothing."""
    list_name: str | None = None
    refusal: str = ""
    """Why a post of it is refused; only a dry run has got so far with one."""
    suppressed: list[RejectedRecipient] = field(default_factory=list)
    """The recipients that have opted out."""
    overridden: int = 0
    """Addresses that have opted out and get a letter all the same."""
    warnings: list[str] = field(default_factory=list)
    """What the answer warns of."""

    @property
    def total(self) -> int:
        """Recipients in the request."""
        return len(self.job.recipients)

    @property
    def accepted(self) -> int:
        """Recipients that get a letter."""
        return self.total - len(self.rejected) - len(self.suppressed)


def parse_job(
    raw: bytearray,
    *,
    key: ApiKey | None,
    now: datetime,
    max_recipients: int,
    renderer: ThreadRenderer,
    senders: SenderResolver | None = None,
    library: TemplateLibrary | None = None,
    base_url: str = "",
    dry_run: bool = False,
) -> ParsedJob:
    """Read and check a request. `raw` is emptied; `senders` None: every sender has a mailbox.

    `dry_run`: it is one, whatever its field says. `key` None: the command line asks, which may use every sender.

    Raises:
        ApiError: 422 naming everything that is wrong, or 403 when the key may not use the sender.
        RendererError: nothing can be rendered now.
    """
    body = parse(raw)
    items = body.pop("recipients", None)
    fields, errors = _fields(body, key, now=now, dry_run=dry_run)
    # Without the job's variables or its template, what a recipient lacks is not known.
    judged = not any(error.field.startswith(("variables", "template_name")) for error in errors)
    mailbox = _mailbox(fields, errors, senders=senders)
    variables, stored = _variables(fields, errors)
    named = _named(fields, library or TemplateLibrary(None), renderer, errors)
    template = _template(fields, named, variables, renderer, errors)
    attachments = _attachments(fields, named, errors)
    if list_error := _list_error(items, max_recipients):
        raise invalid([*errors, list_error])
    envelope = _envelope(fields, mailbox, base_url)
    checked = check(
        items, template=template if judged else None, renderer=renderer, attachments=attachments, envelope=envelope,
        allow_duplicates=fields.allow_duplicates, keep=fields.on_invalid == "skip" or fields.dry_run,
    )  # fmt: skip
    if template is None or errors:
        raise invalid(checked.errors.after(errors))
    refusal = _refusal(fields, checked)
    if refusal and not fields.dry_run:
        raise invalid(checked.errors)
    checked.attached[:0] = attachments.shared
    job = _job(fields, checked, variables=stored, key=key, mailbox=mailbox, named=named)
    return ParsedJob(job, checked.rejected, fields.dry_run, template, envelope, fields.list, refusal)


def _fields(
    body: Mapping[str, Any], key: ApiKey | None, *, now: datetime, dry_run: bool
) -> tuple[JobFields, list[FieldError]]:
    """Everything but the recipients, and what is wrong with it.

    Raises:
        ApiError: 403, the key may not use the sender; 422, there are too many fields.
    """
    fields, errors = read_job_fields(body, now=now)
    if key is not None and fields.sender_email and not key.may_send(fields.sender_email):
        raise ApiError(403, "sender_not_allowed", f"the key {key.name!r} may not send from {fields.sender_email}")
    return (fields.model_copy(update={"dry_run": True}) if dry_run else fields), errors


def _envelope(fields: JobFields, mailbox: str, base_url: str) -> Envelope:
    """What the envelopes of its letters have in common; an id is as long as any other."""
    sender, name = fields.sender_email or "", fields.sender_name or None
    headers = _list_headers(fields.list, sender, mailbox, base_url) if fields.list else None
    return Envelope(sender, name, fields.reply_to, to_email="", to_name=None, key="0" * 26, list_headers=headers)


def _list_headers(name: str, sender: str, mailbox: str, base_url: str) -> ListHeaders:
    """As long as the headers of a letter will be, with a link that does nothing."""
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


def _named(
    fields: JobFields, library: TemplateLibrary, renderer: ThreadRenderer, errors: list[FieldError]
) -> NamedTemplate | None:
    if fields.template_name is None or fields.template is not None:
        return None
    try:
        found = library.find(fields.template_name)
        if found is not None:
            renderer.run(check_named(found, renderer.renderer, origin=renderer.origin))
    except TemplateLibraryError as error:
        errors.append(FieldError("template_name", str(error)))
        return None
    if found is None:
        errors.append(FieldError("template_name", "there is no template of this name"))
    return found


def _template(
    fields: JobFields,
    named: NamedTemplate | None,
    variables: Mapping[str, Any],
    renderer: ThreadRenderer,
    errors: list[FieldError],
) -> Template | None:
    """The template of the letters; None when it has errors."""
    if named is not None:
        return replace(named.template, variables=variables)
    if fields.template is None:
        return None
    it = fields.template
    template = Template(Source(it.subject, it.html or None, it.text or None), variables=variables)
    try:
        renderer.compile(template)
    except TemplateErrors as found:
        errors.extend(FieldError(f"template.{error.part}", str(error)) for error in found.errors)
        return None
    return template


def _variables(fields: JobFields, errors: list[FieldError]) -> tuple[Mapping[str, Any], str]:
    variables = fields.variables or {}
    try:
        return variables, encode(variables)
    except ValueError as error:
        errors.append(FieldError("variables", str(error)))
        return variables, ""


def _attachments(fields: JobFields, named: NamedTemplate | None, errors: list[FieldError]) -> AttachmentSet:
    attachments = AttachmentSet()
    pictures = [
        StoredAttachment(each.filename, each.content_type, each.content, sha256(each.content).digest(), each.filename)
        for each in (named.images if named else ())
    ]
    errors += attachments.for_all(fields.attachments or (), pictures=pictures)
    return attachments


def _list_error(items: object, max_recipients: int) -> FieldError | None:
    """Why the list of recipients is not read at all."""
    match items:
        case None:
            return FieldError("recipients", "is required")
        case []:
            return FieldError("recipients", "is empty")
        case list() if len(items) > max_recipients:
            return FieldError("recipients", f"has {len(items):,} entries, above the limit of {max_recipients:,}")
        case list():
            return None
        case _:
            return FieldError("recipients", "must be a list")


def _refusal(fields: JobFields, checked: CheckedRecipients) -> str:
    """Why the whole job is refused for its recipients; empty: it is not."""
    bad, total = len(checked.rejected), len(checked.rows)
    if not bad or (fields.on_invalid == "skip" and bad < total):
        return ""
    if bad == total:
        return "a post of this job is refused (422): none of its recipients is good"
    which = f"{bad:,} of its {total:,} recipients {'is' if bad == 1 else 'are'} bad"
    return f'a post of this job is refused (422): {which}; mend them, or leave them out by `on_invalid`: "skip"'


def _job(
    fields: JobFields,
    checked: CheckedRecipients,
    *,
    variables: str,
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
        variables=variables,
        reference=fields.reference,
        priority=fields.priority,
        send_at=fields.send_at,
        api_key_id=key.id if key else None,
        recipients=checked.rows,
        template_name=named.name if named else None,
        template_version=named.version if named else None,
        inline_css=named.template.inline_css if named else False,
        languages=[TemplateLanguage(tag, each.subject, each.html, each.text) for tag, each in languages],
        attachments=checked.attached,
        override_suppression=fields.override_suppression,
        on_bounces=fields.on_bounces,
    )
