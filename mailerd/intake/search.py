"""`GET /api/search`: jobs and people by a part of what a person remembers of them."""

from typing import Annotated, Final

from aiohttp import web
from pydantic import Field

from mailerd.core.states import JobStatus
from mailerd.http.auth import KeyHandler
from mailerd.http.requests import Query
from mailerd.http.responses import json_response
from mailerd.intake.read_jobs import PersonsMessageOut
from mailerd.model.fields import Moment, ResponseModel
from mailerd.store.db.database import Database
from mailerd.store.read.lookup import Search, searchable
from mailerd.store.write.api_keys import ApiKey

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 100

_COMPLETE: Final = Field(description="false: there is more; see `back_to`, or use a longer text")
_BACK_TO: Final = Field(description="older ones were not looked at; null: all were")


class FoundJobOut(ResponseModel):
    """A job that was found."""

    job_id: str
    sender_email: str
    subject: Annotated[str, Field(description="the subject of its template")]
    reference: str | None
    template_name: Annotated[
        str | None, Field(description="the named template; null: it was posted with its own")
    ]
    status: JobStatus
    created_at: Moment


class FoundJobsOut(ResponseModel):
    """Jobs, newest first."""

    items: Annotated[list[FoundJobOut], Field(description="the jobs")]
    complete: Annotated[bool, _COMPLETE]
    back_to: Annotated[Moment | None, _BACK_TO]


class FoundPeopleOut(ResponseModel):
    """The newest message of each person, newest first."""

    items: Annotated[list[PersonsMessageOut], Field(description="the messages")]
    complete: Annotated[bool, _COMPLETE]
    back_to: Annotated[Moment | None, _BACK_TO]


class SearchOut(ResponseModel):
    """What was found."""

    jobs: FoundJobsOut
    people: Annotated[FoundPeopleOut, Field(description="people, by their newest messages")]


class SearchEndpoint:
    """The endpoint. `timeout`: seconds that the database gets for an answer."""

    def __init__(self, *, database: Database, timeout: float) -> None:
        self._database = database
        self._timeout = timeout

    def handlers(self) -> dict[str, KeyHandler]:
        """Each by the id of its operation."""
        return {"search": self.search}

    async def search(self, request: web.Request, key: ApiKey) -> web.Response:
        """Jobs and people of the key's senders."""
        with Query(request, allowed=("q", "limit")) as given:
            text = given.required_text("q", convert=searchable)
            limit = given.limit(default=DEFAULT_LIMIT, most=MAX_LIMIT)
        search = Search(self._database, timeout=self._timeout, senders=key.senders)
        return json_response(
            SearchOut(
                jobs=FoundJobsOut.model_validate(await search.jobs(text, limit=limit)),
                people=FoundPeopleOut.model_validate(await search.people(text, limit=limit)),
            )
        )
