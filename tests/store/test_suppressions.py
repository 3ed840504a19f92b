"""Suppressions and lists in the database: made once, found by every form of an address, and logged."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mailerd.core.suppression import EVERYTHING, Channel, Reason
from mailerd.errors import LostKeysError
from mailerd.store.db.database import Database
from mailerd.store.write import secrets as secrets_module
from mailerd.store.write import suppressions as suppressions_module
from mailerd.store.write.list_names import ListNameError
from mailerd.store.write.secrets import AddressDigests, Secrets
from mailerd.store.write.suppressions import AddedSuppressions, NewSuppression, Suppressions
from tests.support.rows import query

ADA = "ada@example.com"
TIMEOUT = 5.0


@pytest.fixture
async def suppressions(database: Database) -> Suppressions:
    return Suppressions(database, key=(await Secrets(database, timeout=TIMEOUT).keys()).address, timeout=TIMEOUT)


def new(
    suppressions: Suppressions, address: str, list_id: int = EVERYTHING, reason: Reason = Reason.MANUAL
) -> NewSuppression:
    return NewSuppression(suppressions.digest(address), list_id, reason, Channel.CLI, address, actor="me")


async def log(database: Database) -> Sequence[Sequence[object]]:
    return [
        tuple(row) for row in await query(database, "SELECT action, reason, source FROM suppression_log ORDER BY id")
    ]


async def test_the_keys_are_made_once_by_however_many_daemons(database: Database) -> None:
    made = await asyncio.gather(*[Secrets(database, timeout=TIMEOUT).keys() for _ in range(5)])
    assert len({keys.address for keys in made}) == 1
    assert len({keys.tokens[1] for keys in made}) == 1


async def test_a_daemon_takes_the_key_of_the_database_that_is_there_now(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was emptied, say, and migrated: with the key of before, no suppression would bind a message that is
    claimed."""
    monkeypatch.setattr(secrets_module, "KEY_INTERVAL", 0.0)
    digests = AddressDigests(Secrets(database, timeout=5.0, for_messages=True))
    await digests.load()
    before = digests(ADA)
    await query(database, "DELETE FROM secrets")
    suppressions = await Suppressions.open(database, timeout=TIMEOUT)
    await digests.load()
    assert digests(ADA) == suppressions.digest(ADA) != before


@pytest.mark.parametrize("gone", ["", "WHERE name = 'address'", "WHERE name LIKE 'token:%%'"])
async def test_keys_that_are_gone_are_not_made_anew(suppressions: Suppressions, database: Database, gone: str) -> None:
    """With another key no suppression would bind, and nobody would notice."""
    secrets = Secrets(database, timeout=TIMEOUT)
    await suppressions.add([new(suppressions, ADA)])
    await secrets.examine()
    await query(database, f"DELETE FROM secrets {gone}")
    for ask in (secrets.keys, secrets.examine):
        with pytest.raises(LostKeysError, match="Restore that table"):
            await ask()
    await query(database, "DELETE FROM suppressions")
    await query(database, "DELETE FROM secrets")
    await secrets.examine()
    assert (await secrets.keys()).newest == 1, "a database in which nobody has opted out"


async def test_a_rotated_key_stands_beside_the_old_one(database: Database) -> None:
    secrets = Secrets(database, timeout=TIMEOUT)
    before = await secrets.keys()
    assert await secrets.rotate() == 2
    after = await secrets.keys()
    assert after.address == before.address
    assert after.tokens[1] == before.tokens[1] != after.tokens[2]
    assert after.newest == 2


async def test_one_binds_every_form_of_its_address_and_only_its_list(suppressions: Suppressions) -> None:
    news = (await suppressions.make_list("news")).id
    await suppressions.add([new(suppressions, "Ada.L@gmail.com", news)])
    forms = ["adal@gmail.com", "A.D.A.L@googlemail.com", "bob@gmail.com"]
    assert set(await suppressions.binding(forms, list_id=news)) == set(forms[:2])
    assert await suppressions.binding(forms, list_id=news + 1) == {}
    assert await suppressions.binding(forms, list_id=None) == {}


async def test_one_of_everything_binds_every_list_and_none(suppressions: Suppressions) -> None:
    news = (await suppressions.make_list("news")).id
    await suppressions.add([new(suppressions, "ada@example.com")])
    assert await suppressions.binding(["ada@example.com"], list_id=news) == {"ada@example.com": Reason.MANUAL}
    assert await suppressions.binding(["ada@example.com"], list_id=None) == {"ada@example.com": Reason.MANUAL}


