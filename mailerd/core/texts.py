"""Texts in English and Chinese: a pair of templates, and the catalogue by which an English sentence is read in Chinese.

The code is written in English, rows keep English, and an English sentence is the key: a catalogue knows the templates
of all sentences, finds the one that a sentence was made from, and fills its fields into the Chinese one. So what was
stored a year ago can be read in either language, and no call needs to hand a language down.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from string import Formatter
from typing import Final

from mailerd.core.i18n import Language
from mailerd.core.quantities import to_chinese

_SEPARATORS: Final = {"\n": "\n", "; ": "；", ". ": "。", ", ": "，"}
"""What joins sentences that are made one by one, and what joins them in Chinese."""
_MAX_PARTS: Final = 8
"""The most sentences of one text that are translated one by one; a longer text is a quotation."""
_DAYS: Final = {
    day: f"周{name}"
    for day, name in zip(
        ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"), "一二三四五六日", strict=True
    )
}
_DAY: Final = re.compile("|".join(_DAYS))
_KINDS: Final = {
    "span": re.compile(r"[\d.]+ (?:d|h|min|s|ms)(?: \d+ (?:h|min|s))?"),
    "time": re.compile("[^;,]*"),
    "name": re.compile(r"\S+"),
    "phrase": re.compile("[^;,]*"),
    "number": re.compile(r"[\d,.:]+"),
    "line": re.compile(".*"),
}
"""What a field looks like whose kind says more than "any text"."""
_NO_SPACE: Final = re.compile(
    r" +(?=[，。；：、（）？！])|(?<=[，。；：、（）？！]) +(?=[\u4e00-\u9fff])"
    r"|(?<=[\u4e00-\u9fff]) (?=[\u4e00-\u9fff])"
)


@dataclass(frozen=True)
class TextPair:
    """One sentence in both languages, as templates over the same fields."""

    en: str
    zh: str

    @cached_property
    def _pieces(self) -> tuple[str, tuple[tuple[str, str, str], ...]]:
        """What the English begins with, and each field with its kind and what stands behind it."""
        kinds = {name: kind or "" for _, name, kind, _ in Formatter().parse(self.zh) if name}
        begin, found = "", list[tuple[str, str, str]]()
        for literal, name, _, _ in Formatter().parse(self.en):
            if found:
                last, kind, behind = found[-1]
                found[-1] = (last, kind, behind + literal)
            else:
                begin += literal
            if name:
                found.append((name, kinds.get(name, ""), ""))
        return begin, tuple(found)

    @property
    def literal(self) -> str:
        """The English without its fields: the more of it there is, the more surely a sentence is this one."""
        return "".join(literal for literal, _, _, _ in Formatter().parse(self.en))

    @property
    def longest_literal(self) -> str:
        """The longest piece of the English between two fields, which stands in every such sentence."""
        return max((literal for literal, _, _, _ in Formatter().parse(self.en)), key=len)

    @property
    def first_word(self) -> str:
        """The word that every such sentence begins with; "" where it begins with a field."""
        literal = next(iter(Formatter().parse(self.en)))[0]
        word, space, _ = literal.partition(" ")
        return word if space or literal == self.en else ""

    def fields_in(self, sentence: str) -> Mapping[str, str] | None:
        """The fields of an English sentence; None where it was not made from this template.

        Each field ends where what stands behind it comes first: without a second try, so that a text of a stranger
        costs a time that grows with its length and no faster.
        """
        begin, fields = self._pieces
        if not sentence.startswith(begin):
            return None
        found, at = dict[str, str](), len(begin)
        for number, (name, kind, behind) in enumerate(fields, 1):
            if number < len(fields):
                end = sentence.find(behind, at)
            else:
                end = len(sentence) - len(behind) if sentence.endswith(behind) else -1
            if end < at or (kind in _KINDS and not _KINDS[kind].fullmatch(sentence[at:end])):
                return None
            found[name] = sentence[at:end]
            at = end + len(behind)
        return found if at == len(sentence) else None


class Catalogue:
    """All texts of a program: reads English sentences in Chinese.

    A field of the Chinese template says what its value is: `{why:text}` is a sentence of the catalogue itself,
    `{why:line}` one of a single line, `{wait:span}` a duration, `{at:time}` a moment, `{n:number}` a number or a time
    of day, `{who:name}` has no spaces, `{part:phrase}` neither semicolon nor comma, and all others stay as they are.
    """

    def __init__(self, *tables: Mapping[str, str]) -> None:
        self.texts: Final = [TextPair(en, zh) for table in tables for en, zh in table.items()]
        self._fixed = {text.en: text.zh for text in self.texts if text.literal == text.en}
        self._by_first_word: dict[str, list[tuple[str, TextPair]]] = {}
        for text in sorted(self.texts, key=lambda text: len(text.literal), reverse=True):
            self._by_first_word.setdefault(text.first_word, []).append((text.longest_literal, text))

    def chinese(self, english: str) -> str:
        """A text in Chinese: one sentence, or several that are joined; what is not known stays as it is."""
        found = self._find(english)
        return self._ended(english, found) or self._say(found) or self._joined(english) or english

    def _ended(self, text: str, found: tuple[TextPair, Mapping[str, str]] | None) -> str | None:
        """The Chinese of a known sentence that a fixed one follows: "; nothing was stored"."""
        before, separator, last = text.rpartition("; ")
        ending = self._fixed.get(last) if separator else None
        if ending is None or (found and found[0].en.endswith(last)):
            return None
        said = self.chinese(before)
        return f"{said}；{ending}" if said != before else None

    def _find(self, sentence: str) -> tuple[TextPair, Mapping[str, str]] | None:
        """The text that a sentence was made from, and its fields."""
        word = sentence.partition(" ")[0]
        for literal, text in (*self._by_first_word.get(word, ()), *self._by_first_word.get("", ())):
            if literal in sentence and (fields := text.fields_in(sentence)) is not None:
                return text, fields
        return None

    def _say(self, found: tuple[TextPair, Mapping[str, str]] | None) -> str | None:
        return _spaced("".join(self._filled(found[0].zh, found[1]))) if found else None

    def _filled(self, template: str, fields: Mapping[str, str]) -> list[str]:
        found = []
        for literal, name, kind, _ in Formatter().parse(template):
            found.append(literal)
            value = fields[name] if name else ""
            match kind:
                case "text" | "line":
                    found.append(self.chinese(value))
                case "span":
                    found.append(to_chinese(value))
                case "time":
                    found.append(_DAY.sub(lambda day: _DAYS[day[0]], value))
                case _:
                    found.append(value)
        return found

    def _joined(self, text: str) -> str | None:
        """The Chinese of sentences that stand one after the other, where every one of them is known."""
        for separator, chinese in _SEPARATORS.items():
            parts = text.split(separator)
            if 1 < len(parts) <= _MAX_PARTS and (found := self._parts(parts, separator)):
                return chinese.join(found)
        return None

    def _parts(self, parts: list[str], separator: str) -> list[str] | None:
        """The longest known sentences from the left."""
        found, at = [], 0
        while at < len(parts):
            for end in range(len(parts), at, -1):
                if at or end < len(parts):
                    sentence = separator.join(parts[at:end])
                    said = sentence if not sentence.strip() else self._say(self._find(sentence))
                    if said is not None:
                        found.append(said)
                        at = end
                        break
            else:
                return None
        return found


def _spaced(text: str) -> str:
    """Chinese without the spaces that stood beside an English word where Chinese has come in its place."""
    return _NO_SPACE.sub("", text)


def accepted_language(header: str, *, otherwise: Language = "en") -> Language:
    """The language that a header Accept-Language asks for; `otherwise` where it asks for neither (RFC 9110, 12.5.4)."""
    best, weight = str(otherwise), 0.0
    for each in header.split(","):
        tag, _, parameters = each.partition(";")
        name = tag.strip().lower().partition("-")[0]
        found = re.fullmatch(r"\s*q=([01](?:\.\d{0,3})?)\s*", parameters)
        asked = float(found[1]) if found else 0.0 if parameters.strip() else 1.0
        if name in {"zh", "en"} and asked > weight:
            best, weight = name, asked
    return "zh" if best == "zh" else "en"
