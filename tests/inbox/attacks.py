"""Attacks on the inbox reader of a real daemon: forged notices, and mail that is made to hurt.

`python -m tests.inbox.attacks` runs them and prints what was seen. The stand-in for Google is here, so that any bytes
can be put into a mailbox; the daemon is a process of its own, and a thread asks it all the while whether it lives.
"""

import asyncio
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

from mailerd.sandbox.google import COMPOSE, FakeGoogle, FakeLimits, serve
from mailerd.sandbox.google.fake_limits import READONLY
from mailerd.sandbox.google.mailbox import Message
from mailerd.sandbox.google.notices import CLOSING, write
from mailerd.sandbox.mariadb import Server
from tests.chaos import place as places
from tests.chaos.child import Child
from tests.support.daemon import sign_in
from tests.support.ports import free_port

ME: Final = places.SENDER
VOUCHED: Final = (
    "mx.google.com; dkim=pass header.i=@googlemail.com; dmarc=pass (p=QUARANTINE) header.from=googlemail.com"
)
EVIL: Final = "mx.google.com; spf=pass smtp.mailfrom=eve@evil.example; dmarc=pass header.from=evil.example"
DAEMON: Final = "Mail Delivery Subsystem <mailer-daemon@googlemail.com>"
LIMIT: Final = "You have reached a limit for sending mail. Your message was not sent. 550 5.4.5"
HARD: Final = "550 5.1.1 The email account that you tried to reach does not exist."
ANSWERED: Final = frozenset({"replied", "other_replied", "auto_replied"})
MB: Final = 1024 * 1024


@dataclass
class Attack:
    """One forgery or burden: its bytes, and the message in whose thread it arrives.

    `may`: results that it may give that message.
    """

    name: str
    raw: bytes
    thread: Message | None = None
    may: frozenset[str] = frozenset()


@dataclass
class Outcome:
    """What the attacks have done."""

    arrived: int = 0
    results: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    suppressed: int = 0
    undone: int = 0
    pauses: int = 0
    believed: dict[str, int] = field(default_factory=dict)
    """Notices that were believed, by kind."""
    not_believed: int = 0
    passed_over: int = 0
    crashed: int = 0
    """Errors that the reader did not know, and lives of the daemon beyond the first."""
    slowest_answer: float = 0.0
    """Seconds of the slowest of the answers to GET /health/live, one behind another."""
    answers: int = 0
    memory_mb: float = 0.0
    afterwards: str = ""
    """The result that Google's own notice brought, once all that was over."""
    seconds: float = 0.0
    methods: dict[str, int] = field(default_factory=dict)
    """All requests that the stand-in got."""


def head(
    sender: str, results: str = "", *, subject: str = "Delivery Status Notification (Failure)", more: str = ""
) -> str:
    """The headers of mail to ME, without the last line."""
    results = f"Authentication-Results: {results}\r\n" if results else ""
    return f"Return-Path: <>\r\n{results}From: {sender}\r\nTo: {ME}\r\nSubject: {subject}\r\n{more}"


def report(headers: str, *, to: str, said: str, status: str, key: str = "", proof: str = "", remote: str = "") -> bytes:
    """A delivery status notification, whatever its headers are."""
    fields = f"Final-Recipient: rfc822; {to}\r\nAction: failed\r\nStatus: {status}\r\nDiagnostic-Code: smtp; {said}\r\n"
    fields += f"Remote-MTA: dns; {remote}\r\n" if remote else ""
    marks = (f"X-Mailerd-Key: {key}\r\n" if key else "") + (f"X-Mailerd-Proof: {proof}\r\n" if proof else "")
    return (
        f"{headers}Content-Type: multipart/report; report-type=delivery-status; boundary=bb\r\n\r\n"
        f"--bb\r\nContent-Type: text/plain\r\n\r\n{said}\r\n--bb\r\nContent-Type: message/delivery-status\r\n\r\n"
        f"Reporting-MTA: dns; googlemail.com\r\n\r\n{fields}\r\n--bb\r\nContent-Type: message/rfc822\r\n\r\n"
        f"{marks}To: {to}\r\nSubject: x\r\n\r\nx\r\n--bb--\r\n"
    ).encode()


