"""Makes the pictures of the documents from the sandbox as it runs: `.venv/bin/python tools/pictures.py`."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from html import unescape
from pathlib import Path
from typing import IO

from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.table import Table
from rich.text import Text

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
WIDTH = 100
SENDER = "me@example.com"
CHROMIUM = "/usr/bin/chromium-headless-shell"
MESSAGES = 8
"""Messages of the outbox that are shown."""


def main() -> None:
    """Run the demonstration: take pictures while it sends, of the outbox, of a campaign and of two troubles."""
    mailerd = str(Path(sys.executable).with_name("mailerd"))
    with tempfile.TemporaryDirectory() as folder:
        command = [mailerd, "sandbox", "--demo", "--latency", "0.8"]
        sandbox = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        assert sandbox.stdout is not None  # noqa: S101 - it is a pipe
        try:
            outbox = until(sandbox.stdout, r"Simulated Google +(\S+)")
            link = until(sandbox.stdout, r"Console +(\S+)")
            until(sandbox.stdout, r"(60) of 240")
            top(mailerd, Path(folder))
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=CHROMIUM, args=["--no-sandbox"]
                )
                page = browser.new_page(viewport={"width": 1280, "height": 760})
                page.goto(link)
                page.click("button")
                page.wait_for_load_state()
                shoot(page, "console")
                until(sandbox.stdout, r"(Ctrl-C stops the sandbox)")
                messages(outbox)
                campaign(page, link.partition("/login")[0], [mailerd], Path(folder))
                troubles(page, link.partition("/login")[0], [mailerd], Path(folder))
                browser.close()
        finally:
            sandbox.terminate()
            sandbox.wait(60)


def campaign(page: Page, console: str, mailerd: list[str], folder: Path) -> None:
    """The steps of the tutorial: a table that was checked, and its results after a bounce and a reply."""
    page.goto(f"{console}/send")
    page.set_input_files("#table", ROOT / "examples" / "people.csv")
    page.wait_for_url("**/people")
    page.click('button[value="next"]')
    page.wait_for_url("**/message")
    page.select_option("#sender", SENDER)
    for field, value in (("sender_name", "The Lantern Library"), ("reference", "first campaign")):
        page.fill(f"#{field}", value)
    page.select_option("#template", "welcome")
    page.click('button[value="save"]:not([hidden])')
    page.wait_for_selector("iframe.message")
    page.wait_for_load_state("networkidle")
    shoot(page, "send", height=900)
    page.click('button[value="next"]')
    page.wait_for_url("**/review*")
    page.click('button[value="send"]')
    page.wait_for_url("**/jobs/*")
    until_shown(page, page.url, "3 sent of 3")
    for shape, name in (("hard", "mary.shelley"), ("reply", "ada.lovelace")):
        subprocess.run([*mailerd, "sandbox", "notice", shape, "--to", name], cwd=folder, check=True)
    for word in ("Bounced", "Replied"):
        until_shown(page, page.url, word, inside="#people ~ .table")
    page.set_viewport_size({"width": 1280, "height": 1240})
    table = page.locator("#people").bounding_box()
    assert table is not None  # noqa: S101 - it is on the page
    clip = {"x": 0, "y": table["y"] - 20, "width": 1280, "height": 310}
    page.screenshot(path=PICTURES / "results.png", clip=clip, full_page=True)  # type: ignore[arg-type]


def troubles(page: Page, console: str, mailerd: list[str], folder: Path) -> None:
    """A job of which messages failed, and a sign-in that was revoked."""

    def command(*words: str) -> str:
        return subprocess.run(
            [*mailerd, *words], cwd=folder, check=True, capture_output=True, text=True
        ).stdout

    key = command("keys", "create", "pictures").split()[-1]
    for kind, count in (("invalid_to", "9"), ("recipient_required", "4")):
        command("sandbox", "fault", kind, "--method", "drafts.create", "--count", count)
    job = post(console, key, "autumn messages", 60)
    until_shown(page, f"{console}/jobs/{job}", "47 sent, 13 failed of 60")
    shoot(page, "job")
    command("sandbox", "mailbox", SENDER, "--revoke")
    post(console, key, "winter messages", 40)
    until_shown(page, console, "cannot send")
    shoot(page, "trouble", height=720)


def post(console: str, key: str, reference: str, messages: int) -> str:
    """Post a job; its id."""
    text = "Dear {{ name }},\n\nyour book is waiting for you at the desk.\n"
    people = [
        {"email": f"reader{n}@example.org", "variables": {"name": f"Reader {n}"}}
        for n in range(messages)
    ]
    body = {"sender_email": SENDER, "reference": reference, "recipients": people,
            "template": {"subject": "Your book is here, {{ name }}", "text": text}}  # fmt: skip
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    url = f"{console}/api/jobs/send_template_emails"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - on loopback
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - on loopback
        return str(json.load(answer)["job_id"])


def until_shown(page: Page, url: str, text: str, *, inside: str = "body") -> None:
    """Look at a page again until a part of it shows a text."""
    for _ in range(60):
        page.goto(url)
        if page.locator(inside).get_by_text(text).count():
            return
        page.wait_for_timeout(1000)
    raise SystemExit(f"{url} does not show {text!r}")


def shoot(page: Page, name: str, *, height: int = 760) -> None:
    """A picture of a page, as a browser shows it."""
    page.set_viewport_size({"width": 1280, "height": height})
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=PICTURES / f"{name}.png")


def until(lines: IO[str], pattern: str) -> str:
    """Read on to a line; what it says."""
    for line in lines:
        if found := re.search(pattern, line):
            return found[1]
    raise SystemExit(f"the sandbox has ended before it said {pattern}")


def top(mailerd: str, folder: Path) -> None:
    """A picture of `mailerd top`."""
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(WIDTH), "LINES": "24"}
    time.sleep(2)  # the counts are read every second
    shown = subprocess.run(
        [mailerd, "top", "--once"],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    console = recorder()
    console.print(Text.from_ansi(shown.stdout), soft_wrap=True)
    save(console, "top", "mailerd top")


def messages(outbox: str) -> None:
    """A picture of the outbox: what its page lists, without the page's own look."""
    with urllib.request.urlopen(outbox, timeout=10) as answer:  # noqa: S310 - on loopback
        page = answer.read().decode()
    facts = re.sub(r"<[^>]+>", "", re.search(r'class="facts">(.*?) ·', page, re.DOTALL)[1])  # type: ignore[index]
    console, table = recorder(), Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for entry in re.findall(r"<li>.*?</li>", page, re.DOTALL)[:MESSAGES]:
        cells = re.findall(r"<(?:span|time)[^>]*>(.*?)</(?:span|time)>", entry, re.DOTALL)
        to, subject, _, at = (
            Text(unescape(cell).strip(), no_wrap=True, overflow="ellipsis") for cell in cells
        )
        table.add_row(to, subject, at)
    twice = "" if 'role="alert"' in page else ", none of them twice"
    console.print(Text(f"{facts.strip()}{twice}", "bold"))
    console.print(table)
    save(console, "outbox", "the sandbox's outbox")


def recorder() -> Console:
    """A console that keeps what it prints."""
    return Console(
        record=True,
        width=WIDTH,
        file=Path(os.devnull).open("w", encoding="utf-8"),
        force_terminal=True,
    )


def save(console: Console, name: str, title: str) -> None:
    """Write a picture."""
    PICTURES.mkdir(exist_ok=True)
    console.save_svg(str(PICTURES / f"{name}.svg"), title=title, unique_id=name)


if __name__ == "__main__":
    main()
