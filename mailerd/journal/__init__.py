"""The log's door: takes events and writes them for people, as JSON or to journald; only this module imports loguru."""

import json
import os
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from loguru import logger

from mailerd.config import LogSettings
from mailerd.events.process import ProcessEvents
from mailerd.events.speech import Event, Tell
from mailerd.journal.native import Native, under_systemd

if TYPE_CHECKING:
    from loguru import Message, Record

_NUMBERS: Final = {"debug": 10, "info": 20, "success": 25, "warning": 30, "error": 40, "critical": 50}
"""loguru's own severities: https://loguru.readthedocs.io/en/stable/api/logger.html"""


_PRIORITIES: Final = {"debug": 7, "info": 6, "success": 5, "warning": 4, "error": 3, "critical": 2}
"""syslog's, see syslog(3): a letter sent is a notice; emerg (0) and alert (1) would shout on every terminal."""


class Journal:
    """Where a process's events go; `tell` is what every class of events is given."""

    def __init__(self, settings: LogSettings) -> None:
        self._native: Native | None = None
        self.configure(settings)

    def configure(self, settings: LogSettings) -> None:
        """Take other settings, from the next event on."""
        self._least = _NUMBERS[settings.level]
        self._chinese = settings.language == "zh"
        kind = _kind(settings)
        if kind == "journald" and self._native is None:
            self._native = Native(lost=self._lost, told=self._lost_told)
        write = {"json": _write_json, "text": _write_text, "journald": self._write_native}[kind]
        logger.remove()
        logger.add(write, level=settings.level.upper(), format="{message}", backtrace=True, diagnose=False, catch=True)

    def tell(self, event: Event, fields: Mapping[str, object], /) -> None:
        """Write one event; what is below the level costs next to nothing."""
        if _NUMBERS[event.level] < self._least:
            return
        error = fields.get("error")
        text = self._words(event, fields)
        told = logger.opt(exception=error) if isinstance(error, BaseException) else logger
        told.bind(event=event, fields=fields).log(event.level.upper(), text.replace("\n", "\n    "))

    def flush(self) -> bool:
        """Try again what journald did not take; whether more is left. Where the log goes elsewhere, nothing is."""
        return self._native is not None and self._native.flush()

    def close(self) -> None:
        """The end: what journald does not take now is lost."""
        if self._native is not None:
            self._native.close()

    def _words(self, event: Event, fields: Mapping[str, object]) -> str:
        return (event.zh if self._chinese else event.en).format_map(fields)

    def _write_native(self, message: "Message") -> None:
        record = message.record
        event, stack = record["extra"]["event"], _stack(record)
        text = f"{record['message']}\n{stack.rstrip()}" if stack else record["message"]
        if self._native is not None:
            self._native.write(_record(event, record["extra"]["fields"], text=text))

    def _lost(self, number: int) -> Mapping[str, str]:
        """The record that tells of lost ones."""
        made: list[Mapping[str, str]] = []
        ProcessEvents(
            lambda event, fields: made.append(_record(event, fields, text=self._words(event, fields)))
        ).log_records_lost(lost=number)
        return made[0]

    def _lost_told(self, number: int) -> None:
        if self.on_lost is not None:
            ProcessEvents(self.on_lost).log_records_lost(lost=number)

    on_lost: Tell | None = None
    """Who else shall hear of lost records, once the log has told of them: the metrics."""


def _kind(settings: LogSettings) -> Literal["journald", "text", "json"]:
    if settings.format == "auto":
        return "journald" if under_systemd(os.environ) else "text"
    return settings.format


def _record(event: Event, fields: Mapping[str, object], *, text: str) -> dict[str, str]:
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
        "MESSAGE": text,
        "PRIORITY": str(_PRIORITIES[event.level]),
        "SYSLOG_IDENTIFIER": "mailerd",
        "MESSAGE_ID": event.message_id,
        "MAILERD_EVENT": event.name,
        **own,
    }


def _write_text(message: "Message") -> None:
    record = message.record
    moment = record["time"].astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    _out(f"{moment}Z {record['level'].name:<8} {record['message']}\n{_stack(record)}")


def _write_json(message: "Message") -> None:
    record = message.record
    fields = record["extra"]["fields"]
    line = {
        "at": record["time"].astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record["level"].name.lower(),
        "event": record["extra"]["event"].name,
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
