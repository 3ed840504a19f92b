"""The bodies of requests as models."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError

from mailerd.clock import read_moment
from mailerd.core.copies import MAX_COPIES, Copy
from mailerd.core.extras import Extras
from mailerd.core.i18n import t, tn
from mailerd.core.states import MAX_PRIORITY, MIN_PRIORITY
from mailerd.http.errors import FieldError, invalid
from mailerd.intake.strict_json import encode, why_too_large
from mailerd.mail.mime import (
    CONTENT_ID,
    CONTENT_TYPE,
    HEADER_NAME,
    MAX_ATTACHMENTS,
    MAX_FILENAME,
    MAX_HEADER_VALUE,
    Addresses,
    check_base64,
    check_content_id,
    check_content_type,
    check_filename,
    check_header,
    mailbox,
)
from mailerd.mail.templates import (
    LANGUAGE_TAG,
    MAX_LINE,
    NAME,
    ONE_LINE,
    ONE_NAME,
    language_tag,
    one_line,
    one_name,
)
from mailerd.operations.inputs import (
    EMAIL_SCHEMA,
    LINE_SCHEMA,
    LIST_SCHEMA,
    MESSAGES,
    TOO_MANY,
    RequestModel,
    field_errors,
)
from mailerd.store.write.list_names import check_list
from mailerd.store.write.tags import MAX_TAGS, TAG, check_tag

# What a schema says of a text that a function of ours checks: the same rule, which stands where
# that function is.
NAME_SCHEMA: Final = {"pattern": ONE_NAME}
FILENAME_SCHEMA: Final = {"minLength": 1, "maxLength": MAX_FILENAME, "pattern": r"^[^/\\:]+$"}
LANGUAGE_SCHEMA: Final = {"pattern": LANGUAGE_TAG.pattern}

MAX_EMAIL: Final = 320
"""Characters of an address that is none, where it is shown."""
MAX_SUBJECT: Final = 10_000
"""Characters of the subject's template: four bytes each still fit into its column."""
MAX_TEMPLATE_PART: Final = 4_000_000
"""Characters of the template's html or text: four bytes each still fit into its column."""
MAX_SEND_AHEAD: Final = timedelta(days=366)
MAX_ENTRIES: Final = 20
"""Headers, or entries of metadata, of a job or a recipient."""
MAX_METADATA_VALUE: Final = 500
"""Characters of a value of metadata."""
MAX_HEADERS: Final = 8_000
"""Bytes of the headers of a job or a recipient as JSON."""
MAX_METADATA: Final = 8_000
"""Bytes of a job's metadata as JSON."""
MAX_OWN_METADATA: Final = 2_000
"""Bytes of a recipient's metadata as JSON: an event may have that of many."""
METADATA_KEY: Final = re.compile(r"[A-Za-z0-9_.-]{1,40}")
MAX_REASONS_PER_RECIPIENT: Final = 10
"""Missing variables, unknown fields or errors of attachments that are named for one recipient."""


def _moment(value: object, info: ValidationInfo) -> object:
    if value is None:
        return None
    moment = read_moment(value)
    if info.context and moment > info.context["now"] + MAX_SEND_AHEAD:
        raise ValueError(t("is more than a year ahead"))
    return moment


def _own_moment(value: object, info: ValidationInfo) -> object:
    moment = _moment(value, info)
    first = info.context["send_at"] if info.context else None
    if first is not None and isinstance(moment, datetime) and moment < first:
        raise ValueError(t("is before the job's send_at"))
    return moment


def shallow(value: dict[str, Any]) -> dict[str, Any]:
    """Variables that are not nested too deeply, nor too many."""
    if why := why_too_large(value):
        raise ValueError(why)
    return value


