"""Checks every recipient of a request in one pass: a valid one becomes a row, an invalid one gets its reasons."""

import secrets
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from mailerd.core.suppression import DEAD_TOKEN, TOKEN_BYTES, canonical, encode_token
from mailerd.errors import MailerdError
from mailerd.intake.attachments import AttachmentSet, encoded_sizes, letter_size, may_be_too_large
from mailerd.intake.check_time import CheckTime
from mailerd.intake.errors import MAX_REASON, ApiError, FieldErrors, cut
from mailerd.intake.request_models import LANGUAGE, MAX_LINE, MAX_REASONS_PER_RECIPIENT, one_name
from mailerd.intake.strict_json import encode, why_too_large
from mailerd.mail.addresses import Addresses
from mailerd.mail.mime import Envelope
from mailerd.mail.renderer import MAX_STOPPED, Rendered, ThreadRenderer
from mailerd.mail.templates import Content, RecipientData, Template
from mailerd.store.new_job import NewRecipient, StoredAttachment

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
