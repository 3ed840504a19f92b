"""Units a minute, messages a day, requests at once."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp
from hypothesis import example, given
from hypothesis import strategies as st

from mailerd.sandbox.google import FakeGoogle, FakeLimits, Fault
from mailerd.sandbox.google.answers import Refused
from mailerd.sandbox.google.quota import MINUTE_S, Window

Compose = Callable[..., dict[str, Any]]
Client = Callable[..., aiohttp.ClientSession]
USER = "gmail/v1/users/me/"


WAIT = st.one_of(st.floats(0, 0.02), st.floats(0, 40), st.floats(59.97, 60.01))


@given(st.lists(st.tuples(WAIT, st.integers(1, 30)), max_size=80), st.integers(30, 100))
@example(steps=[(0.0, 20), (0.009, 20), (59.993, 60)], limit=60)
def test_no_minute_ever_holds_more_than_allowed(steps: list[tuple[float, int]], limit: int) -> None:
    window, now, taken = Window(MINUTE_S), 0.0, list[tuple[float, int]]()
    for wait, amount in steps:
        now += wait
        if window.used(now) + amount <= limit:
            window.add(amount, now=now)
            taken.append((now, amount))
    for at, _ in taken:
        assert sum(amount for when, amount in taken if at - MINUTE_S < when <= at) <= limit


@given(st.lists(st.tuples(st.floats(0.02, 40), st.integers(1, 30)), max_size=60), st.integers(30, 100))
def test_what_fits_is_let_through(steps: list[tuple[float, int]], limit: int) -> None:
    window, now, taken = Window(MINUTE_S), 0.0, list[tuple[float, int]]()
    for wait, amount in steps:
        now += wait
        exact = sum(a for when, a in taken if when > now - MINUTE_S)
        assert window.used(now) == exact
        if exact + amount <= limit:
            window.add(amount, now=now)
            taken.append((now, amount))
        else:
            free = window.free_at(amount, limit=limit)
            assert sum(a for when, a in taken if when > free + 0.001 - MINUTE_S) + amount <= limit


async def test_a_new_project_gives_54_draft_pairs_a_minute(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    start, draft = google.now(), dict[str, Any]()
    for second in range(60):
        at = start + second * 0.9
        google.now = lambda at=at: at  # type: ignore[misc] # mypy takes the default for a parameter
        async with session.post(USER + "drafts", json={"message": compose(key=str(second))}) as answer:
            if answer.status == 403:
                break
            draft = await answer.json()
        async with session.post(USER + "drafts/send", json={"id": draft["id"]}) as answer:
            if answer.status == 403:
                error = (await answer.json())["error"]
                assert error["errors"][0] == {
                    "message": error["message"],
                    "domain": "usageLimits",
                    "reason": "rateLimitExceeded",
                }
                assert error["message"] == (
                    "Quota exceeded for quota metric 'Total Query Cost' and limit 'Units per minute per user' of "
                    "service 'gmail.googleapis.com' for consumer 'project_number:424242424242'."
                )
                assert "Retry-After" not in answer.headers
                break
    assert len(google.sent) == 54
    used = google.usage()["users"]["me@example.com"]
    assert used["peak_units"] == 54 * 110 + 10
    assert used["peak_share"] == used["peak_units"] / 6_000
    assert sum(used["units_by_minute"].values()) == used["peak_units"]
    assert used["throttled"] == {"units": 1}
    later = start + 60.1
    google.now = lambda: later
    async with session.post(USER + "drafts/send", json={"id": draft["id"]}) as answer:
        assert answer.status == 200


async def test_the_last_unit_may_be_used(session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose) -> None:
    google.change_rules(units_per_minute=200, project_units_per_minute=200)
    statuses = []
    for _ in range(3):
        async with session.post(USER + "messages/send", json=compose()) as answer:
            statuses.append(answer.status)
    assert statuses == [200, 200, 403]


async def test_the_projects_limit_binds_all_mailboxes_together(
    session: aiohttp.ClientSession, client: Client, google: FakeGoogle, compose: Compose
) -> None:
    google.change_rules(project_units_per_minute=150)
    google.add_mailbox("you@example.com")
    async with session.post(USER + "messages/send", json=compose()) as answer:
        assert answer.status == 200
    async with client("you@example.com").post(USER + "messages/send", json=compose()) as answer:
        assert answer.status == 403
        assert "limit 'Units per minute' of" in (await answer.json())["error"]["message"]


async def test_the_daily_cap_rolls_and_names_the_time(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    google.change_rules(per_day=2)
    times = [1_000_000.0, 1_000_600.0, 1_001_200.0, 1_086_400.0]
    answers: list[tuple[int, str]] = []
    google.now = lambda: times[len(answers)]
    google.accounts.expire_tokens()
    token = google.accounts.grant(
        "me@example.com",
        credential=google.accounts.credentials[0],
        scopes=google.accounts.credentials[0].scopes,
        expires_at=2e9,
    )
    for _ in times:
        headers = {"Authorization": f"Bearer {token}"}
        async with session.post(USER + "messages/send", json=compose(), headers=headers) as answer:
            text = (await answer.json()).get("error", {}).get("message", "")
            answers.append((answer.status, text))
    stamp = "1970-01-13T13:46:40.000Z"  # 24 h after the first
    throttle = (429, f"User-rate limit exceeded.  Retry after {stamp} (Mail sending)")
    assert answers == [(200, ""), (200, ""), throttle, (200, "")]


async def test_a_mailbox_at_gmail_com_has_a_cap_of_its_own(
    session: aiohttp.ClientSession, client: Client, google: FakeGoogle, compose: Compose
) -> None:
    assert (google.rules.per_day, google.rules.consumer_per_day) == (2_000, 500)
    google.change_rules(consumer_per_day=1)
    google.add_mailbox("you@gmail.com")
    consumer = client("you@gmail.com")
    answers = [await browser.post(USER + "messages/send", json=compose()) for browser in (consumer, consumer, session)]
    assert [answer.status for answer in answers] == [200, 429, 200]
    assert "(Mail sending)" in (await answers[1].json())["error"]["message"]


async def test_too_many_at_once_is_429_and_the_places_come_back(
    session: aiohttp.ClientSession, google: FakeGoogle
) -> None:
    google.change_rules(concurrent_per_user=2)
    google.fault(Fault(kind="latency", seconds=0.2, count=2))

    async def profile() -> int:
        async with session.get(USER + "profile") as answer:
            return answer.status

    assert sorted(await asyncio.gather(*(profile() for _ in range(4)))) == [200, 200, 429, 429]
    assert await profile() == 200
    used = google.usage()["users"]["me@example.com"]
    assert (used["throttled"], used["most_in_flight"], used["in_flight"]) == ({"concurrent": 2}, 2, 0)


async def test_zero_means_no_limit(session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose) -> None:
    google.change_rules(units_per_minute=0, project_units_per_minute=0, per_day=0)
    for _ in range(70):
        async with session.post(USER + "messages/send", json=compose()) as answer:
            assert answer.status == 200
    used = google.usage()["users"]["me@example.com"]
    assert (used["units_last_minute"], used["sent_24h"], used["share_last_minute"]) == (7_000, 70, None)


async def test_an_older_project_has_the_standard_tier_from_its_day_on_unless_it_pays(
    session: aiohttp.ClientSession, google: FakeGoogle, compose: Compose
) -> None:
    midnight = google.now() + 30  # of the tier's day
    assert google.rules.standard_from == datetime(2027, 4, 1, tzinfo=UTC).timestamp()
    google.change_rules(units_per_minute=15_000, standard_from=midnight)

    async def send_at(seconds: float, number: int = 1) -> set[int]:
        google.now = lambda: midnight + seconds
        statuses = set()
        for _ in range(number):
            async with session.post(USER + "messages/send", json=compose()) as answer:
                statuses.add(answer.status)
        return statuses

    assert await send_at(-30, 100) == {200}
    assert await send_at(-0.01) == {200}
    assert await send_at(0) == {403}, "the minute before counts as well"
    assert await send_at(60, 60) == {200}
    assert await send_at(60) == {403}
    google.change_rules(standard_from=0.0)
    assert await send_at(60, 90) == {200}


def copied(*, cc: int = 0, own: int = 0) -> bytes:
    outside = ", ".join(f"c{n}@example.net" for n in range(cc))
    inside = ", ".join(f"b{n}@example.com" for n in range(own))
    return f"To: ada@example.org\r\nCc: {outside}\r\nBcc: {inside}\r\n\r\nhello".encode()


def taken(google: FakeGoogle, email: str, *messages: bytes) -> int:
    """How many messages of these, one after the other, a day has room for."""
    google.add_mailbox(email)
    box, number = google.mailbox(email), 0
    for raw in messages:
        try:
            box.send(
                raw, thread_id="", now=1.0, permit=lambda it: google.limits.permit_sending(box, it.recipients, now=1.0)
            )
        except Refused:
            break
        number += 1
    return number


def test_a_day_counts_messages_all_addresses_and_those_outside() -> None:
    google = FakeGoogle(FakeLimits(per_day=10, consumer_per_day=10))
    assert taken(google, "plain@example.com", *[copied()] * 20) == 10
    assert taken(google, "outside@example.com", *[copied(cc=1)] * 20) == 5
    assert taken(google, "inside@example.com", *[copied(own=9)] * 20) == 5
    assert taken(google, "few@example.com", *[copied(own=4)] * 20) == 10
    assert taken(google, "home@gmail.com", *[copied(own=4)] * 20) == 2
    assert google.usage()["throttled"] == 5


def test_the_outbox_shows_the_copies() -> None:
    google = FakeGoogle(FakeLimits())
    google.add_mailbox("me@example.com")
    message = google.mailbox("me@example.com").send(copied(cc=1, own=1), thread_id="", now=1.0, permit=lambda _: None)
    assert message.whom == "ada@example.org · Cc: c0@example.net · Bcc: b0@example.com"
    assert message.recipients == ["ada@example.org", "c0@example.net", "b0@example.com"]
