"""`mailerd suppress`: as an operator types it."""

import asyncio
import json
import re
from pathlib import Path

import pytest

from mailerd.cli import suppress
from mailerd.cli.common import asked_by, user_name
from mailerd.core.suppression import EVERYTHING, Channel, Reason
from mailerd.operations.suppressions import STORED_AT_ONCE
from mailerd.store.write.secrets import Secrets
from mailerd.store.write.suppressions import NewSuppression, Suppressions
from tests.cli.conftest import Shop
from tests.support.rows import query

BACKUP = Path(__file__).parents[2] / "docs" / "how-to" / "backup.md"


async def test_one_is_added_shown_and_removed(shop: Shop) -> None:
    assert "a.da@gmail.com suppressed (news)" in await shop.say(
        "suppress", "add", "a.da@Gmail.com", "--list", "news", "--new-list"
    )
    assert "b@gmail.com suppressed (all messages)" in await shop.say("suppress", "add", "b@gmail.com")
    person = user_name()  # docs/how-to/security.md: it says who asked for that
    told = await shop.say("suppress", "why", "b@gmail.com")
    assert re.search(
        rf"b@gmail.com suppressed \(all messages\) at 20\S+ \S+Z: manual, source: command line, {re.escape(person)}\n",
        told,
    )
    assert "ada@gmail.com was already suppressed (news)" in await shop.say(
        "suppress", "add", "ada@gmail.com", "--list", "news"
    )
    told = await shop.say("suppress", "why", "Ada@googlemail.com")
    assert re.search(
        rf"googlemail.com suppressed \(news\) at 20\S+ \S+Z: manual, source: command line, {re.escape(person)}\n",
        told,
    )
    assert "ada@gmail.com" in await shop.say("suppress", "list", "--list", "news")
    assert "news" in await shop.say("suppress", "lists")
    assert [it["name"] for it in json.loads(await shop.say("suppress", "lists", "--json"))["lists"]] == ["news"]
    assert "suppression of ada@gmail.com removed (news)" in await shop.say(
        "suppress", "remove", "ada@gmail.com", "--list", "news"
    )
    assert "No suppressions of ada@gmail.com." in await shop.say("suppress", "why", "ada@gmail.com", code=1)
    assert "ada@gmail.com is not suppressed (news): `mailerd suppress why ada@gmail.com` shows" in await shop.say(
        "suppress", "remove", "ada@gmail.com", "--list", "news", code=1
    )


async def test_what_is_left_after_a_removal_is_told_with_whose_it_is(shop: Shop) -> None:
    people = await Suppressions.open(shop.database, timeout=5)
    news = (await people.make_list("news")).id
    for list_id, origins in ((EVERYTHING, ("me@example.com",)), (news, ("me@example.com", "key:7", ""))):
        await people.add([
            NewSuppression(people.digest("ada@example.com"), list_id, Reason.MANUAL, Channel.API, "ada@example.com",
                           origin=each) for each in origins
        ])  # fmt: skip
    for command in (("why", "ada@example.com"), ("list",), ("export",)):
        told = await shop.say("suppress", *command)
        assert (told.count("me@example.com"), told.count("key:7")) == (2, 1), told
    left = "another one still keeps these messages from it: `mailerd suppress why ada@example.com`"
    told = await shop.say("suppress", "remove", "ada@example.com", "--list", "news")
    assert left in told, "of the list, all of them at once"
    assert left not in await shop.say("suppress", "remove", "ada@example.com")
    asked = await query(shop.database, "SELECT action, messages FROM job_actions ORDER BY id")
    assert asked == [("unsuppress", 3), ("unsuppress", 1)]


async def test_a_domain_that_is_typed_as_people_read_it_is_that_domain_and_no_other(shop: Shop) -> None:
    """To an older IDNA faß.de was fass.de, which is somebody else's."""
    for domain in ("faß.de", "fass.de"):
        await shop.say("suppress", "add", f"ada@{domain}")
    assert "suppressed (all messages)" in await shop.say("suppress", "why", "ada@faß.de")
    assert "removed (all messages)" in await shop.say("suppress", "remove", "ada@faß.de")
    (it,) = json.loads(await shop.say("suppress", "list", "--json"))["suppressions"]
    assert it["email"] == "ada@fass.de"
    assert "No suppressions of ada@" in await shop.say("suppress", "why", "ada@faß.de", code=1)
    assert "ada: " in await shop.say("suppress", "remove", "ada", code=1)


