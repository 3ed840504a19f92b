"""The process that reads jobs: `python -I -m mailerd.intake.job_reader_child CPU_SECONDS
MEMORY_BYTES PARENT`.

`job_reader` starts it and asks it, turn by turn, so that a large job does not hold up a small one.
With the first turn comes the body; each answer has the next recipients as rows, ready to be stored,
and what is wrong with them. Their messages are rendered on the way, each within its bounds of CPU
and memory. One that passes them ends the process, and who is to blame is found by the renderer:
`job_reader` then lets the body be read without rendering.
"""

import gc
import hashlib
import mimetypes
import secrets
import sys
import time
from base64 import b64decode
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final, NamedTuple

from mailerd.core import copies
from mailerd.core.copies import once_each
from mailerd.core.extras import NO_EXTRAS, Extras
from mailerd.core.i18n import Text, joined, t
from mailerd.core.reasons import to_json
from mailerd.core.states import JobType
from mailerd.core.suppression import TOKEN_BYTES, canonical, encode_token
from mailerd.http.errors import MAX_REASON, ApiError, FieldError
from mailerd.intake import one_message, tests_of_jobs
from mailerd.intake.request_models import (
    MAX_REASONS_PER_RECIPIENT,
    AttachmentIn,
    JobFields,
    RecipientIn,
    copies_in,
    extras_of,
    list_errors,
    read_job_fields,
    read_recipient,
)
from mailerd.intake.strict_json import encode, parse
from mailerd.intake.template_body import files_of
from mailerd.mail.cage import BLOB, bound, bound_cpu, bound_memory, end_with
from mailerd.mail.mime import check_content_type, check_together, encoded_size
from mailerd.mail.render import CompiledTemplate
from mailerd.mail.render_child import Child
from mailerd.mail.render_child import warm_up as warm_up_rendering
from mailerd.mail.renderer import template_from_json
from mailerd.mail.templates import RecipientData, Source, Template, TemplateErrors

TURN_SECONDS: Final = 0.05
"""Seconds after which the rows that are ready are the answer, so that others get their turn."""
READ_SECONDS: Final = 10.0
"""Seconds of CPU for the reading of one turn; the body of 100,000 recipients takes a fifth of
one.
"""
TEMPLATE_SECONDS: Final = 2.0
"""Seconds of CPU for the reading of a template: one of 20 MB takes a second, hostile Markdown would
take minutes.
"""
MESSAGE_MEMORY: Final = 200 * 1024 * 1024
"""Bytes that a message may take beside the body: what the renderer of the check has left for it."""
FROZEN_FROM: Final = 1024 * 1024
"""Bytes of a body above which it has a process to itself, which ends with it."""
MAX_ROWS: Final = 1000
"""The most rows of one answer: the daemon's loop does something with each."""
MAX_CONTENT: Final = 1 << 20
"""Bytes of attachments after which no further row goes into the same answer."""
MAX_COMPILED: Final = 1_000_000
"""Characters of templates that are kept compiled: most jobs of an application have the template of
the job before.
"""
_ROWS_AT_ONCE: Final = 200
"""Rows that are read before the next message is rendered: between the two each bound is set
anew.
"""
_DEFAULT_KIND: Final = "application/octet-stream"
_PACKED: Final = {"gzip": "application/gzip"}
"""Content types of what `mimetypes` calls an encoding (RFC 6713); it has no registered one for the
others.
"""


class Attached(NamedTuple):
    """One attachment as the daemon gets it; its content comes apart, once."""

    filename: str
    content_type: str
    content_id: str | None
    digest: str
    """SHA-256 of the content, in hexadecimal digits."""
    size: int


class AttachmentSet:
    """What the messages of one job carry."""

    def __init__(self) -> None:
        self.shared: list[Attached] = []
        self._known = set[str]()
        self.contents: dict[str, bytes] = {}
        """Contents that the daemon does not have yet, by their digests."""

    @property
    def new_bytes(self) -> int:
        """The bytes of those."""
        return sum(map(len, self.contents.values()))

    def for_all(
        self, given: Sequence[AttachmentIn], *, pictures: Iterable[Attached]
    ) -> list[FieldError]:
        """Take what every recipient gets, the pictures of the template among it; what is wrong."""
        self.shared, errors = self._read(given, [*pictures])
        return errors

    def for_recipient(
        self, given: Sequence[AttachmentIn]
    ) -> tuple[list[Attached], list[FieldError]]:
        """What one recipient gets besides, and what is wrong with it."""
        found, errors = self._read(given, self.shared)
        return found[len(self.shared) :], errors

    def _read(
        self, given: Sequence[AttachmentIn], others: Sequence[Attached]
    ) -> tuple[list[Attached], list[FieldError]]:
        """What a message carries together with the `others`, and what is wrong with it."""
        found = [*others, *map(self._decode, given)]
        return found, [FieldError("attachments", why) for why in _errors_together(found)]

    def _decode(self, it: AttachmentIn) -> Attached:
        content = b64decode(it.content)
        digest = hashlib.sha256(content).hexdigest()
        if digest not in self._known:
            self._known.add(digest)
            self.contents[digest] = content
        kind = it.content_type or _kind_of(it.filename)
        return Attached(it.filename, kind, it.content_id, digest, len(content))


