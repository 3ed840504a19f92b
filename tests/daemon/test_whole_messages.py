"""Attachments, languages and inlined CSS, from the request to what Google's stand-in got."""

import json
import shutil
from base64 import b64encode
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from mailerd.config import Settings
from mailerd.gmail.session import GmailSession
from mailerd.intake.parse_job import parse_job
from mailerd.mail.template_library import TemplateLibrary
from mailerd.sandbox.google import FakeGoogle, RunningServer
from mailerd.store.db.database import Database
from mailerd.store.queue.job_content import job_content
from mailerd.store.write.api_keys import ApiKey
from mailerd.store.write.new_jobs import NewJobs
from mailerd.worker.message_builder import MAX_LARGE
from tests.support.daemon import running, settings
from tests.support.heard import Heard
from tests.support.rendering import reading
from tests.support.rows import query, states

EXAMPLES = Path(__file__).parents[2] / "examples" / "templates"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = ApiKey(
    id=1, name="k", digest=b"", hint="", senders=None, permissions=None, per_minute=None, created_at=NOW,
    revoked_at=None, last_used_at=None, old_until=None,
)  # fmt: skip


async def accept(database: Database, *, templates: Path | None = None, **fields: Any) -> str:
    """Store a request as the intake does."""
    body = {"sender_email": "me@example.com", "template": {"subject": "S", "html": "<p>x</p>"}, **fields}
    raw, library = json.dumps(body).encode(), TemplateLibrary(templates)
    async with reading() as reader:
        order = await parse_job(
            raw, key=KEY, now=NOW, max_recipients=1000, library=library, reader=reader, origin="the test"
        )
    await NewJobs(database, timeout=30).accept(order.job)
    return order.job.id


def by_recipient(google: FakeGoogle) -> dict[str, EmailMessage]:
    return {message.to: message_from_bytes(message.raw or b"", policy=default) for message in google.sent}


def a_file(name: str, content: bytes) -> dict[str, str]:
    return {"filename": name, "content_type": "application/pdf", "content": b64encode(content).decode()}


async def test_what_a_message_may_carry_counts_the_files_of_single_recipients_too(database: Database) -> None:
    recipients = [
        {"email": "a@example.org", "attachments": [a_file("a.pdf", b"1234567"), a_file("b.pdf", b"123")]},
        {"email": "b@example.org", "attachments": [a_file("b.pdf", b"123")]},
        {"email": "c@example.org"},
    ]
    both = await accept(database, attachments=[a_file("all.pdf", b"12345")], recipients=recipients)
    none = await accept(database, recipients=[{"email": "a@example.org"}])

    assert (await job_content(database, both)).attached_bytes == 15
    assert (await job_content(database, none)).attached_bytes == 0


async def test_everybody_gets_the_jobs_files_and_each_its_own(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    await accept(
        database,
        attachments=[a_file("all.pdf", b"all")],
        recipients=[
            {"email": "a@example.org", "attachments": [a_file("a.pdf", b"for a")]},
            {"email": "b@example.org", "attachments": [a_file("b.pdf", b"for b")]},
            {"email": "c@example.org"},
        ],
    )
    async with running(known, heard):
        await heard.wait_for("job_finished")
    got = {
        to: {part.get_filename(): part.get_content() for part in message.iter_attachments()}
        for to, message in by_recipient(google).items()
    }

    assert got == {
        "a@example.org": {"all.pdf": b"all", "a.pdf": b"for a"},
        "b@example.org": {"all.pdf": b"all", "b.pdf": b"for b"},
        "c@example.org": {"all.pdf": b"all"},
    }


async def test_a_message_of_thirty_megabytes_goes_by_the_upload_address(
    database_url: str,
    served: RunningServer,
    credentials: Path,
    database: Database,
    heard: Heard,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = settings(
        database_url,
        served,
        credentials,
        database={"statement_timeout": 20},
        gmail={"request_timeout": 15.0},
        runner={"lease": 40},
    )
    content = bytes(range(256)) * 85_000  # 21.8 MB, 30 MB in base64
    job = await accept(
        database,
        attachments=[a_file("big.pdf", content)],
        recipients=[{"email": f"r{number}@example.org"} for number in range(MAX_LARGE + 1)],
    )
    uploads: list[tuple[str, int]] = []
    send = GmailSession.send

    async def note(session: GmailSession, request: Any, **options: Any) -> Any:
        if "/upload/" in request.url:
            uploads.append((request.headers["Content-Type"], len(request.data)))
        return await send(session, request, **options)

    monkeypatch.setattr(GmailSession, "send", note)
    async with running(known, heard):
        await heard.wait_for("job_finished")

    assert await states(database, job) == {"sent": MAX_LARGE + 1}
    assert len(uploads) == MAX_LARGE + 1
    assert {kind for kind, _ in uploads} == {"message/rfc822"}
    assert min(size for _, size in uploads) > 29_000_000
    assert await query(database, "SELECT COUNT(DISTINCT digest) FROM attachment_chunks") == [(1,)]


async def test_a_job_keeps_the_template_that_it_was_posted_with(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(EXAMPLES, tmp_path / "templates"))
    fields: dict[str, Any] = {"templates": folder, "template": None, "template_name": "welcome"}
    fields["variables"] = {"product": "tea"}
    google.change_rules(latency_s=0.05)
    first = [{"email": f"r{number}@example.org", "name": "R", "language": "zh"} for number in range(30)]
    await accept(database, recipients=[*first, {"email": "en@example.org", "name": "E"}], **fields)
    async with running(known, heard) as daemon:
        await heard.wait_for("message_sent", times=3)
        (folder / "welcome" / "zh" / "subject.txt").write_text("new {{ name }}")
        await accept(database, recipients=[{"email": "late@example.org", "name": "L", "language": "zh"}], **fields)
        daemon.runner.wake()
        await heard.wait_for("job_finished", times=2)
    subjects = {to: str(message["Subject"]) for to, message in by_recipient(google).items()}

    assert subjects.pop("late@example.org") == "new L"
    assert subjects.pop("en@example.org") == "Welcome to tea, E"
    assert set(subjects.values()) == {"R，欢迎使用 tea"}
    message = by_recipient(google)["en@example.org"]
    html = message.get_body(("html",))
    assert html is not None
    assert '<h1 style="color: #205090;">' in html.get_content()
    assert [part["Content-ID"] for part in message.walk() if part.get_content_type() == "image/png"] == ["<logo.png>"]
