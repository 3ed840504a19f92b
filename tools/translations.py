"""Tells which sections of the Chinese pages are behind the English ones; `make translations` calls it.

Each section of a Chinese page carries `<!-- en 3f9a2c -->` below its heading: the digest of the English section that it
was written from. It shows, for each section that is behind, what has changed in the English since.
`renew` writes the digests of today's English. Both take the names of pages; without them, all are meant.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHINESE = ".zh-CN.md"
_HEADING = re.compile(r"^#+ .+$")
_FENCE = re.compile(r"^ *```")
_MARK = re.compile(r"^<!-- en ([0-9a-f]{6}) -->$")
_MOST_COMMITS = 300
"""How far back the English of a section is looked for."""


@dataclass(frozen=True)
class Part:
    """A heading and what is below it, up to the next one; the first may have no heading."""

    lines: tuple[str, ...]

    @property
    def heading(self) -> str:
        return self.lines[0] if self.lines and _HEADING.match(self.lines[0]) else ""

    @property
    def mark(self) -> str:
        """The digest that it carries; "" for none."""
        return next((found[1] for line in self.lines if (found := _MARK.match(line))), "")

    @property
    def digest(self) -> str:
        """Of its words: neither how lines are broken nor blocks of code count, which are the same in both languages."""
        words, is_code = list[str](), False
        for line in self.lines:
            is_code ^= bool(_FENCE.match(line))
            if not (is_code or _FENCE.match(line) or line.startswith("<!--")):
                words += line.split()
        return sha256(" ".join(words).encode()).hexdigest()[:6]


def parts(text: str) -> list[Part]:
    """The sections of a page."""
    found, is_code = [list[str]()], False
    for line in text.splitlines():
        is_code ^= bool(_FENCE.match(line))
        if _HEADING.match(line) and not is_code:
            found.append([])
        found[-1].append(line)
    return [Part(tuple(lines)) for lines in found if any(lines)]


def pages() -> list[Path]:
    """The Chinese pages."""
    return [ROOT / f"README{CHINESE}", *sorted((ROOT / "docs").rglob(f"*{CHINESE}"))]


def english_of(page: Path) -> Path:
    """The page that it is the Chinese of."""
    return page.with_name(page.name.removesuffix(CHINESE) + ".md")


def is_marked(page: Path) -> bool:
    """Whether it carries digests."""
    return any(part.mark for part in parts(page.read_text("utf-8")))


def pairs(page: Path) -> list[tuple[Part, Part]]:
    """Each section with its English one; they have the same order.

    Raises:
        SystemExit: one of the pages has more sections.
    """
    ours, theirs = parts(page.read_text("utf-8")), parts(english_of(page).read_text("utf-8"))
    if len(ours) != len(theirs):
        raise SystemExit(
            f"{page.relative_to(ROOT)}: {len(ours)} sections, and {len(theirs)} in English"
        )
    return list(zip(ours, theirs, strict=True))


def behind(page: Path) -> list[tuple[Part, Part]]:
    """The sections that were written from another English, or that do not say from which."""
    return [
        (chinese, english) for chinese, english in pairs(page) if chinese.mark != english.digest
    ]


def renewed(page: Path) -> str:
    """The page with the digests of today's English."""
    made = list[str]()
    for chinese, english in pairs(page):
        lines = [line for line in chinese.lines if not _MARK.match(line)]
        place = 1 if chinese.heading else 0
        made += [*lines[:place], f"<!-- en {english.digest} -->", *lines[place:]]
    return "\n".join(made) + "\n"


def _versions(page: Path) -> Iterator[str]:
    """The page as it was, the newest first, under its earlier names too."""
    git = ("git", "-C", str(ROOT))
    options = (
        "log",
        "--follow",
        "--format=",
        "--raw",
        "--no-abbrev",
        f"-n{_MOST_COMMITS}",
        "--",
        str(page),
    )
    log = subprocess.run([*git, *options], capture_output=True, text=True, check=True).stdout
    for line in log.splitlines():  # :100644 100644 OLD NEW M	path
        blob = line.split()[3]
        if blob.strip("0"):
            yield subprocess.run(
                [*git, "cat-file", "blob", blob], capture_output=True, text=True, check=True
            ).stdout


def _written_from(page: Path, mark: str) -> Part | None:
    versions = _versions(page) if mark else ()
    return next((part for text in versions for part in parts(text) if part.digest == mark), None)


def shown(page: Path) -> Iterator[str]:
    """What has changed in the English of each section that is behind."""
    english = english_of(page)
    for ours, now in behind(page):
        yield f"\n{page.relative_to(ROOT)}: {ours.heading or '(beginning)'}"
        was = _written_from(english, ours.mark)
        if was is None:
            yield f"  its English ({ours.mark or 'no digest'}) is not in the history; today's digest: {now.digest}"
        else:
            yield from list(unified_diff(was.lines, now.lines, lineterm="", n=1))[2:]


def main(*arguments: str) -> None:
    """Show what is behind, or renew the digests."""
    named = [ROOT / name for name in arguments if name != "renew"]
    for page in named or pages():
        if "renew" in arguments:
            page.write_text(renewed(page), "utf-8")
        elif is_marked(page):
            sys.stdout.writelines(f"{line}\n" for line in shown(page))
        else:
            name = page.relative_to(ROOT)
            sys.stdout.write(
                f"{name}: no digests; RENEW=1 writes them once it says what the English says\n"
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
