"""The version, and the files that come with mailerd: examples, units, catalogues, alert rules, dashboard, manual page.

In an installed mailerd they lie in the package below `share`, in a checkout at their places below its root.
"""

import shutil
from pathlib import Path
from typing import Annotated, Final

import typer

import mailerd
from mailerd.core.i18n import t
from mailerd.errors import MailerdError

EXAMPLE: Final = "config.example.toml"
FILES: Final = (EXAMPLE, "examples", "systemd", "docs/grafana", "docs/prometheus", "docs/man")
"""The files that come with mailerd; pyproject.toml lists the same, and puts them into the wheel."""


UnreadConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Accepted as by every command, but not read.")
]


def packaged(name: str) -> Path:
    """A file or a folder of them.

    Raises:
        MailerdError: it was left out when mailerd was packaged.
    """
    package = Path(mailerd.__file__).parent
    for root in (package / "share", package.parent):
        if (found := root / name).exists():
            return found
    raise MailerdError(t("{name} is missing from this installation; the wheel and a checkout have it", name=name))


def version(config: UnreadConfigOption = None) -> None:  # noqa: ARG001
    """Print the version."""
    print(mailerd.__version__)


def install_files(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to copy to; created if it does not exist.")],
    config: UnreadConfigOption = None,  # noqa: ARG001
) -> None:
    """Copy the files that come with mailerd: examples, units, catalogs, alert rules, dashboard, manual page."""
    for name in FILES:
        source, target = packaged(name), folder / name
        if target.exists():
            raise MailerdError(
                t("{target} already exists and was not changed. The remaining files were not copied", target=target)
            )
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(source, target)
        except OSError as error:
            why = error.strerror or str(error)
            raise MailerdError(
                t("could not write {target}: {why}. It and the remaining files were not copied", target=target, why=why)
            ) from error
        print(target)
