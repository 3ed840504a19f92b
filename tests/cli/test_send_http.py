"""`mailerd send --url`: a table goes to a daemon over HTTP, once, without its configuration or its database."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.client.conftest import Place, place

__all__ = ["place"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "people.csv").write_text("email,name,product\nada@example.org,Ada,tea\nbob@example.org,Bob,tea\n")
    (tmp_path / "twice.csv").write_text("email,name,product\nada@example.org,A,tea\nADA@example.org,A,tea\n")
    return tmp_path / "people.csv"


async def send(place: Place, table: Path, *words: str, code: int = 0, **variables: str) -> str:
    known = {name: value for name, value in os.environ.items() if not name.startswith(("MAILERD_", "DATABASE_"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mailerd", "send", table.name, "--sender", "me@example.com", "--url", place.url, *words,
        cwd=table.parent, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**known, "PYTHONPATH": str(Path(__file__).parents[2]), **variables},
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == code, out.decode()
    return out.decode()


async def test_a_table_is_posted_once_and_watched_to_its_end(place: Place, table: Path) -> None:
    words = ("--template", "welcome")
    said = await send(place, table, *words, MAILERD_API_KEY=place.key)
    assert "2 letters from me@example.com" in said
    assert "completed, 2 sent" in said
    assert place.key not in said
    said = await send(place, table, *words, MAILERD_API_KEY=place.key, code=1)
    assert "this very job was posted before as" in said
    assert await place.jobs() == 1
    await send(place, table, *words, "--again", "--no-wait", "--key", place.key)
    assert await place.jobs() == 2


async def test_a_dry_run_and_a_mistake_name_the_line(place: Place, table: Path) -> None:
    words = ("--template", "welcome", "--key", place.key)
    assert "2 letters of 2 can be sent" in await send(place, table, *words, "--dry-run")
    table = table.with_name("twice.csv")
    said = await send(place, table, *words, "--dry-run", code=1)
    assert "bad: twice.csv line 3: ADA@example.org: duplicate" in said
    assert "0 letters of 2 can be sent" in said
    assert "twice.csv line 3, email: duplicate of" in await send(place, table, *words, code=1)
    said = await send(place, table, *words, "--skip-invalid", code=1)
    assert "left out: twice.csv line 3" in said
    assert "1 sent, 1 failed" in said


@pytest.mark.parametrize(
    "words, told",
    [
        (("--template", "welcome"), "--url needs a key: export MAILERD_API_KEY"),
        (("--template", "./welcome", "--key", "k"), "give its name, not a path"),
        (("--template", "welcome", "--key", "sk_live_x"), "unauthorized"),
        (("--template", "welcome", "--key", "k", "--url", "nowhere"), "no address of mailerd"),
    ],
)
async def test_what_is_missing_is_told(place: Place, table: Path, words: tuple[str, ...], told: str) -> None:
    said = await send(place, table, *words, code=1)
    assert told in said
    assert "Traceback" not in said
