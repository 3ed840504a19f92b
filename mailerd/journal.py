"""The log's door: takes events and writes them as lines for people or as JSON; only this module imports loguru."""

import json
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from loguru import logger

from mailerd.config import LogSettings
from mailerd.events.speech import Event

if TYPE_CHECKING:
    from loguru import Message, Record

_NUMBERS: Final = {"debug": 10, "info": 20, "success": 25, "warning": 30, "error": 40, "critical": 50}
"""loguru's own severities: https://loguru.readthedocs.io/en/stable/api/logger.html"""


class Journal:
    """Where a process's events go; `tell` is what every class of events is given."""

    def __init__(self, settings: LogSettings) -> None:
        self._least = _NUMBERS[settings.level]
        self._chinese = settings.language == "zh"
        write = _write_json if settings.format == "json" else _write_text
        logger.remove()
        logger.add(write, level=settings.level.upper(), format="{message}", backtrace=True, diagnose=False, catch=True)

    def tell(self, event: Event, fields: Mapping[str, object], /) -> None:
        """Write one event; what is below the level costs next to nothing."""
        if _NUMBERS[event.level] < self._least:
            return
        error = fields.get("error")
        text = (event.zh if self._chinese else event.en).format_map(fields)
        told = logger.opt(exception=error) if isinstance(error, BaseException) else logger
        told.bind(event=event.name, fields=fields).log(event.level.upper(), text.replace("\n", "\n    "))


def _write_text(message: "Message") -> None:
    record = message.record
    moment = record["time"].astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    _out(f"{moment}Z {record['level'].name:<8} {record['message']}\n{_stack(record)}")


def _write_json(message: "Message") -> None:
    record = message.record
    fields = record["extra"].get("fields", {})
    line = {
        "at": record["time"].astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record["level"].name.lower(),
        "event": record["extra"].get("event", ""),
        "message": record["message"],
        **{key: value for key, value in fields.items() if not isinstance(value, BaseException)},
    }
    if stack := _stack(record):
        line["error"] = str(fields.get("error", ""))
        line["stack"] = stack
    _out(json.dumps(line, ensure_ascii=False, default=_plain) + "\n")


def _plain(value: object) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)


def _stack(record: "Record") -> str:
    """The stack with its causes; values of variables are left out, they may be secrets."""
    if record["exception"] is None:
        return ""
    return "".join(traceback.format_exception(*record["exception"]))


def _out(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
