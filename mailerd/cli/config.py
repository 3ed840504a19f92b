"""`mailerd config`: checks the configuration, or shows an example of one."""

from typing import Annotated

import typer

from mailerd.cli.common import ConfigOption, configured
from mailerd.cli.packaged import EXAMPLE, packaged
from mailerd.texts import tr


def config(
    *,
    example: Annotated[bool, typer.Option("--example", help="Print every key with its default instead.")] = False,
    config: ConfigOption = None,
) -> None:
    """Check the configuration; what is wrong is named, key by key."""
    if example:
        print(packaged(EXAMPLE).read_text(encoding="utf-8"), end="")
        return
    from mailerd.ops.alerts import build_notifiers  # noqa: PLC0415 - slow to import, and --example needs it not

    known, file = configured(config)
    build_notifiers(webhook=known.alerts.webhook, urls=known.alerts.urls)  # a daemon refuses to start on these
    print(tr(f"the configuration can be used ({file})"))