def forgeries(messages: list[Message]) -> list[Attack]:
    """Notices that must not be believed, each about a message of its own, by Eve, who has the first message."""
    eve, found, left = messages[0], list[Attack](), iter(messages[1:])
    proof, job = eve.header("X-Mailerd-Proof"), eve.key.partition("-")[0]
    nobody = "mx.google.com; spf=none smtp.helo=evil.example"
    heads: dict[str, str] = {
        "no result": head(DAEMON),
        "another server's result": head(DAEMON, VOUCHED.replace("mx.google.com", "mx.evil.example")),
        "Google's praise below Google's blame": head(
            DAEMON,
            "mx.google.com; dmarc=fail header.from=googlemail.com",
            more=f"Authentication-Results: {VOUCHED}\r\n",
        ),
        "her own domain passes": head(DAEMON, EVIL),
        "praise in a comment": head(DAEMON, f"mx.google.com; spf=pass (; {VOUCHED[15:]}) x=y"),
        "praise in a quoted string": head(DAEMON, f'mx.google.com; spf=pass x="; {VOUCHED[15:]}"'),
        "praise in an encoded word": head(
            DAEMON,
            f'mx.google.com; spf=pass smtp.mailfrom="{CLOSING}"@evil.example; dmarc=fail header.from=googlemail.com',
        ),
        "the daemon in an encoded name": head(
            "=?utf-8?q?=3Cmailer-daemon=40googlemail.com=3E_=28?= <eve@googlemail.com>", VOUCHED
        ),
        "two senders": head(f"{DAEMON}, eve@evil.example", VOUCHED),
        "the name is Google's": head('"mailer-daemon@googlemail.com" <eve@evil.example>', EVIL),
        "two From": head("eve@evil.example", VOUCHED, more=f"From: {DAEMON}\r\n"),
    }
    for name, headers in heads.items():
        for said, status in ((HARD, "5.1.1"), (LIMIT, "5.4.5"), ("blocked as spam", "5.7.1")):
            it = next(left)
            found.append(Attack(f"{name}: {status}", report(headers, to=it.to, said=said, status=status), it))
    genuine = head(DAEMON, VOUCHED)
    for said, status in ((HARD, "5.1.1"), (LIMIT, "5.4.5")):
        it, other = next(left), next(left)
        found.append(Attack("in another thread", report(genuine, to=it.to, said=said, status=status), other))
        found.append(Attack("in no thread", report(genuine, to=next(left).to, said=said, status=status)))
        found.append(
            Attack("about a stranger", report(genuine, to="x@y.example", said=said, status=status), next(left))
        )
    for shown in ("", proof, "A" * 22):
        for it in (next(left), next(left)):
            key = f"{job}-{it.key.partition('-')[2]}"  # counted through from her own
            for named in (it.to, eve.to):
                foreign = head("MAILER-DAEMON@evil.example", nobody)
                raw = report(foreign, to=named, said=HARD, status="5.1.1", key=key, proof=shown)
                found.append(Attack(f"guessed key, proof {shown[:4]!r}", raw))
    it = next(left)
    found.append(Attack("own key, other address", report(head("postmaster@evil.example", nobody), to=it.to, said=HARD,
                                                         status="5.1.1", key=eve.key, proof=proof)))  # fmt: skip
    it = next(left)
    lie = report(genuine, to=it.to, said=LIMIT, status="5.4.5", remote="mx.evil.example")
    found.append(Attack("a server that was asked claims our limit", lie, it, frozenset({"bounced"})))
    return found


def answers(messages: list[Message]) -> list[Attack]:
    """Replies that quote notices, and programs that answer from where bounces come from: answers at most."""
    found, left = list[Attack](), iter(messages)
    for text in (HARD, LIMIT, "Delivery has failed. <{to}>: user unknown (#5.1.1)"):
        it = next(left)
        quoted = "\r\n".join(f"> {line}" for line in write("hard", it).raw.decode().splitlines())
        raw = f"{head(it.to, EVIL, subject='Re: Hello')}\r\n{text.format(to=it.to)}\r\n{quoted}\r\n".encode()
        found.append(Attack("a reply that quotes a notice", raw, it, ANSWERED))
    for shape in ("hard", "limit"):
        it = next(left)
        forwarded = f"{head(it.to, EVIL, subject='Fwd: Delivery')}Content-Type: message/rfc822\r\n\r\n".encode()
        found.append(Attack("a notice that is forwarded", forwarded + write(shape, it).raw, it, ANSWERED))
    for sender in ("mailer-daemon@example.org", "postmaster@example.org", "MAILER-DAEMON@example.org"):
        it = next(left)
        away = head(sender, EVIL, subject="Out of office", more="Auto-Submitted: auto-replied\r\n")
        raw = f"{away}\r\nI am away.\r\n".encode()
        found.append(Attack("an automatic reply of a mail system", raw, it, ANSWERED))
    it = next(left)
    subject = "u." + "A" * 62
    found.append(
        Attack("a made-up unsubscribe token", f"{head(it.to, EVIL, subject=subject)}\r\n".encode(), it, ANSWERED)
    )
    return found


