"""What one key can ask of a console that costs most, over eight connections; and a neighbour whose waits are measured.

`python -m tests.support.attack URL KEY attack SENDER DRAFT` asks until it is ended, with a line for each
answer. `… neighbour SENDER PID` posts and reads small jobs at a steady pace, with a line for each answer.
"""

import asyncio
import http.client
import io
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

CONNECTIONS: Final = 8
PACE: Final = 0.02
"""Seconds from one request of the neighbour to the next."""
COLUMNS: Final = 490
LONG: Final = "x" * 200
WIDE: Final = (
    "email," + ",".join(f"c{n}{LONG}{LONG[:90]}" for n in range(COLUMNS)) + "\n"
    + "".join(f"r{n}@example.com{',v' * COLUMNS}\n" for n in range(300))
).encode()  # fmt: skip
TOO_WIDE: Final = (",".join(f"{LONG}{n}" for n in range(1000)) + "\n" + ("a@example.com," * 1000 + "\n") * 500).encode()
TALL: Final = b"email,name\n" + b"".join(b'r%d@example.com,"N, %d"\n' % (n, n) for n in range(20_000))
SMALL: Final = b"email,name\nada@example.com,Ada\n"
UNKNOWN: Final = "".join(f"{{{{ {LONG}_{n} }}}}" for n in range(900))
QUOTES: Final = '"<&\n' * 120_000
SLOW: Final = "{% for a in range(90000) %}{% if a is divisibleby 7 %}x{% endif %}{{ a }}{% endfor %}" * 3
BODIES: Final = ["\n".join(f"{n * k % 1009} {'z' * 700}" for n in range(1300)) for k in (3, 5, 7)]
PICTURE: Final = b"\x89PNG\r\n\x1a\n" + random.Random(7).randbytes(5_000_000)
SUPPRESSED: Final = b"email\n" + b"".join(b"s%d@example.com\n" % n for n in range(10_000))
NOT_SUPPRESSED: Final = b"email\n" + b'"not, an address"\n' * 9_000
File = tuple[str, bytes]