def _texts(value: object, check: Callable[[str, str], None], most: int) -> object:
    """Names and texts, of which `check` refuses each by itself; `most`: bytes of all as JSON.

    They are counted first: a stranger may give a million, and pydantic makes an error of each.
    """
    if not isinstance(value, dict):
        return value
    if len(value) > MAX_ENTRIES:
        raise ValueError(t(MESSAGES["too_long"], actual_length=len(value), max_length=MAX_ENTRIES))
    if wrong := {
        name: why for name, text in value.items() if (why := _why_wrong(name, text, check))
    }:
        errors = [
            InitErrorDetails(
                type="value_error", loc=(name,), input=None, ctx={"error": ValueError(why)}
            )
            for name, why in wrong.items()
        ]
        raise ValidationError.from_exception_data("texts", errors)
    characters = sum(map(len, value.values())) + sum(map(len, value))
    # so many bytes has a control character: what is short is not written
    at_most = 6 * (characters + len(value)) + 2
    if at_most > most and (size := len(encode(value).encode("utf-8", "surrogatepass"))) > most:
        raise ValueError(
            t("has {size:,} bytes as JSON, above the limit of {most:,}", size=size, most=most)
        )
    return value


def _why_wrong(name: str, text: object, check: Callable[[str, str], None]) -> str:
    if not isinstance(text, str):
        return t(MESSAGES["string_type"])
    try:
        check(name, text)
    except ValueError as error:
        return str(error)
    return ""


def _headers(value: object) -> object:
    """Headers, each once: their names have no case."""
    if isinstance(value, dict) and len(set(map(str.lower, islice(value, MAX_ENTRIES)))) < min(
        len(value), MAX_ENTRIES
    ):
        raise ValueError(t("has a name twice, in upper and lower case"))
    return _texts(value, check_header, MAX_HEADERS)


def _check_metadata(key: str, value: str) -> None:
    if not METADATA_KEY.fullmatch(key):
        raise ValueError(
            t("is not a key: it must have 1 to 40 of the characters A-Z, a-z, 0-9, _, . and -")
        )
    if len(value) > MAX_METADATA_VALUE:
        raise ValueError(t("is longer than {n} characters", n=MAX_METADATA_VALUE))


_METADATA: Final = Field(
    examples=[{"customer": "c_81"}],
    json_schema_extra={
        "maxProperties": MAX_ENTRIES,
        "propertyNames": {"pattern": f"^{METADATA_KEY.pattern}$"},
        "additionalProperties": {"type": "string", "maxLength": MAX_METADATA_VALUE},
    },
)
Metadata = Annotated[
    dict[str, str],
    BeforeValidator(partial(_texts, check=_check_metadata, most=MAX_METADATA)),
    _METADATA,
]
OwnMetadata = Annotated[
    dict[str, str],
    BeforeValidator(partial(_texts, check=_check_metadata, most=MAX_OWN_METADATA)),
    _METADATA,
]
Headers = Annotated[
    dict[str, str],
    BeforeValidator(_headers),
    Field(
        examples=[{"X-Entity-Ref-ID": "order-1042"}],
        json_schema_extra={
            "maxProperties": MAX_ENTRIES,
            "propertyNames": {"pattern": f"^{HEADER_NAME.pattern}$"},
            "additionalProperties": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_HEADER_VALUE,
                "pattern": ONE_LINE,
            },
        },
    ),
]
Tags = Annotated[
    list[
        Annotated[
            str, Field(json_schema_extra={"pattern": f"^{TAG.pattern}$"}), AfterValidator(check_tag)
        ]
    ],
    Field(max_length=MAX_TAGS, examples=[["welcome"]]),
    AfterValidator(lambda tags: [*dict.fromkeys(tags)]),
]


# The length comes first: behind a validator of ours pydantic would speak of items.
Line = Annotated[
    str, Field(max_length=MAX_LINE, json_schema_extra=NAME_SCHEMA), AfterValidator(one_name)
]
Priority = Annotated[
    int,
    Field(
        ge=MIN_PRIORITY,
        le=MAX_PRIORITY,
        description="higher is sent first among the jobs of one sender; no effect on other senders",
    ),
]


