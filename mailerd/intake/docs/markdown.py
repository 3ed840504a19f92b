"""Markdown as pages of the site: anchors of headings, links between pages, and the words that a
search finds.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

Link = Callable[[str], str | None]
"""Where a link of a page leads in the site; None: to nothing that the site has."""


@dataclass(frozen=True)
class PageSection:
    """A heading and what is below it, up to the next one."""

    anchor: str
    title: str
    level: int
    text: str
    """Its words and code, for the search."""


@dataclass(frozen=True)
class Page:
    """One page."""

    title: str
    html: str
    sections: tuple[PageSection, ...]


def anchor_of(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _no_html(_: Any, tokens: Sequence[Token], place: int, *__: object) -> str:
    """HTML is shown as text; a comment is not shown."""
    text = tokens[place].content
    return "" if text.lstrip().startswith("<!--") else escape(text)


def _scrolling(*_: object) -> str:
    return '<div class="table" tabindex="0"><table>'


def _end_of_scrolling(*_: object) -> str:
    return "</table></div>"


_MARKDOWN: Final = MarkdownIt("commonmark").enable("table")
_MARKDOWN.add_render_rule("html_block", _no_html)
_MARKDOWN.add_render_rule("html_inline", _no_html)
_MARKDOWN.add_render_rule("table_open", _scrolling)
_MARKDOWN.add_render_rule("table_close", _end_of_scrolling)


def rendered(text: str, link: Link) -> Page:
    """A page of Markdown."""
    tokens = _MARKDOWN.parse(text)
    heads: list[tuple[str, str, int]] = [("", "", 0)]
    words: list[list[str]] = [[]]
    taken = set[str]()
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            heading = tokens[place + 1]
            anchor = _unused(anchor_of(heading.content), taken)
            token.attrSet("id", anchor)
            heads.append((anchor, _plain(heading), int(token.tag[1:])))
            words.append([])
        elif token.type == "inline":
            _lead(token.children or [], link)
            if tokens[place - 1].type != "heading_open":
                words[-1].append(_plain(token))
        elif token.type in {"fence", "code_block"}:
            words[-1].append(token.content)
    html = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})
    sections = [PageSection(*head, " ".join(each)) for head, each in zip(heads, words, strict=True)]
    title = next((head[1] for head in heads if head[2] == 1), "")
    return Page(title, html, tuple(each for each in sections if each.title or each.text))


def _unused(anchor: str, taken: set[str]) -> str:
    made, number = anchor, 0
    while made in taken:
        number += 1
        made = f"{anchor}-{number}"
    taken.add(made)
    return made


def _plain(token: Token) -> str:
    kept = {"text", "code_inline", "softbreak"}
    return "".join(each.content or " " for each in token.children or [] if each.type in kept)


def _lead(children: Sequence[Token], link: Link) -> None:
    """Let links and pictures lead where the site has them; a link that leads nowhere is text."""
    ends: list[str] = []
    for token in children:
        match token.type:
            case "link_open":
                target = link(str(token.attrs["href"]))
                ends.append("a" if target else "span")
                token.tag, token.attrs = ends[-1], {"href": target} if target else {}
            case "link_close":
                token.tag = ends.pop()
            case "image":
                token.attrs["src"] = link(str(token.attrs["src"])) or ""
                token.attrs["loading"] = "lazy"
            case _:
                pass
