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
    _, file = configured(config)
    print(tr(f"the configuration can be used ({file})"))
