"""A job's template as data, and what a rendering of it gives; nothing here runs it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Source:
    """A template in one language, as it was written; without `text`, each letter's text is made from its HTML."""

    subject: str
    html: str | None
    text: str | None


@dataclass(frozen=True, eq=False)
class Template:
    """All that the letters of one job are made from; it is compared by identity, so that a child is sent it once."""

    default: Source
    languages: Mapping[str, Source] = field(default_factory=dict)
    inline_css: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)
    """The job's own; a recipient's win over them."""

    @property
    def size(self) -> int:
        """Characters of all its parts."""
        sources = (self.default, *self.languages.values())
        return sum(len(each.subject) + len(each.html or "") + len(each.text or "") for each in sources)


class RecipientData(NamedTuple):
    """Whom a letter is rendered for; `variables` is a JSON object as text, or None."""

    email: str
    name: str | None
    variables: str | None


@dataclass(frozen=True)
class Content:
    """What one recipient reads: the subject is one line, `html` is None for a letter of plain text."""

    subject: str
    html: str | None
    text: str