class Attack:
    """One browser of the hostile key."""

    def __init__(self, session: aiohttp.ClientSession, number: int, *, sender: str, gmail_draft: str) -> None:
        self._session, self._template = session, f"t{number}"
        self._sender, self._gmail = sender, gmail_draft
        self._drafts = dict[str, str]()
        kinds: Sequence[Callable[[], Awaitable[None]]] = (
            self.wide, self.templates, self.people, self.copied, self.unknown, self.suppressions, self.quotes,
            self.unread, self.pictures, self.slow, self.attached, self.tall, self.too_wide, self.pasted,
        )  # fmt: skip
        first = 2 * number % len(kinds)
        self._kinds = (*kinds[first:], *kinds[:first])

    async def run(self) -> None:
        """Ask for all of it, again and again."""
        while True:
            for kind in self._kinds:
                try:
                    await kind()
                except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                    say(f"{kind.__name__}: {type(error).__name__}")
                    await asyncio.sleep(0.05)

    async def _ask(self, what: str, path: str, **form: str | File | Sequence[str]) -> tuple[str, str]:
        """The address and the text of a page, or of what a form leads to."""
        data: Any = form or None
        if any(isinstance(each, tuple) for each in form.values()):
            data = aiohttp.FormData()
            for name, value in form.items():
                if isinstance(value, tuple):
                    data.add_field(name, io.BytesIO(value[1]), filename=value[0])
                else:
                    for each in [value] if isinstance(value, str) else value:
                        data.add_field(name, each)
        async with self._session.request("POST" if form else "GET", path, data=data) as answer:
            text = (await answer.read()).decode("utf-8", "replace")
            say(f"{what}: {answer.status}")
            return str(answer.url.relative()), text

    async def _draft(self, name: str, table: bytes) -> str:
        """The address of a draft with a table, which is made once."""
        if name not in self._drafts:
            path, _ = await self._ask(f"{name} upload", "/send", table=("people.csv", table))
            if not path.endswith("/people"):  # its key is busy
                raise TimeoutError
            self._drafts[name] = path.removesuffix("/people")
        return self._drafts[name]

    async def _written(self, name: str, table: bytes, body: str, subject: str = "s") -> str:
        draft = await self._draft(name, table)
        form = aiohttp.FormData()
        for field, value in {"action": "save", "kind": "write", "sender": self._sender, "subject": subject}.items():
            form.add_field(field, value)
        form.add_field("body", body, content_type="text/plain")
        async with self._session.post(f"{draft}/message", data=form) as answer:
            await answer.read()
            say(f"{name} message: {answer.status}")
        return draft

    async def wide(self) -> None:
        """Very many columns with long names, and a message of very many others."""
        draft = await self._written("wide", WIDE, UNKNOWN)
        await self._ask("wide people", f"{draft}/people")
        await self._ask("wide html", f"{draft}/html?person=7")
        await self._ask("wide cell", f"{draft}/people", decided="1", **{"cell-2-2": "Cake", "was-2-2": "v"})
        await self._ask("wide find", f"{draft}/message", action="find", find="nobody")
        await self._ask("wide problems", f"{draft}/problems.csv")
        await self._ask("wide review", f"{draft}/review")
        await self._ask("wide delete", "/send", delete=draft.rpartition("/")[2])
        self._drafts.pop("wide")

    async def too_wide(self) -> None:
        """More columns than a table may have."""
        await self._ask("too wide", "/send", table=("people.csv", TOO_WIDE))

    async def pasted(self) -> None:
        """A table that was pasted."""
        await self._ask("pasted", "/send", pasted=("", WIDE.replace(b",", b"\t")))

    async def tall(self) -> None:
        """Very many people."""
        draft = await self._written("tall", TALL, "Hello {{ name }}")
        await self._ask("tall people", f"{draft}/people")
        await self._ask("tall review", f"{draft}/review")
        await self._ask("tall corrected", f"{draft}/corrected.csv")

    async def unread(self) -> None:
        """A download of which nothing is read for a second."""
        draft = await self._draft("unread", WIDE)
        async with self._session.get(f"{draft}/corrected.csv") as answer:
            say(f"unread: {answer.status}")
            await asyncio.sleep(1)
            answer.close()

    async def unknown(self) -> None:
        """Hints for hundreds of variables that are in no column."""
        draft = await self._written("unknown", SMALL, UNKNOWN, "{{ q }}" * 100)
        for _ in range(3):
            await self._ask("unknown page", f"{draft}/message?person=1")
            await self._ask("unknown next", f"{draft}/message", action="next")

    async def quotes(self) -> None:
        """A text of which each character is escaped."""
        draft = await self._written("quotes", SMALL, QUOTES)
        await self._ask("quotes page", f"{draft}/message")
        await self._ask("quotes html", f"{draft}/html")
        await self._ask("quotes review", f"{draft}/review")

    async def slow(self) -> None:
        """A template that takes all the time it may."""
        draft = await self._written("slow", SMALL, SLOW)
        await self._ask("slow page", f"{draft}/message")
        await self._ask("slow html", f"{draft}/html")
        await self._ask("slow test", f"{draft}/message", action="test", test_to=self._sender)

    async def _edit(self, what: str, path: str, body: str, **more: File) -> None:
        names = [f"v{n}" for n in range(150)]
        await self._ask(
            what, path, tag="", subject="s", kind="html", body=body, text="", action="publish", variable=names,
            example=["1"] * len(names), name=self._template, inline_css="1", **{"image": ("", b""), **more},
        )  # fmt: skip

    async def templates(self) -> None:
        """Versions that differ in every line, compared; and one with very many faults."""
        await self._edit("template new", "/new-template", BODIES[0])
        for body in BODIES:
            await self._edit("template save", f"/templates/{self._template}/edit", body)
        _, page = await self._ask("template page", f"/templates/{self._template}")
        versions = list(dict.fromkeys(each[:16] for each in page.split("?version=")[1:]))
        for other in versions[1:4]:
            await self._ask("template diff", f"/templates/{self._template}/diff?from={versions[0]}&to={other}")
        await self._ask("template edit", f"/templates/{self._template}/edit")
        await self._edit("template faults", "/new-template", "{{ oops }" * 10_000 + "{% if %}" * 1000)

    async def pictures(self) -> None:
        """A template with a large picture."""
        image = ("p.png", PICTURE)
        await self._edit("template preview", "/new-template/html", "<img src='cid:p.png'>" * 9, image=image)
        await self._edit("template picture", f"/templates/{self._template}/edit", "<img src='cid:p.png'>", image=image)

    async def suppressions(self) -> None:
        """Files of suppressions: good, bad, and of lines that are too long."""
        for table in (SUPPRESSED, NOT_SUPPRESSED, WIDE[:4_000_000]):
            await self._ask("suppressions", "/suppressions", action="import", table=("s.csv", table))
        await self._ask("suppressions page", "/suppressions")

    async def people(self) -> None:
        """The people of an earlier job."""
        _, page = await self._ask("send", "/send")
        job = page.partition('<option value="0')[2][:25]
        path, _ = await self._ask("people", "/send", job=f"0{job}", who="all")
        await self._ask("people page", path)

    async def copied(self) -> None:
        """A draft of the mailbox with a large picture."""
        draft = await self._draft("copied", SMALL)
        await self._ask("copied save", f"{draft}/message", action="save", kind="gmail", sender=self._sender)
        await self._ask("copied list", f"{draft}/message", action="drafts")
        await self._ask("copied copy", f"{draft}/message", action="save", copy=self._gmail)
        await self._ask("copied html", f"{draft}/html")
        await self._ask("copied review", f"{draft}/review")

    async def attached(self) -> None:
        """A large attachment."""
        draft = await self._written("attached", SMALL, "Hello {{ name }}")
        await self._ask("attached", f"{draft}/message", action="save", attachments=("a.bin", PICTURE * 2))
        await self._ask("attached review", f"{draft}/review")
        await self._ask("attached test", f"{draft}/message", action="test", test_to=self._sender)
        await self._ask("attached remove", f"{draft}/message", action="save", remove="100-a.bin")


