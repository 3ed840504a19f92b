"""The API's description of a value is what the API takes, neither looser nor tighter, at the bounds of each."""

import json
from collections.abc import Iterable
from copy import deepcopy
from functools import cache
from typing import Any

import jsonschema_rs
import pytest

from mailerd.core.webhooks import EventType
from mailerd.intake.openapi import document
from mailerd.intake.routes import OPERATIONS
from tests.intake.site import Site, job

LONGEST = f"{'a' * 64}@{'b' * 63}.{'c' * 63}.{'d' * 57}.org"
EMAIL = (
    ["ada@example.com", "Ada@例え.jp", LONGEST],
    ["nobody", "", "a@b@example.com", f"{LONGEST}x", "a b@example.com"],
)
LIST = (["news", "a", "a.b_c-9", "a-_.b", "a" * 100], ["", "A", "a..b", "-a", "a-", "a.", "ü", "a" * 101])
LANGUAGE = (["zh", "zh-TW", "de_AT"], ["z", "zh-", "zh TW", ""])
LINE = (["Ada", "Ядро", ""], ["a\nb", "a\x7fb", "a\u2028b", "a\u202eb"])
FILE = (["a.pdf", "été.txt", "a" * 251 + ".txt"], ["", "a/b", "a\\b", "c:d", "a" * 256])
FILES = [{"filename": "a.pdf", "content": "JVBERi0xLjcK"}]
PARTS = {"subject": "Hello", "text": "Hello"}
ONE = {"sender_email": "me@example.com", "to": {"email": "ada@example.com"}, **PARTS}
SUPPRESSED = {"suppressions": [{"email": "ada@example.com"}]}
HOOK = {"name": "crm", "url": "https://example.com/"}
HEADERS = (
    [{"X-Order": "17"}, {"X-" + "a" * 62: "a" * 900}],
    [{"X Order": "17"}, {"X-" + "a" * 63: "17"}, {"X-Order": ""}, {"X-Order": "a" * 901}, {"X-Order": "a\nb"}],
)

BODIES: dict[str, list[tuple[dict[str, Any], str, tuple[list[Any], list[Any]]]]] = {
    "createJob": [
        (job(), "sender_email", EMAIL),
        (job(), "reply_to", EMAIL),
        (job(), "recipients.0.cc", ([[{"email": it}] for it in EMAIL[0]], [[{"email": it}] for it in EMAIL[1]])),
        (job(), "recipients.0.language", LANGUAGE),
        (job(), "recipients.0.name", (["Ada", "Ядро"], LINE[1])),
        (job(), "sender_name", LINE),
        (job(), "reference", LINE),
        (job(), "template.subject", (["Hello"], ["", "a\nb", "a" * 10_001])),
        (job(), "headers", HEADERS),
        (job(attachments=FILES), "attachments.0.filename", FILE),
        (job(attachments=FILES), "attachments.0.content_type", (["image/png"], ["png", "text/plain; charset=x", ""])),
        (job(attachments=FILES), "attachments.0.content_id", (["logo", "a@b"], ["a b", "", "<a>"])),
        (job(attachments=FILES), "attachments.0.content", (["YQ=="], ["", "YQ="])),
    ],
    "sendMessage": [
        (ONE, "to.email", EMAIL),
        (ONE, "to.name", LINE),
        (ONE, "subject", (["Hello"], ["", "a\nb", "a" * 10_001])),
        (ONE, "language", LANGUAGE),
    ],
    "testJob": [({"job": job(), "to": ["me@example.com"]}, "to.0", (["me@example.com"], EMAIL[1]))],
    "addSuppressions": [
        (SUPPRESSED, "suppressions.0.email", EMAIL),
        (SUPPRESSED, "suppressions.0.list", LIST),
        (SUPPRESSED, "suppressions.0.detail", (["a ticket"], ["a\nb"])),
    ],
    "saveMailingList": [({"name": "news"}, "name", LIST), ({"name": "news"}, "title", (["News"], ["", " "]))],
    "createWebhook": [(HOOK, "senders", ([], [[it] for it in EMAIL[1]]))],
    "saveTemplate": [
        (PARTS, "language", (["zh", "zh-tw"], ["ZH", "zh_tw", ""])),
        (PARTS, "images", ([], [[{"filename": it, "content": "YQ=="}] for it in FILE[1]])),
    ],
}
ADDRESS = (EMAIL[0], [it for it in EMAIL[1] if it])
"""In a query an empty one counts as absent (`allowEmptyValue`)."""
QUERIES: dict[str, dict[str, tuple[list[Any], list[Any]]]] = {
    "listJobs": {"sender_email": ADDRESS},
    "findRecipients": {"email": ADDRESS},
    "search": {"q": (["abc", "a c", "17", "é"], ["ab", " ab ", ""])},
    "getStats": {
        "zone": (["UTC", "Asia/Shanghai", "America/Argentina/Buenos_Aires", "+08:00"], ["+8", "a b", "+25:00"])
    },
    "listEvents": {"types": ([["job.finished"], [*EventType]], [["job.done"], ["job.finished", "x"]])},
    "listSuppressions": {"list": ([""], [it for it in LIST[1] if it]), "cursor": ([""], ["x", "1-2"])},
    "listSenders": {"cursor": (["me@example.com"], ["a b"])},
}
OF_ID = {it.id: it for it in OPERATIONS}


@cache
def described() -> Any:
    return json.loads(json.dumps(document(), default=str))


def fits(value: Any, schema: dict[str, Any]) -> bool:
    whole = {**schema, "components": described()["components"]}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True).is_valid(value)


def put(body: Any, place: str, value: Any) -> Any:
    body = at = deepcopy(body)
    *way, last = [int(step) if step.isdigit() else step for step in place.split(".")]
    for step in way:
        at = at[step]
    at[last] = value
    return body


def probes(known: tuple[list[Any], list[Any]]) -> Iterable[tuple[Any, bool]]:
    return [(value, is_good) for values, is_good in zip(known, (True, False), strict=True) for value in values]


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_fits_its_schema_where_it_is_taken_and_nowhere_else(site: Site, name: str) -> None:
    it, wrong = OF_ID[name], list[tuple[str, Any, int]]()
    path = it.path.replace("{name}", "odd")
    content = described()["paths"][it.path][it.method.lower()]["requestBody"]["content"]["application/json"]
    for body, place, known in BODIES[name]:
        assert fits(body, content["schema"])
        for value, is_good in probes(known):
            given = put(body, place, value)
            async with site.client.request(it.method, f"{site.url}{path}", json=given) as response:
                is_taken = response.status == 200
                told = await response.text()
            said = fits(given, content["schema"])
            if not is_taken == said == is_good:
                wrong.append((place, value, is_taken, said, told[:300]))  # type: ignore[arg-type]
    assert wrong == []


@pytest.mark.parametrize("name", QUERIES)
async def test_a_parameter_fits_its_schema_where_it_is_taken_and_nowhere_else(site: Site, name: str) -> None:
    it, wrong = OF_ID[name], list[Any]()
    for parameter, known in QUERIES[name].items():
        [schema] = [
            each["schema"] for each in described()["paths"][it.path]["get"]["parameters"] if each["name"] == parameter
        ]
        for value, is_good in probes(known):
            ways = [[(parameter, value)]]
            if isinstance(value, list):  # as a form without and with `explode`
                ways = [[(parameter, ",".join(value))], [(parameter, each) for each in value]]
            for given in ways:
                status, _ = await site.get(it.path, params=given)
                if not (status != 422) == fits(value, schema) == is_good:
                    wrong.append((parameter, value, status, fits(value, schema)))
    assert wrong == []
