"""The form of a template: what it is for the API, and where in it is what the API refuses."""

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from typing import Any, Final, NamedTuple

from mailerd.core.i18n import Text
from mailerd.http.errors import FieldError
from mailerd.mail.template_library import NamedTemplate
from mailerd.web.frame.forms import Form

_STEP: Final = 3 * 64 * 1024
"""Bytes that are encoded in one step; base64 goes by threes."""
_MAX_EXAMPLE: Final = 16_000
"""Characters of an example that may be JSON: all of a template's have no more."""
_MAX_BEFORE: Final = 1_000
"""Characters before a word in which it is looked whether it stands in braces."""
_LINE: Final = re.compile(r"line (\d+)")
_QUOTED: Final = re.compile(r"'([^']+)'")
_UNPLAIN: Final = re.compile(r"[^A-Za-z0-9._-]+")
_TEXTS: Final = ("origin", "base", "expect", "description", "language", "comment", "tab", "layout")
MAX_PLACED: Final = 10
"""Faults whose place in the text is looked for."""
_MAX_PLACES: Final = 100
"""Places of a word that are looked at, to find the one that is a variable."""
_FIELDS: Final = {"html": "body", "markdown": "body", "subject": "subject", "text": "text"}


@dataclass(frozen=True)
class Part:
    """A language in the form."""

    tag: str
    subject: str = ""
    kind: str = "markdown"
    body: str = ""
    text: str = ""

    def as_json(self) -> dict[str, Any]:
        """As the API takes it."""
        kind = "html" if self.kind == "html" else "markdown"
        return {"subject": self.subject, kind: self.body or None, "text": self.text or None}


class Variable(NamedTuple):
    """A variable in the form."""

    name: str = ""
    example: str = ""
    default: str = ""
    is_required: bool = False


def variables_of(named: NamedTemplate) -> list[Variable]:
    """The variables that a template declares."""
    names = dict.fromkeys((*named.variables, *named.defaults, *named.required))

    def shown(name: str, values: Mapping[str, Any]) -> str:
        return _shown(values[name]) if name in values else ""

    return [
        Variable(
            each, shown(each, named.variables), shown(each, named.defaults), each in named.required
        )
        for each in names
    ]


@dataclass(frozen=True)
class TemplateForm:
    """What the form holds: a template, the one whose images it keeps, and which version was
    published then.
    """

    name: str = ""
    origin: str = ""
    base: str = ""
    expect: str = ""
    description: str = ""
    language: str = ""
    comment: str = ""
    tab: str = ""
    inline_css: bool = True
    parts: list[Part] = field(default_factory=lambda: [Part("")])
    layout: str = ""
    is_layout: bool = False
    variables: list[Variable] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)
    """Those of its pictures that are taken out, …"""
    files: dict[str, bytes] = field(default_factory=dict)
    """… and those that are added."""

    @classmethod
    def of(cls, name: str, named: NamedTemplate, expect: str) -> "TemplateForm":
        """A template, to be changed."""
        parts = [
            Part(
                tag,
                it.subject,
                "html" if it.html and not it.markdown else "markdown",
                it.markdown or it.html or "",
                it.text or "",
            )
            for tag, it in {"": named.template.default, **named.template.languages}.items()
        ]
        return cls(
            name,
            named.name,
            named.version,
            expect,
            named.description,
            named.language or "",
            inline_css=named.template.inline_css,
            parts=parts,
            variables=variables_of(named),
            layout=named.layout or "",
            is_layout=named.is_layout,
            pictures=[*named.pictures],
        )

    @classmethod
    def read(cls, name: str, form: Form) -> "TemplateForm":
        """What was sent; a browser ends lines as no template does."""
        columns = [form.all(each) for each in ("tag", "subject", "kind", "body", "text")]
        parts = [
            Part(*(each.replace("\r\n", "\n") for each in row))
            for row in zip(*columns, strict=False)
        ]
        rows = zip_longest(
            form.all("variable"), form.all("example"), form.all("default"), fillvalue=""
        )
        required, files = (
            form.all("required"),
            [value for name, value in form.fields if name == "image"],
        )
        texts = {it: form.text(it) for it in _TEXTS}
        # where no file was chosen, there is a text
        contents = [each for each in files if isinstance(each, bytes)]
        return cls(
            name,
            **texts,
            inline_css=bool(form.text("inline_css")),
            parts=parts or [Part("")],
            variables=[
                Variable(name.strip(), example.strip(), default.strip(), str(n) in required)
                for n, (name, example, default) in enumerate(rows)
                if name.strip()
            ],
            is_layout=bool(form.text("is_layout")),
            pictures=form.all("picture"),
            drop=form.all("drop"),
            files=dict(zip(map(_plain, form.all("image.name")), contents, strict=False)),
        )

    def as_json(self) -> dict[str, Any]:
        """The body that the API takes, without images; a language that is empty is left out."""
        default, *others = self.parts
        return {
            **default.as_json(),
            "description": self.description,
            "language": self.language or None,
            "comment": self.comment or None,
            "inline_css": self.inline_css,
            "layout": self.layout or None,
            "is_layout": self.is_layout,
            "variables": {
                it.name: _value(it.example) for it in self.variables if it.example or not it.default
            },
            "defaults": {it.name: _value(it.default) for it in self.variables if it.default},
            "required": [it.name for it in self.variables if it.is_required],
            "languages": {
                each.tag: each.as_json()
                for each in others
                if each.subject or each.body or each.text
            },
        }


