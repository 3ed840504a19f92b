"""`mailerd config`: checks the configuration, or shows an example of one."""

from typing import Annotated

import typer

from mailerd.cli.common import ConfigOption, configured
from mailerd.cli.output import JsonOption, echo, print_json
from mailerd.core.i18n import t


def config(
    *,
    example: Annotated[
        bool,
        typer.Option("--example", help="Print an example instead: every key with its default."),
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Check the configuration, and report each key that is not valid."""
    if example and as_json:
        raise typer.BadParameter(t("cannot be combined with --json"), param_hint="--example")
    if example:
        from mailerd.config.example import example as text  # noqa: PLC0415 - slow to import, as all of the settings

        print(text(), end="")
        return
    from mailerd.ops.alerts import build_notifiers  # noqa: PLC0415 - slow to import, and --example needs it not

    known, file = configured(config)
    # a daemon refuses to start on these
    build_notifiers(webhook=known.alerts.webhook, urls=known.alerts.urls)
    if as_json:
        print_json({"valid": True, "file": str(file.path) if file.path else None})
    else:
        echo(t("configuration valid ({file})", file=str(file)))
