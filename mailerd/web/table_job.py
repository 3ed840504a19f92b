"""Makes the job of a table, as JSON, row by row, so that no table takes more memory than a job may."""

import io
import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from mailerd.config import IntakeSettings
from mailerd.mail.recipient_table import TableError, read_rows

_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode
"""Sorted, so that a table whose columns stand in another order is the same job, byte for byte."""


@dataclass(frozen=True)
class TableJob:
    """A job that can be posted."""

    body: bytearray
    """The JSON that the API takes."""
    once: str
    """Its idempotency key: the same table with the same version of its template has the same key."""
    lines: list[int]
    """The line of the table on which each recipient ends."""


def make_job(
    table: bytes, fields: dict[str, str], *, name: str, dry_run: bool, version: str, limits: IntakeSettings
) -> TableJob:
    """The job of a table that is called `name`; it takes seconds, so a thread does it.

    `fields`: those of the job beside its recipients. `version`: the template's. `limits`: what the API takes.

    Raises:
        TableError: the table cannot be used, or its job would be too large.
        UnicodeDecodeError: it is not UTF-8.
    """
    lines = list[int]()
    body = bytearray(_ENCODE(fields)[:-1].encode() + b', "recipients": [')
    opened_file = io.TextIOWrapper(io.BytesIO(table), encoding="utf-8-sig", newline="")
    for line, recipient in read_rows(opened_file, name):
        body += (b", " if lines else b"") + _ENCODE(recipient).encode()
        lines.append(line)
        if len(lines) > limits.max_recipients:
            raise TableError(
                f"{name}: it has more than {limits.max_recipients:,} recipients, the limit of intake.max_recipients"
            )
        if len(body) > limits.max_body:
            raise TableError(f"{name}: its job has more than {limits.max_body:,} bytes, the limit of intake.max_body")
    digest = sha256(body)
    digest.update(version.encode())
    body += b'], "dry_run": true}' if dry_run else b'], "dry_run": false}'
    return TableJob(body, f"console-{digest.hexdigest()}", lines)
