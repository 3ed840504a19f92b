"""The pages of one language: those of docs/, those that are made from the code, their order, and
the search in them.
"""

import posixpath
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Final, NamedTuple

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
                found[
                    f"/docs/{folder.removeprefix('docs/')}/{file.relative_to(root).as_posix()}"
                ] = file
    return found


class Library:
    """Every page in the language of its reader; a page without Chinese is there in English."""

    def __init__(
        self, language: Language, commands: Commands | None, api: Mapping[str, Page]
    ) -> None:
        """`api`: the pages of the reference of the API, by their names."""
        self.language: Final = language
        folder = packaged("docs")
        self._files = {
            file.relative_to(folder).with_suffix("").as_posix(): file
            for file in folder.rglob("*.md")
        }
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
            raise MailerdError(
                t(
                    "{name} is missing from this installation; the wheel and a checkout have it",
                    name="docs/index.md",
                )
            )
        found = {name: self._entry(name, made.get(name)) for name in self._names}
        found |= {name: SitePage(name, page, language) for name, page in api.items()}
        self.entries: Final = {name: found[name] for name in self._ordered(found)}
        self._sections = [
            (entry, section) for entry in self.entries.values() for section in entry.page.sections
        ]
        self._words = _WordIndex(self._sections)
        of_code = made.keys() | api.keys()
        self._weights = [
            _OF_CODE if entry.name in of_code else _WEIGHTS.get(entry.kind, 1)
            for entry, _ in self._sections
        ]

    def _entry(self, name: str, make: Callable[[], str] | None) -> SitePage:
        chinese = self._files.get(f"{name}{_CHINESE}")
        own = bool(make or chinese) and self.language == "zh" and name not in _LIES_AT
        text = (
            make() if make else ((chinese if own else None) or self._files[name]).read_text("utf-8")
        )
        text = _OTHER_LANGUAGE.sub("", text)
        return SitePage(
            name,
            rendered(text, partial(self._link, _LIES_AT.get(name, name))),
            "zh" if own else "en",
        )

    def _ordered(self, found: Mapping[str, SitePage]) -> list[str]:
        """By kind, and within a kind as docs/index.md names them."""
        named = re.findall(r"\]\(([\w./-]+)\.md\)", self._files["index"].read_text("utf-8"))
        kinds, places = ["index", *KINDS], {name: place for place, name in enumerate(named)}
        known = sorted(
            (name for name in found if found[name].kind != "api"),
            key=lambda it: (places.get(it, 999), it),
        )
        return sorted(
            (*known, *(name for name in found if found[name].kind == "api")),
            key=lambda it: kinds.index(found[it].kind) if found[it].kind in kinds else 99,
        )

    def _link(self, page: str, target: str) -> str | None:
        """Where a link of a page of docs/ leads; to the same page in another language it leads
        without its anchor.
        """
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
        """The sections that fit a query best, at most three of a page; first those whose heading
        says all of it.
        """
        found = {term: self._words.found(term) for term in _terms(query)}
        words = frozenset(word for it in found.values() for word in it.words)
        shown = Counter[str]()
        kept = list[Hit]()
        for place in self._ranked(found):
            entry, section = self._sections[place]
            shown[entry.name] += 1
            if shown[entry.name] <= _MAX_OF_PAGE:
                first = min(
                    (it.text[place][1] for it in found.values() if place in it.text), default=None
                )
                terms = tuple(
                    term for term, it in found.items() if place in it.text or place in it.heading
                )
                kept.append(Hit(entry, section, terms, words, first))
            if len(kept) == MAX_HITS:
                break
        return kept

    def _ranked(self, found: Mapping[str, "_Places"]) -> list[int]:
        """The places of the sections that have any of the words, the best first."""
        scores, letters = defaultdict[int, float](float), Counter[int]()
        many = Counter[int]()
        for term, it in found.items():
            weight = log(len(self._sections) / max(1, len(it.text), len(it.heading))) + 0.01
            there = it.text.keys() | it.heading
            scores |= {
                place: scores[place] + weight * count for place, (count, _) in it.text.items()
            }
            for place in it.heading:
                scores[place] += weight * 7
            letters.update(dict.fromkeys(it.heading, len(term)))
            for place in it.title & there:
                scores[place] += weight * 4
            many.update(there)
        if not found:
            return []
        named = frozenset.intersection(*(frozenset(it.heading) for it in found.values()))
        led_to = frozenset.intersection(
            *(frozenset(it.heading | it.title) for it in found.values())
        )
        for place, length in letters.items():
            scores[place] *= 1 + min(1.0, length / len(self._sections[place][1].title)) / 2
        by = self._weights
        ranks = [
            ((it in named) + (it in led_to), scores[it] * n * n * by[it], -it)
            for it, n in many.items()
        ]
        return [-place for *_, place in sorted(ranks, reverse=True)]


