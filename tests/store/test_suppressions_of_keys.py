"""Whose a suppression and a list is: a key for some senders sees, ends and uses its own, and whoever ends one ends no
other."""

import asyncio
from datetime import UTC, datetime

import pytest

from mailerd.core.suppression import EVERYTHING, Channel, Reason
from mailerd.store.db.database import Database
from mailerd.store.write import suppressions
from mailerd.store.write.api_keys import ApiKey, Permission
from mailerd.store.write.list_names import ListNameError
from mailerd.store.write.messages import BINDING
from mailerd.store.write.suppressions import (
    LimitedKeyError,
    ListTakenError,
    NewSuppression,
    OthersListError,
    Suppressions,
    cursor_of,
    place_of,
)
from tests.store.queue.test_hand_over import claimed, drafts, hand_over, plain
from tests.store.test_suppressions import manual
from tests.support.dialect import plan
from tests.support.rows import query

ADA, BOB = "ada@example.com", "bob@example.com"
ALICE, BORIS = "alice@shop.example", "boris@shop.example"
"""Two senders, each with a key of its own."""
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ENDED, ENDED_AND_OUT, NONE_BUT_OUT = (True, False), (True, True), (False, True)


def key(number: int, *senders: str) -> ApiKey:
    return ApiKey(
        number, f"k{number}", b"", "", frozenset(senders) or None, frozenset({Permission.SUPPRESS}), None, NOW, None,
        None, None,
    )  # fmt: skip


async def stores(database: Database) -> tuple[Suppressions, Suppressions, Suppressions]:
    """As the keys of Alice and of Boris see them, and as one without limits does."""
    keys = (key(1, ALICE), key(2, BORIS), key(3))
    alice, boris, all_ = [await Suppressions.open(database, timeout=20, limited_to=it) for it in keys]
    return alice, boris, all_


def one(
    store: Suppressions, origin: str = "", *, email: str = ADA, list_id: int = EVERYTHING,
    reason: Reason = Reason.HARD_BOUNCE,
) -> NewSuppression:  # fmt: skip
    """What the daemon makes of a message of this sender, or of its link."""
    source = Channel.ONE_CLICK if reason is Reason.UNSUBSCRIBED else Channel.NOTICE
    return NewSuppression(store.digest(email), list_id, reason, source, email, origin=origin)


async def end(store: Suppressions, *, list_id: int = EVERYTHING, origin: str | None = None) -> tuple[bool, bool]:
    removed, still = await store.remove(store.digest(ADA), list_id=list_id, source=Channel.API, origin=origin)
    return bool(removed), still


async def seen(store: Suppressions) -> list[tuple[str | None, str | None, str, str]]:
    return [(it.email, it.list, it.origin, it.reason.value) for it in await store.page()]


@pytest.mark.parametrize("first", ["wish", "bounce"])
async def test_who_ends_a_bounce_ends_no_wish_that_met_it(database: Database, first: str) -> None:
    daemon = await Suppressions.open(database, timeout=20)
    alice, boris, all_ = await stores(database)
    news = (await all_.make_list("news")).id
    bounce = one(daemon, ALICE, list_id=news)
    wish = one(daemon, BORIS, list_id=news, reason=Reason.UNSUBSCRIBED)
    for it in (wish, bounce) if first == "wish" else (bounce, wish):
        assert len((await daemon.add([it])).fresh) == 1
    assert await end(alice, list_id=news) == ENDED_AND_OUT
    assert await end(alice, list_id=news) == NONE_BUT_OUT
    assert await daemon.binding([ADA], list_id=news) == {ADA: Reason.UNSUBSCRIBED}
    assert (await seen(alice), await seen(boris)) == ([], [(ADA, "news", BORIS, "unsubscribed")])
    assert await daemon.undo(wish.digest, list_id=news, origin=BORIS) == ENDED
    assert await query(database, "SELECT origin, action FROM suppression_log ORDER BY id") == [
        *(((BORIS, "added"), (ALICE, "added")) if first == "wish" else ((ALICE, "added"), (BORIS, "added"))),
        (ALICE, "removed"), (BORIS, "removed"),
    ]  # fmt: skip


