"""Makes the job of a table, as JSON, row by row, so that no table takes more memory than a job may."""

import io
import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from mailerd.mail.recipient_table import TableError, read_rows

_ENCODE: Final = json.JSONEncoder(ensure_ascii=False).encode
_ENCODE_SORTED: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode


@dataclass(frozen=True)
class JobLimits:
    """What a job may have, as the API has it."""

    body: int
    """Bytes of its JSON (intake.max_body)."""
    recipients: int


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
    table: bytes, fields: dict[str, str], *, name: str, dry_run: bool, version: str, limits: JobLimits
) -> TableJob:
    """The job of a table that is called `name`; it takes seconds, so a thread does it.

    `fields`: those of the job beside its recipients. `version`: the template's.

    Raises:
        TableError: the table cannot be used, or its job would be too large.
        UnicodeDecodeError: it is not UTF-8.
    """
    before, after = _around(fields)
    digest, lines = sha256(before), list[int]()
    body = bytearray(_ENCODE(fields)[:-1].encode() + b', "recipients": [')
    opened_file = io.TextIOWrapper(io.BytesIO(table), encoding="utf-8-sig", newline="")
    for line, recipient in read_rows(opened_file, name):
        between = b", " if lines else b""
        body += between + _ENCODE(recipient).encode()
        digest.update(between + _ENCODE_SORTED(recipient).encode())
        lines.append(line)
        if len(lines) > limits.recipients:
            raise TableError(
                f"{name}: it has more than {limits.recipients:,} recipients, the limit of intake.max_recipients"
            )
        if len(body) > limits.body:
            raise TableError(f"{name}: its job has more than {limits.body:,} bytes, the limit of intake.max_body")
    body += b'], "dry_run": true}' if dry_run else b'], "dry_run": false}'
    digest.update(after + version.encode())
    return TableJob(body, f"console-{digest.hexdigest()}", lines)


def _around(fields: dict[str, Any]) -> tuple[bytes, bytes]:
    """What stands before and behind the recipients in the job's JSON with sorted names."""
    before, after = _ENCODE_SORTED(fields | {"recipients": []}).split('"recipients": []')
    return f'{before}"recipients": ['.encode(), f"]{after}".encode()
