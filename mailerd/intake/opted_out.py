"""The recipients of a job that have opted out: they are stored as cancelled with their reason, and refuse no job."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mailerd.core.suppression import Reason, why_suppressed
from mailerd.intake.check_recipients import RejectedRecipient
from mailerd.intake.errors import ApiError, FieldError, invalid
from mailerd.intake.parse_job import ParsedJob
from mailerd.store.api_keys import ApiKey, Permission
from mailerd.store.db.database import Database
from mailerd.store.mailing_lists import ListNameError, MailingList
from mailerd.store.new_job import NewRecipient
from mailerd.store.secrets import AddressDigests, Secrets
from mailerd.store.suppressions import Suppressions


class OptOutCheck:
    """What suppressions and the lack of a list mean for a job that is posted.

    `timeout`: seconds that the database gets for an answer. `warn_above`: the most recipients of a job without a list
    that need no warning.
    """

    def __init__(self, database: Database, *, timeout: float, warn_above: int) -> None:
        self._database = database
        self._timeout = timeout
        self._warn_above = warn_above
        # A second old at most: the claim and the hand-over look again.
        self._digests = AddressDigests(Secrets(database, timeout=timeout))

    async def mark(self, parsed: ParsedJob, *, key: ApiKey | None) -> ParsedJob:
        """The job with its list, and with what its suppressions say of each recipient.

        `key` None: a person at this machine's terminal, who may do everything. A dry run makes no list.

        Raises:
            ApiError: 422, the key may not make the list; 403, it may not override suppressions.
        """
        job = parsed.job
        if job.override_suppression and key is not None and not key.may(Permission.OVERRIDE):
            raise ApiError(
                403, "call_not_allowed", f"the key {key.name!r} may not override suppressions; that needs override"
            )
        await self._digests.load()
        suppressions = Suppressions(self._database, key=self._digests.key, timeout=self._timeout)
        found = await _list_of(parsed, key, suppressions)
        list_id = found.id if found else None
        reasons = await suppressions.binding(
            [each.email for each in job.recipients if each.error is None], list_id=list_id
        )
        opted_out = len(reasons)
        if job.override_suppression:
            reasons = {address: reason for address, reason in reasons.items() if reason.binds_always}
        rows = await asyncio.to_thread(_marked, job.recipients, reasons) if reasons else job.recipients
        suppressed = [
            RejectedRecipient(index, each.email, each.error or "") for index, each in enumerate(rows) if each.suppressed
        ]
        warnings = list[str]()
        if parsed.list_name is None and self._warn_above and parsed.total > self._warn_above:
            warnings.append(
                f"this job goes to {parsed.total:,} recipients and names no list: no recipient can unsubscribe from "
                "it. Name one in `list`, unless each of these letters was asked for"
            )
        job = replace(job, recipients=rows, list_id=list_id)
        envelope = parsed.envelope
        if found and envelope.list_headers:
            envelope = replace(envelope, list_headers=replace(envelope.list_headers, title=found.shown))
        overridden = opted_out - len(reasons)
        return replace(
            parsed, job=job, envelope=envelope, suppressed=suppressed, overridden=overridden, warnings=warnings
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
        why = "there is no list of this name, and this key may not make one; `mailerd suppress lists` shows them"
        raise invalid([FieldError("list", why)])
    try:
        return None if parsed.dry_run else await suppressions.make_list(name)
    except ListNameError as error:
        raise invalid([FieldError("list", str(error))]) from None
