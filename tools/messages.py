"""Keeps the catalogues of texts in step with the code; `make messages` calls it.

`update` reads the templates out of the code, writes them to each .po and keeps what is translated; `compile` makes of
each .po that has changed the .mo that gettext reads.
"""

import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mailerd"
CALLS = {"t": None, "tn": (1, 2), "tc": ((1, "c"), 2), "N_": None}
METHODS = [("**.py", "python"), ("web/pages/**.html", "jinja2"), ("**/pages/**.html", "jinja2")]


def in_code() -> Catalog:
    """All templates of the code, without a translation."""
    from mailerd.cli import app, lazy_group  # noqa: PLC0415 - to compile a catalogue needs no commands
    from mailerd.config.example import comments  # noqa: PLC0415
    from mailerd.intake.openapi import templates  # noqa: PLC0415

    found = Catalog(locale="zh_CN", fuzzy=False)
    for _, _, message, _, context in extract_from_dir(str(PACKAGE), METHODS, keywords=CALLS):
        found.add(message, context=context)
    for template in chain(lazy_group.helps(app), comments(), templates()):
        found.add(template)
    return found


def catalogues() -> Iterator[Path]:
    """The .po of each language."""
    yield from sorted((PACKAGE / "locale").rglob("*.po"))


def read(path: Path) -> Catalog:
    """What is translated."""
    with path.open("rb") as source:
        return read_po(source, locale=path.parts[-3])


def updated(path: Path) -> Catalog:
    """The catalogue with the templates of the code, all of them and no others."""
    was, now = read(path), in_code()
    for message in now:
        known = was.get(message.id[0] if message.pluralizable else message.id, message.context)
        if known:
            message.string = known.string
    return now


HEADER = """\
# What mailerd says, in another language than the English of its code. `make messages` keeps it in step.
msgid ""
msgstr ""
"Language: {language}\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"Plural-Forms: {plural}\\n"

"""


def write(path: Path, catalogue: Catalog) -> None:
    """One line a template, sorted and without a date, so that changes are merged line by line."""
    with path.open("wb") as target:
        target.write(
            HEADER.format(language=path.parts[-3], plural="nplurals=1; plural=0;").encode()
        )
        write_po(target, catalogue, width=0, no_location=True, omit_header=True, sort_output=True)


def compile_changed() -> None:
    """Make each .mo that is older than its .po."""
    for po in catalogues():
        mo = po.with_suffix(".mo")
        if not mo.exists() or mo.stat().st_mtime < po.stat().st_mtime:
            with mo.open("wb") as made:
                write_mo(made, read(po))


if __name__ == "__main__":
    if sys.argv[1:] == ["update"]:
        for each in catalogues():
            write(each, updated(each))
    compile_changed()
