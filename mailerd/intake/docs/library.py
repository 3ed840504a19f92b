"""The pages of one language: those of docs/, those that are made from the code, their order, and the search in them."""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice, pairwise
from math import log
from pathlib import Path
from typing import Final

from mailerd.config import example
from mailerd.core.i18n import N_, Language, t
from mailerd.errors import MailerdError
from mailerd.events import journald_catalog
from mailerd.intake.docs.markdown import Page, PageSection, rendered
from mailerd.locale import say
from mailerd.ops.packaged_files import packaged

Commands = Callable[[], str]
"""Makes the page of the commands, as Markdown in the language of its reader."""

KINDS: Final = {
    "tutorial": N_("Tutorials"),
    "how-to": N_("How-to guides"),
    "explanation": N_("Explanation"),
    "reference": N_("Reference"),
    "api": N_("API reference"),
    "internals": N_("For developers of mailerd"),
}
"""The kinds of pages, by the folder that each has, in the order of the left column."""
_SHOWN: Final = ("docs/pictures", "docs/prometheus", "docs/grafana", "examples", "systemd")
"""The folders with files that pages show or link to."""
_MADE: Final = {
    "config.example.toml": "reference/configuration",
    "CHANGELOG.md": "reference/changelog",
    "README.md": "index",
    "README.zh-CN.md": "index",
}
"""Files outside docs/, and the page that the site has in their place."""
_LIES_AT: Final = {"reference/changelog": "../CHANGELOG"}
"""Where a page of the site lies from docs/, for its links."""
_CHINESE: Final = ".zh-CN"
_OTHER_LANGUAGE: Final = re.compile(r"(?: · |\n\n)\[(?:中文|English)\]\([^)]*\)")
"""A link to the page in the other language, which each page of the site has at its top."""


@dataclass(frozen=True)
class SitePage:
    """A page at its place."""

    name: str
    """Its path below /docs; that of the start is `index`."""
    page: Page
    language: Language
    """Its own: a page that has no Chinese is English for everybody."""

    @property
    def kind(self) -> str:
        """The folder that it is in."""
        return self.name.partition("/")[0]

    @property
    def path(self) -> str:
        """Its address."""
        return path_of(self.name)


def path_of(name: str) -> str:
    """The address of a page."""
    return "/docs" if name == "index" else f"/docs/{name}"


