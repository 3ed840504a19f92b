"""Answers in Chinese where Accept-Language asks for it; what programs read is the same in both languages."""

import json
import time
from typing import Any

import pytest
from multidict import CIMultiDict

from mailerd.core.i18n import joined, t
from mailerd.core.reasons import from_row, in_row, reason
from mailerd.core.suppression import Reason, why_suppressed
from mailerd.core.webhooks import EventType
from mailerd.http.errors import cut
from mailerd.http.responses import to_json
from mailerd.intake.response_models import RejectedOut
from mailerd.locale import say, speak
from mailerd.store.write.event_feed import NewEvent, insert_events
from tests.intake.site import Build, Site, event, job
from tests.support.own_time import at_this_speed

CHINESE = {"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"}
BAD = job({"email": "x", "name": "A"}, {"email": "a@example.com"}, colour="red", reference=7)


async def test_an_error_is_chinese_with_every_detail(site: Site) -> None:
    status, answer = await site.post(BAD, headers=CHINESE)
    assert (status, answer["error"]["code"]) == (422, "invalid_request")
    assert answer["error"]["message"] == "请求中有 4 处问题；未保存任何内容"
    assert {each["field"]: each["message"] for each in answer["error"]["details"]} == {
        "colour": "未知的字段",
        "reference": "必须是字符串",
        "recipients[0].email": "缺少 @",
        "recipients[1].variables": "subject，第 1 行：'name' 未定义；空名称也视为未定义",
    }


@pytest.mark.parametrize("header", [{}, {"Accept-Language": "en"}, {"Accept-Language": "de"}])
async def test_it_is_english_where_nobody_asks_for_chinese(site: Site, header: dict[str, str]) -> None:
    _, answer = await site.post(BAD, headers=header)
    assert answer["error"]["message"].isascii()


async def test_two_header_lines_count_as_one(site: Site) -> None:
    lines = CIMultiDict([("Accept-Language", "de"), ("Accept-Language", "zh")])
    async with site.client.get(f"{site.url}/api/jobs/x", headers=lines) as answer:
        assert answer.headers["Content-Language"] == "zh"


async def test_no_answer_claims_to_be_chinese_that_may_be_english(build: Build) -> None:
    site = await build(page=lambda _: b"a 1\n")
    for path, language in (("/docs", "zh"), ("/openapi.json", None), ("/docs/style.css", None), ("/metrics", None)):
        async with site.client.get(f"{site.url}{path}", headers=CHINESE) as answer:
            assert (answer.status, answer.headers.get("Content-Language")) == (200, language), path
    once = {"Idempotency-Key": "two languages"}
    good = job({"email": "a@example.com", "name": "A"})
    for headers, language in ((once, None), (CHINESE | once, None)):
        async with site.client.post(f"{site.url}/api/jobs/send_template_emails", json=good, headers=headers) as answer:
            assert (answer.status, answer.headers.get("Content-Language")) == (200, language)


async def test_both_languages_name_the_same_fields(site: Site) -> None:
    def fields(answer: Any) -> list[str]:
        return [each["field"] for each in answer["error"]["details"]]

    _, english = await site.post(BAD)
    _, chinese = await site.post(BAD, headers=CHINESE)
    assert fields(english) == fields(chinese)


async def test_a_forecast_is_told_in_chinese_and_a_repetition_gets_the_same_answer(site: Site) -> None:
    good = job({"email": "a@example.com", "name": "A"})
    once = {"Idempotency-Key": "k1"}
    status, answer = await site.post(good, headers=CHINESE | once)
    assert status == 200
    assert "预计" in answer["forecast"]["text"]
    assert (await site.post(good, headers=CHINESE | once))[1] == answer
    assert (await site.post(good, headers=once))[1] == answer


async def test_the_reason_of_a_suppression_is_a_code_and_the_same_in_both_languages(site: Site) -> None:
    body = {"suppressions": [{"email": f"{each.value}@example.com", "reason": each.value} for each in Reason]}
    async with site.client.post(f"{site.url}/api/suppressions", json=body) as answer:
        assert answer.status == 200
    _, page = await site.get("/api/suppressions", headers=CHINESE)
    assert {it["reason"] for it in page["suppressions"]} == set(Reason)
    _, person = await site.get("/api/recipients", params={"email": "manual@example.com"}, headers=CHINESE)
    assert [it["reason"] for it in person["suppressions"]] == ["manual"]


async def test_a_stream_speaks_the_language_of_its_request_as_a_page_does(site: Site) -> None:
    job_id = await site.posted()
    await site.rows("UPDATE jobs SET status = 'paused'")
    data = {"recipient_id": 1, "reason": why_suppressed("manual")}
    statement, values = insert_events([NewEvent(EventType.RECIPIENT_FAILED, job_id, data, sender="me@example.com")])
    await site.rows(statement, *values)
    _, job_now = await site.get(f"/api/jobs/{job_id}", headers=CHINESE)
    _, page = await site.get("/api/events?types=recipient.failed", headers=CHINESE)
    assert not job_now["cause_of_wait"].isascii()
    assert page["events"][0]["data"] == {
        "recipient_id": 1, "reason": "该地址已禁发：手动", "reason_code": "suppressed",
        "reason_args": {"reason": {"text": "manual", "args": {}}},
    }  # fmt: skip
    accept = CHINESE | {"Accept": "text/event-stream"}
    for path, shown in (
        (f"/api/jobs/{job_id}/events", job_now),
        ("/api/events?types=recipient.failed", page["events"][0]),
    ):
        async with site.client.get(f"{site.url}{path}", headers=accept) as response:
            told = json.loads((await event(response))["data"])
            response.close()
        others: dict[str, Any] = {
            "forecast": {},
            "outcomes": {},
        }  # of another moment; counted where a job is asked for by its ID
        assert told | others == shown | others


def test_a_page_of_reasons_is_said_in_chinese_without_holding_up_others() -> None:
    written = [in_row(reason("gave_up_after", attempt=n, reason=reason("throttled", said="429"))) for n in range(1_000)]
    speak("zh")
    try:
        to_json(RejectedOut(index=0, email="", reason=reason("restored")))  # the first sentence reads the catalogue
        began = time.process_time()
        said = [to_json(RejectedOut(index=0, email="", reason=from_row(*it) or "")) for it in written]
        took = time.process_time() - began
    finally:
        speak("en")
    assert "第 7 次尝试后放弃；最后的错误：" in said[7]
    assert took < at_this_speed(0.15)


def test_a_reason_of_several_parts_that_is_cut_is_still_said_in_chinese() -> None:
    whole = joined([t("{name!r} is undefined", name="A" * 400), t("unknown field")], ", ")
    short = cut(whole, 300)
    assert (len(short), say(short, "zh").startswith("'AAAA"), "unknown field" in say(short, "zh")) == (300, True, False)
    assert "未知的字段" in say(short, "zh")
    assert len(say(short, "zh")) < 300