class TemplateIn(RequestModel):
    """The `template` of a job: Jinja2 sources."""

    subject: Annotated[
        str,
        Field(min_length=1, max_length=MAX_SUBJECT, json_schema_extra=LINE_SCHEMA),
        AfterValidator(one_line),
    ]
    html: Annotated[str, Field(max_length=MAX_TEMPLATE_PART)] | None = None
    text: Annotated[str, Field(max_length=MAX_TEMPLATE_PART)] | None = None

    @model_validator(mode="after")
    def _has_a_part(self) -> Self:
        if not (self.html or self.text):
            raise ValueError(t("needs html or text"))
        return self


class AttachmentIn(RequestModel):
    """A file in a message."""

    filename: Annotated[
        str,
        AfterValidator(check_filename),
        Field(
            description="a name, not a path, of a type that Gmail allows",
            json_schema_extra=FILENAME_SCHEMA,
        ),
    ]
    content_type: Annotated[
        Annotated[
            str,
            AfterValidator(check_content_type),
            Field(json_schema_extra={"pattern": f"^{CONTENT_TYPE.pattern}$"}),
        ]
        | None,
        Field(description="such as application/pdf; by default derived from the file name"),
    ] = None
    content: Annotated[
        str,
        AfterValidator(check_base64),
        Field(
            description="the file's bytes in base64",
            json_schema_extra={"format": "byte", "minLength": 4},
        ),
    ]
    content_id: Annotated[
        Annotated[
            str,
            AfterValidator(check_content_id),
            Field(json_schema_extra={"pattern": f"^{CONTENT_ID.pattern}$"}),
        ]
        | None,
        Field(description='shown in the message where its HTML has src="cid:…", not attached'),
    ] = None


Attachments = Annotated[list[AttachmentIn], Field(max_length=MAX_ATTACHMENTS)]


_ADDRESSES: Final = Addresses()
"""Knows the domains that were good before: the recipients of a job share a few."""


def _address(value: object) -> str:
    if value is None:
        raise PydanticCustomError("missing", "is required")
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "must be a string")
    return _ADDRESSES.check(value)


Email = Annotated[str, BeforeValidator(_address), Field(json_schema_extra=EMAIL_SCHEMA)]
Name = Annotated[
    Line, BeforeValidator(lambda value: value.strip(" ") if isinstance(value, str) else value)
]


class CopyIn(RequestModel):
    """Who gets a copy of a message."""

    email: Annotated[Email, Field(examples=["desk@example.com"])]
    name: Annotated[Name | None, Field(description="the display name")] = None


Copies = Annotated[list[CopyIn], Field(max_length=MAX_COPIES)]


def copies_in(cc: Sequence[CopyIn] | None, bcc: Sequence[CopyIn] | None) -> list[Copy]:
    """Who gets a copy by these fields."""
    return [
        *(Copy("cc", each.email, each.name or None) for each in cc or ()),
        *(Copy("bcc", each.email, each.name or None) for each in bcc or ()),
    ]


class RecipientIn(RequestModel):
    """One recipient: one message."""

    email: Annotated[
        Email, Field(description="the recipient's address", examples=["ada@example.com"])
    ]
    name: Annotated[
        Name | None, Field(description="the display name in To:, and the variable `name`")
    ] = None
    cc: Annotated[
        Copies | None,
        Field(
            description="who gets a copy of this message, visible to all; replaces the job's `cc`"
        ),
    ] = None
    bcc: Annotated[
        Copies | None,
        Field(description="who gets a blind copy of this message; replaces the job's `bcc`"),
    ] = None
    variables: Annotated[
        Annotated[dict[str, Any], AfterValidator(shallow)] | None,
        Field(description="the recipient's own; they override the job's"),
    ] = None
    language: Annotated[
        Annotated[str, Field(pattern=LANGUAGE_TAG.pattern), BeforeValidator(language_tag)] | None,
        Field(description="the language of a named template, such as zh or zh-TW"),
    ] = None
    attachments: Annotated[Attachments | None, Field(description="for this recipient only")] = None
    headers: Annotated[
        Headers | None,
        Field(description="headers of this message; they override the job's of the same name"),
    ] = None
    metadata: Annotated[
        OwnMetadata | None,
        Field(description="returned with the recipient and its events; at most 2,000 bytes"),
    ] = None
    send_at: Annotated[
        datetime | None,
        BeforeValidator(_own_moment),
        Field(
            description="a later time for this recipient (RFC 3339 with a zone); by default the job's"
        ),
    ] = None


