"""From the bytes of a body to a job that can be stored; it only computes, and runs in a thread beside the loop."""

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote

from mailerd.clock import new_id
from mailerd.core.replies import NoCredentials
from mailerd.core.suppression import DEAD_TOKEN, TOKEN_BYTES, Reason, canonical, encode_token, why_suppressed
from mailerd.errors import MailerdError
from mailerd.gmail import Gmail
from mailerd.http.errors import MAX_REASON, ApiError, FieldError, FieldErrors, cut, invalid
from mailerd.intake.attachments import AttachmentSet, encoded_sizes, letter_size, may_be_too_large
from mailerd.intake.request_body import encode, parse, why_too_large
from mailerd.intake.request_models import (
    LANGUAGE,
    MAX_LINE,
    MAX_REASONS_PER_RECIPIENT,
    JobFields,
    one_name,
    read_job_fields,
)
from mailerd.mail.mime import Addresses, Envelope, ListHeaders, unsubscribe_mailbox
from mailerd.mail.renderer import MAX_STOPPED, Rendered, ThreadRenderer
from mailerd.mail.template_library import NamedTemplate, TemplateLibrary, TemplateLibraryError
from mailerd.mail.template_library import check as check_named
from mailerd.mail.templates import Content, RecipientData, RendererError, Source, Template, TemplateErrors
from mailerd.store.api_keys import ApiKey, Permission
from mailerd.store.db.database import Database
from mailerd.store.jobs import NewJob, NewRecipient, StoredAttachment, TemplateLanguage
from mailerd.store.list_names import ListNameError
from mailerd.store.secrets import AddressDigests, Secrets
from mailerd.store.suppressions import MailingList, Suppressions

# The time that the check of one job may take, and whose fault it is when it does not do.


class CheckTime:
    """Begins now, in the thread that checks. `total`: how many recipients there are."""

    def __init__(self, seconds: float, renderer: ThreadRenderer, *, total: int) -> None:
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._renderer = renderer
        self._total = total
        self._used_before = self._used()

    def require(self, done: int) -> None:
        """Go on only while there is time.

        Raises:
            ApiError: 422, the template takes too long for so many recipients.
            RendererError: others had this machine meanwhile.
        """
        if time.monotonic() > self._until:
            raise self._over(done)

    def wait_for(self, rendering: "Future[list[Rendered]]", *, done: int) -> list[Rendered]:
        """The letters, once they are rendered.

        Raises:
            ApiError, RendererError: as `require`, or what the rendering raises.
        """
        try:
            return rendering.result(timeout=max(self._until - time.monotonic(), 0.0))
        except TimeoutError:
            rendering.cancel()
            raise self._over(done) from None

    def _used(self) -> float:
        return time.thread_time() + self._renderer.cpu.seconds

    def _over(self, done: int) -> ApiError | RendererError:
        so_far = f"after {self._seconds:g} s only {done:,} of {self._total:,} recipients were checked"
        if (self._used() - self._used_before) * 2 < self._seconds:
            return RendererError(f"{so_far}: other work, or other clients' templates, had the CPU")
        return ApiError(422, "too_costly", f"{so_far}: make the template simpler, or split the job; nothing was stored")


# Checks every recipient of a request in one pass: a valid one becomes a row, an invalid one gets its reasons.

CHECK_TIMEOUT: Final = 30.0
"""Seconds for all recipients of one job: 100,000 with a plain template take one."""
MAX_EMAIL: Final = 320
BATCH: Final = 1000
"""Recipients that are rendered while the next ones are read."""
_SIZE_BATCH: Final = 10
_FIELDS: Final = frozenset({"email", "name", "variables", "language", "attachments"})


@dataclass(frozen=True)
class RejectedRecipient:
    """A recipient that gets no letter."""

    index: int
    email: str
    reason: str


@dataclass
class CheckedRecipients:
    """All recipients of a request, in its order, and their errors."""

    rows: list[NewRecipient] = field(default_factory=list)
    rejected: list[RejectedRecipient] = field(default_factory=list)
    attached: list[StoredAttachment] = field(default_factory=list)
    """Attachments of single recipients."""
    errors: FieldErrors = field(default_factory=FieldErrors)


