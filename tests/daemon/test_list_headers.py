"""What a message says of its list: three messages' raw headers, and links that unsubscribe."""

from email import message_from_bytes, policy
from email.message import EmailMessage
from urllib.parse import urlsplit

import pytest

from mailerd.config import Settings
from mailerd.core.suppression import read_token
from mailerd.sandbox.google import FakeGoogle
from mailerd.store.db.database import Database
from mailerd.store.write.secrets import Secrets
from mailerd.store.write.suppressions import Suppressions
from tests.support.daemon import running
from tests.support.heard import Heard
from tests.support.rows import post, query

ADA = "ada@example.org"
TEXT = "Dear {{ name }}, leave: {{ unsubscribe_url or 'no link' }}"


async def with_list(database: Database, title: str | None) -> tuple[str, int]:
    made = await (await Suppressions.open(database, timeout=5)).make_list("autumn_news", title=title)
    job = await post(database, recipients=[ADA], text=TEXT, list_id=made.id)
    return job, made.id


async def only_message(known: Settings, google: FakeGoogle, heard: Heard, base_url: str) -> EmailMessage:
    public = known.public.model_copy(update={"base_url": base_url})
    async with running(known.model_copy(update={"public": public}), heard):
        await heard.wait_for("message_sent")
    (message,) = google.sent
    return message_from_bytes(message.raw, policy=policy.default)


async def test_a_list_with_a_public_address_is_left_by_one_click(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    _, list_id = await with_list(database, "Autumn news")
    message = await only_message(known, google, heard, "https://mail.example.com")
    raw = google.sent[0].raw.partition(b"\r\n\r\n")[0].decode("ascii")
    lines = [line for line in raw.split("\r\n") if line.startswith(("List-", " <mailto"))]
    url = lines[0].removeprefix("List-Unsubscribe: <").removesuffix(">,")
    assert lines == [
        f"List-Unsubscribe: <{url}>,",
        f" <mailto:me+unsub@example.com?subject=u.{url.rpartition('/')[2]}>",
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        "List-Id: Autumn news <autumn-news.example.com>",
    ]
    keys = await Secrets(database, timeout=5).keys()
    token = read_token(urlsplit(url).path.removeprefix("/u/"), keys.tokens)
    ((recipient,),) = await query(database, "SELECT id FROM job_recipients")
    assert token is not None
    assert (token.list_id, token.recipient_id) == (list_id, recipient)
    assert token.digest == Suppressions(database, key=keys.address, timeout=5).digest(ADA)
    assert url in message.get_content()


async def test_without_a_public_address_there_is_the_mailto_form_alone(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    await with_list(database, "秋季通讯")
    message = await only_message(known, google, heard, "")
    assert message["List-Unsubscribe"].startswith("<mailto:me+unsub@example.com?subject=u.")
    assert "https" not in message["List-Unsubscribe"]
    assert message["List-Unsubscribe-Post"] is None
    assert "秋季通讯" in message["List-Id"]
    assert "no link" in message.get_content()


@pytest.mark.parametrize("base_url", ["", "https://mail.example.com"])
async def test_a_message_of_no_list_says_nothing(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard, base_url: str
) -> None:
    await post(database, recipients=[ADA], text=TEXT)
    message = await only_message(known, google, heard, base_url)
    assert [name for name in message.keys() if name.lower().startswith("list-")] == []  # noqa: SIM118
    assert "no link" in message.get_content()
