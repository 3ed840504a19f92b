"""What the body of a failed response says in words: a proxy answers with a page of HTML."""

import html
import re
from typing import Final

_TITLE: Final = re.compile(r"<title\b[^>]*>([^<]*)", re.IGNORECASE)
_UNSEEN: Final = re.compile(
    r"<(script|style|title)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)", re.IGNORECASE | re.DOTALL
)
_TAG: Final = re.compile(r"<[^<>]*(?:>|\Z)")
_MAX_WORDS: Final = 120
"""The most characters that are shown of a page without a title."""


def words_of(body: str) -> str:
    """The words of a body: of a page its title, or else the first words between its tags."""
    if not body.lstrip().startswith("<"):
        return body
    title = _TITLE.search(body)
    if title and (words := _plain(title[1])):
        return words
    return _plain(_TAG.sub(" ", _UNSEEN.sub(" ", body)))[:_MAX_WORDS]


def _plain(text: str) -> str:
    return " ".join(html.unescape(text).split())
