"""The doctor: looks at everything that could be wrong, changes nothing, and names the remedy."""

from mailerd.cli.checks.result import Finding, Level, fail
from mailerd.cli.checks.runner import Bench

__all__ = ["Bench", "Finding", "Level", "fail"]
