"""How a command that fails says so: the error in its own words, and which configuration was
taken.
"""

import re
from typing import TYPE_CHECKING, Any, Final

from typer.exceptions import TyperException

from mailerd.cli.output import echo
from mailerd.core.i18n import N_, Text, joined, t
from mailerd.locale import say

if TYPE_CHECKING:  # a command that needs no configuration does not import it
    from mailerd.config.discovery import Found

_taken: "list[Found]" = []


def configuration_taken(file: "Found") -> None:
    """Remember the configuration file that this command has taken."""
    _taken[:] = [file]


def say_failed(error: Exception) -> None:
    """Print the error, and which configuration was taken, unless the error names it."""
    echo("mailerd: " + say(str(error)), err=True)
    for file in _taken:
        if file.path is None or str(file.path) not in str(error):
            echo("mailerd: " + say(str(file)), err=True)


def say_misused(error: TyperException) -> None:
    """Print how a command was typed wrongly: typer itself says it in English, and in pydantic's
    words.
    """
    # its text is the help page, where rich has not printed it
    if type(error).__name__ == "NoArgsIsHelpError":
        echo(error.message, err=True)
        return
    if context := getattr(error, "ctx", None):
        echo(context.get_usage(), err=True)
        words = (context.command_path, context.help_option_names[0])
        echo(t("For help: `{command}`", command=" ".join(words)), err=True)
        echo(err=True)
    echo(f"mailerd: {say(_misuse(error))}", err=True)


_SENTENCES: Final = {
    r"Missing command\.": N_("missing command"),
    r"No such command '(?P<name>.*)'\.": N_("unknown command: {name}"),
    r"No such command '(?P<name>.*)'\. Did you mean (?P<others>.*)\?": N_(
        "unknown command: {name}. Similar: {others}"
    ),
    r"Got unexpected extra argument\(s\) \((?P<arguments>.*)\)": N_(
        "unexpected arguments: {arguments}"
    ),
    r"Option '(?P<name>.*)' requires an argument\.": N_("option {name} needs a value"),
    r"Option '(?P<name>.*)' does not take a value\.": N_("option {name} takes no value"),
    r"(?s)(?P<value>.*) is not one of (?P<choices>.*)\.": N_("{value} is not one of {choices}"),
    r"(?s)(?P<value>.*) does not match the formats .*\.": N_(
        "{value} is not a time such as 2026-12-01T09:00:00Z"
    ),
    r"(?s)(?:file|dir|path) '(?P<path>.*)' does not exist\.": N_("{path} does not exist"),
    r"(?s)(?:file|dir|path) '(?P<path>.*)' is a file\.": N_("{path} is a file, not a folder"),
    r"(?s)(?:file|dir|path) '(?P<path>.*)' is a directory\.": N_("{path} is a folder, not a file"),
    r"(?s)(?:file|dir|path) '(?P<path>.*)' is not readable\.": N_("{path} is not readable"),
}
"""What typer says as finished sentences, each with what is said here."""


def _misuse(error: TyperException) -> str:
    it: Any = error  # typer does not export the classes of its own click
    match type(error).__name__:
        case "NoSuchOption" if it.possibilities:
            return t(
                "unknown option: {name}. Similar: {others}",
                name=it.option_name,
                others=", ".join(it.possibilities),
            )
        case "NoSuchOption":
            return t("unknown option: {name}", name=it.option_name)
        case "MissingParameter" if it.param_type or it.param.param_type_name == "argument":
            return t("missing argument: {name}", name=_name(it))
        case "MissingParameter":
            return t("missing option: {name}", name=_name(it))
        case "BadParameter" if name := _name(it):
            return joined([name, _why(it)], ": ")
        case _:
            return _why(it)


def _name(error: Any) -> str:
    """An option as it is typed, or an argument as the help has it."""
    if error.param_hint or error.param is None:
        return str(error.param_hint or "")
    return str(error.param.get_error_hint()).replace("'", "").replace("env var: ", "")


def _why(error: Any) -> str:
    message: str = error.message
    if isinstance(message, Text):
        return message
    for each in getattr(error.__cause__, "errors", list)():
        from mailerd.core.wrong_values import wrong_value  # noqa: PLC0415 - it is seldom that one is needed

        context = each.get("ctx", {})
        if (said := wrong_value(each["type"], context)) is not None:
            return said
        message = str(context.get("error", message))
    for pattern, template in _SENTENCES.items():
        if found := re.fullmatch(pattern, message):
            return t(template, **found.groupdict())
    return message
