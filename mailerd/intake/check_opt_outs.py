"""What suppressions and the lack of a list mean for a job: who opted out is stored as cancelled."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from mailerd.config import Live
from mailerd.core.i18n import t
from mailerd.core.models import NO_EXTRAS, read_metadata
from mailerd.core.suppression import Reason, why_suppressed
from mailerd.http.errors import ApiError, FieldError, invalid
from mailerd.intake import check_copies
from mailerd.intake.check_copies import CheckedCopies
from mailerd.intake.parse_job import ParsedJob, RejectedRecipient
from mailerd.store.api_keys import ApiKey, Permission
from mailerd.store.db.database import Database
from mailerd.store.jobs import NewJob, NewRecipient
from mailerd.store.list_names import ListNameError
from mailerd.store.queue.rate_limits import DefaultLimits, day_of
from mailerd.store.secrets import AddressDigests, Secrets
from mailerd.store.suppressions import MailingList, Suppressions

_MANY_MOMENTS: Final = 1_000
"""Different times of the recipients of one job that need no warning."""


class OptOutCheck:
    """What suppressions and the lack of a list mean for a job that is posted.

    `timeout`: seconds that the database gets for an answer. `warn_above`: the most recipients of a job without a list
    that need no warning. `defaults`: the limits of senders that have none of their own.
    """

    def __init__(self, database: Database, *, timeout: float, warn_above: int, defaults: Live[DefaultLimits]) -> None:
        self._database = database
        self._defaults = defaults
        self._timeout = timeout
        self._warn_above = warn_above
        # A second old at most: the claim and the hand-over look again.
        self._digests = AddressDigests(Secrets(database, timeout=timeout))

    async def mark(self, parsed: ParsedJob, *, key: ApiKey | None) -> ParsedJob:
        """The job with its list, and with what its suppressions say of each recipient and each copy.

        `key` None: a person at this machine's terminal, who may do everything. A dry run makes no list.

        Raises:
            ApiError: 422, the key may not make the list, or a message counts as more than a day of its sender; 403, it
                may not override suppressions.
        """
        job = parsed.job
        if job.override_suppression and key is not None and not key.may(Permission.OVERRIDE):
            raise ApiError(
                403,
                "call_not_allowed",
                t("key {name!r} may not override suppressions; that needs the permission override", name=key.name),
            )
        await self._digests.load()
        suppressions = Suppressions(self._database, key=self._digests.key, timeout=self._timeout)
        found = await _list_of(parsed, key, suppressions)
        list_id = found.id if found else None
        asked = {each.email for each in job.recipients if each.error is None}
        if copied := _has_copies(job):
            asked |= await asyncio.to_thread(check_copies.addresses, job)
        reasons = await suppressions.binding(asked, list_id=list_id)
        opted_out = len(reasons)
        if job.override_suppression:
            reasons = {address: why for address, why in reasons.items() if why.binds_always}
        rows = await asyncio.to_thread(_marked, job.recipients, reasons) if reasons else job.recipients
        suppressed = [
            RejectedRecipient(index, each.email, each.error or "", read_metadata(each.extras.metadata))
            for index, each in enumerate(rows)
            if each.suppressed
        ]
        job = replace(job, recipients=rows, list_id=list_id)
        with_copies, warnings = CheckedCopies(job, ()), [*parsed.warnings]
        if copied:
            with_copies = await self._with_copies(job, reasons)
            warnings += check_copies.warnings(with_copies, repeated=parsed.repeated)
        if parsed.list_name is None and self._warn_above and parsed.total > self._warn_above:
            warnings.append(
                t(
                    "this job has {total:,} recipients and no list, so no recipient can unsubscribe; set `list`, "
                    "unless everyone requested this message",
                    total=parsed.total,
                )
            )
        if (moments := len({each.send_at for each in rows})) > _MANY_MOMENTS:
            warnings.append(
                t(
                    "the recipients of this job have {moments:,} different send_at; with few of them a job is easier "
                    "to follow and to change",
                    moments=moments,
                )
            )
        envelope = parsed.envelope
        if found and envelope.list_headers:
            envelope = replace(envelope, list_headers=replace(envelope.list_headers, title=found.shown))
        overridden = opted_out - len(reasons)
        return replace(
            parsed, job=with_copies.job, envelope=envelope, suppressed=suppressed, overridden=overridden,
            warnings=warnings, suppressed_copies=with_copies.suppressed,
        )  # fmt: skip

    async def _with_copies(self, job: NewJob, reasons: Mapping[str, Reason]) -> CheckedCopies:
        checked = await asyncio.to_thread(check_copies.check, job, reasons)
        per_day = await self._database.read(
            lambda cursor: day_of(cursor, job.sender_email, self._defaults.now, at=job.send_at),
            what="senders.read_limits", bound=self._timeout,
        )  # fmt: skip
        if (errors := check_copies.too_dear(checked.job, per_day=per_day)).total:
            raise invalid(errors)
        return checked


def _has_copies(job: NewJob) -> bool:
    """Whether a message of the job names a copy."""
    return job.extras.copy_list is not None or any(
        each.extras is not NO_EXTRAS and each.extras.copy_list is not None for each in job.recipients
    )


def _marked(recipients: Sequence[NewRecipient], reasons: Mapping[str, Reason]) -> list[NewRecipient]:
    return [
        each._replace(error=why_suppressed(reasons[each.email]), suppressed=True)
        if each.error is None and each.email in reasons
        else each
        for each in recipients
    ]


async def _list_of(parsed: ParsedJob, key: ApiKey | None, suppressions: Suppressions) -> MailingList | None:
    name = parsed.list_name
    if name is None:
        return None
    found = await suppressions.list_named(name)
    if found is not None:
        return found
    if key is not None and not key.may(Permission.SUPPRESS):
        why = t("no list has this name, and this key may not create one; see `mailerd suppress lists`")
        raise invalid([FieldError("list", why)])
    try:
        return None if parsed.dry_run else await suppressions.make_list(name)
    except ListNameError as error:
        raise invalid([FieldError("list", str(error))]) from None
