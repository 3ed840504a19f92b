"""docs/how-to/troubleshooting.md shows what comes out: each fault is provoked, and the page's lines are looked for."""

import asyncio
import re
from pathlib import Path
from typing import Final

import pytest

from mailerd.sandbox.google import FakeGoogle, FakeLimits, serve
from mailerd.sandbox.mariadb import Server
from tests.conftest import CACHE
from tests.house.markdown import Paper
from tests.house.source import ROOT
from tests.support.daemon import sign_in
from tests.support.faults import NO_ROOM, WITHIN, Faults, Told, missing_in

PAGE: Final = Paper(ROOT / "docs/how-to/troubleshooting.md")
_BEFORE: Final = re.compile(r"^\w{3} \d\d [\d:]{8} mail mailerd\[\d+\]:")
_YOURS: Final = re.compile(
    r"(?P<any>…)|(?P<id>\b01[0-9A-Z]{24}\b)|(?P<path>/etc/mailerd(?:/credentials)?)|(?P<host>db\.example\.com)"
    r"|(?P<number>\d[\d.,:]*)"
)
_STANDS_FOR: Final = {
    "any": ".*", "id": "[0-9A-HJKMNP-TV-Z]{26}", "path": r"/\S+", "host": r"\S+", "number": r"\d[\d.,:]*"
}  # fmt: skip


def as_pattern(line: str) -> re.Pattern[str]:
    """What a line of the page stands for: the words as they are; numbers, ids and paths are everybody's own."""
    pattern, end = "", 0
    bare = _BEFORE.sub("", line).strip()
    for found in _YOURS.finditer(bare):
        pattern += re.escape(bare[end : found.start()]) + _STANDS_FOR[found.lastgroup or ""]
        end = found.end()
    return re.compile(pattern + re.escape(bare[end:]))


NIGHT: Final = "At three in the morning"
"""The first section: no fault, but the table that leads to them."""


def sections() -> dict[str, list[re.Pattern[str]]]:
    """By heading, the lines that the journal is said to show."""
    found = {}
    for heading, _, body in (part.partition("\n") for part in PAGE.text.split("\n## ")[1:]):
        if heading == NIGHT:
            continue
        blocks = re.findall(r"^```text\n(.*?)^```$", body, re.MULTILINE | re.DOTALL)
        found[heading] = [as_pattern(line) for block in blocks for line in block.splitlines()]
    return found


FAULTS: Final = sections()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    """All faults at once, each with a daemon of its own: what was said of each."""
    return asyncio.run(_provoke(tmp_path_factory.mktemp("faults")))


async def _provoke(folder: Path) -> dict[str, Told]:
    google = FakeGoogle(FakeLimits(units_per_minute=0, project_units_per_minute=0, per_day=0))
    sign_in(google, folder / "credentials")
    with Server(cache=CACHE) as server, Server(cache=CACHE, extra=NO_ROOM) as full:
        async with serve(google) as running:
            faults = Faults(folder, server, full, running, FAULTS)
            await faults.provoke_all()
            return faults.told


@pytest.mark.parametrize("heading", FAULTS)
def test_the_journal_names_the_cause_within_a_minute_in_the_words_of_the_page(
    told: dict[str, Told], heading: str
) -> None:
    assert FAULTS[heading], "the page shows no line"
    assert told[heading].missing == [], told[heading].log[-3000:]
    assert told[heading].seconds < WITHIN


def test_the_page_begins_with_the_table_of_the_night_and_it_leads_to_the_faults_that_all_mail_waits_for() -> None:
    (table,) = (body for heading, body in PAGE.sections if heading == NIGHT)
    assert PAGE.headings[1] == (2, NIGHT)
    assert len(re.findall(r"^\| (?:red|amber|blue|green)", table, re.MULTILINE)) >= 10
    linked = re.findall(r"\(#([^)]+)\)", table)
    stops = [each for each in FAULTS if re.search("database is|database does|password|revoked|port|Google", each)]
    assert [each for each in stops if re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") not in linked] == []


def test_every_fault_that_is_provoked_is_on_the_page(told: dict[str, Told]) -> None:
    assert set(told) == set(FAULTS)
    assert len(FAULTS) >= 10


def test_a_line_that_nobody_says_is_missed() -> None:
    log = "sender me@example.com paused for 60 s (token_refused): why\nnext"
    shown = [
        "Nov 24 03:12:07 mail mailerd[812]: sender me@example.com paused for 9 s (token_refused): why",
        "next",
    ]
    assert missing_in(log, [as_pattern(line) for line in shown]) == []
    assert missing_in(log, [as_pattern(line) for line in reversed(shown)])
    assert missing_in(log, [as_pattern(shown[0].replace("why", "because"))])