def manual(*names: str | None) -> list[tuple[str | None, Reason]]:
    return [(name, Reason.MANUAL) for name in names]


def counts(added: AddedSuppressions) -> tuple[int, int]:
    return len(added.fresh), len(added.stronger)


async def test_the_same_one_again_changes_nothing_and_a_bounce_is_stronger(
    suppressions: Suppressions, database: Database
) -> None:
    one = new(suppressions, "ada@example.com")
    assert counts(await suppressions.add([one, one])) == (1, 0)
    assert counts(await suppressions.add([one])) == (0, 0)
    assert counts(await suppressions.add([new(suppressions, "ada@example.com", reason=Reason.HARD_BOUNCE)])) == (0, 1)
    assert counts(await suppressions.add([one])) == (0, 0)
    (only,) = await suppressions.of("ADA@example.com")
    assert (only.reason, only.email, only.actor) == (Reason.HARD_BOUNCE, "ada@example.com", "me")
    assert await log(database) == [("added", "manual", "cli"), ("added", "hard_bounce", "cli")]


async def test_one_that_ends_is_logged_and_only_for_its_reason(suppressions: Suppressions, database: Database) -> None:
    await suppressions.add([new(suppressions, "ada@example.com", reason=Reason.HARD_BOUNCE)])
    digest = suppressions.digest("ada@example.com")
    assert await suppressions.undo(digest, list_id=EVERYTHING, origin="") == (False, True)
    assert await suppressions.remove(digest, list_id=EVERYTHING, source=Channel.PAGE) == (True, False)
    assert await suppressions.remove(digest, list_id=EVERYTHING, source=Channel.PAGE) == (False, False)
    assert await suppressions.of("ada@example.com") == []
    assert await log(database) == [("added", "hard_bounce", "cli"), ("removed", None, "page")]


async def test_pages_go_through_all_of_them_once(suppressions: Suppressions) -> None:
    news = (await suppressions.make_list("news")).id
    await suppressions.add(
        [new(suppressions, f"p{n}@example.com", its) for n in range(125) for its in (EVERYTHING, news)]
    )
    seen, after = list[str](), None
    while page := await suppressions.page(after=after, limit=7):
        seen += [f"{it.email} {it.list}" for it in page]
        after = page[-1].place
    assert sorted(seen) == sorted(f"p{n}@example.com {its}" for n in range(125) for its in (None, "news"))
    assert await suppressions.page(reason=Reason.COMPLAINED) == []


@pytest.mark.parametrize(
    "name", ["", "a b", "x" * 101, "ü", ".a", "-a", "a.", "a\r\nBcc: b", "a/b", "_a", "News", "a..b", "a-"]
)
async def test_a_name_that_would_not_do_in_a_header_is_refused(suppressions: Suppressions, name: str) -> None:
    with pytest.raises(ListNameError):
        await suppressions.make_list(name)
    assert await suppressions.lists() == []


@pytest.mark.parametrize("title", ["", " ", "a\r\nBcc: b@example.com", "x" * 256])
async def test_a_title_that_would_not_do_in_a_header_is_refused(suppressions: Suppressions, title: str) -> None:
    with pytest.raises(ListNameError):
        await suppressions.make_list("news", title=title)


async def test_a_list_is_made_once_and_keeps_its_title(suppressions: Suppressions) -> None:
    first = await suppressions.make_list("news", title="Autumn news")
    again = await suppressions.make_list("news")
    assert (again.id, again.title) == (first.id, "Autumn news")
    assert (await suppressions.make_list("news", title="News")).shown == "News"
    assert [it.name for it in await suppressions.lists()] == ["news"]
    assert await suppressions.list_named("other") is None


async def test_of_several_for_one_address_the_strongest_holds(suppressions: Suppressions) -> None:
    both = [new(suppressions, ADA), new(suppressions, ADA, reason=Reason.HARD_BOUNCE), new(suppressions, ADA)]
    assert counts(await suppressions.add(both)) == (1, 0)
    (only,) = await suppressions.of(ADA)
    assert only.reason is Reason.HARD_BOUNCE


