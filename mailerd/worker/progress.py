"""How far each job has come, as this daemon knows it, and what this daemon has done: for the log alone."""

from collections import OrderedDict
from typing import Final

_MAX_JOBS: Final = 4096
"""Jobs that are remembered; one that drops out is counted anew when it is met again."""


class JobProgress:
    """`[17/200]`."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, list[int]] = OrderedDict()
        self.sent = 0
        self.failed = 0

    def contains(self, job: str) -> bool:
        """Whether the job was met before."""
        return job in self._jobs

    def found(self, job: str, *, total: int) -> None:
        """A job is met, of whose recipients none is known to have come to its end."""
        self._jobs[job] = [0, total]
        if len(self._jobs) > _MAX_JOBS:
            self._jobs.popitem(last=False)

    def set_done(self, job: str, *, ended: int) -> None:
        """So many had come to their end before it was met here."""
        if counts := self._jobs.get(job):
            counts[0] = max(counts[0], ended)

    def step(self, job: str) -> tuple[int, int]:
        """One more letter has come to its end: how many have, of how many."""
        counts = self._jobs.setdefault(job, [0, 0])
        counts[0] = min(counts[0] + 1, max(counts[1], 1))
        return counts[0], counts[1]
