"""The wheel and the source distribution of this tree, and an installation of the wheel."""

import subprocess
import sys
from pathlib import Path

from tests.house.source import ROOT


def build(folder: Path) -> Path:
    """Build both into a folder; the wheel."""
    words = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, site: Path) -> Path:
    """The wheel as an installation lays it out; its dependencies are those of this environment."""
    words = ["install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, timeout=120)
    return site
