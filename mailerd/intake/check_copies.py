"""The copies of a job that is posted: suppressed ones are left out, and what the others cost of the
day.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from mailerd.core import copies
from mailerd.core.copies import Copy
from mailerd.core.i18n import t, tn
from mailerd.core.suppression import Reason, why_suppressed
from mailerd.http.errors import FieldErrors
from mailerd.store.write.new_jobs import NewJob, NewRecipient


@dataclass(frozen=True)
class SuppressedCopy:
    """An address that gets no copy."""

    email: str
    reason: str
    messages: int
    """How many messages name it."""


@dataclass(frozen=True)
class CheckedCopies:
    """A job with the copies that its messages will have."""

    job: NewJob
    suppressed: Sequence[SuppressedCopy]


def addresses(job: NewJob) -> set[str]:
    """The addresses that a message of the job names for a copy."""
    lists = {
        job.extras.copy_list,
        *(each.extras.copy_list for each in job.recipients if each.error is None),
    }
    return {it.email for each in lists for it in copies.from_json(each)}


def check(job: NewJob, reasons: Mapping[str, Reason]) -> CheckedCopies:
    """Leave out the copies to the addresses that have `reasons`, and say what the others cost."""
    left_out = Counter[str]()
    shared = copies.from_json(job.extras.copy_list)
    kept = copies.without(shared, reasons)
    cost = _beside(kept, job)
    rows, total = list[NewRecipient](), 0
    for each in job.recipients:
        own, named, stays, more = each.extras.copy_list, shared, kept, cost
        if own is not None:
            named = copies.from_json(own)
            stays = copies.without(named, reasons)
            own, more = copies.to_json(stays), _beside(stays, job)
        if each.error is None:
            total += more
            if len(stays) < len(named):
                left_out.update(it.email for it in named if it not in stays)
        changed = (own, more) != (each.extras.copy_list, each.extras.copies)
        rows.append(
            each._replace(extras=each.extras._replace(copy_list=own, copies=more))
            if changed
            else each
        )
    extras = job.extras._replace(copy_list=copies.to_json(kept) if kept else None, copies=total)
    suppressed = [
        SuppressedCopy(email, why_suppressed(reasons[email]), messages)
        for email, messages in left_out.items()
    ]
    return CheckedCopies(replace(job, recipients=rows, extras=extras), suppressed)


def _beside(some: Iterable[Copy], job: NewJob) -> int:
    return copies.cost(some, sender=job.sender_email) - 1


def too_dear(job: NewJob, *, per_day: int) -> FieldErrors:
    """What is wrong where a message counts as more than the day on which it is due; `per_day` 0:
    nothing can be.
    """
    errors = FieldErrors()
    for index, each in enumerate(job.recipients):
        if each.error is None and per_day and 1 + each.extras.copies > per_day:
            why = t(
                "its message counts as {cost:,} because of its copies, above the {limit:,} that the sender's limits or "
                "warm-up allow on that day; leave some out, send it later, or raise the limit",
                cost=1 + each.extras.copies,
                limit=per_day,
            )
            errors.add(partial("recipients[{}].{}".format, index, "cc"), why)
    return errors


def warnings(checked: CheckedCopies, *, repeated: int) -> list[str]:
    """The warnings of the response; `repeated`: how many messages name an address more than
    once.
    """
    found = list[str]()
    if repeated:
        found.append(
            tn(
                "{n:,} message names an address more than once: it is kept once, To before Cc before Bcc",
                "{n:,} messages name an address more than once: it is kept once, To before Cc before Bcc",
                repeated,
            )
        )
    if checked.suppressed:
        found.append(
            tn(
                "{n:,} address is suppressed and gets no copy; see suppressed_copies",
                "{n:,} addresses are suppressed and get no copy; see suppressed_copies",
                len(checked.suppressed),
            )
        )
    return found
