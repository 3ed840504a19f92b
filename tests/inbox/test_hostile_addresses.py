"""An address may look like a code or an article of Google's: what it says is its owner's, and nothing of the notice."""

from pathlib import Path
from typing import Final

from mailerd.sandbox.google import FakeGoogle, RunningServer
from mailerd.store.db.database import Database
from tests.inbox.place import arrive, read_up, reading, results
from tests.support.daemon import running
from tests.support.heard import Heard
from tests.support.rows import post, query

HOSTILE: Final = (
    "5.4.5@dead.example", "p=DailyLimitExceeded@dead.example", "answer/22839@dead.example",
    "ada+answer/166852@dead.example", "support.google.com/a/answer/166852@dead.example", "550-5.4.5@dead.example",
    "delayed@dead.example", "x@a-5.4.5-a.example", "x@p-dailylimitexceeded.example",
    "x@xn--fhq4vr0j699ewyal1w.example",
)  # fmt: skip
"""Each is taken by the check of addresses; the last one's domain shows as 邮件发送上限.example to people."""


async def test_a_dead_address_that_reads_like_a_limit_is_a_dead_address(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=[*HOSTILE, "plain@dead.example"])
        await heard.wait_for("job_finished")
        for message in list(google.sent):
            arrive(google, message, "dead_domain")
        await read_up(database, google)
    assert set((await results(database)).values()) == {("bounced", "hard", "4.0.0")}
    assert len(google.sent) == len(HOSTILE) + 1, "nothing was sent again"
    assert heard.of("sender_paused") == []
    suppressed = await query(database, "SELECT address FROM suppressions")
    assert {it for (it,) in suppressed} == {it.lower() for it in (*HOSTILE, "plain@dead.example")}


async def test_a_mailbox_that_receives_too_much_is_not_given_up(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        for _ in range(3):
            await post(database, recipients=1)
        await heard.wait_for("job_finished", times=3)
        for message in list(google.sent):
            arrive(google, message, "rate")
        await read_up(database, google)
    rows = await query(database, "SELECT result, result_kind, result_code FROM job_recipients")
    assert rows == [("bounced", "soft", "5.2.1")] * 3
    assert await query(database, "SELECT address FROM suppressions") == [], "it gets mail, and more than it can take"
