"""What comes back of a message that was sent without a draft, whose thread is known only once Google has answered."""

from pathlib import Path

import pytest

from mailerd.config import Settings
from mailerd.sandbox.google import SEND, FakeGoogle, Fault, RunningServer
from mailerd.sandbox.google.fake_limits import READONLY
from mailerd.sandbox.google.notices import write
from mailerd.store.db.database import Database
from tests.inbox.place import ME, TRUTH, arrive, read_up, reading, results
from tests.support.daemon import running, sign_in
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.rows import post, query


@pytest.fixture
def known(database_url: str, served: RunningServer, google: FakeGoogle, tmp_path: Path) -> Settings:
    """A daemon that may send and read, and use no drafts; a request without an answer is settled after a second."""
    found = reading(
        database_url, served, google, tmp_path / "c", gmail={"request_timeout": 0.5},
        runner={"lease": 4, "poll_interval": 0.1},
    )  # fmt: skip
    sign_in(google, tmp_path / "c", ME, scopes=(SEND, READONLY))
    return found


async def found_in_sent(google: FakeGoogle, database: Database, heard: Heard) -> None:
    """A message whose answer got lost, and that was found in the sent mail."""
    google.fault(Fault(kind="reset_after", method="messages.send", count=1))
    await post(database, recipients=1)
    await heard.wait_for("message_found")
    assert await query(database, "SELECT status, mode, proof FROM job_recipients") == [
        ("sent", "direct", "seen in SENT")
    ]


async def test_an_answer_to_a_message_that_was_found_is_known(
    known: Settings, google: FakeGoogle, database: Database, heard: Heard
) -> None:
    async with running(known, heard):
        await found_in_sent(google, database, heard)
        arrive(google, google.sent[0], "reply")
        await read_up(database, google)
    assert list((await results(database)).values()) == [("replied", None, None)]


async def test_a_message_that_was_found_and_given_back_is_sent_again_once(
    known: Settings, google: FakeGoogle, database: Database, heard: Heard
) -> None:
    async with running(known, heard):
        await found_in_sent(google, database, heard)
        arrive(google, google.sent[0], "limit")
        await heard.wait_for("message_returned")
        await heard.wait_for("message_sent")
    assert await query(database, "SELECT status, message_id FROM job_recipients") == [("sent", google.sent[1].id)]


async def test_a_limit_notice_waits_for_a_message_in_doubt_whose_thread_is_not_known(
    known: Settings, google: FakeGoogle, database: Database, heard: Heard
) -> None:
    async with running(known, heard):
        await found_in_sent(google, database, heard)
        await read_up(database, google)
        doubt = "UPDATE job_recipients SET status = 'unsure', thread_id = NULL, message_id = NULL, proof = NULL"
        await query(database, doubt)
        await query(database, "UPDATE jobs SET status = 'sending', finished_at = NULL")
        arrive(google, google.sent[0], "limit")
        await read_up(database, google)
        assert (await query(database, "SELECT waiting_from FROM mailboxes"))[0][0]
        settled = "UPDATE job_recipients SET status = 'sent', thread_id = %s, message_id = %s, proof = 'seen in SENT'"
        await query(database, settled, google.sent[0].thread_id, google.sent[0].id)
        await heard.wait_for("message_returned")


@pytest.mark.parametrize("shape", ["reply", "auto_reply", "hard", "soft", "limit_bare", "limit"])
@pytest.mark.parametrize("labels", [("CATEGORY_PERSONAL", "INBOX"), ("CATEGORY_UPDATES", "INBOX")])
async def test_what_comes_before_the_outcome_is_known_is_not_forgotten(
    known: Settings, google: FakeGoogle, database: Database, heard: Heard, shape: str, labels: tuple[str, ...]
) -> None:
    async with running(known, heard):
        await post(database, recipients=["first@example.org"])
        await heard.wait_for("job_finished")
        await read_up(database, google)
        google.fault(Fault(kind="hang_after", method="messages.send", count=1, seconds=5))
        await post(database, recipients=1)
        await eventually(lambda: _was_sent(google))
        _, message = google.sent
        came = google.mailbox(ME).receive(write(shape, message).raw, thread_id=message.thread_id, now=google.now())
        google.mailbox(ME).history[-1] = google.mailbox(ME).history[-1]._replace(labels=labels)
        own = google.mailbox(ME).receive(
            b"From: x@friend.example\r\nSubject: Re: 1\r\n\r\nx", thread_id="", now=came.at
        )
        google.mailbox(ME).receive(
            b"From: x@friend.example\r\nSubject: Re: 1\r\n\r\nx", thread_id=own.thread_id, now=came.at
        )
        undecided = "SELECT status IN ('sending', 'unsure'), thread_id FROM job_recipients WHERE id = %s"
        ((row,),) = await query(database, "SELECT MAX(id) FROM job_recipients")
        assert await query(database, undecided, row) == [(1, None)]
        await read_up(database, google)  # it is met while nothing is known
        await heard.wait_for("message_found")
        if shape.startswith("limit"):
            await heard.wait_for("message_returned")
            return

        async def is_known() -> bool:
            return (await results(database))[message.to] == TRUTH[shape]

        async def nothing_waits() -> bool:
            return await query(database, "SELECT waiting_from FROM mailboxes") == [(None,)]

        await eventually(is_known)
        await eventually(nothing_waits)


async def _was_sent(google: FakeGoogle) -> bool:
    return len(google.sent) == 2