async def test_a_command_stands_in_the_log_of_actions_once_with_all_that_it_changed(shop: Shop) -> None:
    number = 2 * STORED_AT_ONCE + 1  # three transactions
    (shop.folder / "out.csv").write_text("\n".join(f"{each}@example.com" for each in range(number)), "utf-8")
    await shop.say("suppress", "import", "out.csv", "--list", "news", "--new-list")
    await shop.say("suppress", "import", "out.csv", "--list", "news")  # adds nothing
    await shop.say("suppress", "add", "f@example.com")
    await shop.say("suppress", "remove", "0@example.com", "--list", "news")
    asked = await query(shop.database, "SELECT action, actor, detail, changed, messages FROM job_actions ORDER BY id")
    actor = asked_by()
    assert asked == [
        ("suppress", actor, "news", 1, number),
        ("suppress", actor, "everything", 1, 1),
        ("unsuppress", actor, "news", 1, 1),
    ]


async def test_what_cannot_be_is_refused_in_a_sentence(shop: Shop) -> None:
    assert "ada: " in await shop.say("suppress", "add", "ada", code=1)
    assert "the name of a list has" in await shop.say("suppress", "add", "a@example.com", "--list", "a b", code=1)
    assert "list 'none' not found" in await shop.say("suppress", "list", "--list", "none", code=1)
    assert "could not read none.csv: No such file" in await shop.say("suppress", "import", "none.csv", code=1)


async def test_a_slip_in_the_name_of_a_list_makes_no_list(shop: Shop) -> None:
    await shop.say("suppress", "add", "ada@example.com", "--list", "autumn-news", "--new-list")
    (shop.folder / "out.csv").write_text("email\nbob@example.com\n", "utf-8")
    for words in (("add", "bob@example.com"), ("import", "out.csv")):
        told = await shop.say("suppress", *words, "--list", "autum-news", code=1)
        assert "list 'autum-news' not found" in told
        assert "did you mean autumn-news?" in told
    assert await query(shop.database, "SELECT name FROM lists") == [("autumn-news",)]


async def test_a_file_is_imported_once_and_its_bad_lines_are_named(shop: Shop) -> None:
    rows = ["name,email", "Ada,ada@example.com", "Bob,bob at example.com", "", "Eve,EVE@example.com", "short"]
    (shop.folder / "out.csv").write_text("\n".join(rows), "utf-8")
    told = await shop.say("suppress", "import", "out.csv", code=1)
    assert "2 addresses read, 2 newly suppressed (all messages)" in told
    assert "skipped: row 3: 'bob at example.com'" in told
    assert "skipped: row 6" in told
    (shop.folder / "plain.txt").write_text("ada@example.com\neve@example.com\nnew@example.com\n", "utf-8")
    assert "3 addresses read, 1 newly suppressed" in await shop.say("suppress", "import", "plain.txt")
    exported = (await shop.say("suppress", "export")).splitlines()
    assert exported[0] == "email,list,reason,source,since,origin"
    assert sorted(line.split(",")[:4] for line in exported[1:]) == [
        [f"{name}@example.com", "", "imported", "import"] for name in ("ada", "eve", "new")
    ]
    listed = json.loads(await shop.say("suppress", "list", "--json"))["suppressions"]
    assert {it["email"] for it in listed} == {f"{name}@example.com" for name in ("ada", "eve", "new")}


