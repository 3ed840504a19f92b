"""Whatever is put into a form or an address, no answer is a bug: it is a page, or a refusal in words."""

import pytest

from tests.support.rows import post, query
from tests.web.conftest import ConsoleSite
from tests.web.test_new_message import MESSAGE, ask, begun

BOUNDARY = "x-x"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
ODD = {
    "empty": b"", "blanks": b" \t ", "long": b"a" * 5000, "long name": b"a" * 300, "control": b"a\0b\x01\x1b\r\nc",
    "surrogate": b"\xed\xa0\x80", "not UTF-8": b"\xff\xfe", "astral": "😀".encode() * 90, "digits": b"9" * 40,
    "negative": b"-1", "not a number": b"nan", "infinite": b"1e999", "marks": b"{{ 7*7 }}'\"<%s>%00;--",
    "address": b"a@b.example", "foreign digits": "٣".encode(), "capital": b"AUTUMN News", "moment": b"9999-12-31T23:59",
}  # fmt: skip
FIELDS: dict[str, list[tuple[str, ...]]] = {
    "/login": [("key",)],
    "/jobs": [("action=pause", "job")],
    "/jobs/{job}": [("action=priority", "priority"), ("action=retry-cause", "cause"), ("action",)],
    "/messages/1": [("action",)],
    "/messages/{odd}": [("action=sent",)],
    "/senders/me@example.com": [
        ("action=pause", "lasts", "reason"), ("action=limits", "per_day", "per_minute", "min_gap", "warm_up", "reserve")
    ],
    "/senders/{odd}": [("action=pause",)],
    "/suppressions": [
        ("action=add", "email", "list", "to"), ("action=remove", "email", "list"), ("action=import", "table", "list"),
    ],
    "/lists": [("list", "title")],
    "/templates/welcome": [("sender=me@example.com", "email", "in"), ("email=a@b.example", "sender")],
    "/templates/{odd}": [("email=a@b.example",), ("action=archive",), ("action=publish", "version", "expect")],
    "/templates/{odd}/edit": [("action=save", "subject=x", "tag=", "kind=html", "body=y", "text=")],
    "/new-template": [
        ("subject=x", "kind=html", "body=y", "text=z", "tag=q", "subject", "kind", "body", "text", "tag"),
        ("name=ok", "tag=q", "subject=x", "kind=html", "body=y", "text=z", "name", "origin", "base", "description"),
        ("name=ok", "tag=q", "subject=x", "kind=html", "body=y", "text=z", "variable", "example", "comment", "expect"),
        ("action=add-language", "new_language", "tab", "action"),
    ],
    "/new-template/html": [("tag=q", "subject=x", "kind=html", "body=y", "text=z", "body", "tab")],
    "/send": [("pasted=email\na@b.example\n", "template"), ("pasted", "table")],
    "/send/{draft}/people": [
        ("decided=1", "action=save", "header", "sheet", "encoding", "use-0", "name-0", "use-9", "cell-2-0", "cell-x",
         "empty-a", "default-a", "skip_invalid"),
        ("action=next", "use-0", "table", "pasted"),
    ],
    "/send/{draft}/message": [
        ("action=save", "kind=write", "person", "shown", "subject", "body", "sender", "sender_other", "list"),
        ("action=test", "kind=write", "sender=me@example.com", "subject=s", "body=b", "shown", "test_to", "sender_name",
         "reply_to", "reference"),
        ("action=next", "kind", "template"),
    ],
    "/send/{draft}/review": [("action=save", "when=later", "at", "zone"), ("action=send", "seen", "when")],
    "/send/{odd}/people": [("action=save",)],
    "/webhooks": [("name=shop", "url=https://a.example/", "name", "url", "type", "senders")],
    "/webhooks/{hook}": [
        ("action=change", "name=shop", "url=https://a.example/", "name", "url", "type", "senders"),
        ("action=replay", "since", "only"), ("action",),
    ],
    "/webhooks/{odd}": [("action=pause",)],
    "/keys": [
        ("action=create", "name", "senders", "permission", "all_senders"), ("action=rotate", "name"),
        ("action=revoke", "name"),
    ],
}  # fmt: skip
"""By the address: forms, of fields that have a value and of fields that are odd one by one."""


def body(fields: list[tuple[str, bytes]], *, files: bool = False) -> bytes:
    """A form of these fields, as texts or as files."""
    kind = '; filename="f.csv"' if files else ""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{kind}\r\n\r\n'.encode() + value + b"\r\n"
        for name, value in fields
    ]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def forms(given: tuple[str, ...]) -> list[tuple[str, bytes]]:
    """Bodies of one form: each odd field with each odd value, missing, twice, and as a file."""
    known = [(name, value.encode()) for name, _, value in (each.partition("=") for each in given) if value]
    odd = [each for each in given if "=" not in each]
    made = [("nothing", body([])), ("only what is known", body(known)), ("all as files", body(known, files=True))]
    for name in odd:
        rest = [each for each in known if each[0] != name]
        for kind, value in ODD.items():
            made += [
                (f"{name}: {kind}", body([*rest, (name, value)])),
                (f"{name}: {kind}, as a file", body([*rest, (name, value)], files=True)),
            ]
        made.append((f"{name}: twice", body([*rest, (name, b"a"), (name, b"b")])))
    return made


