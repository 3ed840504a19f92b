"""A recipient forges notices with all that the own message shows, and reaches no other recipient."""

from pathlib import Path
from typing import Final

from mailerd.sandbox.google import FakeGoogle, RunningServer
from mailerd.sandbox.google.mailbox import Message
from mailerd.store.db.database import Database
from tests.inbox.place import ME, read_up, reading, results
from tests.support.daemon import running
from tests.support.heard import Heard
from tests.support.rows import post, query

EVE: Final = "r7@example.org"
OTHERS: Final = [f"r{number}@example.org" for number in range(10) if number != 7]


def forged(key: str, *, named: str = "", proof: str = "") -> bytes:
    """A notice from a domain of the forger's own, which passes DMARC; it names nobody where `named` is empty."""
    head = (
        "Authentication-Results: mx.google.com; dmarc=pass header.from=evil.example\r\n"
        "From: MAILER-DAEMON@evil.example\r\nTo: me@example.com\r\nSubject: Undelivered Mail Returned to Sender\r\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: text/plain\r\n\r\n550 5.1.1 user unknown\r\n"
    )
    report = (
        "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; evil.example\r\n\r\n"
        f"Final-Recipient: rfc822; {named}\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n"
    )
    shown = f"X-Mailerd-Proof: {proof}\r\n" if proof else ""
    back = f"--b\r\nContent-Type: message/rfc822\r\n\r\nX-Mailerd-Key: {key}\r\n{shown}Subject: x\r\n\r\nx\r\n--b--\r\n"
    return f"{head}{report if named else ''}{back}".encode()


async def forgeries_come(
    google: FakeGoogle, database: Database, heard: Heard, *, with_own: bool
) -> tuple[Message, dict[str, Message]]:
    """Every notice that Eve can write about the others, and perhaps the one about herself, read."""
    await post(database, recipients=10)
    await heard.wait_for("job_finished")
    messages = {it.to: it for it in google.sent}
    eve, box = messages[EVE], google.mailbox(ME)
    proof = eve.header("X-Mailerd-Proof")
    for to in OTHERS:
        key = f"{eve.key.partition('-')[0]}-{messages[to].key.partition('-')[2]}"  # counted through from her own
        for named in ("", to):
            for shown in ("", proof):
                box.receive(forged(key, named=named, proof=shown), now=google.now())
        box.receive(forged(eve.key, named=to, proof=proof), now=google.now())
    box.receive(forged(eve.key, proof=proof), now=google.now())  # it names nobody
    box.receive(forged(eve.key, named=EVE), thread_id=eve.thread_id, now=google.now())  # no proof
    if with_own:
        box.receive(forged(eve.key, named=EVE, proof=proof), now=google.now())
    await read_up(database, google)
    return eve, messages


async def test_a_recipient_reaches_no_other_recipient(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        _, messages = await forgeries_come(google, database, heard, with_own=False)
    assert set((await results(database)).values()) == {(None, None, None)}
    assert await query(database, "SELECT address FROM suppressions") == []
    assert {it["to"] for it in heard.of("notice_not_verified")} == set(messages)


async def test_a_recipient_can_end_the_own_messages_alone(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await forgeries_come(google, database, heard, with_own=True)
    assert [to for to, result in (await results(database)).items() if result[0]] == [EVE]
    assert await query(database, "SELECT address, reason FROM suppressions") == [(EVE, "hard_bounce")]


async def test_each_message_has_a_proof_of_its_own(
    database_url: str, served: RunningServer, google: FakeGoogle, database: Database, heard: Heard, tmp_path: Path
) -> None:
    async with running(reading(database_url, served, google, tmp_path / "c"), heard):
        await post(database, recipients=3)
        await heard.wait_for("job_finished")
    proofs = {it.header("X-Mailerd-Proof") for it in google.sent}
    assert len(proofs) == 3
    assert {len(it) for it in proofs} == {22}
