"""`POST /api/messages`: one message without a template, as a job of one recipient, with all that
jobs have.

Its subject, html and text are no templates: braces in them are text. So they are stored as a
template that says them.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field

from mailerd.core.i18n import t
from mailerd.http.errors import FieldError
from mailerd.intake.request_models import (
    LANGUAGE_SCHEMA,
    MAX_SUBJECT,
    MAX_TEMPLATE_PART,
    Email,
    JobFields,
    Name,
    OwnMetadata,
    RecipientIn,
    SendFields,
    TemplateIn,
)
from mailerd.operations.inputs import LINE_SCHEMA, UNKNOWN_FIELD, RequestModel

_BEGINS_JINJA: Final = re.compile(r"\{{2,}|\{(?=[%#])")
_OF_RECIPIENT: Final = ("language", "metadata")
"""Fields that the recipient has in a job."""
_OF_MANY: Final = (JobFields.model_fields.keys() - SendFields.model_fields.keys()) | {"recipients"}
"""Fields of a job that say nothing of one message."""
_FIRST: Final = re.compile(r"recipients\[0\](?:\.(.*))?", re.DOTALL)


_Part = Annotated[str, Field(max_length=MAX_TEMPLATE_PART)]


class ToIn(RequestModel):
    """The recipient of one message."""

    email: Annotated[
        Email, Field(description="the recipient's address", examples=["ada@example.com"])
    ]
    name: Annotated[
        Name | None, Field(description="the display name in To:, and the variable `name`")
    ] = None


class MessageIn(SendFields):
    """One message."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "sender_email": "me@example.com",
                    "to": {"email": "ada@example.com", "name": "Ada"},
                    "subject": "Order 17",
                    "text": "Parcel 4711",
                }
            ]
        }
    )

    to: Annotated[ToIn, Field(description="the recipient")]
    subject: Annotated[
        Annotated[str, Field(min_length=1, max_length=MAX_SUBJECT, json_schema_extra=LINE_SCHEMA)]
        | None,
        Field(description="as it is, no template; required without `template_name`"),
    ] = None
    html: Annotated[_Part | None, Field(description="as it is, no template")] = None
    text: Annotated[
        _Part | None,
        Field(description="as it is, no template; if absent, it is made from the HTML"),
    ] = None
    language: Annotated[
        Annotated[str, Field(json_schema_extra=LANGUAGE_SCHEMA)] | None,
        Field(description=RecipientIn.model_fields["language"].description or ""),
    ] = None
    metadata: Annotated[
        OwnMetadata | None,
        Field(description=RecipientIn.model_fields["metadata"].description or ""),
    ] = None


def as_job(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[FieldError]]:
    """The body of a job that sends this message, and what no job could say of it; the job's check
    finds the rest.
    """
    # A `template` that is given is another one than that which is made of the parts.
    errors = [
        FieldError(f"recipients[0].{name}", t(UNKNOWN_FIELD))
        for name in sorted(_OF_MANY & given.keys())
    ]
    job = {name: value for name, value in given.items() if name not in _OF_MANY}
    to = job.pop("to", {})
    if isinstance(to, dict):
        known = ToIn.model_fields.keys()
        errors += [FieldError(f"to.{name}", t(UNKNOWN_FIELD)) for name in to if name not in known]
        own = {name: job.pop(name) for name in _OF_RECIPIENT if name in job}
        to = {name: value for name, value in to.items() if name in known} | own
    parts = {part: job.pop(part) for part in TemplateIn.model_fields if part in job}
    if job.get("template_name") is None:
        job["template"] = {
            part: literal(it) if isinstance(it, str) else it for part, it in parts.items()
        }
    else:
        errors += [
            FieldError(part, t("cannot be given together with template_name"))
            for part, it in parts.items()
            if it is not None
        ]
    return job | {"recipients": [to]}, errors


def literal(text: str) -> str:
    """The template that says this text."""
    # A template loses the end of its last line. A run of braces is one expression, however many
    # they are.
    return _BEGINS_JINJA.sub(r"{{ '\g<0>' }}", text) + "\n" * text.endswith("\n")


def field_of(path: str) -> str:
    """What a field of the job is called in the message."""
    if found := _FIRST.fullmatch(path):
        rest = found[1] or ""
        return (
            f"to.{rest}".removesuffix(".")
            if rest.partition(".")[0] in {"", *ToIn.model_fields}
            else rest
        )
    return "text" if path == "template" else path.removeprefix("template.")