def heavy(messages: list[Message]) -> list[Attack]:
    """Notices that are made to cost: each in the thread of a message, so that its body is read."""
    start = head("mailer-daemon@evil.example", EVIL).encode()
    nested = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(20_000))
    texts = {
        "nested 20,000 deep": nested,
        "50,000 header lines": b"X-A: b\r\n" * 50_000 + b"\r\nx",
        "50,000 From headers": b"From: a@b.example\r\n" * 50_000 + b"\r\nx",
        "a header of 2 MB": b"X-Failed-Recipients: " + b"a@b.example, " * 160_000 + b"\r\n\r\nx",
        "a folded header of 1 MB": b"X-A: b\r\n" + b" c\r\n" * 250_000 + b"\r\nx",
        "1 MB of parameters": b"Content-Type: text/plain; " + b"a*0=x;" * 170_000 + b"\r\n\r\nx",
        "1 MB of brackets": b"Content-Type: text/html\r\n\r\n" + b"<" * MB,
        "100,000 parts": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 100_000,
        "messages in messages": b"Content-Type: message/rfc822\r\n\r\n" * 20_000,
        "punycode": b"Content-Type: text/plain; charset=punycode\r\n\r\n" + b"a-" * 200_000,
        "100,000 recipients": b"Content-Type: message/delivery-status\r\n\r\n"
        + b"Final-Recipient: rfc822;a@b\r\n\r\n" * 100_000,
        "qmail's form 100,000 times": b"Content-Type: text/plain\r\n\r\n" + b"<a@b.example>:\nx\n" * 100_000,
        "exim's form 100,000 times": b"Content-Type: text/plain\r\n\r\n" + b"  a@b.example\n      550 x\n" * 100_000,
        "no line end": b"Content-Type: text/plain\r\n\r\n" + b"limit " * 170_000,
        "20 MB": b"Content-Type: text/plain\r\n\r\n" + b"x" * (20 * MB),
        "zeros": b"\r\n\r\n" + b"\0" * MB,
        "lone surrogates": b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + b"\xed\xa0\x80" * 100_000,
        "encoded words": b"Subject: " + b"=?utf-8?q?=41?= " * 60_000 + b"\r\n\r\nx",
    }
    may = ANSWERED
    return [Attack(name, start + text, it, may) for (name, text), it in zip(texts.items(), messages, strict=False)]


