"""What needs no key is for who calls by a name of ours: a stranger's page cannot read it by a name that was rebound."""

import pytest

from tests.intake.site import Build, Site

PAGES = ["/metrics", "/docs", "/docs/style.css", "/openapi.json", "/"]


@pytest.fixture
async def site(build: Build) -> Site:
    return await build(hosts=frozenset({"mail.example.com"}), page=lambda _: b"a 1\n")


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("host", ["evil.example", "mail.example.com.evil.example", "localhost.evil.example", "", "["])
async def test_a_name_that_is_not_ours_is_refused(site: Site, path: str, host: str) -> None:
    async with site.client.get(site.url + path, headers={"Host": host, "X-API-Key": ""}) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (421, "unknown_host")
    assert not site.heard.of("request_failed")


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("host", ["127.0.0.1:5000", "10.1.2.3", "[::1]:5000", "localhost", "LOCALHOST:1",
                                  "mail.example.com", "Mail.Example.com:443"])  # fmt: skip
async def test_addresses_this_machine_and_the_names_of_the_settings_are_ours(site: Site, path: str, host: str) -> None:
    headers = {"Host": host}
    async with site.client.get(site.url + path, headers=headers, allow_redirects=False) as answer:
        assert answer.status == (302 if path == "/" else 200)


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
async def test_a_proxy_may_ask_for_health_by_any_name(site: Site, path: str) -> None:
    async with site.client.get(site.url + path, headers={"Host": "backend"}) as answer:
        assert answer.status == 200


async def test_a_key_is_enough_for_what_needs_one(site: Site) -> None:
    async with site.client.get(f"{site.url}/api/jobs", headers={"Host": "backend"}) as answer:
        assert answer.status == 200
