"""`PUT /api/templates/{name}`: the body of a template, and the files that it comes to, as a folder
would have them.
"""

import json
from base64 import b64decode
from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from mailerd.core.i18n import t
from mailerd.http.errors import FieldError, invalid
from mailerd.intake.request_models import (
    FILENAME_SCHEMA,
    MAX_SUBJECT,
    MAX_TEMPLATE_PART,
    Line,
    TemplateIn,
    shallow,
)
from mailerd.intake.strict_json import encode
from mailerd.mail.markdown import markdown_to_html
from mailerd.mail.mime import check_base64, check_filename
from mailerd.mail.template_library import (
    ABOUT,
    IMAGES,
    LANGUAGE,
    MAX_BYTES,
    MAX_FILES,
    content_errors,
    image_of,
    why_both,
    why_no_layout,
    why_too_large,
)
from mailerd.mail.templates import NAME, one_line
from mailerd.operations.inputs import LINE_SCHEMA, RequestModel, read_model

MAX_REQUIRED: Final = 200
"""The most variables that are required."""
MAX_VARIABLES: Final = 16_000
"""Bytes of the examples as JSON, of the defaults, and of the required names: a list shows those of
all templates.
"""
_PARTS: Final = {
    "subject": "subject.txt",
    "html": "body.html",
    "text": "body.txt",
    "markdown": "body.md",
}


def _language(value: str) -> str:
    if not LANGUAGE.fullmatch(value) or value == IMAGES:
        raise ValueError(t("must be a language such as zh or zh-tw"))
    return value


Tag = Annotated[
    str, AfterValidator(_language), Field(json_schema_extra={"pattern": f"^{LANGUAGE.pattern}$"})
]


class ImageIn(RequestModel):
    """An image that the HTML shows where it has `src="cid:…"` with this name."""

    filename: Annotated[
        str,
        AfterValidator(check_filename),
        Field(description="its name, such as logo.png", json_schema_extra=FILENAME_SCHEMA),
    ]
    content: Annotated[
        str,
        AfterValidator(check_base64),
        Field(
            description="the file's bytes in base64",
            json_schema_extra={"format": "byte", "minLength": 4},
        ),
    ]


class PartsIn(TemplateIn):
    """The sources of a template in one language."""

    subject: Annotated[
        Annotated[str, Field(max_length=MAX_SUBJECT, json_schema_extra=LINE_SCHEMA)],
        AfterValidator(one_line),
        Field(description="only a layout needs none"),
    ] = ""
    markdown: Annotated[
        Annotated[str, Field(max_length=MAX_TEMPLATE_PART)] | None,
        Field(
            description="in place of `html`, which is made from it; Jinja2 stays as it is, and HTML is text"
        ),
    ] = None

    @model_validator(mode="after")
    def _has_a_part(self) -> Self:
        if not (self.html or self.text or self.markdown):
            raise ValueError(t("needs html, markdown or text"))
        if self.html and self.markdown:
            raise ValueError(t("has html and markdown; give one of them"))
        return self


