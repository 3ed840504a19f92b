"""Compiles the catalogues of texts while a wheel is built or a checkout is installed; makes a wheel's manual pages.

The manual pages are made by mailerd itself: what it needs is there while it is built (`require-runtime-dependencies`).
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CatalogueHook(BuildHookInterface):  # type: ignore[misc,type-arg]
    """Of each .po below mailerd/locale makes the .mo that gettext reads, and of the commands' help the manual pages."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make them."""
        for po in Path(self.root, "mailerd", "locale").rglob("*.po"):
            with po.open("rb") as source, po.with_suffix(".mo.new").open("wb") as made:
                write_mo(made, read_po(source))
            po.with_suffix(".mo.new").replace(
                po.with_suffix(".mo")
            )  # a mailerd that starts meanwhile reads it whole
        runs = sys.version_info >= (3, 12)  # with an older Python pip refuses, and says why
        if self.target_name == "wheel" and version != "editable" and runs:
            man = Path(self.root, "build", "man")
            subprocess.run(
                [sys.executable, "-m", "mailerd.cli.manual", str(man)], cwd=self.root, check=True
            )
            for page in man.rglob("*.1"):
                build_data["shared_data"][str(page)] = f"share/man/{page.relative_to(man)}"
