"""Progress of each job as this daemon knows it, and totals of this daemon; only the log uses them."""

from collections import OrderedDict
from typing import Final

_MAX_JOBS: Final = 4096
"""Jobs that are remembered; one that is dropped is counted again when a claim finds it."""


class JobProgress:
    """The numbers of `[17/200]` in the log."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, list[int]] = OrderedDict()
        self.sent = 0
        self.failed = 0

    def contains(self, job: str) -> bool:
        """Whether the job is known."""
        return job in self._jobs

    def add(self, job: str, *, total: int) -> None:
        """Add a job; none of its recipients is known to be finished."""
        self._jobs[job] = [0, total]
        if len(self._jobs) > _MAX_JOBS:
            self._jobs.popitem(last=False)

    def set_done(self, job: str, *, ended: int) -> None:
        """Set how many recipients were finished before this daemon met the job."""
        if counts := self._jobs.get(job):
            counts[0] = max(counts[0], ended)

    def advance(self, job: str) -> tuple[int, int]:
        """Count one more finished letter; how many are finished, and of how many."""
        counts = self._jobs.setdefault(job, [0, 0])
        counts[0] = min(counts[0] + 1, max(counts[1], 1))
        return counts[0], counts[1]