class SendFields(RequestModel):
    """What a job and one message have in common."""

    sender_email: Annotated[
        str,
        AfterValidator(mailbox),
        Field(
            description="the sending mailbox",
            examples=["me@example.com"],
            json_schema_extra=EMAIL_SCHEMA,
        ),
    ]
    sender_name: Annotated[Line | None, Field(description="the display name in From:")] = None
    reply_to: Annotated[
        Annotated[
            str,
            AfterValidator(one_line),
            AfterValidator(_ADDRESSES.check),
            Field(json_schema_extra=EMAIL_SCHEMA),
        ]
        | None,
        Field(description="the address for replies, if not the sender"),
    ] = None
    template_name: Annotated[
        Annotated[str, Field(pattern=f"^{NAME.pattern}$")] | None,
        Field(
            description="a template of the server's folder or of the API; the job keeps its current version"
        ),
    ] = None
    template_version: Annotated[
        Annotated[str, Field(pattern=r"^[0-9a-f]{16}(\+[0-9a-f]{16})?$")] | None,
        Field(
            description="this version of it, published or not, and behind a + the version of its layout; absent: the "
            "published ones"
        ),
    ] = None
    cc: Annotated[
        Copies | None, Field(description="who gets a copy of each message, visible to all")
    ] = None
    bcc: Annotated[Copies | None, Field(description="who gets a blind copy of each message")] = None
    variables: Annotated[
        Annotated[dict[str, Any], AfterValidator(shallow)] | None,
        Field(description="for all recipients"),
    ] = None
    attachments: Annotated[
        Attachments | None, Field(description="for every recipient; stored once")
    ] = None
    send_at: Annotated[
        datetime | None,
        BeforeValidator(_moment),
        Field(
            description="do not send before this time (RFC 3339 with a zone); sent immediately if past or absent"
        ),
    ] = None
    priority: Priority = 0
    reference: Annotated[
        Line | None, Field(description="the client's own ID; jobs can be searched by it")
    ] = None
    headers: Annotated[
        Headers | None,
        Field(
            description="headers of every message, such as `X-…`, `References` or `Auto-Submitted`; others are refused "
            "with a reason"
        ),
    ] = None
    metadata: Annotated[
        Metadata | None,
        Field(
            description="returned with the job and its events, never in a message; at most 8,000 bytes"
        ),
    ] = None
    tags: Annotated[Tags | None, Field(description="jobs can be searched by them")] = None
    list: Annotated[
        Annotated[str, AfterValidator(check_list), Field(json_schema_extra=LIST_SCHEMA)] | None,
        Field(
            description="the mailing list that a recipient can leave; absent: not subscription mail"
        ),
    ] = None
    override_suppression: Annotated[
        bool,
        Field(
            description="also send to suppressed addresses, except hard bounces; needs `override`"
        ),
    ] = False


