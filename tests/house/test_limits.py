"""The page of limits says what the code does."""

import re
from typing import Final

from mailerd.config import Settings
from mailerd.core import copies, rate_limit
from mailerd.http import auth, errors, requests, responses, server
from mailerd.intake import (
    create_job,
    events_endpoint,
    read_jobs,
    request_models,
    senders,
    stats,
    strict_json,
    template_body,
    tests_of_jobs,
)
from mailerd.mail import mime, render, renderer, spreadsheet, table_checker, template_library
from mailerd.operations import suppressions
from mailerd.store.read import lookup
from mailerd.store.write import api_keys, event_feed, job_actions, tags, templates
from mailerd.web.frame import forms
from mailerd.web.send import draft, send_message_page, send_table
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
STREAM: Final = rate_limit.rate(rate_limit.SenderLimits(rate_limit.STANDARD_UNITS, per_minute=0, per_day=0))
assert STREAM is not None
CONSTANTS: Final[dict[str, float]] = {
    "quota units of one message": rate_limit.DRAFT_PAIR_UNITS,
    "messages per mailbox and minute, about": round(60 / STREAM.interval.total_seconds()),
    "of these, messages of 1 MB or more": message_builder.MAX_LARGE,
    "seconds for the body to arrive": requests.BODY_TIMEOUT,
    "days that `send_at` may be ahead": request_models.MAX_SEND_AHEAD.days,
    "characters of an `Idempotency-Key`": create_job.MAX_KEY,
    "addresses of a test": tests_of_jobs.MAX_ADDRESSES,
    "actions shown of a job": job_actions.MAX_ACTIONS,
    "characters of a search, at least": lookup.MIN_TEXT,
    "days of one period of statistics": stats.MAX_DAYS,
    "attachments in one list": mime.MAX_ATTACHMENTS,
    "tags": tags.MAX_TAGS,
    "headers, or keys of metadata, of the job or of a recipient": request_models.MAX_ENTRIES,
    "bytes of such headers, as JSON": request_models.MAX_HEADERS,
    "characters of a header's value": mime.MAX_HEADER_VALUE,
    "bytes of the job's metadata, as JSON": request_models.MAX_METADATA,
    "bytes of a recipient's metadata, as JSON": request_models.MAX_OWN_METADATA,
    "characters of a value of metadata": request_models.MAX_METADATA_VALUE,
    "addresses in one `cc`, or in one `bcc`": copies.MAX_COPIES,
    "bytes with attachments, base64 included": mime.MAX_MESSAGE_BYTES,
    "characters of the subject": render.MAX_SUBJECT,
    "characters of the HTML, or of the text": render.MAX_OUTPUT,
    "values in its variables": strict_json.MAX_VARIABLES,
    "levels of a variable": strict_json.MAX_DEPTH,
    "seconds of a dry run": create_job.DRY_RUN_TIMEOUT,
    "rejected recipients listed in a response": create_job.MAX_REJECTED_LISTED,
    "bytes of that list": create_job.MAX_REJECTED_BYTES,
    "errors listed in a response": errors.MAX_DETAILS,
    "errors counted in a response": errors.MAX_COUNTED,
    "seconds of CPU to render it": renderer.CHECK_LIMITS.cpu,
    "MB of memory to render it": renderer.CHECK_LIMITS.memory / 1024**2,
    "jobs per page": read_jobs.MAX_JOBS_LIMIT,
    "senders per page": senders.MAX_PAGE,
    "recipients per page": read_jobs.MAX_RECIPIENTS_LIMIT,
    "events per page": event_feed.MAX_PAGE,
    "bytes of a page of events": event_feed.MAX_BYTES,
    "seconds for the first request of a connection": server.FIRST_REQUEST_TIMEOUT,
    "seconds for a response to be read": responses.WRITE_TIMEOUT,
    "connections": server.MAX_CONNECTIONS,
    "invalid keys per minute and address": auth.MAX_FAILURES_PER_MINUTE,
    "hours of an event stream": events_endpoint.MAX_STREAM_SECONDS / 3600,
    "MiB of a table": forms.MAX_TABLE / 1024**2,
    "columns of a table": spreadsheet.MAX_COLUMNS,
    "cells of a table": spreadsheet.MAX_CELLS,
    "seconds of CPU to read or check a table": max(spreadsheet.LIMITS.cpu, table_checker.LIMITS.cpu),
    "characters of a text that is written there": send_message_page.MAX_WRITTEN,
    "variables that its message reads": draft.MAX_NAMES,
    "characters of the texts for empty cells": send_table.MAX_DECIDED,
    "hours of a session without a request": api_keys.IDLE.total_seconds() / 3600,
    "days of a session": api_keys.LONGEST.days,
    "minutes of a sign-in link": api_keys.LINK_VALID.total_seconds() / 60,
    "templates": templates.MAX_NAMES,
    "versions of each": templates.MAX_VERSIONS,
    "files of a version": template_library.MAX_FILES,
    "bytes of a version, images included": template_library.MAX_BYTES,
    "bytes of its examples, as JSON": template_body.MAX_VARIABLES,
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


def test_every_page_says_the_same_rate() -> None:
    rate = f"{CONSTANTS['messages per mailbox and minute, about']:.0f}"
    pages = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").rglob("*.md"))]
    said = {
        str(page.relative_to(ROOT)): found
        for page in pages
        if (found := re.findall(r"about (\d+)(?: messages)? a minute|每分钟约(?:发送)? ?(\d+) 封", Paper(page).prose))
    }
    assert len(said) >= 6
    assert {number for found in said.values() for pair in found for number in pair if number} == {rate}
