"""The checks behind `mailerd check`: they look at what could be wrong, change nothing, and name the
remedy.
"""

from mailerd.cli.checks.check_runner import CheckRunner, RepeatedChecks
from mailerd.cli.checks.result import CheckResult, Level, fail

__all__ = ["CheckResult", "CheckRunner", "Level", "RepeatedChecks", "fail"]