def check(
    items: list[Any],
    *,
    template: Template | None,
    renderer: ThreadRenderer,
    attachments: AttachmentSet,
    envelope: Envelope,
    allow_duplicates: bool = False,
    keep: bool = False,
) -> CheckedRecipients:
    """Check every recipient; `items` is emptied on the way, so that request and rows are never in memory at once.

    `template` None: it has errors of its own, so recipients cannot be checked against it. Otherwise every letter is
    rendered, by the code that will render it again for its sending: the renderer has one batch while the next is read.
    Where its attachments leave little room, it is weighed as well; `envelope` is what the letters have in common.
    `keep`: bad recipients are kept as such; without it the walk ends once there are enough errors for a refusal.

    Raises:
        ApiError: 422, the template is too costly for so many recipients.
        RendererError: nothing can be rendered now.
    """
    within = CheckTime(CHECK_TIMEOUT, renderer, total=len(items))
    checker = _Checker(attachments, allow_duplicates=allow_duplicates)
    letters = _Letters(template, renderer, envelope, attachments.shared) if template else None
    under_way: _Batch | None = None
    for start in range(0, len(items), BATCH):
        within.require(start)
        batch = [checker.read(items[index], index) for index in range(start, min(start + BATCH, len(items)))]
        items[start : start + BATCH] = [None] * len(batch)
        asked = _Batch(batch, letters)
        try:
            if under_way is not None:
                checker.take(under_way, within=within)
        except MailerdError:
            asked.cancel()
            raise
        under_way = asked
        if not keep and checker.found.errors.are_enough:
            break
    if under_way is not None:
        checker.take(under_way, within=within)
    return checker.found


def unsubscribe_link(envelope: Envelope) -> str:
    """A link that does nothing, with a token of its own, for one letter that is checked; empty where it has none.

    The template cannot tell it from the one that it will be sent with: it would be harmless here, and a bomb then.
    """
    return envelope.unsubscribe_url and (
        envelope.unsubscribe_url.removesuffix(DEAD_TOKEN) + encode_token(secrets.token_bytes(TOKEN_BYTES))
    )


def stopped_too_often(reason: str) -> ApiError:
    """The 422 for a template whose rendering was stopped so often that the other letters are not tried."""
    return ApiError(
        422,
        "too_costly",
        f"{MAX_STOPPED} letters had to be stopped ({reason}), and the others were not tried: make the template "
        "simpler; nothing was stored",
    )


def _field(index: int, name: str) -> str:
    return f"recipients[{index}].{name}" if name else f"recipients[{index}]"


_Errors = list[tuple[str, str]]
"""Field of a recipient ("" for the whole recipient) and its error."""


@dataclass
class _Candidate:
    """A recipient as it was read; `stored`: its own variables as JSON."""

    index: int
    email: str
    name: str | None = None
    stored: str | None = None
    attached: list[StoredAttachment] = field(default_factory=list)
    errors: _Errors = field(default_factory=list)


class _Letters:
    """Renders letters, and weighs those whose attachments leave little room, as they are rendered."""

    def __init__(
        self, template: Template, renderer: ThreadRenderer, envelope: Envelope, shared: Sequence[StoredAttachment]
    ) -> None:
        self._template, self._renderer, self._envelope = template, renderer, envelope
        self._shared = encoded_sizes(shared)

    def start(self, candidates: list[_Candidate], *, content: bool = False) -> "Future[list[Rendered]]":
        """Begin to render."""
        readers = [
            RecipientData(each.email, each.name, each.stored, unsubscribe_link(self._envelope)) for each in candidates
        ]
        return self._renderer.start(self._template, readers, content=content)

    def weigh(self, candidates: list[_Candidate], *, within: CheckTime) -> None:
        """Note which letters are larger than Google takes, a few at a time: each may have some megabytes.

        Raises:
            ApiError, RendererError: the time is over.
        """
        heavy = [each for each in candidates if may_be_too_large(self._attached(each))]
        for first in range(0, len(heavy), _SIZE_BATCH):
            some = heavy[first : first + _SIZE_BATCH]
            made = within.wait_for(self.start(some, content=True), done=some[0].index)
            for each, content in zip(some, made, strict=True):
                self._weigh_one(each, content)

    def _weigh_one(self, it: _Candidate, content: Rendered) -> None:
        if not isinstance(content, Content):
            it.errors.append(("variables", _listed(content)))
            return
        try:
            letter_size(
                content, self._envelope, email=it.email, name=it.name, index=it.index, attached=self._attached(it)
            )
        except ValueError as error:
            it.errors.append(("", str(error)))

    def _attached(self, it: _Candidate) -> int:
        return self._shared + encoded_sizes(it.attached)


