"""`mailerd version`."""

from pathlib import Path
from typing import Annotated

import typer

from mailerd import __version__


def version(
    config: Annotated[Path | None, typer.Option("--config", help="Taken as by every command; not read.")] = None,  # noqa: ARG001
) -> None:
    """Print the version."""
    print(__version__)
