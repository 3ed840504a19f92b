"""The Chinese of everything that mailerd says beside its events: tables of English and Chinese, one for each surface."""

from functools import cache, lru_cache
from importlib import import_module
from typing import Final

from mailerd.core.i18n import Text
from mailerd.core.labels import coded
from mailerd.core.texts import Catalogue
from mailerd.locale import from_environment, language, say, speak
from mailerd.texts.headings import HEADINGS

TABLES: Final = (
    "api",
    "causes",
    "channels",
    "checks",
    "commands",
    "figures",
    "messages",
    "options",
    "rows",
)
"""The modules of this package; each has a mapping TEXTS. They are read when the first Chinese sentence is wanted."""
__all__ = ["from_environment", "language", "speak"]


@cache
def catalogue() -> Catalogue:
    """All texts."""
    return Catalogue(*(import_module(f"{__name__}.{name}").TEXTS for name in TABLES))


def tr(english: str) -> str:
    """An English sentence in the language of this context."""
    return say(english, "en") if language() == "en" else in_chinese(english)


def in_chinese(english: str) -> str:
    """An English sentence in Chinese; one that is in no table stays as it is."""
    return say(_readable(english), "zh") if isinstance(english, Text) else _read(english)


def _readable(text: Text) -> Text:
    """A text whose fields are sentences of rows, which keep English: read one by one."""
    if text.parts:
        return Text(text, parts=tuple(_readable(it) if isinstance(it, Text) else it for it in text.parts))
    fields = {name: _read(it) if type(it) is str else it for name, it in text.fields.items()}
    return Text(text, text.msgid, fields, text.plural, text.context)


@lru_cache(maxsize=4096)
def _read(english: str) -> str:
    return catalogue().chinese(english)


def heading(english: str) -> str:
    """A heading of a table, or a label, in the language of this context; one that names a field stays as it is."""
    return HEADINGS.get(english, english) if language() == "zh" else english


def label(code: str) -> str:
    """A code of the API, such as `hard_bounce`, as commands show it: in Chinese by its name, in English as it is."""
    return say(coded(code))