class NamedTemplateIn(PartsIn):
    """A template, all of it: what is not given is not in it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "subject": "{{ order }}",
                    "html": "<p>{{ order }}</p>",
                    "variables": {"order": 17},
                    "comment": "first",
                }
            ]
        }
    )

    description: Annotated[str, Field(max_length=500, description="for people")] = ""
    language: Annotated[Tag | None, Field(description="of `subject`, `html` and `text`")] = None
    variables: Annotated[
        Annotated[dict[str, Any], AfterValidator(shallow)] | None,
        Field(
            description="an example of each variable it uses, besides email, name, language and unsubscribe_url"
        ),
    ] = None
    defaults: Annotated[
        Annotated[dict[str, Any], AfterValidator(shallow)] | None,
        Field(
            description="what a variable is that neither job nor recipient has; an empty text or null is given"
        ),
    ] = None
    required: Annotated[
        Annotated[list[Line], Field(max_length=MAX_REQUIRED)] | None,
        Field(
            description="variables without which a recipient is refused, whatever the sources do without them"
        ),
    ] = None
    layout: Annotated[
        Annotated[str, Field(pattern=f"^{NAME.pattern}$")] | None,
        Field(
            description="a published layout: jobs get this template in it, as it is when they are posted"
        ),
    ] = None
    is_layout: Annotated[
        bool,
        Field(
            description="it is a layout: its HTML, and its text if it has one, hold the variable `content` once"
        ),
    ] = False
    inline_css: Annotated[
        bool, Field(description="copy the rules of <style> into the elements")
    ] = True
    languages: Annotated[
        dict[Tag, PartsIn] | None, Field(description="its further languages, such as zh or zh-tw")
    ] = None
    images: Annotated[
        Annotated[list[ImageIn], Field(max_length=MAX_FILES)] | None, Field(description="images")
    ] = None
    comment: Annotated[
        Line | None,
        Field(
            description="what is new in this version; no part of it: equal contents keep the first"
        ),
    ] = None


def files_of(given: Mapping[str, Any]) -> tuple[dict[str, bytes], str | None]:
    """The files of a template and its comment.

    Raises:
        ApiError: 422, naming all that is wrong before it is compiled.
    """
    read, errors = read_model(NamedTemplateIn, given), list[FieldError]()
    about = _about(read, errors)
    files = {
        ABOUT: json.dumps(about, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    }
    if read.language in (read.languages or {}):
        errors.append(
            FieldError(f"languages.{read.language}", t("is the language of the template itself"))
        )
    for tag, each in {"": read, **(read.languages or {})}.items():
        errors += _source_errors(each, f"languages.{tag}." if tag else "", is_layout=read.is_layout)
        parts = {part: getattr(each, part) for part in _PARTS}
        if each.markdown:
            parts["html"] = markdown_to_html(each.markdown)
        files |= {
            f"{tag}/{_PARTS[part]}".removeprefix("/"): it.encode()
            for part, it in parts.items()
            if it
        }
    for number, it in enumerate(read.images or ()):
        path = f"{IMAGES}/{it.filename}"
        try:
            if path in files:
                raise ValueError(t("is given twice"))  # noqa: TRY301 - one of several reasons
            files[path] = image_of(it.filename, b64decode(it.content)).content
        except ValueError as error:
            errors.append(FieldError(f"images[{number}]", str(error)))
    if sum(map(len, files.values())) > MAX_BYTES or len(files) > MAX_FILES:
        errors.append(FieldError("images" if read.images else "html", why_too_large()))
    if errors:
        raise invalid(errors)
    return dict(sorted(files.items())), read.comment


def _about(read: NamedTemplateIn, errors: list[FieldError]) -> dict[str, Any]:
    """What its template.json says; what is wrong is added to the errors."""
    variables, defaults, required = (
        read.variables or {},
        read.defaults or {},
        sorted({*(read.required or ())}),
    )
    for name, values in {
        "variables": variables,
        "defaults": defaults,
        "required": dict.fromkeys(required),
    }.items():
        try:
            if len(encode(values).encode()) > MAX_VARIABLES:
                errors.append(
                    FieldError(name, t("exceeds {most:,} bytes as JSON", most=MAX_VARIABLES))
                )
        except ValueError as error:
            errors.append(FieldError(name, str(error)))
    errors += [FieldError("required", why_both(each)) for each in required if each in defaults]
    if read.is_layout and read.layout:
        errors.append(FieldError("layout", why_no_layout()))
    about = {
        "description": read.description,
        "language": read.language or "",
        "inline_css": read.inline_css,
        "variables": variables,
    }
    more = {
        "defaults": defaults,
        "required": required,
        "layout": read.layout,
        "is_layout": read.is_layout,
    }
    # Without what is empty: the version is a digest of it, and one of before is to stay what it is.
    return about | {name: value for name, value in more.items() if value}


def _source_errors(it: PartsIn, prefix: str, *, is_layout: bool) -> list[FieldError]:
    if is_layout:
        body = {"markdown": it.markdown} if it.markdown else {"html": it.html or ""}
        found = content_errors({**body, "text": it.text or None})
        return [FieldError(f"{prefix}{each.part}", str(each)) for each in found]
    is_empty = not it.subject.removeprefix(
        "\ufeff"
    ).strip()  # a mark before a text is no part of it
    return [FieldError(f"{prefix}subject", t("must not be empty"))] if is_empty else []
