"""How a command that fails says so: the error in its own words, and which configuration was taken."""

import sys
from typing import TYPE_CHECKING

from typer.exceptions import TyperException

from mailerd.texts import tr

if TYPE_CHECKING:  # a command that needs no configuration does not import it
    from mailerd.config.discovery import Found

_taken: "list[Found]" = []


def configuration_taken(file: "Found") -> None:
    """Remember the configuration file that this command has taken."""
    _taken[:] = [file]


def say_failed(error: Exception) -> None:
    """Print the error, and which configuration was taken, unless the error names it."""
    print(f"mailerd: {tr(str(error))}", file=sys.stderr)
    for file in _taken:
        if file.path is None or str(file.path) not in str(error):
            print(f"mailerd: {tr(str(file))}", file=sys.stderr)


def say_misused(error: TyperException) -> None:
    """Print in Chinese how a command was typed wrongly; typer itself says it in English alone."""
    said, context = error.format_message(), getattr(error, "ctx", None)
    if context and said.startswith(context.get_usage()):  # no arguments at all: the help page
        print(said, file=sys.stderr)
        return
    if context:
        command, option = context.command_path, context.help_option_names[0]
        print(context.get_usage(), tr(f"Try `{command} {option}` for help."), sep="\n", end="\n\n", file=sys.stderr)
    print(f"mailerd: {tr(said)}", file=sys.stderr)
