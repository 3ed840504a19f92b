"""The page of limits says what the code does."""

import re
from typing import Final

from mailerd.config import Settings
from mailerd.core import rate_limit
from mailerd.http import auth, requests, server
from mailerd.intake import events_endpoint, read_jobs, request_models, strict_json, suppressions
from mailerd.mail import mime, render, renderer
from mailerd.store import api_keys
from mailerd.web import forms
from mailerd.worker import message_builder
from tests.house.markdown import Paper
from tests.house.source import ROOT

DAY: Final = 86_400
DEFAULT: Final = Settings()
SETTINGS: Final = {
    "pace.per_day": 1, "pace.consumer_per_day": 1, "pace.units_per_minute": 1, "pace.project_units_per_minute": 1,
    "runner.concurrency": 1, "gmail.request_timeout": 1, "retry.max_attempts": 1, "retry.cap": 1,
    "intake.max_recipients": 1, "intake.max_body": 1, "intake.idempotency_keep": DAY, "safety.job_bounces": 1,
    "safety.sender_bounces": 1, "webhooks.timeout": 1, "webhooks.pause_after": DAY, "retention.events": 1,
}  # fmt: skip
"""The settings of the page, each with the seconds of its unit there."""
CONSTANTS: Final[dict[str, float]] = {
    "quota units of one message": rate_limit.DRAFT_PAIR_UNITS,
    "messages per mailbox and minute": rate_limit.STANDARD_UNITS // rate_limit.DRAFT_PAIR_UNITS,
    "of these, messages of 1 MB or more": message_builder.MAX_LARGE,
    "seconds for the body to arrive": requests.BODY_TIMEOUT,
    "days that `send_at` may be ahead": request_models.MAX_SEND_AHEAD.days,
    "attachments in one list": request_models.MAX_ATTACHMENTS,
    "bytes with attachments, base64 included": mime.MAX_MESSAGE_BYTES,
    "characters of the subject": render.MAX_SUBJECT,
    "characters of the HTML, or of the text": render.MAX_OUTPUT,
    "variables": strict_json.MAX_VARIABLES,
    "seconds of CPU to render it": renderer.CHECK_LIMITS.cpu,
    "MB of memory to render it": renderer.CHECK_LIMITS.memory / 1024**2,
    "jobs per page": read_jobs.MAX_JOBS_LIMIT,
    "recipients per page": read_jobs.MAX_RECIPIENTS_LIMIT,
    "connections": server.MAX_CONNECTIONS,
    "invalid keys per minute and address": auth.MAX_FAILURES_PER_MINUTE,
    "hours of an event stream": events_endpoint.MAX_STREAM_SECONDS / 3600,
    "MiB of a table": forms.MAX_TABLE / 1024**2,
    "hours of a session without a request": api_keys.IDLE.total_seconds() / 3600,
    "days of a session": api_keys.LONGEST.days,
    "minutes of a sign-in link": api_keys.LINK_VALID.total_seconds() / 60,
    "suppressions per request": suppressions.MAX_AT_ONCE,
}


def test_every_number_on_the_page_of_limits_is_the_one_of_the_code() -> None:
    found: dict[str, float] = {}
    for line in Paper(ROOT / "docs/reference/limits.md").text.splitlines():
        name, number, setting = [*(cell.strip() for cell in line.strip("|").split("|")), "", ""][:3]
        if re.match(r"\d", number):
            named = re.match(r"`(\w+\.\w+)`", setting)
            found[named[1] if named else name] = float(number.replace(",", ""))
    wanted = dict(CONSTANTS)
    for path, seconds in SETTINGS.items():
        section, key = path.split(".")
        wanted[path] = getattr(getattr(DEFAULT, section), key) / seconds
    assert found == wanted


def test_the_chinese_page_of_limits_has_the_same_numbers() -> None:
    english, chinese = (
        re.findall(r"\| ([\d,.]+) \|", Paper(ROOT / f"docs/reference/{name}").text)
        for name in ("limits.md", "limits.zh-CN.md")
    )
    assert english == chinese