def body_of(form: TemplateForm, images: Mapping[str, bytes]) -> bytearray:
    """The whole body that the API takes; it is made in a thread, step by step."""
    body = bytearray(
        json.dumps(form.as_json(), ensure_ascii=False).encode("utf-8", "surrogatepass")
    )
    body[-1:] = b', "images": ['
    for number, (name, content) in enumerate(images.items()):
        head = json.dumps({"filename": name}, ensure_ascii=False).encode("utf-8", "surrogatepass")
        body += (b", " if number else b"") + head[:-1] + b', "content": "'
        for start in range(0, len(content), _STEP):
            body += b64encode(content[start : start + _STEP])
        body += b'"}'
    return body + b"]}"


def _plain(filename: str) -> str:
    """A file's name as HTML can call it."""
    stem, dot, kind = filename.rpartition(".")
    return f"{_UNPLAIN.sub('-', stem).strip('-.') or 'picture'}{dot}{kind.lower()}"


def _shown(example: Any) -> str:
    """A text as it is, unless it would be read as something else; everything else as JSON."""
    is_plain = (
        isinstance(example, str)
        and example == example.strip()
        and example
        and _value(example) == example
    )
    return str(example) if is_plain else json.dumps(example, ensure_ascii=False)


def _value(example: str) -> Any:
    """What is JSON as that; 1.50 and NaN are texts, since no number is written so."""
    if len(example) > _MAX_EXAMPLE:
        return example  # which is refused
    try:
        value = json.loads(example)
        is_other = json.dumps(value, allow_nan=False) != example and isinstance(value, int | float)
    except (ValueError, RecursionError):
        return example
    return example if is_other else value


@dataclass(frozen=True)
class Fault:
    """What is wrong, where: a field of the page, the column, and the line itself."""

    at: str
    message: str
    column: int = 0
    excerpt: str = ""


def faults_of(form: TemplateForm, errors: Sequence[FieldError]) -> list[Fault]:
    """What the API has found, in the form: the first are shown with their place in the text."""
    placed = [fault_of(form, each) for each in errors[:MAX_PLACED]]
    return [*placed, *(Fault(_field_of(each), each.message) for each in errors[MAX_PLACED:])]


def _field_of(error: FieldError) -> str:
    return error.field.partition(".")[0].partition("[")[0] or "subject-0"


def fault_of(form: TemplateForm, error: FieldError) -> Fault:
    """What the API has found, in the form."""
    where, _, part = error.field.rpartition(".")
    number = next(
        (n for n, it in enumerate(form.parts) if where == (it.tag and f"languages.{it.tag}")), None
    )
    if number is not None and part in _FIELDS:
        line, words = _LINE.search(str(error.message)), _QUOTED.findall(str(error.message))
        at, source = f"{_FIELDS[part]}-{number}", getattr(form.parts[number], _FIELDS[part])
        return _placed(at, error, source, int(line[1]) if line else 0, *words)
    word = missing_example(error)
    for n, it in enumerate(form.parts if word else ()):
        for name in ("subject", "body", "text"):
            source = getattr(it, name)
            for start in islice(_places(word, source), _MAX_PLACES):
                since = max(0, start - _MAX_BEFORE)
                if source.rfind("{", since, start) > source.rfind("}", since, start):
                    return _placed(
                        f"{name}-{n}", error, source, source.count("\n", 0, start) + 1, word
                    )
    return Fault(_field_of(error), error.message)


def _places(word: str, source: str) -> Iterator[int]:
    """Where a word stands that is no part of another one."""
    at = source.find(word)
    while at >= 0:
        around = source[max(0, at - 1) : at], source[at + len(word) : at + len(word) + 1]
        if not any(each.isalnum() or each == "_" for each in around):
            yield at
        at = source.find(word, at + len(word))


def _placed(at: str, error: FieldError, source: str, line: int, *words: str) -> Fault:
    lines = source.split("\n", line)
    excerpt = lines[line - 1] if 0 < line <= len(lines) else ""
    column = next((excerpt.index(word) + 1 for word in words if word in excerpt), 0)
    return Fault(at, error.message, column, excerpt.strip()[:200])


def missing_example(error: FieldError) -> str:
    """The variable that has no example."""
    each = error.message.fields.get("each", "") if isinstance(error.message, Text) else ""
    return str(each) if error.field == "variables" else ""
