"""The undo of a job that was just handed in: it is cancelled, and its draft is there again."""

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.core.states import ImpossibleRequestError, JobChange, State
from mailerd.operations import jobs
from mailerd.store.read.jobs import Job
from mailerd.store.write.api_keys import Permission
from mailerd.web.frame.services import ConsoleRequest
from mailerd.web.send.draft import drafts, job_of


def may_undo(it: ConsoleRequest, job: Job) -> str:
    """The draft of a job that has not begun and can be undone; "": it cannot."""
    waits = job.starts_in > 0 and not job.finished_at
    return it.http.query.get("draft", "") if waits and it.may(Permission.CONTROL) else ""


async def undo(it: ConsoleRequest, job: Job, id_: str) -> web.Response:
    """Cancel a job of which nothing was sent, and make its draft one again.

    What was sent, the rows say: no clock.
    """
    has_begun = it.back(f"/jobs/{job.id}", t("Nothing was changed: sending has begun."))
    if job.started_at:
        return has_begun
    try:
        done = await jobs.act(it.caller, job, JobChange.CANCEL)
    except ImpossibleRequestError:
        return has_begun
    left = await it.services.jobs.seen_by(it.key, job.id)
    if left is None or any(left.counts[each] for each in (State.SENT, State.SENDING, State.UNSURE)):
        return it.back(
            f"/jobs/{job.id}", t("Sending had begun: only the messages that waited were cancelled.")
        )
    own = await job_of(it, f"draft-{id_}"[:255]) if id_.isascii() else None
    new = await drafts(it).reopen(it.key.id, id_) if done.changed and own == job.id else None
    if new is None:
        return it.back(f"/jobs/{job.id}", t("Job cancelled. Nothing was sent."))
    return it.back(
        f"/send/{new}/review", t("Job cancelled. Nothing was sent, and the draft is back.")
    )
