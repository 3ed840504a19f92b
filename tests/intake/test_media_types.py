"""A body that is called something else than JSON is a 415, at every operation whose description lists one."""

import json
import re

import pytest

from mailerd.intake.routes import OPERATIONS
from tests.intake.site import Site, job

_PARTS = {
    "id": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "email": "me@example.com",
    "name": "welcome",
    "version": "3f6c1b2a9d40e85c",
}
OTHERS = [
    "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/xml", "application/jsonp", "x",
    "application/x+json/y",
]  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
async def test_another_type_is_a_415_wherever_it_is_listed_and_nothing_is_stored(site: Site, kind: str) -> None:
    listed = {it.id for it in OPERATIONS if 415 in it.errors}
    given = set()
    for it in OPERATIONS:
        path = re.sub(r"{(\w+)}", lambda part: _PARTS[part[1]], it.path)
        body = json.dumps(job()).encode()
        async with site.client.request(
            it.method, site.url + path, data=body, headers={"Content-Type": kind, "Accept": "text/event-stream"}
        ) as response:
            if response.status == 415:
                failure = (await response.json())["error"]
                assert failure["code"] == "unsupported_media_type"
                assert kind.partition(";")[0] in failure["message"]
                given.add(it.id)
    assert given == listed
    assert len(listed) > 20
    assert await site.stored() == (0, 0)


@pytest.mark.parametrize(
    "kind", [None, "application/json", "Application/JSON; charset=utf-8", "application/problem+json", "text/plain",
             "application/octet-stream"],
)  # fmt: skip
async def test_json_is_taken_and_so_is_a_body_of_which_nothing_is_said(site: Site, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    status, _ = await site.post_bytes(json.dumps(job()).encode(), headers=headers, skip_auto_headers=["Content-Type"])
    assert status == 200
    status, answer = await site.post_bytes(b"{", headers=headers, skip_auto_headers=["Content-Type"])
    assert (status, answer["error"]["code"]) == (422, "invalid_json")


async def test_without_a_body_its_type_does_not_matter(site: Site) -> None:
    """`curl -d ''` names a form."""
    id_ = await site.posted()
    headers = {"Content-Type": OTHERS[0]}
    async with site.client.post(f"{site.url}/api/jobs/{id_}/pause", data=b"", headers=headers) as response:
        assert response.status == 200