class _Batch:
    """Recipients whose letters are being rendered; `letters` None: none is."""

    def __init__(self, candidates: list[_Candidate], letters: _Letters | None) -> None:
        self.candidates = candidates
        self._letters = letters
        self._good = [each for each in candidates if not each.errors]
        self._results = letters.start(self._good) if letters and self._good else None

    def cancel(self) -> None:
        """Render no more of them: the key's next request would wait for it."""
        if self._results is not None:
            self._results.cancel()

    def finish(self, *, within: CheckTime) -> list[str]:
        """Add the errors of rendering; returns the reasons of those that the system had to stop.

        Raises:
            ApiError, RendererError: the time is over.
        """
        stopped: list[str] = []
        if self._letters is None or self._results is None:
            return stopped
        rendered = within.wait_for(self._results, done=self.candidates[0].index)
        for each, errors in zip(self._good, rendered, strict=True):
            if isinstance(errors, list) and errors:
                each.errors.append(("variables", _listed(errors)))
                stopped += [str(error) for error in errors if error.bound]
        self._letters.weigh([each for each in self._good if not each.errors], within=within)
        return stopped


class _Checker:
    """Checks one recipient after the other, and remembers the addresses."""

    def __init__(self, attachments: AttachmentSet, *, allow_duplicates: bool) -> None:
        self._attachments = attachments
        self._allow_duplicates = allow_duplicates
        self._addresses = Addresses()
        self._seen: dict[str, tuple[int, str]] = {}
        """Mailboxes by their canonical address: the place of their first recipient, and how that one is written."""
        self._stopped: list[str] = []
        self.found = CheckedRecipients()

    def read(self, item: object, index: int) -> _Candidate:
        """Read one recipient of the request."""
        if not isinstance(item, dict):
            return _Candidate(index, "", errors=[("", "must be an object")])
        errors: _Errors = []
        if not item.keys() <= _FIELDS:
            unknown = [name for name in item if name not in _FIELDS]
            errors.extend((name, "unknown field") for name in unknown[:MAX_REASONS_PER_RECIPIENT])
            if len(unknown) > MAX_REASONS_PER_RECIPIENT:
                errors.append(("", f"has {len(unknown) - MAX_REASONS_PER_RECIPIENT:,} more unknown fields"))
        email = self._email(item.get("email"), errors)
        name = _name(item.get("name"), errors)
        stored = _own_variables(_with_language(item, errors), errors)
        attached = list[StoredAttachment]()
        if (given := item.get("attachments")) is not None:
            attached, wrong = self._attachments.for_recipient(given, index)
            errors.extend((error.field, error.message) for error in wrong)
        return _Candidate(index, email, name, stored, attached, errors)

    def take(self, batch: _Batch, *, within: CheckTime) -> None:
        """Make rows of a batch; a recipient with errors has them in its row.

        Raises:
            ApiError: 422, the system had to stop too many letters of this template, or it takes too long.
        """
        self._stopped += batch.finish(within=within)
        for each in batch.candidates:
            mailbox = canonical(each.email)
            if not self._allow_duplicates and (first := self._seen.get(mailbox)):
                index, written = first
                other = "" if written == each.email else f", which is written {written}"
                each.errors.append(("email", f"duplicate of recipients[{index}]{other}"))
            if each.errors:
                self._refuse(each)
            else:
                self._seen[mailbox] = (each.index, each.email)
                self.found.attached += each.attached
                self.found.rows.append(NewRecipient(each.email, each.name, each.stored))
        if len(self._stopped) >= MAX_STOPPED:
            raise stopped_too_often(self._stopped[0])

    def _refuse(self, each: _Candidate) -> None:
        reasons = "; ".join(why if part in {"", "email"} else f"{part}: {why}" for part, why in each.errors)
        self.found.rows.append(NewRecipient(each.email, each.name, each.stored, cut(reasons)))
        self.found.rejected.append(RejectedRecipient(each.index, each.email, cut(reasons)))
        for name, why in each.errors:
            self.found.errors.add(partial(_field, each.index, name), why)

    def _email(self, given: object, errors: _Errors) -> str:
        if not isinstance(given, str):
            errors.append(("email", "is required" if given is None else "must be a string"))
            return ""
        try:
            return self._addresses.check(given)
        except ValueError as error:
            errors.append(("email", str(error)))
            return given[:MAX_EMAIL]


def _listed(troubles: Sequence[Exception]) -> str:
    """The first errors, as many as a reason has room for, and the number of the others."""
    said = [str(troubles[0])]
    for each in troubles[1:MAX_REASONS_PER_RECIPIENT]:
        if sum(map(len, said)) + 2 * len(said) + len(str(each)) > MAX_REASON - len("; and 1000 more"):
            break
        said.append(str(each))
    more = len(troubles) - len(said)
    return "; ".join([*said, *([f"and {more} more"] if more else [])])


def _name(given: object, errors: _Errors) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str):
        errors.append(("name", "must be a string"))
        return None
    name = given.strip(" ")
    if len(name) > MAX_LINE:
        errors.append(("name", f"is longer than {MAX_LINE} characters"))
        return None
    try:
        return one_name(name) or None  # an empty name is no name, or the letter would begin "Dear ,"
    except ValueError as error:
        errors.append(("name", str(error)))
        return None