MAX_QUERY: Final = 100
"""Characters of a query that are read."""
MAX_HITS: Final = 20
_MAX_OF_PAGE: Final = 3
_WEIGHTS: Final = {"internals": 0.4, "reference": 0.7}
_OF_CODE: Final = 0.5
"""Who searches wants to do something: guides come before tables, those most of all that are made of
the code.
"""
_MAX_TERMS: Final = 6
_MAX_COUNT: Final = 3
_FIRST_CHINESE: Final = "\u3400"
_WORD: Final = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*|[\u3400-\u9fff]+")
_PART: Final = re.compile(r"[a-z0-9]+")
_STOP_WORDS: Final = {
    "a",
    "already",
    "an",
    "and",
    "are",
    "can",
    "do",
    "does",
    "for",
    "how",
    "i",
    "in",
    "is",
    "it",
    "my",
    "of",
    "on",
    "only",
    "or",
    "the",
    "to",
    "what",
    "when",
    "where",
    "why",
    "with",
}
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
"""Characters up to which a word is found only whole, with or without an s: api, key, up."""


@dataclass(frozen=True)
class Hit:
    """A section that a search has found."""

    entry: SitePage
    section: PageSection
    terms: tuple[str, ...]
    """The words of the query that it has."""
    words: frozenset[str]
    """What they find in the documents."""
    first: int | None
    """Where the text has one of them."""

    def marked(self, text: str, before: str, after: str) -> str:
        """A part of the text with something before and after each word that was looked for."""

        def mark(found: re.Match[str]) -> str:
            word = found[0]
            if word.lower() in self.words:
                return before + word + after
            if word[0] >= _FIRST_CHINESE:
                for term in self.terms:
                    word = word.replace(term, before + term + after)
                return word
            return word if word.isalnum() else _PART.sub(mark, word)

        return _WORD.sub(mark, text)


class _Places(NamedTuple):
    """The places of the sections that have a word of a query."""

    words: list[str]
    text: dict[int, tuple[int, int]]
    """How often, and where first."""
    heading: set[int]
    title: set[int]
    """Those whose page is called so."""


class _WordIndex:
    """The words of all sections: made once, so that a search of anything costs as little as a
    page.
    """

    def __init__(self, sections: Sequence[tuple[SitePage, PageSection]]) -> None:
        self._text = defaultdict[str, dict[int, tuple[int, int]]](dict)
        self._heading, self._title = (
            defaultdict[str, set[int]](set),
            defaultdict[str, set[int]](set),
        )
        for place, (entry, section) in enumerate(sections):
            for word, at in _words(section.text):
                count, first = self._text[word].get(place, (0, at))
                self._text[word][place] = min(_MAX_COUNT, count + 1), first
            heading = section.title.lower()
            for word, _ in _words(f"{heading} {_joined(heading)}"):
                self._heading[word].add(place)
            for word, _ in _words(f"{entry.page.title} {entry.name}"):
                self._title[word].add(place)
        known = self._text.keys() | self._heading.keys() | self._title.keys()
        self._long = sorted(word for word in known if len(word) > _SHORT)

    def found(self, term: str) -> _Places:
        """Where a word is, whole; a long one with every ending."""
        words = [term, f"{term}s"]
        if len(term) > _SHORT:
            begin, end = (
                bisect_left(self._long, term),
                bisect_left(self._long, f"{term}{_FIRST_CHINESE}"),
            )
            words = [word for word in self._long[begin:end] if word.isalnum() == term.isalnum()]
        found = _Places(words, {}, set(), set())
        for word in reversed(words):  # the plainest is the last, and counts
            found.text.update(self._text.get(word, {}))
            found.heading.update(self._heading.get(word, ()))
            found.title.update(self._title.get(word, ()))
        return found


def _words(text: str) -> Iterator[tuple[str, int]]:
    """The words of a text and where they are; a compound also by its parts, Chinese by its
    characters and pairs.
    """
    for found in _WORD.finditer(text.lower()):
        word, at = found[0], found.start()
        if word[0] >= _FIRST_CHINESE:
            yield from ((each, at + place) for place, each in enumerate(word))
            yield from ((word[place : place + 2], at + place) for place in range(len(word) - 1))
        else:
            yield word, at
            if not word.isalnum():
                yield from ((part[0], at + part.start()) for part in _PART.finditer(word))


def _joined(heading: str) -> str:
    """Its neighbouring words as one: who looks for "backup" finds "Back up"."""
    return " ".join(map("".join, pairwise(_PART.findall(heading))))


def _terms(query: str) -> list[str]:
    """The words of a query; Chinese, which has no spaces, as its pairs of characters."""
    asked = query[:MAX_QUERY].lower()
    for said, phrase in _SAID_AS.items():
        asked = phrase.sub(said, asked)
    words = [
        word
        for word in _WORD.findall(_CHINESE_STOP_WORDS.sub(" ", asked))
        if word not in _STOP_WORDS and (len(word) > 1 or word >= _FIRST_CHINESE)
    ]
    found: list[str] = []
    for word in words or _WORD.findall(asked):
        if word[0] >= _FIRST_CHINESE:
            found += [word[at : at + 2] for at in range(max(1, len(word) - 1))]
        else:
            found.append(_ENDING.sub("", word))
    return list(dict.fromkeys(found))[:_MAX_TERMS]