async def test_what_was_exported_comes_back_for_the_lists_that_it_was_for(shop: Shop) -> None:
    await shop.say("suppress", "add", "ada@example.com", "--list", "news", "--new-list")
    await shop.say("suppress", "add", "eve@example.com")
    exported = await shop.say("suppress", "export")
    await shop.say("suppress", "remove", "ada@example.com", "--list", "news")
    await shop.say("suppress", "remove", "eve@example.com")
    (shop.folder / "back.csv").write_text(exported + "bob@example.com,other\n", "utf-8")  # a line of a person's own
    assert "list 'other' not found" in await shop.say("suppress", "import", "back.csv", code=1)
    assert json.loads(await shop.say("suppress", "list", "--json"))["suppressions"] == [], "nothing of the file"
    assert "3 addresses read, 3 newly suppressed (all messages, news, other)" in await shop.say(
        "suppress", "import", "back.csv", "--new-list"
    )
    listed = json.loads(await shop.say("suppress", "list", "--json"))["suppressions"]
    assert {(it["email"], it["list"]) for it in listed} == {
        ("ada@example.com", "news"), ("eve@example.com", None), ("bob@example.com", "other")
    }  # fmt: skip
    told = await shop.say("suppress", "import", "back.csv", "--list", "all-of-it", "--new-list")
    assert "3 addresses read, 3 newly suppressed (all-of-it)" in told


async def test_people_come_back_without_the_lost_keys_as_the_page_on_backups_says(shop: Shop) -> None:
    await shop.say("suppress", "add", "ada@example.com", "--list", "news", "--new-list", "--reason", "unsubscribed")
    await shop.say("suppress", "add", "eve@example.com", "--reason", "hard_bounce")
    (shown,) = re.findall(r"```sql\n(SELECT s\.address.*?)```", BACKUP.read_text("utf-8"), re.DOTALL)
    read, *empty = shown.split(";\n")
    await query(shop.database, "DELETE FROM secrets")
    assert "Restore that table" in await shop.say("suppress", "why", "ada@example.com", code=1)
    rows = await query(shop.database, read)
    text = "".join(",".join(map(str, row)) + "\n" for row in (("email", "list", "reason", "source", "since"), *rows))
    (shop.folder / "back.csv").write_text(text, "utf-8")
    for statement in filter(str.strip, empty):
        await query(shop.database, statement)
    assert "2 addresses read, 2 newly suppressed" in await shop.say("suppress", "import", "back.csv")
    assert re.search(
        r"suppressed \(news\) at [-\d]+ [:\d]+Z: unsubscribed", await shop.say("suppress", "why", "ada@example.com")
    )
    told = await shop.say("suppress", "why", "eve@example.com")
    assert re.search(r"suppressed \(all messages\) at [-\d]+ [:\d]+Z: hard bounce", told)


async def test_an_address_that_is_a_formula_is_exported_as_text_and_imported_as_itself(shop: Shop) -> None:
    addresses = ["=cmd|'/c'!a0@example.com", "+1@example.com", "'-x@example.com", "a|=b@example.com"]
    (shop.folder / "out.csv").write_text("email\n" + "\n".join(f"'{each}" for each in addresses[:2]) + "\n", "utf-8")
    for address in addresses[2:]:
        await shop.say("suppress", "add", address)
    await shop.say("suppress", "import", "out.csv")
    exported = await shop.say("suppress", "export")
    assert not [line for line in exported.splitlines() if line[0] in "=+-@"]
    for address in addresses:
        await shop.say("suppress", "remove", address)
    (shop.folder / "back.csv").write_text(exported, "utf-8")
    await shop.say("suppress", "import", "back.csv")
    shown = json.loads(await shop.say("suppress", "list", "--json"))["suppressions"]
    assert sorted(it["email"] for it in shown) == sorted(addresses)


