"""What commands and pages read of notices."""

from datetime import timedelta

from mailerd.store.db.database import Database
from mailerd.store.inbox.mailboxes import NoticeReader
from tests.support.rows import query


async def test_bounces_are_read_newest_first_and_by_domain(database: Database) -> None:
    rows = [
        ("hard", "a@x.example", 1),
        ("soft", "b@X.example", 1),
        ("hard", "c@y.example", 1),
        ("reply", "d@y.example", 1),
        ("hard", "e@y.example", 0),
    ]
    for number, (kind, email, believed) in enumerate(rows):
        await query(
            database,
            "INSERT INTO notices (mailbox, gmail_id, thread_id, recipient_id, email, kind, believed, at) "
            "VALUES ('me@example.com', %s, 't', %s, %s, %s, %s, UTC_TIMESTAMP(6))",
            f"g{number}", number, email, kind, believed,
        )  # fmt: skip
    await query(database, "UPDATE notices SET sender_email = mailbox")
    reader = NoticeReader(database, timeout=5)
    assert [it.email for it in await reader.latest(senders=["me@example.com"])] == [
        "e@y.example", "c@y.example", "b@X.example", "a@x.example"]  # fmt: skip
    assert [it.email for it in await reader.latest(kinds=("soft",))] == ["b@X.example"]
    by_domain = await reader.by_domain(span=timedelta(days=1))
    assert [(it.name, it.total) for it in by_domain] == [("x.example", 2), ("y.example", 1)]
    assert await reader.by_domain(span=timedelta(days=1), sender="other@example.com") == []
    assert [(it.name, it.total) for it in await reader.by_sender(span=timedelta(days=1))] == [("me@example.com", 3)]
    assert [it.kind for it in await reader.of_message(3)] == ["reply"]