def _errors_together(found: Sequence[Attached]) -> list[str]:
    """What is wrong with the attachments of one message taken together."""
    wrong = list[str]()
    ids = [each.content_id for each in found if each.content_id]
    wrong += [
        t("content_id {each!r} is given twice", each=each)
        for each in sorted({one for one in ids if ids.count(one) > 1})
    ]
    try:
        check_together((each.filename, each.size) for each in found)
    except ValueError as error:
        wrong.append(str(error))
    return wrong


def _kind_of(filename: str) -> str:
    """The content type that follows from a name.

    What is compressed is what compresses it, and not what is in it: a `.csv.gz` is no text. A
    message in a file (`.eml`) is a plain file: MIME allows no message/rfc822 in base64 (RFC 2046,
    5.2.1), and readers lose what is in it.
    """
    kind, packed = mimetypes.guess_type(filename, strict=True)
    if packed:
        return _PACKED.get(packed, _DEFAULT_KIND)
    try:
        return check_content_type(kind or "")
    except ValueError:
        return _DEFAULT_KIND


class RecipientRow(NamedTuple):
    """A recipient as it was read, ready to be stored; `errors` are by its fields."""

    email: str
    name: str | None
    variables: str | None
    """Its own variables, as JSON."""
    attached: Sequence[Attached]
    errors: list[tuple[str, Any]]
    extras: Extras | None = None
    """None: it has none, as most."""
    repeats: bool = False
    """An address of its message was given more than once."""
    send_at: str | None = None
    """A time of its own."""

    @property
    def attached_bytes(self) -> int:
        """What its own attachments take up in its message at most."""
        return sum(encoded_size(each.size, filename=each.filename) for each in self.attached)

    def reader(self, url: str) -> RecipientData:
        """The recipient as the template sees it; `url`: what a link that unsubscribes begins with,
        or "".
        """
        # A link that does nothing, with a token of its own. The template cannot tell it from the
        # one that it will be sent with: it would be harmless here, and a bomb then.
        link = url and url + encode_token(secrets.token_bytes(TOKEN_BYTES))
        return RecipientData(self.email, self.name, self.variables, link)


def why_not_made(errors: Sequence[Exception]) -> Text:
    """The first errors of a message, as many as a reason has room for, and the number of the
    others.
    """
    said = [str(errors[0])]
    for each in errors[1:MAX_REASONS_PER_RECIPIENT]:
        if sum(map(len, said)) + 2 * len(said) + len(str(each)) > MAX_REASON - len(
            "; and 1000 more"
        ):
            break
        said.append(str(each))
    more = len(errors) - len(said)
    return joined([*said, *([t("and {more} more", more=more)] if more else [])])


def template_of(fields: JobFields) -> Template | None:
    """The template that a job itself has."""
    if (it := fields.template) is None:
        return None
    return Template(
        Source(it.subject, it.html or None, it.text or None), variables=fields.variables or {}
    )


