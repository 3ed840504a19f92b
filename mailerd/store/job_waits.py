"""Why a job that has not ended sends nothing now, in one word, for lists; reads nothing itself."""

from enum import StrEnum
from typing import Final

from mailerd.core.states import JobStatus, State
from mailerd.store.jobs import Job
from mailerd.texts import label


class Waits(StrEnum):
    """What a job waits for. No status: that is `queued` or `sending` meanwhile."""

    SENDER_PAUSED = "sender_paused"
    """Google's answer or a person paused its sender."""
    SCHEDULED = "scheduled"
    """It is not due yet."""
    DEFERRED = "deferred"
    """Its letters were tried, and are tried again later."""
    UNSURE = "unsure"
    """It is not known whether Google has its last letters."""
    NO_DAEMON = "no_daemon"
    """No daemon runs."""
    LIMIT = "limit"
    """The limits of its sender allow no letter within the next minute."""


_LIVE: Final = frozenset({JobStatus.QUEUED, JobStatus.SENDING})


def waits_for(job: Job, *, daemon: bool) -> Waits | None:
    """What the job waits for; None: it has ended, is paused itself, or is being sent. `daemon`: one runs."""
    if job.status not in _LIVE:
        return None
    idle = not job.counts.get(State.SENDING)
    if idle and (held := _held(job)):
        return held
    if not daemon:
        return Waits.NO_DAEMON
    return Waits.LIMIT if idle and job.limited else None


def standing(job: Job, *, daemon: bool) -> str:
    """What it waits for, or its status, for people."""
    return label(waits_for(job, daemon=daemon) or job.status).replace("_", " ")


def _held(job: Job) -> Waits | None:
    """What holds its letters, daemon or not."""
    if not job.counts.get(State.WAITING):
        return Waits.UNSURE if job.counts.get(State.UNSURE) else None
    due, pause = job.send_at if job.early else None, job.paused_until
    if job.repair or (pause and (due is None or pause >= due)):  # of the two, the one that ends last
        return Waits.SENDER_PAUSED
    if due:
        return Waits.SCHEDULED
    return Waits.DEFERRED if job.deferred else None
