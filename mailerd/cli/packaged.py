"""The version, and the files that come with mailerd: examples, units, catalogues, alert rules,
dashboard, manual.
"""

import shutil
from pathlib import Path
from typing import Annotated, Final

import typer

import mailerd
from mailerd.cli.output import JsonOption, print_json
from mailerd.core.i18n import t
from mailerd.errors import MailerdError
from mailerd.ops.packaged_files import packaged

EXAMPLE: Final = "config.example.toml"
FILES: Final = (EXAMPLE, "examples", "systemd", "docs/grafana", "docs/prometheus")
"""The files that come with mailerd; pyproject.toml puts them into the wheel, with all of docs/."""
MAN: Final = "docs/man"
"""Where the manual pages are laid out, which are made on the spot."""


UnreadConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Accepted as by every command, but not read.")
]


def version(*, as_json: JsonOption = False, config: UnreadConfigOption = None) -> None:  # noqa: ARG001
    """Print the version."""
    if as_json:
        print_json({"version": mailerd.__version__})
    else:
        print(mailerd.__version__)


def install_files(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="The folder to copy to; created if it does not exist."),
    ],
    config: UnreadConfigOption = None,  # noqa: ARG001
) -> None:
    """Copy the files that come with mailerd: examples, units, catalogs, alert rules, dashboard, manual page."""
    for name in (*FILES, MAN):
        target = folder / name
        if target.exists():
            raise MailerdError(
                t(
                    "{target} already exists and was not changed. The remaining files were not copied",
                    target=target,
                )
            )
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if name == MAN:
                from mailerd.cli import manual  # noqa: PLC0415 - it imports every command

                manual.write(target)
            elif (source := packaged(name)).is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(source, target)
        except OSError as error:
            why = error.strerror or str(error)
            raise MailerdError(
                t(
                    "could not write {target}: {why}. It and the remaining files were not copied",
                    target=target,
                    why=why,
                )
            ) from error
        print(target)