class JobBody:
    """A job that is being read; it is read up to its recipients at once. `type_`: what the body is.

    Raises:
        ApiError: 422, it is no JSON, or has too many fields.
    """

    def __init__(self, body: bytes, *, now: datetime, type_: str = JobType.TEMPLATE) -> None:
        tree, errors, test = parse(body), list[FieldError](), tests_of_jobs.NO_TEST
        if type_ == JobType.MESSAGE:
            tree, errors = one_message.as_job(tree)
        elif type_ == JobType.TEST:
            tree, test = tests_of_jobs.as_job(tree)
        self._items = tree.pop("recipients", None)
        self.fields, wrong = read_job_fields(tree, now=now)
        self._now = now
        errors += wrong
        try:
            variables = encode(self.fields.variables or {})
        except ValueError as error:
            variables = ""
            errors.append(FieldError("variables", str(error)))
        self._copies = copies_in(self.fields.cc, self.fields.bcc)
        self._shared = once_each("", self._copies)
        self.attachments = AttachmentSet()
        self._count = len(self._items) if isinstance(self._items, list) else 0
        if len(body) > FROZEN_FROM:
            gc.freeze()  # or each look for cycles goes through the whole body, which has none
        self._read = 0
        self._next = deque[RecipientRow]()
        """Rows that are read and not answered yet."""
        self.compiled: CompiledTemplate | None = None
        self.judged = not any(error.field.startswith("variables") for error in errors)
        """Whether recipients can be judged by the template: without the job's variables what they
        lack is unknown.
        """
        self.head = {
            "fields": self.fields.model_dump(
                mode="json", exclude={"attachments", "variables", "cc", "bcc"}
            ),
            "variables": variables,
            "extras": _with_copies(
                extras_of(self.fields), copies.to_json(self._shared) if self._shared else None
            ),
            "errors": _listed(errors),
            "test": [test.to, test.indexes],
            "recipients": None
            if self._items is None
            else self._count
            if isinstance(self._items, list)
            else -1,
        }

    def next(self) -> RecipientRow | None:
        """The next recipient; None: there is none."""
        if not self._next:
            self._next.extend(
                self._row() for _ in range(min(_ROWS_AT_ONCE, self._count - self._read))
            )
        return self._next.popleft() if self._next else None

    @property
    def is_ahead(self) -> bool:
        """Whether the next recipient is read already."""
        return bool(self._next)

    def _row(self) -> RecipientRow:
        assert isinstance(self._items, list)  # noqa: S101 - or there is none to be read
        read, errors = read_recipient(
            self._items[self._read], now=self._now, send_at=self.fields.send_at
        )
        self._read += 1
        variables = read.variables
        if read.language is not None:  # it is a variable, too, so that a template can ask for it
            variables = variables or {}
            if variables.get("language", read.language) != read.language:
                errors.append(FieldError("language", t("differs from variables.language")))
            variables = {**variables, "language": read.language}
        stored = None
        if variables:
            try:
                stored = encode(variables)
            except ValueError as error:
                errors.append(FieldError("variables", str(error)))
        attached: Sequence[Attached] = ()
        if read.attachments is not None:
            attached, wrong = self.attachments.for_recipient(read.attachments)
            errors += wrong
        extras, repeats = extras_of(read), False
        if self._copies or read.cc is not None or read.bcc is not None:
            errors += list_errors(self.fields, cc=read.cc, bcc=read.bcc)
            named, repeats = self._copies_of(read)
            extras = _with_copies(extras, named)
        send_at, wrong_ones = read.send_at.isoformat() if read.send_at else None, _listed(errors)
        return RecipientRow(
            read.email, read.name or None, stored, attached, wrong_ones, extras, repeats, send_at
        )

    def _copies_of(self, read: RecipientIn) -> tuple[str | None, bool]:
        """The copies of a recipient's message, None where they are those of the job; whether one is
        named twice.
        """
        given, own = self._copies, read.cc is not None or read.bcc is not None
        if own:
            given = copies_in(
                self.fields.cc if read.cc is None else read.cc,
                self.fields.bcc if read.bcc is None else read.bcc,
            )
        kept = once_each(read.email, given)
        return copies.to_json(kept) if own or kept != self._shared else None, len(kept) < len(given)


def _with_copies(extras: Extras | None, named: str | None) -> Extras | None:
    """What goes into a row beside the variables, with the copies that it names; None: there are
    none of its own.
    """
    return extras if named is None else (extras or NO_EXTRAS)._replace(copy_list=named)


def _listed(errors: Sequence[FieldError]) -> list[tuple[str, Any]]:
    """As JSON has them."""
    return [(each.field, to_json(each.message)) for each in errors]


def _refused(error: ApiError) -> dict[str, Any]:
    return {"refused": [error.status, error.code, to_json(str(error)), _listed(error.errors)]}


def _template(body: bytes) -> dict[str, Any]:
    """The files of a template, which no job has."""
    bound_cpu(TEMPLATE_SECONDS)
    try:
        files, comment = files_of(parse(body))
    except ApiError as error:
        return _refused(error)
    sizes = [(path, len(content)) for path, content in files.items()]
    return {"files": sizes, "comment": comment, BLOB: b"".join(files.values())}


