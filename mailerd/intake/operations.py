"""What an operation of the API is made of."""

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

from mailerd.store.api_keys import Permission

Method = Literal["GET", "POST", "PATCH", "DELETE"]


@dataclass(frozen=True)
class Param:
    """A parameter of the query, or a header."""

    name: str
    schema: dict[str, Any]
    description: str
    where: Literal["query", "header", "path"] = "query"
    required: bool = False


@dataclass(frozen=True)
class Operation:
    """One operation."""

    id: str
    method: Method
    path: str
    summary: str
    description: str = ""
    call: Permission | None = None
    """What a key must be allowed; None: no key is needed."""
    params: tuple[Param, ...] = ()
    body: type[BaseModel] | None = None
    body_required: bool = False
    answers: tuple[type[BaseModel], ...] = ()
    """Of status 200; several: one of them."""
    kind: str = "application/json"
    stream: type[BaseModel] | None = None
    """One event of the stream that it answers with where the client accepts `text/event-stream`."""
    errors: tuple[int, ...] = field(default=())
    """Besides 401, 403, 429 and 503 of everything that needs a key."""


def page_size(default: int, most: int) -> Param:
    """The parameter `limit`."""
    schema = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    return Param("limit", schema, "how many to a page")
