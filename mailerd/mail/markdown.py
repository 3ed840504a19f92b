"""Markdown that is a template: as HTML that is one.

It runs in child processes alone, which the system bounds.

Markdown would quote `{{ url }}` in a link and format what stands in `{% … %}`: so each is a word
while it is read. A value is written by the template's engine afterwards, which escapes it: no value
is Markdown.
"""

import re
from hashlib import sha256
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock

_JINJA: Final = re.compile(
    r"""\{\{(?:"(?:\\.|[^"])*+(?:"|\Z)|'(?:\\.|[^'])*+(?:'|\Z)|(?!\}\}).)*+(?:\}\}|\Z)"""
    r"""|\{%(?:"(?:\\.|[^"])*+(?:"|\Z)|'(?:\\.|[^'])*+(?:'|\Z)|(?!%\}).)*+(?:%\}|\Z)"""
    r"""|\{\#(?:(?!\#\}).)*+(?:\#\}|\Z)""",
    re.DOTALL,
)
"""What is Jinja's.

Without an end it goes on to the end of all, as there; each character is looked at once.
"""
_LETTERS: Final = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
_STATEMENTS: Final = re.compile(r"(?:q[a-p]{20}s[a-p]{6}z[ \t]*)+")


def _lone_statements(state: StateBlock, first: int, last: int, silent: bool) -> bool:  # noqa: ARG001, FBT001 - its way
    """A line of statements alone stands for itself: it is in no paragraph and no list, so that `if`
    closes neither.
    """
    line = state.src[state.bMarks[first] + state.tShift[first] : state.eMarks[first]]
    if not _STATEMENTS.fullmatch(line):
        return False
    if not silent:
        state.line = first + 1
        state.push("html_block", "", 0).content = f"{line}\n"
    return True


# HTML is shown as text, a line's end is one, as in a mail program; an indented text is one, and no
# code.
_MARKDOWN: Final = MarkdownIt("commonmark", {"html": False, "breaks": True}).disable("code")
_MARKDOWN.block.ruler.before(
    "fence",
    "statements",
    _lone_statements,
    {"alt": ["paragraph", "reference", "blockquote", "list"]},
)


def markdown_to_html(source: str) -> str:
    """The HTML of a template that is written in Markdown: pure, and a template of the same
    variables.
    """
    # The words hold the text's own digest, so that no text can hold them.
    mark = sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:20].translate(_LETTERS)
    taken = list[str]()

    def take(found: re.Match[str]) -> str:
        taken.append(found[0])
        number = f"{len(taken) - 1:06x}".translate(_LETTERS)
        return f"q{mark}{'r' if found[0].startswith('{{') else 's'}{number}z"

    made: str = _MARKDOWN.render(_JINJA.sub(take, source))
    numbers = str.maketrans("abcdefghijklmnop", "0123456789abcdef")
    return re.sub(
        rf"q{mark}[rs]([a-p]{{6}})z",
        lambda found: taken[int(found[1].translate(numbers), 16)],
        made,
    )