@pytest.mark.parametrize("path", FIELDS)
async def test_no_form_is_answered_with_a_bug(site: ConsoleSite, path: str) -> None:
    job, hook, browser = await post(site.database), "1" * 26, await site.signed_in()
    await query(
        site.database,
        "INSERT INTO webhooks (id, name, url, secret, state, position, created_at) VALUES "
        "(%s, 'till', 'https://127.0.0.1/hook', 'x', 'on', 0, UTC_TIMESTAMP(6))",
        hook,
    )
    draft = (await begun(browser)).removeprefix("/send/") if "{draft}" in path else ""
    if draft:
        await ask(browser, f"/send/{draft}/message", **MESSAGE)
    wrong = list[tuple[str, int]]()
    places = ["%00", "%ED%A0%80", "a" * 2000, "%FF", "9" * 30] if "{odd}" in path else [""]
    for odd in places:
        for given in FIELDS[path]:
            for kind, form in forms(given):
                async with browser.post(
                    path.format(job=job, hook=hook, odd=odd, draft=draft), data=form,
                    headers={"Content-Type": MULTIPART}, allow_redirects=False,
                ) as answer:  # fmt: skip
                    if answer.status >= 500 or (answer.status >= 400 and not (await answer.read()).strip()):
                        wrong.append((kind, answer.status))
    assert wrong == []
    assert not site.heard.of("request_failed")


@pytest.mark.parametrize("path, form", [
    ("/lists", {"list": "No such Name"}),
    ("/lists", {"list": "news", "title": "a\x01b"}),
    ("/keys", {"action": "create", "name": "7"}),
    ("/keys", {"action": "rotate", "name": "nobody"}),
])  # fmt: skip
async def test_a_name_that_cannot_be_is_a_422_in_the_readers_words(
    site: ConsoleSite, path: str, form: dict[str, str]
) -> None:
    browser = await site.signed_in()
    for language, chinese in (("en", False), ("zh", True)):
        async with browser.post(f"{path}?lang={language}", data=form) as answer:
            words = (await answer.text()).split('role="alert">')[1].split("</p>")[0]
            assert (answer.status, any("\u4e00" <= each <= "\u9fff" for each in words)) == (422, chinese), words
            assert 'aria-current="' in await answer.text(), "the page itself, with its menu"


async def test_a_file_is_no_text(site: ConsoleSite) -> None:
    browser = await site.signed_in()
    form = body([("action", b"create"), ("name", b"second")]).replace(b'"name"', b'"name"; filename="f"')
    async with browser.post("/keys", data=form, headers={"Content-Type": MULTIPART}) as answer:
        assert answer.status == 422
    assert await query(site.database, "SELECT name FROM api_keys") == [("shop",)]


async def test_a_form_is_utf_8_whatever_it_says_since_other_charsets_may_take_minutes(site: ConsoleSite) -> None:
    secret = await site.keys.create("shop")
    browser = await site.sign_in(secret)
    for charset in ("punycode", "utf-7", "klingon", "idna"):
        kind = f"application/x-www-form-urlencoded; charset={charset}"
        async with site.visitor().post("/login", data=f"key={secret}", headers={"Content-Type": kind}) as answer:
            assert answer.status == 400
        form = body([("action", b"pause")]).replace(
            b"\r\n\r\n", f"\r\nContent-Type: text/plain; charset={charset}\r\n\r\n".encode(), 1
        )
        async with browser.post("/jobs", data=form, headers={"Content-Type": MULTIPART}) as answer:
            assert (answer.status, answer.url.path) == (200, "/jobs")


@pytest.mark.parametrize("path, form, english", [
    ("/templates/welcome", {"sender": "me@example.com", "email": "nonsense"}, "has no @"),
    ("/webhooks", {"action": "add", "name": "x", "url": "http://shop.example/"}, "url: it must start with https://"),
])  # fmt: skip
async def test_what_is_refused_behind_a_page_is_told_in_the_readers_words(
    site: ConsoleSite, path: str, form: dict[str, str], english: str
) -> None:
    browser = await site.signed_in()
    for language, seen in (("en", True), ("zh", False)):
        async with browser.get(f"/?lang={language}") as answer:
            assert answer.status == 200
        async with browser.post(path, data=form) as answer:
            said = (await answer.text()).split('class="said"')[1].split("</p>")[0]
        assert (english in said) is seen, said


async def test_a_wrong_key_and_a_wrong_address_are_told_in_the_readers_words(site: ConsoleSite) -> None:
    for language, said in (("en", "this API key is unknown or revoked"), ("zh", "API 密钥")):
        async with site.visitor().post(f"/login?lang={language}", data={"key": "sk_live_wrong"}) as answer:
            words = (await answer.text()).split('role="alert">')[1].split("</p>")[0]
            assert (answer.status, said in words) == (401, True), words
    browser = await site.signed_in()
    for language, said in (("en", "The address has nothing after the @."), ("zh", "地址@ 之后没有内容。")):
        async with browser.get(f"/people?email=nobody@&lang={language}") as answer:
            words = (await answer.text()).split('class="trouble">')[1].split("</p>")[0]
            assert words == said
