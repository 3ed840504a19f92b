"""The doctor: looks at everything that could be wrong, changes nothing, and names the remedy."""

from mailerd.doctor.bench import Bench
from mailerd.doctor.finding import Finding, Level, fail

__all__ = ["Bench", "Finding", "Level", "fail"]
