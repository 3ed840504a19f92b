"""A job's template, what a message sees of its job and its recipient, and what can be wrong, told
to its author.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from mailerd.core.i18n import Text, t
from mailerd.errors import MailerdError

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""What a template's folder may be called: nothing that could lead out of the library."""


@dataclass(frozen=True)
class Source:
    """A template in one language, as it was written; without `text`, each message's text is made
    from its HTML.
    """

    subject: str
    html: str | None
    text: str | None
    markdown: str | None = None
    """What the HTML was made of; its author goes on with it, and no message needs it."""


@dataclass(frozen=True, eq=False)
class Template:
    """The template of a job, in all its languages.

    It is compared by identity, so that a child gets it once.
    """

    default: Source
    languages: Mapping[str, Source] = field(default_factory=dict)
    inline_css: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)
    """The variables of the job; those of a recipient take precedence."""
    is_markdown: bool = False
    """The default's text is Markdown, which is to be made into HTML."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What variables are that neither the job nor the recipient has."""
    required: Collection[str] = ()
    """Variables without which there is no message, whatever the sources do without them."""

    @property
    def size(self) -> int:
        """Characters of all its parts."""
        sources = (self.default, *self.languages.values())
        return sum(
            len(each.subject) + len(each.html or "") + len(each.text or "") for each in sources
        )


class RecipientData(NamedTuple):
    """A recipient as the template sees it; `variables` is a JSON object as text, or None."""

    email: str
    name: str | None
    variables: str | None
    unsubscribe_url: str = ""
    """Where the recipient can leave the job's list; empty where there is no list, or no public
    address.
    """


@dataclass(frozen=True)
class Content:
    """A rendered message: the subject is one line, `html` is None for a message of plain text."""

    subject: str
    html: str | None
    text: str


CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What would end a header or forge one: C0, DEL, C1 and the separators that some programs take for
line ends.
"""
MAX_REASON: Final = 300
"""The most characters of a reason; a value that a template fails with may be a million characters
long.
"""
MAX_LINE: Final = 255
"""Characters of a name or a reference, as in the schema."""
LANGUAGE_TAG: Final = re.compile(r"^[A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{1,8}){0,3}$")
"""A language tag, as they are in use (RFC 5646)."""

_TURN: Final = re.compile(r"[\u202a-\u202e\u2066-\u2069]")
ONE_LINE: Final = f"^[^{CONTROL.pattern[1:-1]}]*$"
"""What `one_line` lets pass, for a description."""
ONE_NAME: Final = f"^[^{CONTROL.pattern[1:-1]}{_TURN.pattern[1:-1]}]*$"
"""The same of `one_name`, but for the marks."""
_MARK: Final = re.compile(r"[\u200e\u200f\u061c]")
_RIGHT_TO_LEFT: Final = re.compile(
    r"[\u0590-\u061b\u061d-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]"
)
"""The blocks of the scripts that run so (Unicode's DerivedBidiClass.txt), without the mark
U+061C.
"""


def one_line(value: str) -> str:
    """A value that goes into a header. Raises ValueError when it holds a control character."""
    if found := CONTROL.search(value):
        raise ValueError(t("contains the control character U+{it:04X}", it=ord(found[0])))
    return value


def one_name(value: str) -> str:
    """A name that goes into a header. Raises ValueError when it may be displayed as another name.

    Embeddings, overrides and isolates turn the messages behind them round
    (https://trojansource.codes). The marks only say which way their neighbours run: a name in
    Hebrew or Arabic needs them, and no other one does.
    """
    found = _TURN.search(value) or (None if _RIGHT_TO_LEFT.search(value) else _MARK.search(value))
    if found:
        raise ValueError(
            t("contains U+{it:04X}, which changes the writing direction", it=ord(found[0]))
        )
    return one_line(value)


def language_tag(value: object) -> object:
    """A language as recipients may have it."""
    if not (isinstance(value, str) and LANGUAGE_TAG.fullmatch(value)):
        raise ValueError(t("must be a language such as zh or zh-TW"))
    return value


def _printable(text: str) -> str:
    """A text that JSON, the log and the database take: a template may contain half a character (a
    lone surrogate).
    """
    cut = str.__str__(text if len(text) <= MAX_REASON else text[: MAX_REASON - 1] + "…")
    english = cut.encode("utf-8", "backslashreplace").decode()
    if not isinstance(text, Text):
        return english
    fields = {
        name: _printable(it) if isinstance(it, str) else it for name, it in text.fields.items()
    }
    return Text(english, text.msgid, fields, text.plural, text.context, text.parts)


class TemplateError(MailerdError):
    """A template cannot be used.

    `part` is "subject", "html" or "text"; `line` counts from 1 and is None where no line is to
    blame.
    """

    def __init__(self, reason: str, *, part: str, line: int | None) -> None:
        self.reason = _printable(reason)
        where = part if line is None else t("{part}, line {line}", part=part, line=line)
        super().__init__(t("{part}: {reason}", part=where, reason=self.reason))
        self.part = part
        self.line = line


class TemplateErrors(MailerdError):  # noqa: N818 - the plural is the point: everything that is wrong, in one answer
    """All that is wrong with a template; `errors` holds each of them."""

    def __init__(self, errors: Sequence[TemplateError]) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.errors = tuple(errors)


class RenderError(TemplateError):
    """A good template and these variables do not make a message.

    `variable` is the dotted path of what is missing or null, and "" for any other error. `bound`
    says that the operating system had to end the rendering: it took too long, too much memory, or
    crashed.
    """

    def __init__(
        self, reason: str, *, part: str, line: int | None, variable: str = "", bound: bool = False
    ) -> None:
        super().__init__(reason, part=part, line=line)
        self.variable = _printable(variable)
        self.bound = bound


class RendererError(MailerdError):
    """No template can be rendered now: the child process does not start, is killed, or gets no
    CPU.
    """


def merge_variables(
    job: Mapping[str, object],
    own: Mapping[str, object] | None,
    *,
    email: str,
    name: str | None,
    unsubscribe_url: str = "",
    defaults: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """The variables of one message: the recipient's own win over the job's, and both over the
    address and the name.

    `defaults` of the template stand where nothing else is given; an empty text or null is given.

    So `{{ email }}`, `{{ name }}` and `{{ unsubscribe_url }}` are there unless variables of these
    names were given. Without a name there is no `name` at all: the template has to handle a
    recipient without one. `unsubscribe_url` is empty where the job has no list.
    """
    merged: dict[str, object] = {
        **(defaults or {}),
        "email": email,
        "unsubscribe_url": unsubscribe_url,
    }
    if name is not None:
        merged["name"] = name
    merged.update(job)
    if own:
        merged.update(own)
    return merged


def choose_language(wanted: object, *, among: Collection[str]) -> str | None:
    """The nearest of `among`, all in lower case: zh-Hant-TW takes zh-hant-tw, zh-hant or zh; None
    means the default.
    """
    if not isinstance(wanted, str):
        return None
    tag = wanted.lower().replace("_", "-")
    while tag:
        if tag in among:
            return tag
        tag = tag.rpartition("-")[0]
    return None