class JobChild(Child):
    """The loop of the child process: a frame is read, a frame is written."""

    def __init__(self, source: BinaryIO, sink: BinaryIO, *, cpu: float) -> None:
        super().__init__(source, sink, cpu=cpu)
        self._jobs: dict[int, JobBody] = {}
        self._renders = False

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The next rows of a job; before them, with its first answer, what else it says."""
        self.slowest = 0.0
        self._go_on_reading()
        self._jobs = {number: job for number, job in self._jobs.items() if number in asked["keep"]}
        if asked["is_template"]:
            return _template(asked.pop(BLOB, b""))
        answer, job = dict[str, Any](), self._jobs.get(asked["job"])
        if job is None:
            try:
                job = JobBody(
                    asked.pop(BLOB, b""),
                    now=datetime.fromisoformat(asked["now"]),
                    type_=asked["type"],
                )
            except ApiError as error:
                return _refused(error)
            self._jobs[asked["job"]] = job
            answer["head"] = job.head
        if asked["begin"]:
            if job.fields.template_name is not None and asked["pictures"] is None:
                return answer  # the daemon has to say first what its named template is
            errors = job.attachments.for_all(
                job.fields.attachments or (),
                pictures=[Attached(*each) for each in asked["pictures"] or ()],
            )
            answer |= {"attached": job.attachments.shared, "attachment_errors": _listed(errors)}
            for _ in range(asked["behind"]):  # another process has answered them
                job.next()
            template = (
                template_from_json(asked["template"])
                if asked["template"]
                else template_of(job.fields)
            )
            if asked["render"] and template:
                answer["template_errors"] = self._compile(job, template)
        return answer | self._rows(
            job, render=asked["render"], link=asked["link"] if job.fields.list else ""
        )

    def _compile(self, job: JobBody, template: Template) -> list[list[Any]]:
        """What is wrong with the template."""
        self._go_on_rendering(0.0)
        try:
            compiled = self.compile(template)
        except TemplateErrors as errors:
            return [[to_json(each.reason), each.part, each.line] for each in errors.errors]
        finally:
            self._go_on_reading()
        if sum(len(source) for _, source in self._parts) > MAX_COMPILED:
            self._parts = compiled.parts()
        if job.judged:
            job.compiled = compiled
        return []

    def _rows(self, job: JobBody, *, render: bool, link: str) -> dict[str, Any]:
        """The next recipients, none where there are no more; their messages are rendered if
        `render` says so.
        """
        now = time.monotonic()
        until, rows, compiled = (
            now + TURN_SECONDS,
            list[RecipientRow](),
            job.compiled if render else None,
        )
        while not rows or (
            len(rows) < MAX_ROWS and now < until and job.attachments.new_bytes <= MAX_CONTENT
        ):
            if not job.is_ahead:
                self._go_on_reading()
            if (row := job.next()) is None:
                break
            rows.append(row)
            if compiled and not row.errors:
                self._go_on_rendering(now)
                if errors := self.check(compiled, row.reader(link)):
                    row.errors.append(("variables", to_json(why_not_made(errors))))
            now = time.monotonic()
        self._go_on_reading()
        contents, job.attachments.contents = job.attachments.contents, {}
        return {
            "rows": rows,
            "rendered": compiled is not None,
            "contents": [(digest, len(each)) for digest, each in contents.items()],
            **({BLOB: b"".join(contents.values())} if contents else {}),
        }

    def _go_on_reading(self) -> None:
        """From here on it is the body that takes time and memory."""
        if self._renders:
            self.note_slowest()
        bound_cpu(READ_SECONDS)
        bound_memory(None)
        self._renders = False

    def _go_on_rendering(self, now: float) -> None:
        """From here on it is a message that does."""
        if self._renders:
            self.bound_soon(now)
            return
        bound_memory(MESSAGE_MEMORY)
        self.bound()
        self._renders = True


def warm_up() -> None:
    """Let Python load what it loads late (codecs, tables of names), as long as files can be
    opened.
    """
    warm_up_rendering()
    _kind_of("a.pdf")
    copied = {"email": "ä", "cc": [{"email": "a@ä.example"}]}
    body = {
        "recipients": [copied],
        "x": 1,
        "sender_email": "a@ä.example",
        "template": {"subject": ""},
    }
    canonical("a@ä.example")
    JobBody(encode(body).encode(), now=datetime(2026, 1, 1, tzinfo=UTC)).next()


def main() -> None:
    """Bound this process, then serve."""
    cpu, memory, parent = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    end_with(parent)
    warm_up()
    bound(memory=memory, keep_statm=True)
    JobChild(sys.stdin.buffer, sys.stdout.buffer, cpu=cpu).serve()


if __name__ == "__main__":
    main()
