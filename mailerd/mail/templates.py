"""A job's template, and the content that a rendering gives: data only."""

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
    """The template of a job, in all its languages. It is compared by identity, so that a child gets it once."""

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
    """A recipient as the template sees it; `variables` is a JSON object as text, or None."""

    email: str
    name: str | None
    variables: str | None
    unsubscribe_url: str = ""
    """Where the recipient can leave the job's list; empty where there is no list, or no public address."""


@dataclass(frozen=True)
class Content:
    """A rendered letter: the subject is one line, `html` is None for a letter of plain text."""

    subject: str
    html: str | None
    text: str