class JobFields(SendFields):
    """Everything but the recipients."""

    template: Annotated[
        TemplateIn | None,
        Field(description="Jinja2 sources; either this or `template_name`, not both"),
    ] = None
    on_bounces: Annotated[
        Literal["pause", "go_on"],
        Field(description="pause: stop if too many addresses do not exist; go_on: send anyway"),
    ] = "pause"
    on_invalid: Annotated[
        Literal["reject", "skip"],
        Field(
            description="reject: an invalid recipient refuses the job (422, all are named); skip: it is stored as "
            "failed with its reason"
        ),
    ] = "reject"
    allow_duplicates: Annotated[
        bool,
        Field(
            description="true: an address may occur twice and gets two messages; false: the second one is invalid"
        ),
    ] = False
    # The path …/dry_run is the documented way: an answer of one of two shapes is none that a
    # generator can use.
    dry_run: Annotated[bool, SkipJsonSchema()] = False


EXAMPLE: Final[dict[str, Any]] = {
    "sender_email": "me@example.com",
    "sender_name": "Me",
    "template": {
        "subject": "Hello {{ name }}",
        "html": "<p>Thank you for {{ product }}, {{ name }}.</p>",
    },
    "variables": {"product": "tea"},
    "recipients": [
        {"email": "ada@example.com", "name": "Ada"},
        {"email": "bob@example.com", "name": "Bob"},
    ],
    "reference": "order 17",
}
"""A whole job, for the documentation."""


class JobIn(JobFields):
    """The body of a post."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    recipients: Annotated[list[RecipientIn], Field(min_length=1, description="one message to each")]


class NothingIn(RequestModel):
    """An empty body, or `{}`."""


class RetryIn(RequestModel):
    """The body of `retry`: which messages."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"only": "failed"}]})

    only: Annotated[
        Literal["failed", "unsure", "bounced"],
        Field(
            description="failed: retry with all attempts; unsure: look for them now, send nothing; bounced: resend "
            "messages that bounced with one `kind`"
        ),
    ] = "failed"
    kind: Annotated[
        Literal["hard", "soft", "blocked", "unknown"] | None,
        Field(description="with `bounced`: which bounces", validate_default=True),
    ] = None

    @field_validator("kind")
    @classmethod
    def _goes_with_bounced(cls, kind: str | None, info: ValidationInfo) -> str | None:
        if "only" not in info.data or (kind is None) is not (info.data["only"] == "bounced"):
            return kind
        if kind is None:
            raise ValueError(
                t('is required with "only": "bounced": hard, soft, blocked or unknown')
            )
        raise ValueError(t('is allowed only with "only": "bounced"'))


class PriorityIn(RequestModel):
    """The body of `priority`."""

    priority: Priority


