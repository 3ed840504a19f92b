"""The checks behind `mailerd check`: they look at what could be wrong, change nothing, and name the remedy."""

from mailerd.cli.checks.result import CheckResult, Level, fail
from mailerd.cli.checks.runner import CheckRunner

__all__ = ["CheckResult", "CheckRunner", "Level", "fail"]
