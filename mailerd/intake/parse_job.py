"""A body's bytes to a job that can be stored; all of it is computing, and runs in a thread beside the loop."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Any

from mailerd.clock import new_id
from mailerd.intake.attachments import AttachmentSet
from mailerd.intake.check_recipients import CheckedRecipients, RejectedRecipient, check
from mailerd.intake.errors import ApiError, FieldError, invalid
from mailerd.intake.request_models import JobFields, read_job_fields
from mailerd.intake.resolve_sender import SenderResolver, UnknownSender
from mailerd.intake.strict_json import encode, parse
from mailerd.mail.errors import TemplateErrors
from mailerd.mail.mime import Envelope
from mailerd.mail.renderer import ThreadRenderer
from mailerd.mail.template_library import NamedTemplate, TemplateLibrary, TemplateLibraryError
from mailerd.mail.template_library import check as check_named
from mailerd.mail.templates import Source, Template
from mailerd.store.api_keys import ApiKey
from mailerd.store.attachments import StoredAttachment
from mailerd.store.jobs import NewJob, TemplateLanguage


@dataclass(frozen=True)
class ParsedJob:
    """A request that can be stored."""

    job: NewJob
    rejected: list[RejectedRecipient]
    """The recipients that get no letter; only with `on_invalid` "skip", or in a dry run."""
    dry_run: bool
    template: Template

    @property
    def total(self) -> int:
        """Recipients in the request."""
        return len(self.job.recipients)

    @property
    def accepted(self) -> int:
        """Recipients that get a letter."""
        return self.total - len(self.rejected)


def parse_job(
    raw: bytearray,
    *,
    key: ApiKey | None,
    now: datetime,
    max_recipients: int,
    renderer: ThreadRenderer,
    senders: SenderResolver | None = None,
    library: TemplateLibrary | None = None,
) -> ParsedJob:
    """Read, check and prepare a request. `raw` is emptied; `senders` None means that every sender has a mailbox.

    `key` None: whoever asks sits at this machine's terminal, and may use every sender.

    Raises:
        ApiError: 422 naming everything that is wrong, or 403 when the key may not use the sender.
        RendererError: nothing can be rendered now.
    """
    fields = parse(raw)
    items = fields.pop("recipients", None)
    head, errors = read_job_fields(fields, now=now)
    if key is not None and head.sender_email and not key.may_send(head.sender_email):
        raise ApiError(403, "sender_not_allowed", f"the key {key.name!r} may not send from {head.sender_email}")
    # Without the job's variables nobody can say what a recipient lacks, nor which of two templates is meant.
    judged = not any(error.field.startswith(("variables", "template_name")) for error in errors)
    mailbox = _mailbox(head, errors, senders=senders)
    variables, stored = _variables(head, errors)
    named = _named(head, library or TemplateLibrary(None), renderer, errors)
    template = _template(head, named, variables, renderer, errors)
    attachments = _attachments(head, named, errors)
    refused = _refused(items, max_recipients)
    if refused:
        raise invalid([*errors, refused])
    checked = check(
        items,
        template=template if judged else None,
        renderer=renderer,
        attachments=attachments,
        envelope=_envelope(head),
        allow_duplicates=head.allow_duplicates,
        keep=head.on_invalid == "skip" or head.dry_run,
    )
    if template is None or errors:
        raise invalid(checked.errors.after(errors))
    if not head.dry_run:
        _insist_on_good(head, checked)
    attached = [*attachments.shared, *checked.attached]
    job = _job(head, checked, variables=stored, key=key, mailbox=mailbox, named=named, attached=attached)
    return ParsedJob(job, checked.rejected, head.dry_run, template)


def _envelope(head: JobFields) -> Envelope:
    """What the envelopes of its letters have in common; an id is as long as any other."""
    sender, name = head.sender_email or "", head.sender_name or None
    return Envelope(sender, name, head.reply_to, to_email="", to_name=None, key="0" * 26)


def _mailbox(head: JobFields, errors: list[FieldError], *, senders: SenderResolver | None) -> str:
    """The mailbox behind the sender; a sender that has none is a error."""
    if not head.sender_email:
        return ""
    found = senders.mailbox_of(head.sender_email) if senders else head.sender_email
    if isinstance(found, UnknownSender):
        errors.append(FieldError("sender_email", found.why))
        return ""
    return found


def fingerprint(raw: bytearray) -> bytes:
    """What tells one body from another."""
    return sha256(raw).digest()


def _named(
    head: JobFields, library: TemplateLibrary, renderer: ThreadRenderer, errors: list[FieldError]
) -> NamedTemplate | None:
    if head.template_name is None or head.template is not None:
        return None
    try:
        found = library.find(head.template_name)
        if found is not None:
            renderer.run(check_named(found, renderer.renderer, origin=renderer.origin))
    except TemplateLibraryError as error:
        errors.append(FieldError("template_name", str(error)))
        return None
    if found is None:
        errors.append(FieldError("template_name", "there is no template of this name"))
    return found


def _template(
    head: JobFields,
    named: NamedTemplate | None,
    variables: Mapping[str, Any],
    renderer: ThreadRenderer,
    errors: list[FieldError],
) -> Template | None:
    """What the letters are made from; None where it has errors."""
    if named is not None:
        return replace(named.template, variables=variables)
    if head.template is None:
        return None
    it = head.template
    template = Template(Source(it.subject, it.html or None, it.text or None), variables=variables)
    try:
        renderer.compile(template)
    except TemplateErrors as found:
        errors.extend(FieldError(f"template.{error.part}", str(error)) for error in found.errors)
        return None
    return template


def _variables(head: JobFields, errors: list[FieldError]) -> tuple[Mapping[str, Any], str]:
    variables = head.variables or {}
    try:
        return variables, encode(variables)
    except ValueError as error:
        errors.append(FieldError("variables", str(error)))
        return variables, ""


def _attachments(head: JobFields, named: NamedTemplate | None, errors: list[FieldError]) -> AttachmentSet:
    attachments = AttachmentSet()
    pictures = [
        StoredAttachment(each.filename, each.content_type, each.content, sha256(each.content).digest(), each.filename)
        for each in (named.images if named else ())
    ]
    errors += attachments.for_all(head.attachments or (), pictures=pictures)
    return attachments


def _refused(items: object, max_recipients: int) -> FieldError | None:
    """Why the list of recipients is not even looked at."""
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


def _insist_on_good(head: JobFields, checked: CheckedRecipients) -> None:
    none_good = len(checked.rejected) == len(checked.rows)
    if checked.errors.total and (head.on_invalid == "reject" or none_good):
        raise invalid(checked.errors)


def _job(
    head: JobFields,
    checked: CheckedRecipients,
    *,
    variables: str,
    key: ApiKey | None,
    mailbox: str,
    named: NamedTemplate | None,
    attached: list[StoredAttachment],
) -> NewJob:
    source = named.template.default if named else head.template
    assert source is not None  # noqa: S101 - read_job_fields insists on one of the two
    languages = named.template.languages.items() if named else ()
    return NewJob(
        id=new_id(),
        sender_email=mailbox,
        from_email=None if head.sender_email == mailbox else head.sender_email,
        sender_name=head.sender_name or None,
        reply_to=head.reply_to,
        subject=source.subject,
        html=source.html or None,
        text=source.text or None,
        variables=variables,
        reference=head.reference,
        priority=head.priority,
        send_at=head.send_at,
        api_key_id=key.id if key else None,
        recipients=checked.rows,
        template_name=named.name if named else None,
        template_version=named.version if named else None,
        inline_css=named.template.inline_css if named else False,
        languages=[TemplateLanguage(tag, each.subject, each.html, each.text) for tag, each in languages],
        attachments=attached,
    )
