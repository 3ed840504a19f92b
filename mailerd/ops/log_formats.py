"""What a line of the log looks like: for people, in JSON, and as journald's record; pure but for the time of day."""

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from mailerd.events.base import Event

_PRIORITIES: Final = {"debug": 7, "info": 6, "success": 5, "warning": 4, "error": 3, "critical": 2}
"""syslog's, see syslog(3): a letter sent is a notice; emerg (0) and alert (1) would shout on every terminal."""
_LEVELS: Final = {str(number): level for level, number in _PRIORITIES.items()}


def text(event: Event, *, words: str, stack: str) -> str:
    """A line for people; the stack, if any, follows it."""
    return f"{_now(' ')} {event.level.upper():<8} {words}\n{stack}"


def of_record(record: Mapping[str, str], *, at: int) -> str:
    """The line for people of a record that journald did not take; `at` is its nanosecond since 1970."""
    level = _LEVELS[record["PRIORITY"]]
    return f"{_moment(at, ' ')} {level.upper():<8} {record['MESSAGE']}\n"


def in_json(event: Event, *, fields: Mapping[str, object], words: str, stack: str) -> str:
    """A line for machines, with every field by its own name and the stack inside."""
    line = {
        "at": _now("T"),
        "level": event.level,
        "event": event.name,
        "message": words,
        **{key: value for key, value in fields.items() if not isinstance(value, BaseException)},
    }
    if stack:
        line["error"] = str(fields.get("error", ""))
        line["stack"] = stack
    return _encode(line) + "\n"


def record(event: Event, *, fields: Mapping[str, object], words: str, stack: str) -> dict[str, str]:
    """A record of journald's: every field by its own name, in capitals and after MAILERD_."""
    own = {
        f"MAILERD_{name.upper()}": _plain(value)
        for name, value in fields.items()
        if not isinstance(value, BaseException)
    }
    error = fields.get("error")
    if isinstance(error, BaseException):
        own["MAILERD_ERROR"] = f"{type(error).__name__}: {error}"
    return {
        "MESSAGE": f"{words}\n{stack.rstrip()}" if stack else words,
        "PRIORITY": str(_PRIORITIES[event.level]),
        "SYSLOG_IDENTIFIER": "mailerd",
        "MESSAGE_ID": event.id_by(fields[event.by]) if event.by else event.message_id,
        "MAILERD_EVENT": event.name,
        **own,
    }


def _plain(value: object) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)


_encode: Final = json.JSONEncoder(ensure_ascii=False, default=_plain).encode


def _now(between: str) -> str:
    return _moment(time.time_ns(), between)


def _moment(at: int, between: str) -> str:
    """A nanosecond since 1970 in UTC, to the millisecond; `between` stands between date and time."""
    second, rest = divmod(at, 1_000_000_000)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d{between}%H:%M:%S}.{rest // 1_000_000:03d}Z"
