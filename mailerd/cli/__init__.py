"""The commands: every one takes --config, says what it did, and ends with 0 only when it did it."""

import os
import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from mailerd import __version__
from mailerd.cli import output
from mailerd.cli.failure import say_failed, say_misused
from mailerd.cli.lazy_group import EarlyConfigOption, LazyGroup, use_config
from mailerd.core.i18n import t
from mailerd.errors import ConfigurationError, MailerdError
from mailerd.locale import from_environment, speak

app = typer.Typer(
    name="mailerd",
    cls=LazyGroup,
    help="A mail daemon for your own Gmail and Google Workspace mailboxes.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def everything(
    config: EarlyConfigOption = None,
    version: Annotated[  # noqa: ARG001 - its callback has printed it
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """A mail daemon for your own Gmail and Google Workspace mailboxes."""
    use_config(config)


def _run() -> None:
    try:
        sys.exit(app(standalone_mode=False))
    except TyperException as error:
        say_misused(error)
        sys.exit(error.exit_code)
    except typer.Abort:
        output.echo(t("Aborted."), err=True)
        sys.exit(1)


def main() -> None:
    """Run a command; an error that has a name is printed in its own words, without a stack."""
    output.replace_closed_streams()
    output.escape_what_cannot_be_shown()
    speak(from_environment(os.environ))
    try:
        with output.checked_output():
            _run()
    except BrokenPipeError:
        sys.exit(1)
    except ConfigurationError as error:
        say_failed(error)
        sys.exit(2)
    except MailerdError as error:
        say_failed(error)
        sys.exit(1)
