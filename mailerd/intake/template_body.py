"""`PUT /api/templates/{name}`: the body of a template, and the files that it comes to, as a folder would have them."""

import json
from base64 import b64decode
from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from mailerd.core.i18n import t
from mailerd.http.errors import FieldError, invalid
from mailerd.intake.request_models import MAX_TEMPLATE_PART, Line, RequestModel, TemplateIn, read_model, shallow
from mailerd.intake.strict_json import encode
from mailerd.mail.markdown import markdown_to_html
from mailerd.mail.mime import check_base64, check_filename
from mailerd.mail.template_library import ABOUT, IMAGES, LANGUAGE, MAX_BYTES, MAX_FILES, image_of, why_too_large

MAX_VARIABLES: Final = 16_000
"""Bytes of the examples as JSON: a list shows those of all templates."""
_PARTS: Final = {"subject": "subject.txt", "html": "body.html", "text": "body.txt", "markdown": "body.md"}


def _language(value: str) -> str:
    if not LANGUAGE.fullmatch(value) or value == IMAGES:
        raise ValueError(t("must be a language such as zh or zh-tw"))
    return value


Tag = Annotated[str, AfterValidator(_language)]


class ImageIn(RequestModel):
    """An image that the HTML shows where it has `src="cid:…"` with this name."""

    filename: Annotated[str, AfterValidator(check_filename), Field(description="its name, such as logo.png")]
    content: Annotated[
        str,
        AfterValidator(check_base64),
        Field(description="the file's bytes in base64", json_schema_extra={"format": "byte"}),
    ]


class PartsIn(TemplateIn):
    """The sources of a template in one language."""

    markdown: Annotated[
        Annotated[str, Field(max_length=MAX_TEMPLATE_PART)] | None,
        Field(description="in place of `html`, which is made from it; Jinja2 stays as it is, and HTML is text"),
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
        Field(description="an example of each variable it uses, besides email, name, language and unsubscribe_url"),
    ] = None
    inline_css: Annotated[bool, Field(description="copy the rules of <style> into the elements")] = True
    languages: Annotated[dict[Tag, PartsIn] | None, Field(description="its further languages, such as zh or zh-tw")] = (
        None
    )
    images: Annotated[Annotated[list[ImageIn], Field(max_length=MAX_FILES)] | None, Field(description="images")] = None
    comment: Annotated[
        Line | None, Field(description="what is new in this version; no part of it: equal contents keep the first")
    ] = None


def files_of(given: Mapping[str, Any]) -> tuple[dict[str, bytes], str | None]:
    """The files of a template and its comment.

    Raises:
        ApiError: 422, naming all that is wrong before it is compiled.
    """
    read, errors, variables = read_model(NamedTemplateIn, given), list[FieldError](), dict[str, Any]()
    try:
        variables = read.variables or {}
        if len(encode(variables).encode()) > MAX_VARIABLES:
            errors.append(FieldError("variables", t("exceeds {most:,} bytes as JSON", most=MAX_VARIABLES)))
    except ValueError as error:
        errors.append(FieldError("variables", str(error)))
    about = {
        "description": read.description, "language": read.language or "", "inline_css": read.inline_css,
        "variables": variables,
    }  # fmt: skip
    files = {ABOUT: json.dumps(about, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()}
    if read.language in (read.languages or {}):
        errors.append(FieldError(f"languages.{read.language}", t("is the language of the template itself")))
    for tag, each in {"": read, **(read.languages or {})}.items():
        if not each.subject.removeprefix("\ufeff").strip():  # a mark before a text is no part of it
            errors.append(FieldError(f"languages.{tag}.subject" if tag else "subject", t("must not be empty")))
        parts = {part: getattr(each, part) for part in _PARTS}
        if each.markdown:
            parts["html"] = markdown_to_html(each.markdown)
        files |= {f"{tag}/{_PARTS[part]}".removeprefix("/"): it.encode() for part, it in parts.items() if it}
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
