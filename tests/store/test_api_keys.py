"""API keys: shown once, kept as a digest, gone when revoked."""

import hashlib

import pytest

from mailerd.store.db.database import Database
from mailerd.store.write.api_keys import ApiKeys, KeyNameError, digest
from tests.support.rows import query


@pytest.fixture
def keys(database: Database) -> ApiKeys:
    return ApiKeys(database, timeout=5)


async def test_a_key_has_256_random_bits_and_only_its_digest_is_stored(keys: ApiKeys, database: Database) -> None:
    secret, other = await keys.create("app"), await keys.create("other")

    assert secret != other
    assert secret.startswith("sk_live_")
    assert len(secret) == len("sk_live_") + 43  # 32 bytes in base64url
    [row, _] = await query(database, "SELECT * FROM api_keys ORDER BY id")
    assert hashlib.sha256(secret.encode()).digest() in row
    assert secret not in str(row)


async def test_a_key_is_found_by_its_digest_until_it_is_revoked(keys: ApiKeys) -> None:
    secret = await keys.create("app", senders=["b@example.com", "a@example.com"])
    key = await keys.active(digest(secret))

    assert key is not None
    assert (key.name, key.digest, key.revoked_at, key.last_used_at) == ("app", digest(secret), None, None)
    assert key.may_send("a@example.com")
    assert not key.may_send("c@example.com")
    assert key.hint.endswith(secret[-4:])
    assert await keys.active(digest(secret + "x")) is None
    assert await keys.revoke("app") == key.id
    assert await keys.active(digest(secret)) is None
    [listed] = await keys.all()
    assert listed.revoked_at is not None


async def test_a_key_without_senders_may_send_from_any(keys: ApiKeys) -> None:
    key = await keys.active(digest(await keys.create("app")))

    assert key is not None
    assert key.may_send("anybody@example.com")


async def test_a_name_is_free_again_when_its_key_is_revoked(keys: ApiKeys) -> None:
    await keys.create("app")
    with pytest.raises(KeyNameError, match=r"^key 1 already has the name 'app'; revoke it first"):
        await keys.create("app")
    await keys.revoke("1")
    await keys.create("app")

    assert [key.name for key in await keys.all()] == ["app", "app"]


@pytest.mark.parametrize("name", ["", " ", "17", "x" * 101, "a\nb"])
async def test_a_name_must_be_one(keys: ApiKeys, name: str) -> None:
    with pytest.raises(KeyNameError):
        await keys.create(name)

    assert await keys.all() == []


@pytest.mark.parametrize("which", ["nobody", "99", "app"])
async def test_what_is_not_there_cannot_be_revoked(keys: ApiKeys, which: str) -> None:
    await keys.create("app")
    await keys.revoke("app")
    with pytest.raises(KeyNameError, match=which):
        await keys.revoke(which)


async def test_two_keys_of_one_name_are_told_apart_by_id(keys: ApiKeys, database: Database) -> None:
    await keys.create("app")
    await query(database, "UPDATE api_keys SET name = 'x'")
    await keys.create("app")
    await query(database, "UPDATE api_keys SET name = 'app'")
    with pytest.raises(KeyNameError, match=r"1, \d"):
        await keys.revoke("app")

    assert all(key.revoked_at is None for key in await keys.all())


async def test_the_use_of_several_keys_is_noted_at_once(keys: ApiKeys) -> None:
    for name in ("a", "b", "c"):
        await keys.create(name)
    await keys.note_use({1, 3})

    assert [key.last_used_at is not None for key in await keys.all()] == [True, False, True]


async def test_a_key_is_found_whatever_bytes_its_digest_has(keys: ApiKeys) -> None:
    for number in range(60):
        key = await keys.active(digest(await keys.create(f"key {number}")))
        assert key is not None
