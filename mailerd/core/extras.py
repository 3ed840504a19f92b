"""What a job and its recipients may bring besides: headers, metadata, copies."""

import json
from typing import Final, NamedTuple


class Extras(NamedTuple):
    """What a job or a recipient brings beside its variables, each as JSON; the names are columns of
    both tables.

    A field that stands here goes from the reading of a post to its row.
    """

    headers: str | None = None
    """Headers of its own: by name what it says."""
    metadata: str | None = None
    """What the application wants to have back with it."""
    copy_list: str | None = None
    """Who gets a copy, as core/copies.py writes it; None: those that the job names, if any."""
    copies: int = 0
    """What the copies cost of the sender's day, beside one for each message."""


NO_EXTRAS: Final = Extras()


def read_metadata(text: str | None) -> dict[str, str]:
    """The metadata of a row; empty where it has none."""
    found: dict[str, str] = json.loads(text) if text else {}
    return found
