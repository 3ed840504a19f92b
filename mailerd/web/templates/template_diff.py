"""What differs between two versions of a template."""

import asyncio
import difflib
import json
from collections.abc import Iterable, Iterator
from typing import Final

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.mail.template_library import NamedTemplate
from mailerd.mail.templates import NAME
from mailerd.web.frame.services import ConsoleRequest
from mailerd.web.templates.template_page import VERSION

MAX_COMPARED: Final = 400
"""Lines that are compared of all parts together, without those that are equal at the beginning and
the end of one.
"""
_MAX_LINE: Final = 1000
"""Characters of a line that are shown."""


async def diff(it: ConsoleRequest) -> web.Response:
    """The page."""
    name, pair = it.http.match_info["name"], [it.http.query.get(end, "") for end in ("from", "to")]
    is_known = NAME.fullmatch(name) and all(map(VERSION.fullmatch, pair))
    found = [await it.library.read(name, version) for version in pair] if is_known else [None]
    if None in found:
        it.missing()
    before, after = (_parts(each) for each in found if each)
    changed = [part for part in {**before, **after} if before.get(part, "") != after.get(part, "")]
    parts = await asyncio.to_thread(
        compared, [(each, before.get(each, ""), after.get(each, "")) for each in changed]
    )
    return await it.long_page(
        "template_diff.html", active="templates", template=name, pair=pair, parts=parts, live=False
    )


def _parts(named: NamedTemplate) -> dict[tuple[str, str], str]:
    """What people write of a template, by its language and what a page calls it."""
    found: dict[tuple[str, str], str] = {("", t("Description")): named.description}
    for tag, each in {"": named.template.default, **named.template.languages}.items():
        found[tag, t("Subject")] = each.subject
        found[tag, "Markdown" if each.markdown else "HTML"] = each.markdown or each.html or ""
        found[tag, t("Plain text")] = each.text or ""
    lists = {
        t("Examples"): named.variables,
        t("Defaults"): named.defaults,
        t("Required"): named.required,
    }
    for part, it in lists.items():
        found["", part] = json.dumps(it, ensure_ascii=False, indent=1, sort_keys=True)
    found["", t("Layout")] = named.layout or ("{{ content }}" if named.is_layout else "")
    return found


def compared[T](parts: Iterable[tuple[T, str, str]]) -> list[tuple[T, list[tuple[str, str]]]]:
    """The lines of each part that differ; all together they are bounded."""
    found, left = list[tuple[T, list[tuple[str, str]]]](), MAX_COMPARED
    for part, old, new in parts:
        found.append((part, lines := [*changed_lines(old, new, most=left)]))
        left = max(0, left - len(lines))
    return found


def changed_lines(old: str, new: str, *, most: int = MAX_COMPARED) -> Iterator[tuple[str, str]]:
    """The lines that differ, with two around them; before each "-", "+" or " ", and "…" for what is
    left out.
    """
    ours, theirs = old.splitlines(), new.splitlines()
    least = min(len(ours), len(theirs))
    start = next((n for n in range(least) if ours[n] != theirs[n]), least)
    end = next((n for n in range(least - start) if ours[-1 - n] != theirs[-1 - n]), least - start)
    start, end = max(0, start - 2), max(0, end - 2)
    ours, theirs = ours[start : len(ours) - end], theirs[start : len(theirs) - end]
    for line in [*difflib.unified_diff(ours[:most], theirs[:most], n=2, lineterm="")][3:]:
        yield ("…", "") if line.startswith("@@") else (line[0], line[1 : _MAX_LINE + 1])
    if max(len(ours), len(theirs)) > most:
        yield "…", ""