@cache
def files() -> Mapping[str, Path]:
    """The files that pages show or link to, by their addresses."""
    found = {}
    for folder in _SHOWN:
        root = packaged(folder)
        for file in sorted(root.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                found[f"/docs/{folder.removeprefix('docs/')}/{file.relative_to(root).as_posix()}"] = file
    return found


class Library:
    """Every page in the language of its reader; a page without Chinese is there in English."""

    def __init__(self, language: Language, commands: Commands | None, api: Mapping[str, Page]) -> None:
        """`api`: the pages of the reference of the API, by their names."""
        self.language: Final = language
        folder = packaged("docs")
        self._files = {file.relative_to(folder).with_suffix("").as_posix(): file for file in folder.rglob("*.md")}
        made: dict[str, Callable[[], str]] = {
            "reference/configuration": example.reference,
            "reference/events": partial(journald_catalog.page, journald_catalog.events()),
            "reference/all-events": partial(journald_catalog.table, journald_catalog.events()),
            "reference/changelog": lambda: packaged("CHANGELOG.md").read_text("utf-8"),
        }
        if commands:
            made["reference/commands"] = commands
        self._names = {name for name in self._files if not name.endswith(_CHINESE)} | made.keys()
        if "index" not in self._names:
            raise MailerdError(t("{name} is missing from this installation; the wheel and a checkout have it",
                                 name="docs/index.md"))  # fmt: skip
        found = {name: self._entry(name, made.get(name)) for name in self._names}
        found |= {name: SitePage(name, page, language) for name, page in api.items()}
        self.entries: Final = {name: found[name] for name in self._ordered(found)}
        self._of_code = made.keys() | api.keys()
        self._index = [
            (entry, section, f"{section.title}\n{section.text}".lower())
            for entry in self.entries.values()
            for section in entry.page.sections
        ]

    def _entry(self, name: str, make: Callable[[], str] | None) -> SitePage:
        chinese = self._files.get(f"{name}{_CHINESE}")
        own = bool(make or chinese) and self.language == "zh" and name not in _LIES_AT
        text = make() if make else ((chinese if own else None) or self._files[name]).read_text("utf-8")
        text = _OTHER_LANGUAGE.sub("", text)
        return SitePage(name, rendered(text, partial(self._link, _LIES_AT.get(name, name))), "zh" if own else "en")

    def _ordered(self, found: Mapping[str, SitePage]) -> list[str]:
        """By kind, and within a kind as docs/index.md names them."""
        named = re.findall(r"\]\(([\w./-]+)\.md\)", self._files["index"].read_text("utf-8"))
        kinds, places = ["index", *KINDS], {name: place for place, name in enumerate(named)}
        known = sorted((name for name in found if found[name].kind != "api"), key=lambda it: (places.get(it, 999), it))
        return sorted((*known, *(name for name in found if found[name].kind == "api")),
                      key=lambda it: kinds.index(found[it].kind) if found[it].kind in kinds else 99)  # fmt: skip

    def _link(self, page: str, target: str) -> str | None:
        """Where a link of a page of docs/ leads; to the same page in another language it leads without its anchor."""
        file, mark, anchor = target.partition("#")
        if not file or re.match(r"(?:https?|mailto):", file):
            return target
        if file.startswith("/"):  # of the daemon: /openapi.json
            return target
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), file))
        name = _MADE.get(path, path.removeprefix("docs/").removesuffix(".md"))
        if (base := name.removesuffix(_CHINESE)) in self._names:
            meant = "zh" if name.endswith(_CHINESE) else "en"
            switch = f"?lang={meant}" if base == page and meant != self.language else ""
            served = self.language if f"{base}{_CHINESE}" in self._files else "en"
            return path_of(base) + switch + (mark + anchor if meant == served else "")
        address = f"/docs/{path.removeprefix('docs/')}"
        return address if address in files() else None

    def by_kind(self) -> Iterator[tuple[str, list[SitePage]]]:
        """The kinds that have pages, with their names as people read them."""
        for kind, title in KINDS.items():
            if entries := [each for each in self.entries.values() if each.kind == kind]:
                yield say(t(title), self.language), entries

    def search(self, query: str) -> list["Hit"]:
        """The sections that fit a query best, at most three of a page; first those whose heading says all of it."""
        wanted = {term: re.compile(pattern_of(term)) for term in _terms(query)}
        found = [(_Match(*each, wanted), *each[:2]) for each in self._index]
        found = [each for each in found if each[0].there]
        weights = {
            term: log(len(self._index) / many) + 0.01
            for term in wanted
            if (many := sum(term in place.there for place, *_ in found))
        }
        hits = list[Hit]()
        for place, entry, section in found:
            score = sum(weights[term] * place.points(term) for term in place.there)
            score *= (len(place.there) / len(wanted)) ** 2 * (1 + place.share_of_heading / 2)
            score *= _OF_CODE if entry.name in self._of_code else _WEIGHTS.get(entry.kind, 1)
            hits.append(Hit((place.tier, score), entry, section, tuple(place.there)))
        hits.sort(key=lambda hit: hit.rank, reverse=True)
        shown = dict[str, int]()
        kept = list[Hit]()
        for hit in hits:
            shown[hit.entry.name] = shown.get(hit.entry.name, 0) + 1
            if shown[hit.entry.name] <= _MAX_OF_PAGE and len(kept) < MAX_HITS:
                kept.append(hit)
        return kept