async def test_what_was_exported_is_imported_with_its_lists_and_reasons(shop: Shop) -> None:
    """Else who has left one list would get no messages at all, and a message could override a hard bounce."""
    await shop.say("suppress", "add", "left@example.com", "--list", "news", "--new-list", "--reason", "unsubscribed")
    await shop.say("suppress", "add", "gone@example.com", "--reason", "hard_bounce")
    (shop.folder / "out.csv").write_text(await shop.say("suppress", "export"), "utf-8")
    for words in (("left@example.com", "--list", "news"), ("gone@example.com",)):
        await shop.say("suppress", "remove", *words)
    events = await query(shop.database, "SELECT COUNT(*) FROM events")
    assert "2 addresses read, 2 newly suppressed (all messages, news)" in await shop.say(
        "suppress", "import", "out.csv"
    )
    read = "SELECT s.address, l.name, s.reason, s.source FROM suppressions s LEFT JOIN lists l ON l.id = s.list_id"
    assert sorted(await query(shop.database, read)) == [
        ("gone@example.com", None, "hard_bounce", "import"),
        ("left@example.com", "news", "unsubscribed", "import"),
    ]
    assert await query(shop.database, "SELECT COUNT(*) FROM events") == events, (
        "docs/reference/api.md: an import has none"
    )
    await shop.say("suppress", "import", "out.csv", "--list", "other", "--reason", "manual", "--new-list")
    assert sorted(await query(shop.database, f"{read} WHERE l.name = 'other'")) == [
        (f"{name}@example.com", "other", "manual", "import") for name in ("gone", "left")
    ]
    exported = await shop.say("suppress", "export", "--list", "other")
    (shop.folder / "new.csv").write_text(exported.replace("other", "unknown"), "utf-8")
    assert "list 'unknown' not found" in await shop.say("suppress", "import", "new.csv", code=1)
    assert "newly suppressed (unknown)" in await shop.say("suppress", "import", "new.csv", "--new-list")


async def test_a_hundred_thousand_lines_are_imported_in_few_statements(shop: Shop) -> None:
    (shop.folder / "many.csv").write_text("email\n" + "".join(f"p{n}@example.com\n" for n in range(100_000)), "utf-8")
    before = await _statements(shop)
    assert "100,000 addresses read, 100,000 newly suppressed" in await shop.say("suppress", "import", "many.csv")
    assert await _statements(shop) - before < 2_000
    assert await query(shop.database, "SELECT COUNT(*) FROM suppressions") == [(100_000,)]
    written = await query(shop.database, "SELECT digest FROM suppression_log ORDER BY id")
    for half in (written[:50_000], written[50_000:]):
        assert half == sorted(half), "in the order of the keys, which costs the server half as much"
    keys = await Secrets(shop.database, timeout=5).keys()
    suppressions = Suppressions(shop.database, key=keys.address, timeout=5)
    assert len(await suppressions.binding(["P99@example.com", "q@example.com"], list_id=EVERYTHING)) == 1


async def _statements(shop: Shop) -> int:
    return int((await query(shop.database, "SHOW GLOBAL STATUS LIKE 'Questions'"))[0][1])


async def test_the_key_of_links_is_rotated(shop: Shop) -> None:
    assert "signed with key 2" in await shop.say("suppress", "rotate-key")
    await query(shop.database, "UPDATE secrets SET name = 'token:255' WHERE name = 'token:2'")
    told = await shop.say("suppress", "rotate-key", code=1)
    assert told.startswith("mailerd: the limit of 255 token keys is reached\n")
    assert set((await Secrets(shop.database, timeout=5).keys()).tokens) == {1, 255}


async def test_a_user_without_a_name_can_suppress(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 10002")

    monkeypatch.setattr("getpass.getuser", nobody)
    (shop.folder / "out.csv").write_text("eve@example.com\n", "utf-8")
    await asyncio.to_thread(suppress.add, "ada@example.com", config=shop.config)
    await asyncio.to_thread(suppress.import_file, shop.folder / "out.csv", config=shop.config)
    await asyncio.to_thread(suppress.remove, "ada@example.com", config=shop.config)
    assert "suppression of ada@example.com removed (all messages)" in capsys.readouterr().out
    assert await query(shop.database, "SELECT DISTINCT actor FROM suppression_log") == [("unknown user",)]


async def test_a_pipe_which_can_be_read_once_alone_is_not_taken_for_an_empty_file(shop: Shop) -> None:
    told = await shop.say("suppress", "import", "/dev/stdin", given="email\nada@example.com\n", code=1)
    assert "could not read /dev/stdin: it is a pipe, and without --list it is read twice" in told
    await shop.say("suppress", "add", "eve@example.com", "--list", "news", "--new-list")
    told = await shop.say("suppress", "import", "/dev/stdin", "--list", "news", given="email\nada@example.com\n")
    assert "1 address read, 1 newly suppressed (news)" in told
