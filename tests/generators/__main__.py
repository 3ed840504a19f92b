"""`python -m tests.generators`: makes three clients of a daemon's openapi.json, and posts a job with each of them.

It needs node, npm and a network (npm's and Python's package indexes); what it downloads lies in .cache/generators.
"""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp

from mailerd.config import DatabaseSettings
from mailerd.events.process import StoreEvents
from mailerd.sandbox.google import FakeGoogle, FakeLimits, serve
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import migrate
from mailerd.store.write.api_keys import ApiKeys
from tests.support.daemon import running, settings, sign_in
from tests.support.heard import Heard
from tests.support.rows import query

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
CACHE: Final = ROOT / ".cache"
PLACE: Final = CACHE / "generators"
WITHIN: Final = 300.0
"""Seconds for one program."""
POSTED: Final = (
    "ada@example.com", "django@example.org", "fetch@example.org", "flask@example.org", "hey@example.org",
    "me@example.com", "one@example.org", "python@example.org", "typescript@example.org",
)  # fmt: skip
"""The recipient of the job of each client and example."""


async def run(*words: str | Path, environment: dict[str, str] | None = None) -> None:
    """Run a program to its end; it must go well."""
    print("$", *words, flush=True)  # noqa: T201 - a person reads this
    process = await asyncio.create_subprocess_exec(*words, cwd=PLACE, env={**os.environ, **(environment or {})})
    if await asyncio.wait_for(process.wait(), WITHIN):
        sys.exit(f"{words[0]} ended with {process.returncode}")


@asynccontextmanager
async def daemon() -> AsyncIterator[tuple[str, str, Database]]:
    """A daemon in front of a stand-in for Google: its address, a key, and its database."""
    google = FakeGoogle(FakeLimits(units_per_minute=0, project_units_per_minute=0, per_day=0))
    heard, events = Heard(), StoreEvents(Heard())
    with Server(cache=CACHE) as server, tempfile.TemporaryDirectory() as folder:
        credentials = Path(folder) / "credentials"
        sign_in(google, credentials)
        url = server.url_of("mailerd")
        database = Database(DatabaseSettings(url=url), events=events)
        await migrate(database, events=events)
        async with serve(google) as served, running(settings(url, served, credentials), heard):
            where = (await heard.wait_for("intake_listening"))["where"]
            yield where, await ApiKeys(database, timeout=10).create("generators"), database
        await database.close()


async def install() -> None:
    """The generators themselves, with the versions that stand here."""
    PLACE.mkdir(parents=True, exist_ok=True)
    for file in (
        *HERE.glob("*.ts"),
        *HERE.glob("*.json"),
        *HERE.glob("*.yml"),
        *HERE.glob("*.txt"),
        *HERE.glob("with_*.py"),
    ):
        shutil.copy(file, PLACE / file.name)
    shutil.copytree(ROOT / "examples" / "typescript", PLACE / "typescript", dirs_exist_ok=True)
    await run("npm", "install", "--no-audit", "--no-fund", "--silent")
    if not (PLACE / "python").exists():
        await run(sys.executable, "-m", "venv", "python")
    quiet = ("--quiet", "--disable-pip-version-check")
    await run("python/bin/pip", "install", *quiet, "-r", "requirements.txt", str(ROOT))


async def main() -> None:
    """Make the clients, check their types, and post."""
    await install()
    async with daemon() as (url, key, database):
        async with aiohttp.ClientSession() as client, client.get(f"{url}/openapi.json") as answer:
            (PLACE / "openapi.json").write_text(await answer.text(), "utf-8")
        await run("npx", "openapi-typescript", "openapi.json", "-o", "schema.ts")
        shutil.copy(PLACE / "schema.ts", PLACE / "typescript" / "schema.ts")
        await run("npx", "openapi-ts", "-i", "openapi.json", "-o", "hey")
        await run("npx", "tsc", "-p", ".")
        await run("npx", "tsc", "-p", "typescript")
        options = ("--config", "python_client.yml", "--meta", "none", "--overwrite", "--fail-on-warning")
        where = ("--path", "openapi.json", "--output-path", "mailerd_client")
        await run("python/bin/openapi-python-client", "generate", *where, *options)
        known = {"MAILERD_URL": url, "MAILERD_API_KEY": key, "PYTHONPATH": "."}
        await run("npx", "tsx", "with_client.ts", environment=known)
        await run("npx", "tsx", "typescript/order.ts", environment=known)
        await run("npx", "tsx", "with_fetch.ts", environment=known)
        await run("npx", "tsx", "with_hey_api.ts", environment=known)
        await run("python/bin/python", "with_python_client.py", environment=known)
        known["PYTHONPATH"] = str(ROOT / "examples")
        await run("python/bin/python", "with_flask.py", environment=known)
        await run("python/bin/python", "with_django.py", environment=known)
        rows = await query(database, "SELECT to_email FROM job_recipients ORDER BY to_email")
    if (found := tuple(email for (email,) in rows)) != POSTED:
        sys.exit(f"the jobs of {found} are there, and not those of {POSTED}")
    print("each client was made, its types fit, and it posted; so did those of TypeScript, Flask and Django")  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main())