def _with_language(item: dict[str, Any], errors: _Errors) -> object:
    """A recipient's variables; its language is one of them, so that a template can also ask for it."""
    language, variables = item.get("language"), item.get("variables")
    if language is None:
        return variables
    if not isinstance(language, str) or not LANGUAGE.fullmatch(language):
        errors.append(("language", "must be a language such as zh or zh-TW"))
        return variables
    if not isinstance(variables, dict):
        return {"language": language} if variables is None else variables
    if variables.get("language", language) != language:
        errors.append(("language", "is another one than variables.language"))
    return {**variables, "language": language}


def _own_variables(given: object, errors: _Errors) -> str | None:
    """A recipient's own variables, as they are stored and rendered."""
    if given is None or given == {}:
        return None
    if not isinstance(given, dict):
        errors.append(("variables", "must be an object"))
    elif why := why_too_large(given):
        errors.append(("variables", why))
    else:
        try:
            return encode(given)
        except ValueError as error:
            errors.append(("variables", str(error)))
    return None


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
        errors.append(FieldError("template_name", library.why_missing(fields.template_name)))
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


# The recipients of a job that have opted out: they are stored as cancelled with their reason, and refuse no job.


class OptOutCheck:
    """What suppressions and the lack of a list mean for a job that is posted.

    `timeout`: seconds that the database gets for an answer. `warn_above`: the most recipients of a job without a list
    that need no warning.
    """

    def __init__(self, database: Database, *, timeout: float, warn_above: int) -> None:
        self._database = database
        self._timeout = timeout
        self._warn_above = warn_above
        # A second old at most: the claim and the hand-over look again.
        self._digests = AddressDigests(Secrets(database, timeout=timeout))

    async def mark(self, parsed: ParsedJob, *, key: ApiKey | None) -> ParsedJob:
        """The job with its list, and with what its suppressions say of each recipient.

        `key` None: a person at this machine's terminal, who may do everything. A dry run makes no list.

        Raises:
            ApiError: 422, the key may not make the list; 403, it may not override suppressions.
        """
        job = parsed.job
        if job.override_suppression and key is not None and not key.may(Permission.OVERRIDE):
            raise ApiError(
                403, "call_not_allowed", f"the key {key.name!r} may not override suppressions; that needs override"
            )
        await self._digests.load()
        suppressions = Suppressions(self._database, key=self._digests.key, timeout=self._timeout)
        found = await _list_of(parsed, key, suppressions)
        list_id = found.id if found else None
        reasons = await suppressions.binding(
            [each.email for each in job.recipients if each.error is None], list_id=list_id
        )
        opted_out = len(reasons)
        if job.override_suppression:
            reasons = {address: reason for address, reason in reasons.items() if reason.binds_always}
        rows = await asyncio.to_thread(_marked, job.recipients, reasons) if reasons else job.recipients
        suppressed = [
            RejectedRecipient(index, each.email, each.error or "") for index, each in enumerate(rows) if each.suppressed
        ]
        warnings = list[str]()
        if parsed.list_name is None and self._warn_above and parsed.total > self._warn_above:
            warnings.append(
                f"this job goes to {parsed.total:,} recipients and names no list: no recipient can unsubscribe from "
                "it. Name one in `list`, unless each of these letters was asked for"
            )
        job = replace(job, recipients=rows, list_id=list_id)
        envelope = parsed.envelope
        if found and envelope.list_headers:
            envelope = replace(envelope, list_headers=replace(envelope.list_headers, title=found.shown))
        overridden = opted_out - len(reasons)
        return replace(
            parsed, job=job, envelope=envelope, suppressed=suppressed, overridden=overridden, warnings=warnings
        )


def _marked(recipients: Sequence[NewRecipient], reasons: Mapping[str, Reason]) -> list[NewRecipient]:
    return [
        each._replace(error=why_suppressed(reasons[each.email]), suppressed=True)
        if each.error is None and each.email in reasons
        else each
        for each in recipients
    ]


async def _list_of(parsed: ParsedJob, key: ApiKey | None, suppressions: Suppressions) -> MailingList | None:
    name = parsed.list_name
    if name is None:
        return None
    found = await suppressions.list_named(name)
    if found is not None:
        return found
    if key is not None and not key.may(Permission.SUPPRESS):
        why = "there is no list of this name, and this key may not make one; `mailerd suppress lists` shows them"
        raise invalid([FieldError("list", why)])
    try:
        return None if parsed.dry_run else await suppressions.make_list(name)
    except ListNameError as error:
        raise invalid([FieldError("list", str(error))]) from None
