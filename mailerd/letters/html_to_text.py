"""The plain text of an HTML letter, for readers that show no HTML; it alone may read HTML."""

import re
from html import unescape

MAX_HTML = 200_000
"""Characters of HTML that are read; what comes after them is left out of the text."""

_DROPPED = frozenset({"script", "style", "template", "title"})
_BLOCKS = {
    **dict.fromkeys(("address", "article", "aside", "body", "dd", "div", "dt", "fieldset", "figcaption", "figure"), 1),
    **dict.fromkeys(("footer", "form", "header", "li", "main", "nav", "section", "tr"), 1),
    **dict.fromkeys(("blockquote", "dl", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "ol", "p", "pre", "table", "ul"), 2),
}
"""Elements that stand on lines of their own, and the line breaks before and after each: 2 make an empty line."""
_SPACE = re.compile(r"[ \t\n\r\f]+")
_EMPTY_LINES = re.compile(r"\n{3,}")
_INVISIBLE = {0xA0: " ", 0xAD: None, 0x34F: None, 0x200B: None, 0xFEFF: None}
"""A no-break space is a space in text; soft hyphens and the fillers of hidden preheaders are nothing."""
_NO_ADDRESS = ("#", "javascript:", "data:", "cid:")
_MAX_DEPTH = 5
"""Levels of nested lists that are indented further."""


# html.parser is not used: it takes quadratic time over `<a <a <a …` (3 s for 20 KB) and raises on `<![x`.
# Every pattern here is possessive, and a construct that never ends ends the reading, as in a browser: time is linear.
_TAG = re.compile(r"""<(/?)([a-zA-Z][^\s/>]*+)((?:[^>=]++|=\s*+(?:"[^"]*+"|'[^']*+'|))*+)>""")
_ATTRIBUTE = re.compile(r"""([^\s=/"'>]++)\s*+(?:=\s*+("[^"]*+"|'[^']*+'|[^\s"'>]*+))?""")
_ENTITY = re.compile(r"&(?:#\d{1,7}+(?!\d)|#[xX][0-9a-fA-F]{1,6}+(?![0-9a-fA-F])|[a-zA-Z][a-zA-Z0-9]{1,31});?")
_END = {tag: re.compile(rf"</{tag}[\s/>]", re.IGNORECASE) for tag in _DROPPED}


def text_from_html(html: str) -> str:
    """HTML as readable text: paragraphs, lists, table cells, links as "text (address)", pictures by their `alt`.

    It never fails: whatever is in the HTML, some text comes out.
    """
    reader = _Reader()
    _read(html[:MAX_HTML], reader)
    lines = "".join(reader.pieces).translate(_INVISIBLE).split("\n")
    return _EMPTY_LINES.sub("\n\n", "\n".join(line.rstrip() for line in lines)).strip()


def _plain(source: str) -> str:
    """Text with its entities decoded; html.unescape alone raises on `&#` and 5,000 digits."""
    return _ENTITY.sub(lambda found: unescape(found[0]), source) if "&" in source else source


def _attribute(source: str, name: str) -> str:
    for found in _ATTRIBUTE.finditer(source):
        if found[1].lower() == name:
            return _plain((found[2] or "").strip("\"'")).strip()
    return ""


def _read(html: str, reader: "_Reader") -> None:
    """Hand the text and the tags to the reader, in their order."""
    at = 0
    while at >= 0:
        start = html.find("<", at)
        reader.text(_plain(html[at:start] if start >= 0 else html[at:]))
        if start < 0:
            return
        tag = _TAG.match(html, start)
        if tag:
            at = _tag(html, tag, reader)
        elif html[start + 1 : start + 2].isalpha():
            return
        elif html.startswith("<!--", start):
            at = _behind(html, "-->", start + 4)
        elif html.startswith(("<!", "<?", "</"), start):
            at = _behind(html, ">", start + 2)
        else:
            reader.text("<")
            at = start + 1


def _behind(html: str, end: str, start: int) -> int:
    found = html.find(end, start)
    return found + len(end) if found >= 0 else -1


def _tag(html: str, found: re.Match[str], reader: "_Reader") -> int:
    """Where to read on after a tag; -1 for the end."""
    name = found[2].lower()
    if found[1]:
        reader.end(name)
    elif name in _DROPPED:
        close = _END[name].search(html, found.end())
        return close.start() if close else -1
    else:
        reader.start(name, found[3])
    return found.end()


class _Reader:
    """Collects words; what white space stands before a word is decided when it comes."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self._breaks = 0
        self._gap = ""
        self._bullet = ""
        self._link: tuple[str, int] | None = None
        self._lists: list[int | None] = []
        """The open lists: None for bullets, else the last number."""
        self._as_it_is = 0

    def start(self, tag: str, attributes: str) -> None:
        """A start tag."""
        self._break(tag)
        match tag:
            case "br":
                self._breaks = min(self._breaks + 1, 2)
            case "hr":
                self._word("-" * 40)
                self._break(tag)
            case "a":
                self._end_of_link()
                self._link = (_attribute(attributes, "href"), len(self.pieces))
            case "img":
                self.text(_attribute(attributes, "alt"))
            case "ul" | "ol":
                self._lists.append(0 if tag == "ol" else None)
            case "li":
                self._item()
            case "pre":
                self._as_it_is += 1
            case _:
                pass

    def end(self, tag: str) -> None:
        """An end tag."""
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

    def text(self, data: str) -> None:
        """Text between tags."""
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
