"""Who may ask what."""

import asyncio
from collections.abc import Callable

import pytest

from mailerd.clock import Clock
from tests.intake.site import Build, Site, job

PATHS = ["/api/jobs", "/api/jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/api/jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV/recipients"]


class SteppedClock(Clock):
    """Stands still but for its leaps."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return 1000.0 + self.ahead


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", [None, "", "sk_live_wrong", "\xff\xfe"])
async def test_without_a_good_key_nothing_is_shown(site: Site, path: str, key: str | None) -> None:
    site.client.headers.pop("X-API-Key", None)
    status, answer = await site.get(path, headers={} if key is None else {"X-API-Key": key})

    assert (status, answer["error"]["code"]) == (401, "unauthorized")


async def test_without_a_good_key_no_body_is_even_read(site: Site) -> None:
    host, _, port = site.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /api/jobs/send_template_emails HTTP/1.1\r\nHost: x\r\nX-API-Key: sk_live_wrong\r\n"
        b"Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
    )

    assert (await reader.readline()).startswith(b"HTTP/1.1 401")
    writer.close()


async def test_a_revoked_key_is_refused_at_once(site: Site) -> None:
    assert (await site.get("/api/jobs"))[0] == 200
    await site.keys.revoke("test")

    assert (await site.get("/api/jobs"))[0] == 401


async def test_a_key_may_be_limited_to_senders(site: Site) -> None:
    mine = {"X-API-Key": await site.keys.create("mine", senders=["me@example.com"])}
    status, answer = await site.post(job(sender_email="Other@example.com"), headers=mine)
    assert (status, answer["error"]["code"]) == (403, "sender_not_allowed")
    assert "other@example.com" in answer["error"]["message"]
    assert await site.stored() == (0, 0)
    status, _ = await site.post(job(sender_email="ME@example.com"), headers=mine)
    assert status == 200


async def test_a_limited_key_sees_only_its_senders_jobs(site: Site) -> None:
    mine = {"X-API-Key": await site.keys.create("mine", senders=["me@example.com"])}
    _, theirs = await site.post(job(sender_email="other@example.com"))
    _, ours = await site.post(job())

    assert (await site.get(f"/api/jobs/{theirs['job_id']}", headers=mine))[0] == 404
    assert (await site.get(f"/api/jobs/{theirs['job_id']}/recipients", headers=mine))[0] == 404
    _, page = await site.get("/api/jobs", headers=mine)
    assert [each["job_id"] for each in page["jobs"]] == [ours["job_id"]]


async def test_the_use_of_a_key_is_noted_at_most_once_a_minute(build: Build) -> None:
    clock = SteppedClock()
    site = await build(clock=clock)
    noted: asyncio.Queue[set[int]] = asyncio.Queue()
    gate = site.intake.auth
    write = gate._keys.note_use

    async def note_use(ids: set[int]) -> None:
        await write(ids)
        await noted.put(ids)

    gate._keys.note_use = note_use  # type: ignore[method-assign, assignment]
    noting = asyncio.create_task(gate.write_last_used())
    await site.get("/api/jobs")
    assert await noted.get() == {1}
    [(first,)] = await site.rows("SELECT last_used_at FROM api_keys")
    assert first is not None
    await site.get("/api/jobs")
    clock.ahead += 61
    await site.get("/api/jobs")
    assert await noted.get() == {1}
    [(second,)] = await site.rows("SELECT last_used_at FROM api_keys")
    assert second > first
    assert noted.empty()
    noting.cancel()


async def test_a_use_that_cannot_be_noted_stops_nothing(site: Site) -> None:
    noting = asyncio.create_task(site.intake.auth.write_last_used())
    await site.rows("ALTER TABLE api_keys DROP COLUMN last_used_at, ADD COLUMN last_used_at VARCHAR(1)")
    await site.get("/api/jobs")

    assert (await site.heard.wait_for("key_use_unwritten"))["keys"] == 1
    assert not noting.done()
    noting.cancel()


BOTH = [("X-API-Key", "{key}"), ("Authorization", "Bearer {key}")]


@pytest.mark.parametrize(
    "shown, status",
    [
        (BOTH[:1], 200),
        (BOTH[1:], 200),
        ([("Authorization", "bearer  {key} ")], 200),
        (BOTH, 200),
        ([("Authorization", "Basic eDp5"), BOTH[0]], 200),
        ([("X-API-Key", ""), BOTH[1]], 200),
        ([], 401),
        ([("Authorization", "Basic eDp5")], 401),
        ([("Authorization", "Bearer")], 401),
        ([("Authorization", "Bearer sk_live_wrong")], 401),
        ([BOTH[0], ("Authorization", "Bearer sk_live_wrong")], 401),
        ([BOTH[1], ("X-API-Key", "sk_live_wrong")], 401),
        ([BOTH[0], ("X-API-Key", "sk_live_wrong")], 401),
    ],
)
async def test_a_key_is_shown_in_its_header_or_as_a_bearer_token(
    site: Site, shown: list[tuple[str, str]], status: int
) -> None:
    site.client.headers.clear()
    headers = [(name, value.format(key=site.key)) for name, value in shown]
    async with site.client.get(f"{site.url}/api/jobs", headers=headers) as response:
        assert response.status == status
        challenge = response.headers.get("WWW-Authenticate")
        told = await response.text()
    secrets = [value.split()[-1] for _, value in headers if "sk_live" in value]
    invalid = 'Bearer realm="mailerd", error="invalid_token"' if secrets else 'Bearer realm="mailerd"'
    assert challenge == (invalid if status == 401 else None)
    assert not any(secret in told for secret in secrets)


async def test_the_metrics_name_senders_to_a_bearer_token_and_refuse_a_bad_one(build: Build) -> None:
    seen = list[bool]()

    def page(may_name: Callable[[str], bool]) -> bytes:
        seen.append(may_name("me@example.com"))
        return b""

    site = await build(page=page)
    site.client.headers.clear()
    for token, status in ((site.key, 200), ("sk_live_wrong", 401)):
        async with site.client.get(f"{site.url}/metrics", headers={"Authorization": f"Bearer {token}"}) as response:
            assert response.status == status
    assert seen == [True]


async def test_a_limited_key_reads_in_every_answer_what_is_left_to_it(build: Build) -> None:
    clock = SteppedClock()
    site = await build(clock=clock)
    mine = {"X-API-Key": await site.keys.create("mine", per_minute=3)}
    told = list[tuple[int, str, str | None]]()
    for path, after in (("", 0), ("/nowhere", 0), ("?limit=x", 0), ("", 0), ("", 7), ("", 13), ("", 60)):
        clock.ahead += after
        async with site.client.get(f"{site.url}/api/jobs{path}", headers=mine) as response:
            assert response.headers["RateLimit-Policy"] == '"default";q=3;w=60'
            told.append((response.status, response.headers["RateLimit"], response.headers.get("Retry-After")))
    assert told == [
        (200, '"default";r=2;t=20', None),
        (404, '"default";r=1;t=40', None),
        (422, '"default";r=0;t=20', None),
        (429, '"default";r=0;t=20', "20"),
        (429, '"default";r=0;t=13', "13"),
        (200, '"default";r=0;t=20', None),
        (200, '"default";r=2;t=20', None),
    ]
    for path, headers in (("/api/jobs", {}), ("/health/live", mine), ("/api/jobs", {"X-API-Key": "sk_live_wrong"})):
        async with site.client.get(site.url + path, headers=headers) as response:
            assert not {"RateLimit", "RateLimit-Policy"} & response.headers.keys(), path
