"""The list of commands.

The module of a command is imported when it is called or its own help is shown, not before.
"""

import inspect
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final, override

import typer
from rich.cells import cell_len
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from mailerd.cli.output import broken
from mailerd.core.i18n import N_, t
from mailerd.locale import language, say

CONFIG: Final = "MAILERD_CONFIG"
"""It is the CONFIG of mailerd.config, which takes three times as long to import as everything that
`--help` needs.
"""
EarlyConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="The TOML file; every command also takes it after its name."),
]
"""The option --config before the name of a command."""


@dataclass(frozen=True)
class LazyCommand:
    """Where a command is, and its line in the list of commands, which is the first of its own
    help.
    """

    module: str
    name: str
    """The name of the function, or of the typer.Typer of a group."""
    help: str


COMMANDS: Final = {
    "run": LazyCommand("run", "run", "Run the daemon until SIGTERM or SIGINT."),
    "migrate": LazyCommand(
        "maintenance", "migrate", "Update the database schema. Safe while daemons are running."
    ),
    "config": LazyCommand(
        "config", "config", "Check the configuration, and report each key that is not valid."
    ),
    "check": LazyCommand(
        "check",
        "check",
        "Examine configuration, database, daemons, mailboxes, port, disk, systemd; exit code 1 when something FAILs.",
    ),
    "auth": LazyCommand(
        "auth", "app", "Authorize mailboxes at Google, and list those that are authorized."
    ),
    "console": LazyCommand("console", "app", "Sign in to the console in a browser."),
    "keys": LazyCommand("keys", "app", "Create, rotate, list and revoke API keys."),
    "senders": LazyCommand(
        "senders", "app", "Show and change the sending limits of each mailbox; pause and resume it."
    ),
    "suppress": LazyCommand(
        "suppress", "app", "Add, remove, list, import and export suppressions."
    ),
    "webhooks": LazyCommand(
        "webhooks", "app", "Add, show, test, pause, replay and remove webhook endpoints."
    ),
    "templates": LazyCommand("templates", "app", "Check, list and preview the named templates."),
    "send": LazyCommand(
        "send",
        "send",
        "Send one message to each row of a table, and show the progress. The same job is not posted twice.",
    ),
    "jobs": LazyCommand("jobs", "app", "List, show, watch, pause, resume, cancel and retry jobs."),
    "explain": LazyCommand(
        "jobs",
        "explain",
        "Explain a job or a message: what happened, why it is waiting, and what happens next.",
    ),
    "recipients": LazyCommand(
        "bounces",
        "recipients",
        "Show the messages to one person in all jobs, and the suppressions of that person.",
    ),
    "bounces": LazyCommand(
        "bounces", "bounces", "List bounced messages, newest first, with the reason of each bounce."
    ),
    "top": LazyCommand(
        "top", "top", "Watch senders, jobs, failures, daemons and the database; q ends it."
    ),
    "settle": LazyCommand(
        "maintenance",
        "settle",
        "Confirm an unconfirmed message as sent or not sent, after checking the mailbox.",
    ),
    "after-restore": LazyCommand(
        "maintenance",
        "after_restore",
        "After restoring a backup: check at Google for every open message before it is sent.",
    ),
    "audit": LazyCommand(
        "maintenance",
        "audit",
        "Check that the counts and rows of every job agree, and list each finding.",
    ),
    "sandbox": LazyCommand(
        "sandbox", "app", "Try mailerd without Google; nothing leaves this machine."
    ),
    "install-files": LazyCommand(
        "packaged",
        "install_files",
        "Copy the files that come with mailerd: examples, units, catalogs, alert rules, dashboard, manual page.",
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
        self.write(f"{'':>{self.current_indent}}{framed(heading)}：\n")

    @override
    def write_text(self, text: str) -> None:
        margin = " " * self.current_indent
        for number, paragraph in enumerate(text.split("\n\n")):
            lines = broken(paragraph, self.width - len(margin))
            self.write("\n" * bool(number) + "".join(f"{margin}{line}\n" for line in lines))

    @override
    def write_dl(
        self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        margin = " " * self.current_indent
        column = min(max(cell_len(name) for name, _ in rows), col_max) + col_spacing
        below = margin + " " * column
        for name, text in rows:
            own_line = cell_len(name) + col_spacing > column
            self.write(
                f"{margin}{name}" + ("\n" + below if own_line else " " * (column - cell_len(name)))
            )
            self.write(f"\n{below}".join(broken(framed(text), self.width - len(below))) + "\n")


class ChineseContext(typer.Context):
    """The context of a command that speaks Chinese."""

    formatter_class = ChineseFormatter


_FRAME: Final = (
    N_("Usage"),
    N_("Arguments"),
    N_("Options"),
    N_("Commands"),
    N_("Show this message and exit."),
    N_("Install completion for the current shell."),
    N_("Show completion for the current shell, to copy it or customize the installation."),
    N_("[default: "),
    N_("; default: "),
    N_("[env var: "),
    N_("[required]"),
    N_("; required]"),
)
"""What typer and click say around the help of a command."""
_FRAMED: Final = re.compile("|".join(map(re.escape, _FRAME)))


def framed(text: str) -> str:
    """A line of help, with what typer and click say in the language of this process."""
    return _FRAMED.sub(lambda found: say(t(found[0])), text)


def paragraphs(help_: str | None) -> list[str]:
    """The help of a command or an option as templates of texts, one a paragraph."""
    whole = inspect.cleandoc(help_ or "").replace("{", "{{").replace("}", "}}")
    return [" ".join(each.split()) for each in whole.split("\n\n") if each]


def helps(program: typer.Typer) -> Iterator[str]:
    """The templates of the help of a program and of all COMMANDS: what tools/messages.py puts into
    the catalogues.
    """
    commands: list[Any] = [get_command(program), *map(load, COMMANDS)]
    while commands:
        it = commands.pop()
        yield from paragraphs(it.help)
        for parameter in it.params:
            yield from paragraphs(getattr(parameter, "help", None))
        commands += getattr(it, "commands", {}).values()


def use_config(config: EarlyConfigOption = None) -> None:
    """Let the command to come take this file, where its own --config names no other."""
    if config is not None:
        os.environ[CONFIG] = str(config)


def load(name: str) -> Any:
    """The command, made from its module; Any, since typer does not export the types of its
    click.
    """
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
    """A command whose help is in the language of this process, and plain: rich is slow to import,
    and cuts Chinese.
    """
    command.rich_markup_mode = None
    if language() == "zh":
        command.context_class = ChineseContext
        command.options_metavar, command.subcommand_metavar = "[选项]", "命令 [参数]..."
    said = [say(t(each)) for each in paragraphs(command.help)]
    # a short one is not cut
    command.help, command.short_help = (
        "\n\n".join(said) or None,
        next(iter(said), None),
    )
    for parameter in command.params:
        if text := getattr(parameter, "help", None):
            parameter.help = " ".join(say(t(each)) for each in paragraphs(text))
    for each in getattr(command, "commands", {}).values():
        _localized(each)
    return command


class LazyGroup(TyperGroup):
    """The commands of COMMANDS: a name and a line in the list, and the whole command once it is
    called.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands.update(
            {name: TyperCommand(name, help=place.help) for name, place in COMMANDS.items()}
        )
        _localized(self)

    @override
    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that is called."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, load(name) if name and listed else None, rest