async def test_a_key_sees_what_is_its_own_by_every_question(database: Database) -> None:
    daemon = await Suppressions.open(database, timeout=20)
    alice, boris, all_ = await stores(database)
    news = (await all_.make_list("news")).id
    for number in range(6):
        email = f"p{number}@example.com"
        await daemon.add([one(daemon, (ALICE, BORIS, "")[number % 3], email=email)])
        for store, said in ((alice, BORIS), (boris, ALICE), (all_, "")):
            by = NewSuppression(daemon.digest(email), news, Reason.MANUAL, Channel.API, email, origin=said)
            await store.add([by])
    whose = {store: {it.origin for it in await store.page()} for store in (alice, boris, all_)}
    assert whose == {
        alice: {ALICE, "key:1"}, boris: {BORIS, "key:2"}, all_: {ALICE, BORIS, "", "key:1", "key:2"}
    }, "what a key adds is its own, whatever it says"  # fmt: skip
    for store, number in ((alice, 8), (boris, 8), (all_, 24)):
        assert len(await store.page()) == number
        walked, after = [], None
        while page := await store.page(after=after, limit=3):
            walked += page
            after = place_of(cursor_of(page[-1].place))
        assert walked == await store.page()
        assert {it.origin for it in await store.of("P0@example.com")} <= whose[store]
        assert [it.origin for it in await store.page(reason=Reason.HARD_BOUNCE, list_id=EVERYTHING)] == [
            it.origin for it in walked if it.reason is Reason.HARD_BOUNCE
        ]
        assert len(await store.page(list_id=news, reason=Reason.MANUAL)) == (18 if store is all_ else 6)


async def test_a_key_ends_what_is_its_own_and_one_without_limits_ends_all_or_the_one_of_a_row(
    database: Database,
) -> None:
    daemon = await Suppressions.open(database, timeout=20)
    alice, boris, all_ = await stores(database)
    await daemon.add([one(daemon, it) for it in (ALICE, BORIS, "")])
    assert await end(alice, origin=BORIS) == NONE_BUT_OUT
    assert await end(all_, origin=BORIS) == ENDED_AND_OUT
    assert await end(boris) == NONE_BUT_OUT
    assert await end(all_) == ENDED
    assert await daemon.binding([ADA], list_id=None) == {}


async def test_only_a_key_for_all_senders_suppresses_everything_or_ends_such_a_wish(database: Database) -> None:
    daemon = await Suppressions.open(database, timeout=20)
    alice, _, all_ = await stores(database)
    with pytest.raises(LimitedKeyError, match="name the list"):
        await alice.add([one(daemon)])
    with pytest.raises(LimitedKeyError, match="name the list"):
        await alice.make_lists(manual("a", None))
    await daemon.add([one(daemon, ALICE, reason=Reason.UNSUBSCRIBED)])
    with pytest.raises(LimitedKeyError, match="only a key for all senders"):
        await end(alice)
    assert await seen(alice) == [(ADA, None, ALICE, "unsubscribed")]
    assert await alice.lists() == []
    assert await end(all_) == ENDED


async def test_a_list_belongs_to_the_senders_of_the_key_that_made_it(database: Database) -> None:
    alice, boris, all_ = await stores(database)
    both = await Suppressions.open(database, timeout=20, limited_to=key(4, ALICE, BORIS))
    await alice.make_list("a", title="Of Alice")
    shared = await both.make_list("ab")
    everybodys = await all_.make_list("all", title="Of all")
    assert [[it.name for it in await store.lists()] for store in (alice, boris, both, all_)] == [
        ["a", "ab", "all"], ["ab", "all"], ["a", "ab", "all"], ["a", "ab", "all"]
    ]  # fmt: skip
    assert [it.name for it in await boris.lists(limit=1)] == ["ab"], "a page is full of what the key sees"
    assert await boris.list_named("a") is None
    for ask in (
        boris.make_list,
        boris.require_free,
        lambda name: boris.make_lists([("new", Reason.MANUAL), (name, Reason.MANUAL)]),
    ):
        with pytest.raises(ListTakenError, match="the name 'a' is taken"):
            await ask("a")
    assert await all_.list_named("new") is None, "all of them are made, or none"
    assert (await boris.make_list("all", title="Of all")).id == everybodys.id
    assert await boris.make_lists(manual("all", "ab")) == {
        None: EVERYTHING,
        "all": everybodys.id,
        "ab": shared.id,
    }
    for name in ("all", "ab"):
        with pytest.raises(OthersListError, match="belongs to other senders, too"):
            await boris.make_list(name, title="Of Boris")
    assert (await both.make_list("ab", title="Of both")).title == "Of both"
    assert (await all_.make_list("a", title="Of Ada")).title == "Of Ada"
    assert [it.title for it in await all_.lists()] == ["Of Ada", "Of both", "Of all"]