async def test_a_link_lifts_neither_a_complaint_nor_what_an_application_asked_for(suppressions: Suppressions) -> None:
    digest = suppressions.digest(ADA)
    await suppressions.add([NewSuppression(digest, EVERYTHING, Reason.UNSUBSCRIBED, Channel.PAGE)])
    await suppressions.add([new(suppressions, ADA, reason=Reason.COMPLAINED)])
    assert await suppressions.undo(digest, list_id=EVERYTHING, origin="") == (False, True)
    await suppressions.remove(digest, list_id=EVERYTHING, source=Channel.CLI)
    await suppressions.add([NewSuppression(digest, EVERYTHING, Reason.UNSUBSCRIBED, Channel.API)])
    assert await suppressions.undo(digest, list_id=EVERYTHING, origin="") == (False, True)


async def test_a_link_lifts_what_a_link_did_and_says_whether_another_list_of_it_is_left(
    suppressions: Suppressions,
) -> None:
    digest, news = suppressions.digest(ADA), await suppressions.make_list("news")
    await suppressions.add([NewSuppression(digest, news.id, Reason.UNSUBSCRIBED, Channel.PAGE)])
    assert await suppressions.undo(digest, list_id=news.id, origin="") == (True, False)
    assert await suppressions.undo(digest, list_id=news.id, origin="") == (False, False)
    await suppressions.add(
        [
            NewSuppression(digest, news.id, Reason.UNSUBSCRIBED, Channel.ONE_CLICK),
            NewSuppression(digest, EVERYTHING, Reason.MANUAL, Channel.API),
        ]
    )
    assert await suppressions.undo(digest, list_id=news.id, origin="") == (True, True)


async def test_there_are_no_more_lists_than_an_answer_shows(
    suppressions: Suppressions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailerd.store.write.suppressions.MAX_LISTS", 2)
    for name in ("a", "b", "a"):
        await suppressions.make_list(name)
    with pytest.raises(ListNameError, match=r"^the limit of 2 lists is reached$"):
        await suppressions.make_list("c")


async def test_one_that_many_add_at_once_is_added_by_one_of_them(
    suppressions: Suppressions, database: Database
) -> None:
    for number in range(5):  # each a race of its own; together with others that nobody else adds
        shared = new(suppressions, f"shared{number}@example.com", reason=Reason.UNSUBSCRIBED)
        alone = [new(suppressions, f"r{number}-{each}@example.com") for each in range(8)]
        added = await asyncio.gather(*(suppressions.add([it, shared]) for it in alone))
        assert sum(len(each.fresh) for each in added) == len(alone) + 1
        assert len(await suppressions.of(f"shared{number}@example.com")) == 1
    assert len(await log(database)) == 5 * 9
    assert await query(database, "SELECT COUNT(*) FROM events") == [(5,)]


@pytest.mark.parametrize("meanwhile", ["left again", "stronger"])
async def test_a_stronger_reason_is_kept_whatever_another_does_meanwhile(
    suppressions: Suppressions, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    wish = replace(new(suppressions, ADA, reason=Reason.UNSUBSCRIBED), source=Channel.PAGE)
    bounce, complaint = (new(suppressions, ADA, reason=it) for it in (Reason.HARD_BOUNCE, Reason.COMPLAINED))
    await suppressions.add([wish])
    insert_missing = suppressions_module._insert_missing

    async def beside(*given: Any) -> Any:
        known = await insert_missing(*given)
        monkeypatch.undo()
        if meanwhile == "stronger":
            await suppressions.add([bounce])
        else:
            assert await suppressions.undo(wish.digest, list_id=EVERYTHING, origin="") == (True, False)
        return known

    monkeypatch.setattr(suppressions_module, "_insert_missing", beside)
    added = await suppressions.add([complaint if meanwhile == "stronger" else bounce])
    assert [it.reason for it in await suppressions.of(ADA)] == [Reason.HARD_BOUNCE]
    assert counts(added) == ((0, 0) if meanwhile == "stronger" else (1, 0))


async def test_lists_are_made_all_or_none(suppressions: Suppressions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suppressions_module, "MAX_LISTS", 3)
    made = await suppressions.make_lists(manual("a", "b"))
    assert await suppressions.make_lists(manual("b", "c", None)) == {
        "b": made["b"],
        "c": made["b"] + 1,
        None: EVERYTHING,
    }
    with pytest.raises(ListNameError, match=r"^the limit of 3 lists is reached$"):
        await suppressions.make_lists(manual("a", "d"))
    with pytest.raises(ListNameError, match="the name of a list has"):
        await suppressions.make_lists(manual("a", "d e"))
    assert [it.name for it in await suppressions.lists()] == ["a", "b", "c"]
