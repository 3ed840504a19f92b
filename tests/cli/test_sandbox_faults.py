"""`mailerd sandbox fault|faults|mailbox`, and a sign-in that is rehearsed against the stand-in."""

import asyncio
import json

import aiohttp

from tests.cli.conftest import ME, Shop
from tests.support.heard import PATIENCE


async def test_a_fault_is_ordered_seen_and_lifted(shop: Shop) -> None:
    said = await shop.say("sandbox", "fault", "user_rate_limit", "--method", "drafts.send", "--count", "2")
    assert said == "1: user_rate_limit, calls of drafts.send, all senders, 2 times, occurred 0 times\n"
    await shop.say("sandbox", "fault", "hang_after", "--sender", ME, "--count", "-1", "--seconds", "3")
    (first, second) = shop.google.faults.armed
    assert (first.fault.kind, first.fault.count, second.fault.seconds) == ("user_rate_limit", 2, 3.0)
    assert f"2: hang_after, all calls, sender {ME}, until cleared, occurred 0 times" in await shop.say(
        "sandbox", "faults"
    )
    assert len(json.loads(await shop.say("sandbox", "faults", "--json"))["faults"]) == 2
    assert await shop.say("sandbox", "faults", "--clear") == "no faults set\n"
    assert not shop.google.faults.armed
    assert "daily_limit" in (await shop.say("sandbox", "faults", "--kinds")).split()


async def test_what_cannot_go_wrong_is_refused_with_what_can(shop: Shop) -> None:
    said = await shop.say("sandbox", "fault", "earthquake", code=2)
    assert "mailerd: kind: earthquake is not one of reset_before, " in said


async def test_google_itself_is_never_asked_for_a_fault(shop: Shop) -> None:
    text = shop.config.read_text().splitlines()
    shop.config.write_text("\n".join(line for line in text if not line.startswith("api_root")))
    assert "which is not a sandbox" in await shop.say("sandbox", "fault", "daily_limit", code=1)


async def test_something_comes_back(shop: Shop) -> None:
    box = shop.google.mailbox(ME)
    for to in ("ada@example.org", "eve@example.org"):
        message = box.send(f"From: {ME}\r\nTo: {to}\r\n\r\nx".encode(), thread_id="", now=1.0, permit=lambda _: None)
        shop.google.record_sent(message)
    assert await shop.say("sandbox", "notice", "limit", "--to", "eve@") == "1 notice arrived\n"
    assert await shop.say("sandbox", "notice", "hard", "--sender", ME, "--count", "5") == "2 notices arrived\n"
    shop.google.arrivals.deliver(box, now=shop.google.now())
    came = [it for it in box.messages.values() if "INBOX" in it.labels]
    assert sorted(it.thread_id for it in came) == sorted(
        [shop.google.sent[0].thread_id, *[shop.google.sent[1].thread_id] * 2]
    )
    assert "auto_reply" in (await shop.say("sandbox", "notice", "shapes")).split()
    assert "unknown shape 'earthquake'" in await shop.say("sandbox", "notice", "earthquake", code=1)


async def test_a_sign_in_is_revoked_and_restored(shop: Shop) -> None:
    assert await shop.say("sandbox", "mailbox", ME, "--revoke") == f"authorization of {ME} revoked\n"
    assert shop.google.accounts.of(ME)[-1].revoked
    assert "--revoke/--restore" in await shop.say("sandbox", "mailbox", ME, code=2)
    await shop.say("sandbox", "mailbox", ME, "--restore")
    assert not shop.google.accounts.of(ME)[-1].revoked


async def test_a_sign_in_is_rehearsed(shop: Shop) -> None:
    credentials = shop.folder / "credentials"
    (credentials / "client.json").write_text(json.dumps(shop.google.accounts.client_file()))
    (credentials / "client.json").chmod(0o600)
    shop.config.write_text(
        shop.config.read_text().replace("[gmail]", f'[gmail]\nauth_uri = "{shop.google.accounts.auth_uri}"')
    )
    (credentials / f"{ME}.json").unlink()
    process = await shop.start("auth", "login", "--sender", ME)
    assert process.stdout is not None
    said = ""
    while shop.google.accounts.auth_uri not in said:
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
        assert line, said + (await process.communicate())[1].decode()
        said = line.decode()
    address = next(word for word in said.split() if word.startswith("http"))
    async with aiohttp.ClientSession() as browser, browser.get(address) as page:
        assert f"{ME} is authorized" in await page.text()
    assert await process.wait() == 0
    assert (credentials / f"{ME}.json").exists()
