"""What an application gives to a message: its headers reach Google, its metadata and tags never do."""

import json
from email import message_from_bytes, policy

from mailerd.config import Settings
from mailerd.core.extras import Extras
from mailerd.sandbox.google import FakeGoogle
from mailerd.store.db.database import Database
from tests.support.daemon import running
from tests.support.heard import Heard
from tests.support.rows import post

OF_JOB = Extras(
    headers=json.dumps({"X-Order": "of the job", "Auto-Submitted": "auto-generated"}),
    metadata=json.dumps({"campaign": "secret-1"}),
)
OWN = Extras(
    headers=json.dumps({"x-order": "17", "References": "<a@example.com> <b@example.com>", "Comments": "für Ada"}),
    metadata=json.dumps({"customer": "secret-2"}),
)


async def test_a_message_has_the_headers_of_its_job_and_its_own_and_no_metadata(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    await post(database, recipients=["ada@example.org"], extras=OF_JOB, own=OWN, tags=["secret-3"])
    async with running(known, heard):
        await heard.wait_for("message_sent")
    (sent,) = google.sent
    message = message_from_bytes(sent.raw, policy=policy.default)
    assert message.get_all("X-Order") == ["17"]
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["References"] == "<a@example.com> <b@example.com>"
    assert message["Comments"] == "für Ada"
    assert b"secret" not in sent.raw
    assert "metadata" not in sent.raw.decode().lower()


async def test_a_header_that_this_version_does_not_allow_fails_its_message_and_is_not_sent(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    await post(database, recipients=["ada@example.org"], own=Extras(headers=json.dumps({"Bcc": "eve@example.com"})))
    async with running(known, heard):
        await heard.wait_for("message_failed")
    assert google.sent == []
