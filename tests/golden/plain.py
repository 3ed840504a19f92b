"""What was answered, without what differs from one run to the next: ids, secrets, and what was counted of time."""

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any, Final

from mailerd import __version__
from tests.support.tables import Contents

_ID: Final = re.compile(r"(?<![0-9A-Za-z])[0-9A-HJKMNP-TV-Z]{26}(?![0-9A-Za-z])")
_PATTERNS: Final = (
    (re.compile(r"\bb'(\\.|[^'\\])*'|\bb\"(\\.|[^\"\\])*\""), "{bytes}"),
    (re.compile(r"/[\w/-]+/test_(every|while)_\w+"), "{folder}"),
    (re.compile(r"(?<=\bafter )\d+ ms\b|(?<=（)\d+ 毫秒(?=）)"), "{span}"),
    (re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+Z (?=[A-Z]+ )", re.MULTILINE), ""),
    (re.compile(r"(?<= connected \()[^)]*|(?<=server=')[^'()]+"), "{server}"),
    (re.compile(r"Name or service not known|Temporary failure in name resolution"), "{unresolved}"),
    (re.compile(r"/static/[^ >]+"), "{static}"),
    (re.compile(rf"^{re.escape(__version__)}$", re.MULTILINE), "{version}"),
    (re.compile(r"whsec_[A-Za-z0-9+/=]+"), "{secret}"),
    (re.compile(r"sk_live_[\w.-]+"), "{secret}"),
    (re.compile(r"\bcommand, \w+"), "command, {user}"),
    (re.compile(r"(?<=actor=')\w+(?=')"), "{user}"),
    (re.compile(r"127\.0\.0\.1:\d{4,5}"), "127.0.0.1:{port}"),
    (re.compile(r"\bapi_key_id='?\d+'?"), "api_key_id={key}"),
    (re.compile(r"(?<=\[seen=)[^\]]+|(?<=\[tab=)[0-9a-f]{12}(?=\])"), "{digest}"),
    (re.compile(r"(?<=[?&]v=)[0-9a-f]+"), "{digest}"),
)


class Plain:
    """Replaces the ids that are known by their names, and others by `{new}`; the key of `caller` by `{caller}`."""

    def __init__(self, ids: Mapping[str, str], caller: str) -> None:
        self._names = {number: name for name, number in ids.items() if _ID.fullmatch(number)}
        self._shown = {it[:20]: "" for it in self._names} | {it[-6:]: self._names[it] for it in self._names}
        self._last = max(int(it) for it in ids.values() if it.isdecimal())
        self._caller = re.compile(
            rf"(?<=key ){caller}\b|(?<=key '){caller}\b|(?<=key:){caller}\b|(?<=\bkey='){caller}(?=')"
        )

    def text(self, said: str) -> str:
        said = _ID.sub(lambda found: "{" + self._names.get(found[0], "new") + "}", said)
        for part, name in self._shown.items():
            said = re.sub(rf"\b{part}\b ?", "{" + name + "}" if name else "", said)
        for pattern, name in _PATTERNS:
            said = pattern.sub(name, said)
        said = re.sub(r"(?<=\S)  +", "  ", said)  # a table is as wide as a path of this machine
        said = re.sub(r"(?<=\bid=)\d+", lambda found: str(self._number(int(found[0]))), said)
        return self._caller.sub("{caller}", said)

    def event(self, name: str, fields: Mapping[str, object]) -> str:
        """One of the log: its name and its fields, without those that are of the request."""
        said = " ".join(f"{key}={value!r}" for key, value in fields.items() if key not in {"ms", "request"})
        return self.text(f"{name} {said}")

    def _number(self, number: int) -> int | str:
        return "{new}" if number > self._last else number

    def value(self, found: Any) -> Any:
        """The same of each text in JSON."""
        match found:
            case str():
                return self.text(found)
            case list():
                return [self.value(each) for each in found]
            case dict():
                return (
                    {key: self.value(each) for key, each in found.items()}
                    | {key: self._number(each) for key, each in found.items() if key == "recipient_id" and each}
                    | ({"took_ms": "{span}"} if found.get("took_ms") else {})
                )
            case _:
                return found

    def page(self, html: str) -> list[str]:
        """What a page shows and offers, a line each."""
        reader = _PageReader()
        reader.feed(html)
        return [self.text(line) for line in reader.lines if line]


class _PageReader(HTMLParser):
    """The text below `main`, with where each link leads and what each button sends."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = [""]
        self._in_main = self._is_hidden = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "main":
            self._in_main = True
        if not self._in_main:
            return
        self._is_hidden = tag in {"script", "style", "svg"}
        if tag not in {"a", "b", "bdi", "code", "em", "span", "strong", "time", "button", "label", "option"}:
            said = given.get("role") in {"status", "alert"} or self.lines[-1] == "{said}"
            self.lines[-1:] = [it for it in self.lines[-1:] if it != "{said}"] + ["{said}" if said else ""]
        if tag == "a":
            self.lines[-1] += f" <{given.get('href')}> "
        if tag in {"button", "input", "select", "textarea"} and given.get("name"):
            self.lines[-1] += f" [{given['name']}={given.get('value') or ''}] "
        if tag == "form":
            self.lines.append(f"form {given.get('method') or 'get'} {given.get('action') or ''}")

    def handle_endtag(self, tag: str) -> None:
        self._is_hidden = False
        if tag == "main":
            self._in_main = False
        if tag in {"p", "li", "tr", "td", "th", "dt", "dd", "h1", "h2", "h3", "form", "div"}:
            self.lines.append("")

    def handle_data(self, data: str) -> None:
        if self._in_main and not self._is_hidden:
            self.lines[-1] = f"{self.lines[-1]} {' '.join(data.split())}".strip()


def changed_rows(before: Contents, after: Contents) -> dict[str, list[str]]:
    """By table: what came, what went, and of what changed the columns that did."""
    found = {}
    for table, rows in after.items():
        come = {_key(row): row for row in rows if row not in before[table]}
        gone = {_key(row): row for row in before[table] if row not in rows}
        lines = [_change(gone.get(key, ()), come.get(key, ())) for key in {**gone, **come}]
        if lines:
            found[table] = sorted(lines)
    return found


def _key(row: tuple[str, ...]) -> tuple[str, ...]:
    """What tells a row from the others: its first columns that are no number of the database's own."""
    return row[:1] if row[0].startswith(("id='", "name=", "email=")) else row[:2]


def _change(gone: tuple[str, ...], come: tuple[str, ...]) -> str:
    if gone and come:
        pairs = [f"{old} -> {new.partition('=')[2]}" for old, new in zip(gone, come, strict=True) if old != new]
        return f"{come[0]}: {', '.join(pairs)}"
    sign, row = ("+", come) if come else ("-", gone)
    return f"{sign} {' '.join(it for it in row if it.partition('=')[2] not in {'None', '0', repr('')})}"
