"""The commands: every one takes --config, says what it did, and ends with 0 only when it did it."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mailerd import __version__
from mailerd.cli import (
    audit_settle,
    auth,
    check,
    job_actions,
    jobs,
    keys,
    run,
    sandbox,
    send,
    senders,
    stdio,
    templates,
    top,
)
from mailerd.cli.common import say_failed
from mailerd.config import CONFIG, file_named_in_dotenv
from mailerd.errors import ConfigurationError, MailerdError

app = typer.Typer(
    name="mailerd",
    help="A mail daemon for your own Gmail and Google Workspace mailboxes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("migrate")(run.migrate)
app.command("config")(run.config)
app.add_typer(keys.app, name="keys")
app.add_typer(templates.app, name="templates")
app.add_typer(senders.app, name="senders")
app.add_typer(auth.app, name="auth")
app.command("check")(check.check)
app.command("send")(send.send)
job_actions.add_to(jobs.app)
app.add_typer(jobs.app, name="jobs")
app.command("explain")(jobs.explain)
app.command("top")(top.top)
app.command("audit")(audit_settle.audit)
app.command("settle")(audit_settle.settle)
app.command("sandbox")(sandbox.sandbox)


def _tell_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def everything(
    config: Annotated[
        Path | None, typer.Option("--config", help="The TOML file, as every command takes it after its name too.")
    ] = None,
    version: Annotated[  # noqa: ARG001 - its callback has told it
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_tell_version)
    ] = False,
) -> None:
    """A mail daemon for your own Gmail and Google Workspace mailboxes."""
    if config is not None:
        os.environ[CONFIG] = str(config)  # where each command's own --config looks when it is not given


@app.command("version")
def version(
    config: Annotated[Path | None, typer.Option("--config", help="Taken as by every command; not read.")] = None,  # noqa: ARG001
) -> None:
    """Print the version."""
    print(__version__)


def main() -> None:
    """Run a command; trouble that has a name is told in its own words, without a stack."""
    stdio.open_closed()
    try:
        if named := file_named_in_dotenv():
            os.environ.setdefault(CONFIG, named)
        with stdio.guarded():
            app()
    except BrokenPipeError:
        sys.exit(1)
    except ConfigurationError as error:
        say_failed(error)
        sys.exit(2)
    except MailerdError as error:
        say_failed(error)
        sys.exit(1)
