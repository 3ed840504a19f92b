"""The Chinese of everything that mailerd says beside its events: tables of English and Chinese, one for each surface."""

from collections.abc import Mapping
from contextvars import ContextVar
from functools import cache, lru_cache
from importlib import import_module
from typing import Final

from mailerd.core import pauses
from mailerd.core.texts import Catalogue, Language
from mailerd.texts.headings import HEADINGS

TABLES: Final = (
    "api",
    "causes",
    "channels",
    "checks",
    "commands",
    "demo",
    "figures",
    "letters",
    "options",
    "rows",
)
"""The modules of this package; each has a mapping TEXTS. They are read when the first Chinese sentence is wanted."""
_LANGUAGE: Final = ContextVar[Language]("language", default="en")


@cache
def catalogue() -> Catalogue:
    """All texts."""
    return Catalogue(*(import_module(f"{__name__}.{name}").TEXTS for name in TABLES))


def speak(language: Language) -> None:
    """Choose the language of what this context says: a command for its process, a request for its answer."""
    _LANGUAGE.set(language)


def language() -> Language:
    """The language of this context."""
    return _LANGUAGE.get()


def tr(english: str) -> str:
    """An English sentence in the language of this context."""
    return english if _LANGUAGE.get() == "en" else in_chinese(english)


@lru_cache(maxsize=4096)
def in_chinese(english: str) -> str:
    """An English sentence in Chinese; one that is in no table stays as it is."""
    return catalogue().chinese(english)


def heading(english: str) -> str:
    """A heading of a table, or a label, in the language of this context; one that names a field stays as it is."""
    return HEADINGS.get(english, english) if _LANGUAGE.get() == "zh" else english


def label(code: str) -> str:
    """A code of the API, such as `hard_bounce`, as commands show it: in Chinese by its name, in English as it is."""
    return pauses.in_chinese(code) if _LANGUAGE.get() == "zh" else code


def from_environment(environment: Mapping[str, str]) -> Language:
    """The language of a command before it has read a configuration: `log.language`, then what POSIX's variables say."""
    if (own := environment.get("MAILERD_LOG__LANGUAGE", "").strip().lower()) in {"en", "zh"}:
        return "zh" if own == "zh" else "en"
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := environment.get(name, ""):
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"
