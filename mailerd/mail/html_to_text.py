"""The plain text of an HTML message, for recipients that show no HTML.

It runs in the renderer's child process, since html.parser may take long over broken HTML.
"""

import re
from contextlib import suppress
from html.parser import HTMLParser

MAX_HTML = 200_000
"""Characters of HTML that are read; what comes after them is left out of the text."""

_PICTURE = re.compile(r"""(?<=["'(=])data:[\w.+/-]{1,100};base64,[A-Za-z0-9+/=]+""")
"""A picture that stands in the HTML itself: often longer than all of its words, and none of
them.
"""
_DROPPED = frozenset({"script", "style", "template", "title"})
_BLOCKS = {
    **dict.fromkeys(
        (
            "address",
            "article",
            "aside",
            "body",
            "dd",
            "div",
            "dt",
            "fieldset",
            "figcaption",
            "figure",
        ),
        1,
    ),
    **dict.fromkeys(("footer", "form", "header", "li", "main", "nav", "section", "tr"), 1),
    **dict.fromkeys(
        (
            "blockquote",
            "dl",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
            "hr",
            "ol",
            "p",
            "pre",
            "table",
            "ul",
        ),
        2,
    ),
}
"""Elements that stand on lines of their own, and the line breaks before and after each: 2 make an
empty line.
"""
_SPACE = re.compile(r"[ \t\n\r\f]+")
_EMPTY_LINES = re.compile(r"\n{3,}")
_INVISIBLE = {0xA0: " ", 0xAD: None, 0x34F: None, 0x200B: None, 0xFEFF: None}
"""A no-break space is a space in text; soft hyphens and the fillers of hidden preheaders are
nothing.
"""
_NO_ADDRESS = ("#", "javascript:", "data:", "cid:")
_MAX_DEPTH = 5
"""Levels of nested lists that are indented further."""


def text_from_html(html: str) -> str:
    """HTML as readable text: paragraphs, lists, table cells, links as "text (address)", pictures by
    their `alt`.

    It never fails: broken HTML gives some text, too.
    """
    reader = _Reader()
    # its answers to "<![x" and to 5,000 digits; what came before is read
    with suppress(AssertionError, ValueError):
        reader.feed(_without_begun_tag(_PICTURE.sub("data:", html)[:MAX_HTML]))
        reader.close()
    lines = "".join(reader.pieces).translate(_INVISIBLE).split("\n")
    return _EMPTY_LINES.sub("\n\n", "\n".join(line.rstrip() for line in lines)).strip()


def _without_begun_tag(html: str) -> str:
    """Without a tag that does not end: older versions of Python's parser take it for text."""
    begin = html.find("<", html.rfind(">") + 1)
    name = html[begin + 1 : begin + 2]
    return html[:begin] if begin >= 0 and name.isascii() and name.isalpha() else html


class _Reader(HTMLParser):
    """Collects words; the white space before a word is decided when the word comes."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._breaks = 0
        self._gap = ""
        self._bullet = ""
        self._link: tuple[str, int] | None = None
        self._lists: list[int | None] = []
        """The open lists: None for bullets, else the last number."""
        self._as_it_is = 0
        self._dropped = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A start tag."""
        self._dropped += tag in _DROPPED
        attributes = dict(reversed(attrs))  # of two of one name the first counts, as in a browser
        self._break(tag)
        match tag:
            case "br":
                self._breaks = min(self._breaks + 1, 2)
            case "hr":
                self._word("-" * 40)
                self._break(tag)
            case "a":
                self._end_of_link()
                self._link = ((attributes.get("href") or "").strip(), len(self.pieces))
            case "img":
                self.handle_data((attributes.get("alt") or "").strip())
            case "ul" | "ol":
                self._lists.append(0 if tag == "ol" else None)
            case "li":
                self._item()
            case "pre":
                self._as_it_is += 1
            case _:
                pass

    def handle_endtag(self, tag: str) -> None:
        """An end tag."""
        if tag in _DROPPED:
            self._dropped = max(self._dropped - 1, 0)
        match tag:
            case "a":
                self._end_of_link()
            case "ul" | "ol" if self._lists:
                self._lists.pop()
            case "pre":
                self._as_it_is = max(self._as_it_is - 1, 0)
            case "td" | "th":
                self._gap = "  "
            case _:
                pass
        self._break(tag)

    def handle_data(self, data: str) -> None:
        """Text between tags."""
        if self._dropped:
            return
        if self._as_it_is:
            self._word(data.replace("\r\n", "\n").strip("\n"))
            return
        line = _SPACE.sub(" ", data)
        word = line.strip(" ")
        if line.startswith(" "):
            self._gap = self._gap or " "
        self._word(word)
        if word and line.endswith(" "):
            self._gap = " "

    def _word(self, word: str) -> None:
        if not word:
            return
        if self.pieces and self._breaks:
            self.pieces.append("\n" * self._breaks)
        elif self.pieces and self._gap:
            self.pieces.append(self._gap)
        self.pieces.append(self._bullet + word)
        self._breaks, self._gap, self._bullet = 0, "", ""

    def _break(self, tag: str) -> None:
        breaks = _BLOCKS.get(tag, 0)
        self._breaks = max(self._breaks, min(breaks, 1) if self._lists else breaks)

    def _item(self) -> None:
        depth = min(max(len(self._lists), 1), _MAX_DEPTH)
        count = self._lists[-1] if self._lists else None
        sign = "- "
        if count is not None:
            self._lists[-1] = count + 1
            sign = f"{count + 1}. "
        self._bullet = "  " * (depth - 1) + sign

    def _end_of_link(self) -> None:
        """Put the address behind the words, unless they are the address already."""
        if self._link is None:
            return
        address, start = self._link
        self._link = None
        words = "".join(self.pieces[start:]).strip()
        shown = address.removeprefix("mailto:").removeprefix("tel:")
        if (
            not shown
            or address.lower().startswith(_NO_ADDRESS)
            or shown in {words, f"https://{words}", f"http://{words}"}
        ):
            return
        if words:
            self.pieces.append(f" ({shown})")
        else:
            self._word(shown)
