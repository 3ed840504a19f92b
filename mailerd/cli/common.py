"""What the commands share: the option --config, and how a command gets its settings, its voice and
its loop.
"""

import asyncio
import getpass
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final, override

import typer

from mailerd.cli.failure import configuration_taken
from mailerd.cli.output import echo
from mailerd.config import CONFIG, LogSettings, Settings, found, load
from mailerd.config.discovery import Found
from mailerd.core.i18n import joined, t
from mailerd.errors import DatabaseAwayError, DatabaseError, MailerdError
from mailerd.events.base import Event, EventSink
from mailerd.events.process import StoreEvents
from mailerd.locale import speak
from mailerd.ops.log import Log
from mailerd.store.db import error_codes
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import check
from mailerd.store.db.writer import NoWriterError

CONNECT_TIMEOUT: Final = 4.0
"""Seconds that a command waits for a database that does not answer."""
PATIENCE: Final = 10.0
"""Seconds that a command waits for the rows of a job."""

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar=CONFIG,
        help="The TOML file. Default: the first of ./mailerd.toml, the running sandbox's, ~/.config and /etc/mailerd.",
    ),
]


class UnknownError(MailerdError):
    """There is nothing of this name."""


def settings(config: Path | None) -> Settings:
    """The settings.

    Raises:
        ConfigurationError: they cannot be used.
    """
    return configured(config)[0]


def configured(config: Path | None) -> tuple[Settings, Found]:
    """The settings and the file that they come from; that it is the sandbox's is said on stderr.

    Raises:
        ConfigurationError: they cannot be used.
    """
    file = found(config)
    if file.sandbox:
        echo(t("using the sandbox's configuration"), err=True)
    else:  # that is said already
        configuration_taken(file)
    if file.beside_sandbox:
        echo(t("using ./mailerd.toml, not the sandbox that is running here"), err=True)
    known = load(file.path, named=file.named)
    if "language" in known.log.model_fields_set:
        speak(known.log.language)
    return known, file


class _WithoutStacks(Log):
    """Leaves out what the command itself says when it ends with the trouble."""

    @override
    def write(self, event: Event, fields: Mapping[str, object], /) -> None:
        """Write one event without its stack."""
        if event.name not in _TOLD_AT_THE_END:
            super().write(event, {name: value for name, value in fields.items() if name != "error"})


_TOLD_AT_THE_END: Final = frozenset({"database_unreachable", "database_unavailable"})


def warnings_only(settings: Settings, *, log: LogSettings | None = None) -> Log:
    """A voice for commands, with stacks at level debug; `log` None: warnings and worse only, as
    text on stderr.
    """
    debug = settings.log.level == "debug"
    kind = Log if debug else _WithoutStacks
    return kind(
        log or LogSettings(level="warning", format="text", language=settings.log.language),
        all_stacks=debug,
    )


def no_log(event: Event, fields: Mapping[str, object], /) -> None:
    """Say nothing."""


def json_object(option: str, text: str) -> dict[str, Any]:
    """What an option says in JSON.

    Raises:
        MailerdError: it is not JSON, or no object.
    """
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise MailerdError(
            t("{option} is not valid JSON: {error}", option=option, error=str(error))
        ) from error
    if not isinstance(found, dict):
        raise MailerdError(
            t('{option} must be an object such as {{"product": "tea"}}', option=option)
        )
    return found


def run_async[T](work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, on uvloop where there is one."""
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.run(work)
    return asyncio.run(work, loop_factory=new_event_loop)


def with_database[T](settings: Settings, work: Callable[[Database], Awaitable[T]]) -> T:
    """Do one thing with the database; see `open_database`."""

    async def run() -> T:
        async with open_database(settings) as database:
            return await work(database)

    return run_async(run())


def user_name() -> str:
    """Who runs this command."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # the latter before Python 3.13
        return "unknown user"


def asked_by() -> str:
    """Who runs this command, as the log of actions names it."""
    return f"command, {user_name()}"


def _impatient(settings: Settings) -> Settings:
    """One attempt of a few seconds: the person at the terminal can ask again."""
    bound = min(CONNECT_TIMEOUT, settings.database.connect_timeout)
    database = settings.database.model_copy(
        update={"connect_timeout": bound, "connect_attempts": 1}
    )
    return settings.model_copy(update={"database": database})


@asynccontextmanager
async def open_database(
    settings: Settings, sink: EventSink | None = None
) -> AsyncIterator[Database]:
    """The database alone, for commands, with the schema that they need.

    `sink` None: warnings go to stderr.

    Raises:
        SchemaError: it is older or newer.
        MailerdError: it cannot be reached.
    """
    async with connect(_impatient(settings), sink or warnings_only(settings).write) as database:
        await check(database)
        yield database


@asynccontextmanager
async def connect(settings: Settings, sink: EventSink) -> AsyncIterator[Database]:
    """The database, whatever is in it.

    Raises:
        MailerdError: it cannot be reached, or it is not known whether it did what was asked.
    """
    database = Database(settings.database, events=StoreEvents(sink))
    try:
        await database.open()
        yield database
    except DatabaseError as error:
        if error.in_doubt:
            raise MailerdError(
                t(
                    "{error}. The change may have been made; check before you repeat it",
                    error=str(error),
                )
            ) from error
        if not isinstance(error, DatabaseAwayError):
            raise
        if said := error_codes.no_writes(error.errno):
            raise MailerdError(
                t("database {where}: {why}", where=database.where, why=said)
            ) from error
        cause, where = error.__cause__ or error, database.where
        why, remedy = error_codes.words(cause), error_codes.remedy(error.errno, cause, where)
        if isinstance(cause, NoWriterError):
            raise MailerdError(joined([why, remedy])) from error
        if not error_codes.refused(error.errno):
            why = why or t("no response within the time-out")
            raise MailerdError(
                t(
                    "database {where} unavailable: {why}; {remedy}",
                    where=where,
                    why=why,
                    remedy=remedy,
                )
            ) from error
        if error_codes.from_server(error.errno):
            raise MailerdError(
                t(
                    "database {where} rejects the login: {why}; {remedy}",
                    where=where,
                    why=why,
                    remedy=remedy,
                )
            ) from error
        raise MailerdError(
            t(
                "database {where} cannot be used: {why}; {remedy}",
                where=where,
                why=why,
                remedy=remedy,
            )
        ) from error
    finally:
        await database.close()
