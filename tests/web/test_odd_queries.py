"""Whatever stands in an address behind the question mark, the page comes."""

from urllib.parse import quote

import pytest
from yarl import URL

from tests.support.rows import post, query
from tests.web.conftest import ConsoleSite

ODD = [
    "", " ", "a" * 3000, "\0", "\x1b[31m", "\ud800", "😀" * 50, "9" * 40, "9" * 18, "-1", "nan", "1e999", "%s'\"<",
    "٣", "9999-12-31", "0000-00-00", "1-1-1", "nan-00-0", "1e300-ff-1", "1-zz-1", "1764000000.5-ff-99999999999999",
]  # fmt: skip
QUERIES = {
    "/": ["span", "lang"],
    "/jobs": ["tab", "q", "status", "sender", "from", "until", "before"],
    "/jobs/{job}": ["tab", "email", "after"],
    "/senders/me@example.com": ["span", "hide"],
    "/senders": ["after"],
    "/inbox": ["show", "before", "kind", "sender", "job"],
    "/people": ["email", "q", "before"],
    "/suppressions": ["list", "reason", "email", "after"],
    "/lists": ["after"],
    "/templates": ["q"],
    "/templates/welcome": ["in", "version"],
    "/templates/welcome/html": ["in", "version"],
    "/templates/order": ["in", "version"],
    "/templates/order/edit": ["version"],
    "/webhooks/{hook}": ["tab", "before"],
    "/keys": ["before"],
}


@pytest.mark.parametrize("path", QUERIES)
async def test_no_query_is_answered_with_a_bug(site: ConsoleSite, path: str) -> None:
    job, hook, browser = await post(site.database), "1" * 26, await site.signed_in()
    await query(
        site.database,
        "INSERT INTO webhooks (id, name, url, secret, state, position, created_at) VALUES "
        "(%s, 'till', 'https://127.0.0.1/hook', 'x', 'on', 0, UTC_TIMESTAMP(6))",
        hook,
    )
    await query(
        site.database,
        "INSERT INTO templates (name, created_by, created_at) VALUES ('order', 'key:x', UTC_TIMESTAMP(6))",
    )
    await query(
        site.database,
        "INSERT INTO template_versions (name, version, about, files, subject, created_by, created_at) VALUES "
        "('order', '0123456789abcdef', '{}', '[[\"body.txt\", 1], [\"subject.txt\", 1]]', 'x', 'key:x', now())",
    )
    await query(site.database, "INSERT INTO template_chunks VALUES ('order', '0123456789abcdef', 0, 'ab')")
    wrong = list[tuple[str, str, int]]()
    for name in QUERIES[path]:
        for odd in ODD:
            address = f"{path.format(job=job, hook=hook)}?{name}={quote(odd, errors='surrogatepass')}"
            async with browser.get(URL(f"{site.url}{address}", encoded=True)) as answer:
                if answer.status != 200:
                    wrong.append((name, odd[:20], answer.status))
    assert wrong == []
    assert not site.heard.of("request_failed")
