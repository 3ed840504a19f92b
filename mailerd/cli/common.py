"""What the commands share: the option --config, and how a command gets its settings, its voice and its loop."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from mailerd.config import LogSettings, Settings, load
from mailerd.errors import MailerdError
from mailerd.events.speech import Event, Tell
from mailerd.events.store import StoreEvents
from mailerd.journal import Journal
from mailerd.store.database import Database

T = TypeVar("T")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", envvar="MAILERD_CONFIG", help="The TOML file; without it, the environment and .env."),
]


def settings(config: Path | None) -> Settings:
    """The settings.

    Raises:
        ConfigurationError: they cannot be used.
    """
    return load(config)


def quiet(settings: Settings) -> Journal:
    """A voice for commands that print their own result: warnings and worse only, on stderr."""
    return Journal(LogSettings(level="warning", format="text", language=settings.log.language))


def silent(event: Event, fields: Mapping[str, object], /) -> None:
    """Say nothing."""


def json_object(option: str, text: str) -> dict[str, Any]:
    """What an option says in JSON.

    Raises:
        MailerdError: it is not JSON, or no object.
    """
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise MailerdError(f"{option} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise MailerdError(f'{option} must be an object, such as {{"product": "tea"}}')
    return found


def in_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, on uvloop where there is one."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


@asynccontextmanager
async def opened(settings: Settings, tell: Tell) -> AsyncIterator[Database]:
    """The database alone, for commands.

    Raises:
        DatabaseAwayError: it cannot be reached.
    """
    database = Database(settings.database, events=StoreEvents(tell))
    try:
        await database.open()
        yield database
    finally:
        await database.close()
