"""A stranger who floods the public site by good links: messages and other people go on."""

import asyncio

import pytest

from mailerd.intake import unsubscribe_site
from mailerd.model.suppressions import MailingList
from mailerd.store.write.suppressions import Suppressions
from tests.intake.test_unsubscribe_site import ADDRESS, Public, public

__all__ = ["public"]


async def test_a_flood_by_a_good_link_leaves_the_database_to_the_messages_and_unsubscribes_pass_it(
    public: Public, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, at_once, most = Suppressions.list_by_id, 0, 0

    async def slow(self: Suppressions, list_id: int) -> MailingList | None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.05)
        at_once -= 1
        return await find(self, list_id)

    async def look() -> int:
        async with public.client.get(f"{public.url}/u/{public.token()}") as answer:
            return answer.status

    monkeypatch.setattr(Suppressions, "list_by_id", slow)
    flood = [asyncio.create_task(look()) for _ in range(60)]
    await asyncio.sleep(0.1)
    async with public.client.post(f"{public.url}/u/{public.token()}") as answer:
        assert answer.status == 200
    assert await public.opted_out()
    assert sum(it.done() for it in flood) < 30
    assert set(await asyncio.gather(*flood)) == {200}
    assert most <= 2 * unsubscribe_site.PLACES


async def test_a_flood_of_unsubscribes_by_one_link_holds_up_no_other_person(
    public: Public, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = Suppressions.list_by_id

    async def slow(self: Suppressions, list_id: int) -> MailingList | None:
        await asyncio.sleep(0.05)
        return await find(self, list_id)

    async def act(address: str) -> int:
        async with public.client.post(f"{public.url}/u/{public.token(address=address)}") as answer:
            return answer.status

    monkeypatch.setattr(Suppressions, "list_by_id", slow)
    flood = [asyncio.create_task(act(ADDRESS)) for _ in range(60)]
    await asyncio.sleep(0.1)
    assert await act("other@example.org") == 200
    assert sum(it.done() for it in flood) < 30, "it does not stand behind them in one line"
    assert set(await asyncio.gather(*flood)) == {200}
