"""The list of commands. The module of a command is imported when it is called or its own help is shown, not before."""

import inspect
import os
import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final, override

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from mailerd.texts import language, tr
from mailerd.texts.headings import HELP_FRAME

CONFIG: Final = "MAILERD_CONFIG"
"""It is the CONFIG of mailerd.config, which takes three times as long to import as everything that `--help` needs."""
EarlyConfigOption = Annotated[
    Path | None, typer.Option("--config", help="The TOML file, as every command takes it after its name too.")
]
"""The option --config before the name of a command."""


@dataclass(frozen=True)
class LazyCommand:
    """Where a command is, and its line in the list of commands, which is the first of its own help."""

    module: str
    name: str
    """The name of the function, or of the typer.Typer of a group."""
    help: str


COMMANDS: Final = {
    "run": LazyCommand("run", "run", "Run the daemon until SIGTERM or SIGINT."),
    "migrate": LazyCommand("maintenance", "migrate", "Bring the database's schema up to date; safe while daemons run."),
    "config": LazyCommand("config", "config", "Check the configuration; what is wrong is named, key by key."),
    "check": LazyCommand(
        "check",
        "check",
        "Examine configuration, database, daemons, mailboxes, port, disk, systemd; exit code 1 when something FAILs.",
    ),
    "auth": LazyCommand("auth", "app", "Sign mailboxes in at Google, and show which ones are."),
    "console": LazyCommand("console", "app", "The console in the browser: a link that signs in."),
    "keys": LazyCommand("keys", "app", "Make, rotate, list and revoke API keys."),
    "senders": LazyCommand("senders", "app", "See and change what each mailbox may send; pause and resume it."),
    "suppress": LazyCommand("suppress", "app", "Add, remove, list, import and export suppressions."),
    "webhooks": LazyCommand("webhooks", "app", "Endpoints that events are posted to: add, look, test, replay, remove."),
    "templates": LazyCommand("templates", "app", "Check and look at the named templates."),
    "send": LazyCommand("send", "send", "Post a job from a table and watch it; the same job is not posted twice."),
    "jobs": LazyCommand("jobs", "app", "Jobs: the list, one, or one while it is being sent."),
    "explain": LazyCommand(
        "jobs",
        "explain",
        "Tell the story of a job or a letter: what happened, why it waits, what comes next.",
    ),
    "recipients": LazyCommand(
        "bounces",
        "recipients",
        "Show one person's letters over all jobs, and what keeps letters from that person.",
    ),
    "bounces": LazyCommand(
        "bounces", "bounces", "Show the letters that came back, the newest first, with the reason of each."
    ),
    "top": LazyCommand("top", "top", "Watch senders, jobs, failures, daemons and the database; q ends it."),
    "settle": LazyCommand("maintenance", "settle", "Record what became of an unsure letter, once a person has looked."),
    "after-restore": LazyCommand(
        "maintenance",
        "after_restore",
        "Let every open letter be looked for at Google before it is sent: for a database restored from a backup.",
    ),
    "audit": LazyCommand(
        "maintenance", "audit", "Check that the counts and rows of every job agree, one line per finding."
    ),
    "sandbox": LazyCommand("sandbox", "app", "Try mailerd without Google: nothing leaves this machine."),
    "install-files": LazyCommand(
        "packaged",
        "install_files",
        "Copy the files that come with mailerd: examples, units, catalogues, alert rules, dashboard, manual page.",
    ),
    "version": LazyCommand("packaged", "version", "Print the version."),
}


class ChineseFormatter(typer.Context.formatter_class):  # type: ignore[misc,valid-type] # typer exports no name for it
    """The frame of a help page, which typer and click have in English alone."""

    @override
    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args, "用法：" if prefix is None else prefix)

    @override
    def write_heading(self, heading: str) -> None:
        self.write(f"{'':>{self.current_indent}}{HELP_FRAME.get(heading, heading)}：\n")

    @override
    def write_dl(self, rows: Any, *args: Any, **options: Any) -> None:
        super().write_dl([(name, _FRAMED.sub(_chinese, tr(text))) for name, text in rows], *args, **options)


class ChineseContext(typer.Context):
    """The context of a command that speaks Chinese."""

    formatter_class = ChineseFormatter


_FRAMED: Final = re.compile("|".join(map(re.escape, HELP_FRAME)))


def _chinese(found: re.Match[str]) -> str:
    return HELP_FRAME[found[0]]


def use_config(config: EarlyConfigOption = None) -> None:
    """Let the command to come take this file, where its own --config names no other."""
    if config is not None:
        os.environ[CONFIG] = str(config)


def load(name: str) -> Any:
    """The command, made from its module; Any, since typer does not export the types of its click."""
    place = COMMANDS[name]
    found = getattr(import_module(f"mailerd.cli.{place.module}"), place.name)
    if isinstance(found, typer.Typer):
        if found.registered_callback is None:
            found.callback()(use_config)  # `mailerd keys --config F list`
        command = get_command(found)
    else:
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command(name)(found)
        command = get_command(alone)
    command.name = name
    return _localized(command)


def _localized(command: Any) -> Any:
    """A command whose help is in the language of this process."""
    if language() == "zh":
        command.rich_markup_mode = None  # rich cuts Chinese, which has no spaces, where a line ends
        command.context_class = ChineseContext
        command.options_metavar, command.subcommand_metavar = "[选项]", "命令 [参数]..."
        command.help = "\n\n".join(map(tr, inspect.cleandoc(command.help or "").split("\n\n"))) or None
        for parameter in command.params:
            if text := getattr(parameter, "help", None):
                parameter.help = tr(text)
        for each in getattr(command, "commands", {}).values():
            _localized(each)
    return command


class LazyGroup(TyperGroup):
    """The commands of COMMANDS: a name and a line in the list, and the whole command once it is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands.update({name: TyperCommand(name, help=tr(place.help)) for name, place in COMMANDS.items()})
        _localized(self)

    @override
    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that is called."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, load(name) if name and listed else None, rest