MAX_QUERY: Final = 100
"""Characters of a query that are read."""
MAX_HITS: Final = 20
_MAX_OF_PAGE: Final = 3
_WEIGHTS: Final = {"internals": 0.4, "reference": 0.7}
_OF_CODE: Final = 0.5
"""Who searches wants to do something: guides come before tables, those most of all that are made of the code."""
_MAX_TERMS: Final = 12
_MAX_COUNT: Final = 3
_TERM: Final = re.compile(r"[\u3400-\u9fff]+|[^\s\u3400-\u9fff,;:!?()\"'`，。；：？！（）、]+")
_STOP_WORDS: Final = {
    "a", "already", "an", "and", "are", "can", "do", "does", "for", "how", "i", "in", "is", "it", "my", "of", "on",
    "only", "or", "the", "to", "what", "when", "where", "why", "with",
}  # fmt: skip
_CHINESE_STOP_WORDS: Final = re.compile("如何|怎么样?|怎样|会不会|为什么|是否|什么|我的|吗")
_SAID_AS: Final = {
    "taken": re.compile(r"\bin use\b"),
    "key": re.compile(r"\bapi keys?\b"),
    "create": re.compile(r"\bnew\b"),
    "authorization": re.compile(r"\btoken(?= (?:has |is )?expire)"),
}
"""The words of headings, and what people look for instead."""
_ENDING: Final = re.compile(r"(?<=[a-z]{4})(?:ed|ing)$|(?<=[a-z]{3})s$")
_SHORT: Final = 3
"""Letters up to which a word is found only whole, with or without an s: api, key, up."""


@dataclass(frozen=True)
class Hit:
    """A section that a search has found."""

    rank: tuple[int, float]
    entry: SitePage
    section: PageSection
    terms: tuple[str, ...]
    """The words of the query that it has."""


class _Match:
    """Which words of a query a section has, and where."""

    def __init__(self, entry: SitePage, section: PageSection, text: str, wanted: Mapping[str, re.Pattern[str]]) -> None:
        heading, title = section.title.lower(), f"{entry.page.title} {entry.name}".lower()
        self._in_heading = {term for term, it in wanted.items() if it.search(f"{heading} {_joined(heading)}")}
        self._in_title = {term for term, it in wanted.items() if it.search(title)}
        self._counts = {
            # most sections have not even the letters, and to see that is fast
            term: sum(1 for _ in islice(it.finditer(text), _MAX_COUNT)) if term in text else 0
            for term, it in wanted.items()
        }
        self.there = [term for term in wanted if self._counts[term] or term in self._in_heading]
        self.tier = 2 if self._in_heading == wanted.keys() else int(self._in_heading | self._in_title == wanted.keys())
        self.share_of_heading = min(1.0, sum(map(len, self._in_heading)) / max(1, len(heading)))

    def points(self, term: str) -> int:
        """What a word counts here."""
        return 6 * (term in self._in_heading) + 4 * (term in self._in_title) + self._counts[term]


def _joined(heading: str) -> str:
    """Its neighbouring words as one: who looks for "backup" finds "Back up"."""
    return " ".join(map("".join, pairwise(re.findall(r"[a-z0-9]+", heading))))


def pattern_of(term: str) -> str:
    """The words of a text that a word of a query finds, whole."""
    if "\u3400" <= term[0] <= "\u9fff":
        return re.escape(term)
    before = f"(?<![a-z0-9]{re.escape(term)})" if term[0].isalnum() else ""
    end = "s?(?![a-z0-9])" if len(term) <= _SHORT else "[a-z0-9]*"
    return re.escape(term) + before + end  # it begins with plain letters, which is what makes it fast


def _terms(query: str) -> list[str]:
    """The words of a query; Chinese, which has no spaces, as the whole and as its pairs of characters."""
    asked = query[:MAX_QUERY].lower()
    for said, phrase in _SAID_AS.items():
        asked = phrase.sub(said, asked)
    words = [word for word in _TERM.findall(_CHINESE_STOP_WORDS.sub(" ", asked)) if word not in _STOP_WORDS]
    found: list[str] = []
    for word in words or _TERM.findall(asked):
        if "\u3400" <= word[0] <= "\u9fff":
            found += [word, *(word[at : at + 2] for at in range(len(word) - 1))]
        else:
            found.append(_ENDING.sub("", word))
    return list(dict.fromkeys(found))[:_MAX_TERMS]
