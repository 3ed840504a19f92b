"""Reads what a browser has sent: bounded in size and time, and whatever is wrong with it is the sender's fault."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from aiohttp.web_request import FileField

from mailerd.web.services import RefusedError

MAX_FORM: Final = 64 * 1024
"""Bytes of a form without a table; the longest has a webhook's address."""
MAX_TABLE: Final = 16 * 1024 * 1024
"""Bytes of a form with a table of addresses."""
FORM_TIMEOUT: Final = 30.0
"""Seconds for the whole of it to come."""


@dataclass(frozen=True)
class Form:
    """The fields of a form, in their order; a file is its bytes."""

    fields: Sequence[tuple[str, str | bytes]]

    def get(self, name: str, default: str = "") -> str | bytes:
        """The first field of a name."""
        return next((value for field, value in self.fields if field == name), default)

    def all(self, name: str) -> list[str]:
        """Every text of a name."""
        return [value for field, value in self.fields if field == name and isinstance(value, str)]

    def texts(self) -> dict[str, str]:
        """Every text, by its name."""
        return {field: value for field, value in self.fields if isinstance(value, str)}


def read_number[N: (int, float)](text: str, *, least: N, most: N) -> N:
    """The number of a field, of the kind that its bounds are of.

    Raises:
        ValueError: it is none, or beyond them.
    """
    value = type(most)(text)
    if not least <= value <= most:
        raise ValueError(text)
    return value


async def read_form(request: web.Request, *, most: int = MAX_FORM) -> Form:
    """The fields of a form.

    Raises:
        RefusedError: it is too large, too slow, or cannot be read.
    """
    try:
        async with asyncio.timeout(FORM_TIMEOUT):
            fields = await request.clone(client_max_size=most).post()
            return Form([(name, _content(value)) for name, value in fields.items()])
    except TimeoutError:
        raise RefusedError(f"the form did not come within {FORM_TIMEOUT:g} s", status=408) from None
    except web.HTTPRequestEntityTooLarge:
        raise RefusedError(f"the form is larger than {most:,} bytes", status=413) from None
    except ConnectionError:
        raise
    except Exception as error:
        raise RefusedError("the form cannot be read", status=400) from error


def _content(value: str | bytes | bytearray | FileField) -> str | bytes:
    if isinstance(value, FileField):
        with value.file:
            return value.file.read()
    return value if isinstance(value, str) else bytes(value)