async def attack(url: str, key: str, sender: str, gmail_draft: str) -> None:
    """Attack for ever."""
    os.nice(10)  # it is the daemon that is measured
    jar, headers = aiohttp.CookieJar(unsafe=True), {"Sec-Fetch-Site": "same-origin"}
    timeout = aiohttp.ClientTimeout(total=90)
    async with aiohttp.ClientSession(url, cookie_jar=jar, headers=headers, timeout=timeout) as session:
        async with session.post("/login", data={"key": key}) as answer:
            if answer.url.path != "/":
                raise SystemExit(f"{answer.status}: {await answer.text()}")
        say("login: 200")
        browsers = [Attack(session, n, sender=sender, gmail_draft=gmail_draft) for n in range(CONNECTIONS)]
        await asyncio.gather(*(each.run() for each in browsers))


def say(line: str) -> None:
    """A line of what was seen."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def waited(*pids: str) -> float:
    """Seconds for which the first threads of some processes have waited for a processor, as Linux counts them."""
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[1]) for pid in pids) / 1e9


def neighbour(url: str, key: str, sender: str, daemon: str) -> None:
    """Post and read until the daemon ends.

    A line: when it was asked, on the monotonic clock; the milliseconds until the answer; those of them for which
    neither this process nor the loop of the daemon waited for a processor; and the answer's status.
    """
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=60)
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    template = {"subject": "s", "text": "Hello {{ name }}"}
    recipients = [{"email": "a@example.com", "variables": {"name": "Ada"}}]
    body = json.dumps({"sender_email": sender, "template": template, "recipients": recipients})
    job = ""
    while True:
        for method, path in (("POST", "send_template_emails"), ("GET", "")):
            began, busy = time.monotonic(), waited("self", daemon)
            try:
                connection.request(method, f"/api/jobs/{path or job}", body if path else None, headers)
                answer = connection.getresponse()
                said = json.loads(answer.read())
            except (OSError, http.client.HTTPException):
                return  # the daemon has ended
            took, busy = time.monotonic() - began, waited("self", daemon) - busy
            job = said.get("job_id", job)
            say(f"{began:.6f} {took * 1000:.3f} {max(0.0, took - busy) * 1000:.3f} {answer.status}")
            time.sleep(max(0.0, PACE - took))


if __name__ == "__main__":
    where, secret, what, *more = sys.argv[1:]
    if what == "attack":
        asyncio.run(attack(where, secret, *more))
    else:
        neighbour(where, secret, *more)
