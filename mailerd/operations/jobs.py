"""Jobs: pause, resume, cancel, retry, other fields. Another's job is as good as none."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mailerd.core.i18n import t
from mailerd.core.states import JobChange
from mailerd.errors import MailerdError
from mailerd.operations.caller import Caller, operation
from mailerd.store.read.jobs import Job, Jobs
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.job_actions import ActionResult


class UnknownJobError(MailerdError):
    """The caller sees no such job."""


async def find(by: Caller, which: str) -> Job:
    """The job of an id.

    Raises:
        UnknownJobError: there is none.
    """
    found = await Jobs(by.backend.database, timeout=by.backend.timeout).seen_by(by.key, which)
    if found is None:
        raise UnknownJobError(t("no job has this ID"))
    return found


@operation(Permission.CONTROL)
async def act(
    by: Caller,
    job: Job,
    change: JobChange,
    *,
    priority: int = 0,
    unsure: bool = False,
    bounced: Sequence[str] = (),
    errors: Collection[str] | None = None,
) -> ActionResult:
    """Do one thing to a job that `find` has found; the options are those of `JobActions.apply`.

    Raises:
        ImpossibleRequestError: the job's status does not allow it.
    """
    done = await by.backend.actions.apply(
        job.id,
        change,
        actor=by.actor,
        messages=job.total,
        priority=priority,
        unsure=unsure,
        bounced=bounced,
        errors=errors,
    )
    _changed(by, job, change.value, done)
    return done


@operation(Permission.CONTROL)
async def change(by: Caller, job: Job, fields: Mapping[str, Any]) -> ActionResult:
    """Change the fields that are given; see `JobActions.change`.

    Raises:
        BegunError: its time cannot be changed any more.
    """
    done = await by.backend.actions.change(job.id, fields, actor=by.actor, messages=job.total)
    _changed(by, job, "change", done)
    return done


def _changed(by: Caller, job: Job, action: str, done: ActionResult) -> None:
    """What changed nothing is in the log of actions only."""
    if done.changed:
        by.backend.events.job_action(
            job=job.id,
            action=action,
            actor=by.actor,
            messages=done.messages,
            status=done.status.value,
            via=by.via.value,
        )
        by.backend.wake()