class Prober(threading.Thread):
    """Asks a daemon again and again whether it lives; remembers the slowest answer."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port, self.slowest, self.answers, self.over = port, 0.0, 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.01):
            began = time.monotonic()
            connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
            try:
                connection.request("GET", "/health/live")
                connection.getresponse().read()
                self.answers += 1
            except (OSError, HTTPException):
                self.answers = -1_000_000  # it did not answer: that shows
            finally:
                connection.close()
            self.slowest = max(self.slowest, time.monotonic() - began)


@asynccontextmanager
async def daemon(folder: Path, google: FakeGoogle) -> AsyncIterator[tuple[Child, Server, str]]:
    """A daemon that reads the mailbox of ME, its database, and an API key."""
    server = Server(cache=places.ROOT / ".cache", port=free_port())
    try:
        await asyncio.to_thread(server.start)
        async with serve(google) as served:
            sign_in(google, folder / "credentials", ME, scopes=(COMPOSE, READONLY))
            inbox: dict[str, object] = {"interval": 0.2, "limit_pause": 600.0}
            known = places.Setting(latency=0.0, concurrency=40, sections={"inbox": inbox})
            url = SimpleNamespace(url=served.url)
            with patch.multiple(places, REQUEST_TIMEOUT=20.0, LEASE=60.0):  # a busy machine is no doubt about a message
                config, port, public = places._config(folder, 0, known, server.url, url)  # type: ignore[arg-type]
            key = await places._prepared(config)
            child = Child("d0", config=config, port=port, public_port=public)
            child.start()
            try:
                yield child, server, key
            finally:
                child.kill()
    finally:
        await asyncio.to_thread(server.stop)


async def run(folder: Path, *, choose: Callable[[list[Attack]], list[Attack]] = lambda all_: all_) -> Outcome:
    """Send messages, let all attacks come, then one true notice."""
    began, seen = time.monotonic(), Outcome()
    google = FakeGoogle(FakeLimits(units_per_minute=0, project_units_per_minute=0, per_day=0, log_size=200_000))
    async with daemon(folder, google) as (child, server, key):
        it = places.Place(folder, server, None, None, [child], None, None, key)  # type: ignore[arg-type]
        await until(lambda: alive(child.port))
        await asyncio.to_thread(post, child.port, key, 120)
        await until(lambda: len(google.sent) == 120)
        await until_read(it, google)
        box, messages, before = google.mailbox(ME), list(google.sent), len(google.log)
        attacks = choose([*forgeries(messages[:75]), *answers(messages[75:90]), *heavy(messages[90:118])])
        prober = Prober(child.port)
        prober.start()
        for each in attacks:
            box.receive(each.raw, thread_id=each.thread.thread_id if each.thread else "", now=google.now())
            seen.arrived += 1
            if seen.arrived % 10 == 0:
                await until_read(it, google)
        await until_read(it, google)
        google.arrivals.add(messages[119], "hard", due=google.now())
        google.arrivals.deliver(box, now=google.now())
        await until_read(it, google)
        prober.over.set()
        seen.slowest_answer, seen.answers = prober.slowest, prober.answers
        seen.memory_mb = memory(child.pid)
        seen.crashed = child.runs[0].log.read_text().count("_crashed") + (not child.running)
        await judge(it, attacks, messages, seen)
        seen.methods = dict(Counter(entry.method for entry in list(google.log)[before:]))
    seen.seconds = time.monotonic() - began
    return seen


async def judge(it: places.Place, attacks: list[Attack], messages: list[Message], seen: Outcome) -> None:
    """Compare what is written with what might be."""
    rows = await it.rows("SELECT CONCAT(job_id, '-', seq), status, result FROM job_recipients")
    may = {each.thread.key: each for each in attacks if each.thread is not None and each.may}
    by_key = {each.thread.key: each.name for each in attacks if each.thread is not None}
    for key, status, result in rows:
        allowed = may[key].may if key in may else frozenset[str]()
        if key == messages[119].key:
            seen.afterwards = str(result)
        elif status != "sent" or (result is not None and result not in allowed):
            seen.wrong.append(f"{by_key.get(key, key)}: {status} {result}")
    seen.results = dict(Counter(str(result) for _, _, result in rows))
    ((seen.suppressed,),) = await it.rows("SELECT COUNT(*) FROM suppressions")
    ((seen.undone,),) = await it.rows("SELECT COUNT(*) FROM attempts WHERE event = 'undone'")
    ((seen.pauses,),) = await it.rows("SELECT COUNT(*) FROM senders WHERE paused_until IS NOT NULL")
    seen.believed = dict(await it.rows("SELECT kind, COUNT(*) FROM notices WHERE believed = 1 GROUP BY kind"))
    ((seen.not_believed,),) = await it.rows("SELECT COUNT(*) FROM notices WHERE believed = 0 AND kind <> 'passed_over'")
    ((seen.passed_over,),) = await it.rows("SELECT COUNT(*) FROM notices WHERE kind = 'passed_over'")


def alive(port: int) -> bool:
    """Whether the daemon answers."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def post(port: int, key: str, messages: int) -> None:
    """A job of so many messages."""
    body: dict[str, Any] = {
        "sender_email": ME, "template": {"subject": "Hello {{ name }}", "text": "Dear {{ name }}"},
        "recipients": [{"email": f"r{n}@example.org", "name": f"R{n}"} for n in range(messages)],
    }  # fmt: skip
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(
        "POST",
        "/api/jobs/send_template_emails",
        json.dumps(body),
        {"X-API-Key": key, "Content-Type": "application/json"},
    )
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    connection.close()


def memory(pid: int) -> float:
    """The most that a process has held, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


async def until(holds: Callable[[], bool], *, within: float = 120.0) -> None:
    """Until it holds."""
    async with asyncio.timeout(within):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - nobody sends a signal that could be waited for
            await asyncio.sleep(0.05)


async def until_read(it: places.Place, google: FakeGoogle, *, within: float = 240.0) -> None:
    """Until everything that came is read."""
    statement = "SELECT history_id FROM mailboxes WHERE state = 'read' AND lease_token IS NULL"
    async with asyncio.timeout(within):
        while await it.rows(statement) != [(google.mailbox(ME).history_id,)]:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)


async def main() -> None:
    """Run them all and print what was seen."""
    seen = await run(Path(tempfile.mkdtemp(prefix="mailerd-attacks-")))
    sys.stdout.write(json.dumps(vars(seen), indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
