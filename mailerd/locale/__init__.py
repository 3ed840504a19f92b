"""Says texts in the language of their reader: English as the code has it, or Chinese by the
catalogue here.
"""

import gettext
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, Final

from mailerd.core.i18n import Language, Text, filled
from mailerd.core.labels import coded

_FOLDER: Final = Path(__file__).parent
_LANGUAGE: Final = ContextVar[Language]("language", default="en")
_JOINTS: Final = {"; ": "；", ". ": "。", ", ": "，", ": ": "："}
"""What joins sentences, in Chinese; anything else joins them as it is."""


def speak(language: Language) -> None:
    """Choose the language of what this context says: a command for its process, a request for its
    answer.
    """
    _LANGUAGE.set(language)


def language() -> Language:
    """The language of this context."""
    return _LANGUAGE.get()


def say(text: str, language: Language | None = None) -> str:
    """A text in a language, that of this context unless another is named; what is no `Text` stays
    as it is.
    """
    if not isinstance(text, Text):
        return text
    if (language or _LANGUAGE.get()) == "en":
        return str.__str__(text)
    if not text.msgid:
        parts = (
            _JOINTS.get(part, part) if number % 2 else _said(part, language)
            for number, part in _places(text)
        )
        return _closed("".join(parts))
    fields = {name: _said(value, language) for name, value in text.fields.items()}
    return _closed(filled(template(text, language), fields))


def template(text: Text, language: Language | None = None) -> str:
    """The template of a text that is not made of parts, for who fills its fields in himself."""
    if (language or _LANGUAGE.get()) == "en":
        return text.plural if text.plural and text.fields["n"] != 1 else text.msgid
    if text.plural:
        return _catalogue().ngettext(text.msgid, text.plural, text.fields["n"])
    if text.context:
        return _catalogue().pgettext(text.context, text.msgid)
    return _catalogue().gettext(text.msgid)


def label(code: str) -> str:
    """A code of the API, such as `hard_bounce`, as commands show it: in Chinese by its name, in
    English as it is.
    """
    return say(coded(code))


def translator(language: Language) -> Callable[[str], str]:
    """What says a text in one language."""
    return lambda text: say(text, language)


def _places(text: Text) -> enumerate[str]:
    return enumerate(text.parts)


_EDGE: Final = "\0"
"""Where a text of ours begins or ends in another; strangers' fields have none (`visible`)."""
_CHINESE: Final = "[\u3000-\u9fff\uff00-\uffef]"
_SPACE: Final = f"(?:{_EDGE} {_EDGE}?| {_EDGE})"
_GAPS: Final = re.compile(f"(?<={_CHINESE}){_SPACE}(?={_CHINESE})|{_SPACE}(?=[（，。；：])|{_EDGE}")


def _said(value: Any, language: Language | None) -> Any:
    return f"{_EDGE}{say(value, language)}{_EDGE}" if isinstance(value, Text) else value


def _closed(text: str) -> str:
    """Without the spaces that a template has beside a field, where the field is Chinese too:
    发件邮箱已暂停.
    """
    return _GAPS.sub("", text)


@cache
def _catalogue() -> gettext.NullTranslations:
    # Made of the .po beside it by the wheel, or by tools/setup in a checkout.
    return gettext.translation("mailerd", _FOLDER, languages=["zh_CN"])


def from_environment(environment: Mapping[str, str]) -> Language:
    """The language of a command before it has read a configuration: `log.language`, then gettext's
    variables.

    As gettext documents, `LANGUAGE` is a list, and counts only where the locale is not "C".
    """
    if (own := environment.get("MAILERD_LOG__LANGUAGE", "").strip().lower()) in {"en", "zh"}:
        return "zh" if own == "zh" else "en"
    locale = next(
        (value for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (value := environment.get(name))),
        "C",
    )
    wanted = [] if locale == "C" else environment.get("LANGUAGE", "").split(":")
    known = (name[:2].lower() for name in (*wanted, locale))
    return "zh" if next((name for name in known if name in {"en", "zh"}), "en") == "zh" else "en"


_MAX_ACCEPTED: Final = 20
"""Languages of a header Accept-Language that are looked at, in at most so many times 50
characters.
"""
_RANGE: Final = re.compile(
    r"(?P<language>[a-z]{1,8})(?:-[a-z0-9]{1,8})*\s*(?:;\s*q=(?P<weight>0(?:\.\d{0,3})?|1(?:\.0{0,3})?))?",
    re.IGNORECASE,
)


def accepted_language(header: str, *, otherwise: Language = "en") -> Language:
    """The language that a header Accept-Language asks for; `otherwise` where it asks for neither
    (RFC 9110, 12.5.4).
    """
    best, weight = str(otherwise), 0.0
    for each in header[: 50 * _MAX_ACCEPTED].split(",", _MAX_ACCEPTED)[:_MAX_ACCEPTED]:
        if found := _RANGE.fullmatch(each.strip()):
            name, asked = found["language"].lower(), float(found["weight"] or 1)
            if name in {"zh", "en"} and asked > weight:
                best, weight = name, asked
    return "zh" if best == "zh" else "en"
