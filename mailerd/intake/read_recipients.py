"""`GET /api/recipients?email=`: one person's letters over all jobs, and what keeps letters from that person."""

import re
from collections.abc import Sequence
from typing import Annotated, Final, Self

from aiohttp import web
from pydantic import Field

from mailerd.intake.query_params import Query
from mailerd.intake.read_jobs import DEFAULT_RECIPIENTS_LIMIT, MAX_RECIPIENTS_LIMIT
from mailerd.intake.recipient_models import RecipientOut
from mailerd.intake.response_models import ResponseModel
from mailerd.intake.row_pace import RowPace, page_response
from mailerd.intake.suppression_models import SuppressionOut
from mailerd.mail.addresses import Addresses
from mailerd.store.api_keys import ApiKey, Permission
from mailerd.store.db.database import Database
from mailerd.store.recipients import PersonsLetter, Recipients
from mailerd.store.suppressions import Suppression, Suppressions

_ROW_ID: Final = re.compile(r"[0-9]{1,19}", re.ASCII)


class PersonsLetterOut(RecipientOut):
    """A letter to a person, and whose it is."""

    job_id: str
    sender_email: str


class PersonOut(ResponseModel):
    """A page of one person's letters, the newest first."""

    email: Annotated[
        str, Field(description="as it was asked for; each letter has the spelling that it was posted with")
    ]
    recipients: list[PersonsLetterOut]
    suppressions: Annotated[
        list[SuppressionOut] | None,
        Field(description="what keeps letters from this person; null: the key may not see it (`suppress`)"),
    ]
    next_cursor: str | None

    @classmethod
    def of(
        cls, email: str, found: Sequence[PersonsLetter], *, size: int, suppressions: Sequence[Suppression] | None
    ) -> Self:
        """A page of `size` letters; one more that was found says that there is a next page."""
        page = found[:size]
        return cls(
            email=email,
            recipients=[PersonsLetterOut.model_validate(it) for it in page],
            suppressions=None if suppressions is None else [SuppressionOut.of(it) for it in suppressions],
            next_cursor=str(page[-1].id) if len(found) > size else None,
        )


class PersonEndpoint:
    """The handler. `timeout`: seconds that the database gets for an answer."""

    def __init__(self, *, database: Database, timeout: float, pace: RowPace) -> None:
        self._database = database
        self._pace = pace
        self._timeout = timeout

    async def letters(self, request: web.Request, key: ApiKey) -> web.Response:
        """A page of letters, the newest first; those of the key's senders only."""
        with Query(request, allowed=("email", "cursor", "limit")) as given:
            size = given.limit(default=DEFAULT_RECIPIENTS_LIMIT, most=MAX_RECIPIENTS_LIMIT)
            email, before = given.required_text("email", convert=Addresses().check), given.cursor(shape=_ROW_ID)
        recipients, first = Recipients(self._database, timeout=self._timeout), None if before is None else int(before)
        found = await self._pace.read(
            lambda last, limit: recipients.of_person(
                email, before=last.id if last else first, limit=limit, senders=key.senders
            ),
            most=size + 1,
        )
        suppressions = None
        if key.may(Permission.SUPPRESS):
            suppressions = await (await Suppressions.open(self._database, timeout=self._timeout)).of(email)
        body = PersonOut.of(email, found, size=size, suppressions=suppressions)
        return await page_response(body, "recipients", self._pace)
