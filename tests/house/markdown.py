"""Markdown as the tests of the papers read it: headings, blocks of code, links and commands."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FENCE: Final = re.compile(r"^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING: Final = re.compile(r"^(?P<marks>#+) (?P<text>.+)$", re.MULTILINE)
_LINK: Final = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_SPAN: Final = re.compile(r"(?<!`)`(?P<code>[^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A block of code."""

    language: str
    body: str

    @property
    def bare(self) -> str:
        """The body without comments, which are words and may be in any language."""
        lines = (re.sub(r"\s+#.*$|^#.*$", "", line) for line in self.body.splitlines())
        return "\n".join(line for line in lines if line.strip())


def spans(text: str) -> list[str]:
    """What stands between single backticks."""
    return [found["code"] for found in _SPAN.finditer(text)]


class Paper:
    """One file of Markdown."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text("utf-8")
        self.prose = _FENCE.sub("", self.text)

    @property
    def blocks(self) -> list[Block]:
        """Its blocks of code, in order."""
        return [Block(found["language"], found["body"]) for found in _FENCE.finditer(self.text)]

    @property
    def headings(self) -> list[tuple[int, str]]:
        """Level and text of its headings."""
        return [(len(found["marks"]), found["text"]) for found in _HEADING.finditer(self.prose)]

    @property
    def anchors(self) -> set[str]:
        """What a link may name after a #, as GitHub makes it of the headings."""
        return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for _, text in self.headings}

    @property
    def links(self) -> list[str]:
        """Where its links go."""
        return [found["target"] for found in _LINK.finditer(self.prose)]

    @property
    def sections(self) -> list[tuple[str, str]]:
        """Its headings, each with the prose and the tables below it."""
        parts = _HEADING.split(self.prose)
        return list(zip(parts[2::3], parts[3::3], strict=True))

    @property
    def spans(self) -> list[str]:
        """What stands between single backticks."""
        return spans(self.prose)

    def commands(self, program: str) -> Iterator[list[str]]:
        """The words after `program`, wherever it is called: in blocks of bash and between backticks."""
        shell = (line for block in self.blocks if block.language == "bash" for line in block.bare.splitlines())
        for line in (*shell, *self.spans):
            if re.match(rf"(?:\w+=\S* )*(?:\.venv/bin/)?{program}(?: |$)", line):
                words = shlex.split(line)
                start = next(i for i, word in enumerate(words) if Path(word).name == program)
                yield words[start + 1 :]