@pytest.mark.parametrize("reason", [Reason.HARD_BOUNCE, Reason.COMPLAINED])
async def test_a_limited_key_puts_nothing_on_others_lists_that_they_could_not_override(
    database: Database, reason: Reason
) -> None:
    alice, _, all_ = await stores(database)
    await all_.make_list("all")
    with pytest.raises(LimitedKeyError, match=f"'all' belongs to other senders, too.* adds no {reason.value} to it"):
        await alice.make_lists([("new", Reason.MANUAL), ("all", Reason.MANUAL), ("all", reason)])
    assert await all_.list_named("new") is None
    assert set(await alice.make_lists([("own", reason), ("all", Reason.UNSUBSCRIBED)])) == {None, "own", "all"}
    assert set(await all_.make_lists([("all", reason)])) == {None, "all"}


async def test_one_key_does_not_use_up_the_places_for_lists(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suppressions, "MAX_OWN", 2)
    alice, boris, all_ = await stores(database)
    for name in ("a", "b"):
        await alice.make_list(name)
    with pytest.raises(ListNameError, match="the limit of 2 lists of these senders is reached; use one of them"):
        await alice.make_list("c")
    for store, name in ((boris, "c"), (all_, "d"), (all_, "e"), (all_, "f"), (alice, "d")):
        await store.make_list(name)
    assert [it.name for it in await all_.lists()] == ["a", "b", "c", "d", "e", "f"]


async def test_a_list_that_two_keys_make_at_once_belongs_to_one_of_them(database: Database) -> None:
    alice, boris, all_ = await stores(database)
    for number in range(8):
        asked = [store.make_list(f"l{number}", title=title) for store, title in ((alice, "A"), (boris, "B"))]
        made = await asyncio.gather(*asked, return_exceptions=True)
        (refused,) = [it for it in made if isinstance(it, ListTakenError)]
        its = await all_.list_named(f"l{number}")
        assert its is not None
        assert (its.title, its.senders) == (
            ("A", frozenset({ALICE})) if made[1] is refused else ("B", frozenset({BORIS}))
        )


async def test_those_of_several_origins_that_are_added_at_once_are_all_added_and_told(database: Database) -> None:
    daemon = await Suppressions.open(database, timeout=20)
    news = (await daemon.make_list("news")).id
    for number in range(5):
        email = f"p{number}@example.com"
        wishes = [one(daemon, it, email=email, list_id=news, reason=Reason.UNSUBSCRIBED) for it in (ALICE, BORIS)]
        added = await asyncio.gather(*(daemon.add([it]) for it in wishes * 2))
        assert sum(len(it.fresh) for it in added) == 2
        assert [it.origin for it in await daemon.of(email)] in ([ALICE, BORIS], [BORIS, ALICE])
    assert await query(database, "SELECT COUNT(*) FROM events") == [(10,)]
    both = [one(daemon, it, email=BOB, list_id=news, reason=Reason.UNSUBSCRIBED) for it in (ALICE, BORIS)]
    assert len((await daemon.add(both)).fresh) == 2
    assert await query(database, "SELECT COUNT(*) FROM events") == [(12,)], "of the same moment"


@pytest.mark.parametrize("origins", [(ALICE, BORIS), (BORIS, ALICE)])
async def test_a_job_that_overrides_wishes_skips_a_bounce_whose_ever_it_is(
    database: Database, origins: tuple[str, str]
) -> None:
    daemon = await Suppressions.open(database, timeout=20)
    bounce, wish = origins
    await daemon.add([one(daemon, bounce, email="r0@example.org")])
    await daemon.add([one(daemon, wish, email="r0@example.org", reason=Reason.UNSUBSCRIBED)])
    assert await daemon.binding(["r0@example.org"], list_id=None) == {"r0@example.org": Reason.HARD_BOUNCE}
    (message,) = await claimed(database, 1)
    assert message.suppressed is Reason.HARD_BOUNCE


@pytest.mark.parametrize("origin", [ALICE, "key:1", ""])
async def test_one_of_any_origin_stops_the_hand_over(database: Database, origin: str) -> None:
    (message,) = await claimed(database, 1)
    daemon = await Suppressions.open(database, timeout=20)
    await daemon.add([one(daemon, origin, email=message.to_email)])
    assert not await hand_over(database, *plain(message))
    assert await drafts(database) == [None]


async def test_what_binds_is_looked_up_by_digest_and_list(database: Database) -> None:
    """Of the key, the first 20 bytes: the origin is never read through."""
    daemon = await Suppressions.open(database, timeout=20)
    people = [f"p{number}@example.com" for number in range(500)]
    await daemon.add([one(daemon, origin, email=it) for it in people for origin in (ALICE, BORIS)])
    await query(database, "ANALYZE TABLE suppressions")
    digests = tuple(map(daemon.digest, people[:5]))
    (row,) = await plan(database, BINDING, (digests, (EVERYTHING, 7)))
    assert (row["type"], row["key"], row["key_len"]) == ("range", "PRIMARY", "20")
    assert int(row["rows"]) <= 40