class JobChangeIn(RequestModel):
    """What can be changed of a job; only the given fields are."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"send_at": "2026-12-02T09:00:00+01:00"}]}
    )

    reference: Annotated[Line | None, Field(description="the client's own ID; null: none")] = None
    metadata: Annotated[Metadata | None, Field(description="replaces all of it; null: none")] = None
    tags: Annotated[Tags | None, Field(description="replaces all of them; null: none")] = None
    priority: Priority = 0
    send_at: Annotated[
        datetime | None,
        BeforeValidator(_moment),
        Field(description="only before the first message is sent; null: immediately"),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _leaves_the_rest(cls, fields: Any) -> Any:
        fixed = sorted((JobIn.model_fields.keys() - cls.model_fields.keys()) & fields.keys())
        if fixed:
            why = t("cannot be changed; cancel the job and post it again")
            raise invalid([FieldError(name, why) for name in fixed])
        return fields


def extras_of(read: RecipientIn | JobFields) -> Extras | None:
    """What goes into a row beside the variables; None: nothing does."""
    if not read.headers and not read.metadata:
        return None
    return Extras(
        headers=encode(read.headers) if read.headers else None,
        metadata=encode(read.metadata) if read.metadata else None,
    )


def read_job_fields(
    fields: Mapping[str, Any], *, now: datetime
) -> tuple[JobFields, list[FieldError]]:
    """The fields of a job without its recipients, and all their errors.

    With errors it is what was good of it, so that the rest of the request can be checked too: a bad
    field has its default, a bad sender is empty, and a bad part of a template is a dash.

    Raises:
        ApiError: 422, there are too many fields to check them.
    """
    errors: list[FieldError] = []
    try:
        head = JobFields.model_validate(fields, context={"now": now})
    except ValidationError as error:
        errors += field_errors(error)
        if any(each["type"] == TOO_MANY for each in error.errors()):
            raise invalid(errors) from None
        head = _valid_part(fields, {each["loc"][:2] for each in error.errors()}, now=now)
    template, name = fields.get("template"), fields.get("template_name")
    if template is None and name is None:
        errors.append(FieldError("template", t("is required unless template_name is given")))
    elif template is not None and name is not None:
        errors.append(FieldError("template_name", t("cannot be given together with template")))
    errors += list_errors(head, cc=head.cc, bcc=head.bcc)
    if name is None and fields.get("template_version") is not None:
        errors.append(FieldError("template_version", t("needs template_name")))
    return head, errors


def list_errors(job: JobFields, *, cc: object, bcc: object) -> Iterator[FieldError]:
    """What is wrong with copies of messages that have an unsubscribe link: it is the
    recipient's.
    """
    if job.list:
        for name, given in (("cc", cc), ("bcc", bcc)):
            if given:
                yield FieldError(
                    name, t("cannot be used with a list: a copy could unsubscribe the recipient")
                )


def _valid_part(
    fields: Mapping[str, Any], bad: set[tuple[int | str, ...]], *, now: datetime
) -> JobFields:
    wrong = {place[0] for place in bad}
    good = {name: value for name, value in fields.items() if name not in wrong}
    template = fields.get("template")
    if "template" in wrong and isinstance(template, dict):
        parts = {
            part: template.get(part)
            for part in TemplateIn.model_fields
            if ("template", part) not in bad
        }
        good["template"] = {
            "subject": "-",
            "text": "-",
            **{part: text for part, text in parts.items() if text},
        }
    head = JobFields.model_validate(
        {"sender_email": "nobody@example.com", **good}, context={"now": now}
    )
    return head if "sender_email" in good else head.model_copy(update={"sender_email": ""})


def read_recipient(
    item: object, *, now: datetime, send_at: datetime | None
) -> tuple[RecipientIn, list[FieldError]]:
    """A recipient and its errors; the field of an error of the whole recipient is empty.

    `send_at`: the job's.

    With errors it is what was good of it: a bad field has its default, and a bad address is what
    was given, cut.
    """
    if not isinstance(item, dict):
        return RecipientIn.model_construct(email=""), [FieldError("", t(MESSAGES["model_type"]))]
    errors: list[FieldError] = []
    if not item.keys() <= RecipientIn.model_fields.keys():
        unknown = [name for name in item if name not in RecipientIn.model_fields]
        item = {name: value for name, value in item.items() if name in RecipientIn.model_fields}
        errors += [
            FieldError(name, t(MESSAGES["extra_forbidden"]))
            for name in unknown[:MAX_REASONS_PER_RECIPIENT]
        ]
        if len(unknown) > MAX_REASONS_PER_RECIPIENT:
            more = len(unknown) - MAX_REASONS_PER_RECIPIENT
            errors.append(
                FieldError(
                    "", tn("has {n:,} more unknown field", "has {n:,} more unknown fields", more)
                )
            )
    try:
        return RecipientIn.model_validate(item, context={"now": now, "send_at": send_at}), errors
    except ValidationError as error:
        errors += islice(field_errors(error), MAX_REASONS_PER_RECIPIENT)
        bad = {
            each["loc"][0]
            for each in error.errors(include_url=False, include_context=False, include_input=False)
        }
    good = {name: value for name, value in item.items() if name not in bad}
    read = RecipientIn.model_validate({**good, "email": good.get("email", "nobody@example.com")})
    given = item.get("email")
    return (
        read
        if "email" in good
        else read.model_copy(update={"email": given[:MAX_EMAIL] if isinstance(given, str) else ""})
    ), errors
