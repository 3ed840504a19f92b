"""What can be read of jobs and recipients."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from yarl import URL

from mailerd.core.results import MessageOutcome
from mailerd.http import responses
from tests.intake.site import Site, job
from tests.intake.test_job_actions import ask
from tests.support.heard import PATIENCE


async def test_a_job_is_shown_with_all_its_counts(site: Site) -> None:
    job_id = await site.posted(reference="r1", priority=3)
    status, shown = await site.get(f"/api/jobs/{job_id}")

    assert status == 200
    assert shown == {
        "job_id": job_id,
        "type": "template",
        "sender_email": "me@example.com",
        "reference": "r1",
        "tags": [],
        "metadata": {},
        "template": None,
        "priority": 3,
        "status": "queued",
        "total": 1,
        "counts": {"waiting": 1, "sending": 0, "unsure": 0, "sent": 0, "failed": 0, "cancelled": 0},
        "bounced": 0,
        "replied": 0,
        "outcomes": dict.fromkeys(MessageOutcome, 0) | {"waiting": 1},
        "progress": 0.0,
        "per_minute": None,
        "created_at": shown["created_at"],
        "send_at": shown["created_at"],
        "started_at": None,
        "finished_at": None,
        "on_bounces": "pause",
        "pause_cause": None,
        "cause_of_wait": None,
        "forecast": shown["forecast"],
    }
    assert shown["created_at"].endswith("Z")


async def test_a_job_says_what_shall_happen_where_it_bounces_and_by_what_it_is_paused(site: Site) -> None:
    job_id = await site.posted({"email": "ada@example.com", "name": "Ada"}, on_bounces="go_on")
    await site.rows("UPDATE jobs SET status = 'paused', pause_cause = 'bounces', pause_reason = '6 of 6 came back'")
    _, shown = await site.get(f"/api/jobs/{job_id}")
    assert (shown["on_bounces"], shown["pause_cause"]) == ("go_on", "bounces")
    assert shown["cause_of_wait"] == "the job is paused: 6 of 6 came back"
    assert shown["forecast"]["text"] == "nothing is sent until the job is resumed"


async def test_progress_is_what_has_come_to_its_end(site: Site) -> None:
    job_id = await site.posted(*({"email": f"r{n}@example.com", "name": "R"} for n in range(5)))
    for seq, state in enumerate(["sent", "failed", "cancelled", "unsure"]):
        await site.rows("UPDATE job_recipients SET status = %s WHERE seq = %s", state, seq)
    _, shown = await site.get(f"/api/jobs/{job_id}")

    assert shown["progress"] == 3 / 5
    assert shown["counts"] == {"waiting": 1, "sending": 0, "unsure": 1, "sent": 1, "failed": 1, "cancelled": 1}


async def test_messages_per_minute_are_told_once_the_job_was_sending_for_ten_seconds(site: Site) -> None:
    async def told() -> float | None:
        found: float | None = (await site.get(f"/api/jobs/{job_id}"))[1]["per_minute"]
        return found

    job_id = await site.posted(*({"email": f"r{n}@example.com", "name": "R"} for n in range(4)))
    await site.rows("UPDATE job_recipients SET status = 'sent' WHERE seq < 3")
    await site.rows("UPDATE jobs SET started_at = UTC_TIMESTAMP(6) - INTERVAL 30 SECOND")
    assert await told() == pytest.approx(6, abs=0.5)
    for seconds, per_minute in ((90, 2.0), (10, 18.0), (9, None), (0, None)):
        await site.rows("UPDATE jobs SET finished_at = started_at + INTERVAL %s SECOND", seconds)
        assert await told() == per_minute


async def test_the_cause_of_a_wait_is_said(site: Site) -> None:
    async def cause() -> str | None:
        _, shown = await site.get(f"/api/jobs/{job_id}")
        found: str | None = shown["cause_of_wait"]
        assert found == shown["forecast"].get("cause_of_wait"), "one wait has one text"
        return found

    when = datetime.now(UTC) + timedelta(days=30)
    job_id = await site.posted(send_at=f"{when:%Y-%m-%dT%H:%M:%SZ}")
    assert await cause() == f"not due before {when:%Y-%m-%d %H:%M} UTC"
    _, without_forecast = await ask(site, job_id, "resume")
    assert without_forecast["job"]["cause_of_wait"] == await cause()
    job_id = await site.posted()
    assert await cause() is None
    await site.rows("UPDATE senders SET paused_until = '2099-01-01', pause_reason = 'Google said 429'")
    assert await cause() == "the sender is paused until 2099-01-01 00:00 UTC: Google said 429"
    await site.rows("UPDATE senders SET paused_until = '2001-01-01'")
    assert await cause() is None
    await site.rows("UPDATE jobs SET status = 'paused'")
    assert await cause() == "the job is paused"
    await site.rows("UPDATE job_recipients SET status = 'sent'")
    assert await cause() is None


async def test_recipients_come_in_pages_in_the_order_of_the_request(site: Site) -> None:
    job_id = await site.posted(*({"email": f"r{n}@example.com", "name": "R"} for n in range(250)))
    path, found, cursor = f"/api/jobs/{job_id}/recipients", [], None
    sizes = []
    while True:
        status, page = await site.get(path, params={} if cursor is None else {"cursor": cursor})
        assert status == 200
        found += [row["email"] for row in page["recipients"]]
        sizes.append(len(page["recipients"]))
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert sizes == [100, 100, 50]
    assert found == [f"r{n}@example.com" for n in range(250)]
    _, page = await site.get(path, params={"limit": "250"})
    assert (len(page["recipients"]), page["next_cursor"]) == (250, None)


async def test_recipients_can_be_asked_for_by_status(site: Site) -> None:
    job_id = await site.posted(*({"email": f"r{n}@example.com", "name": "R"} for n in range(4)))
    await site.rows(
        "UPDATE job_recipients SET status = 'sent', attempts = 1, message_id = 'm1', proof = 'answered', "
        "sent_at = '2026-01-02 03:04:05.5' WHERE seq = 2"
    )
    status, page = await site.get(f"/api/jobs/{job_id}/recipients", params={"status": "sent"})

    assert status == 200
    [row] = page["recipients"]
    assert row == {
        "id": row["id"],
        "index": 2,
        "email": "r2@example.com",
        "name": "R",
        "status": "sent",
        "attempts": 1,
        "error": None,
        "message_id": "m1",
        "proof": "answered",
        "due_at": row["due_at"],
        "sent_at": "2026-01-02T03:04:05.500000Z",
        "updated_at": row["updated_at"],
        "result": None,
        "metadata": {},
        "cc": [],
        "bcc": [],
    }
    _, page = await site.get(f"/api/jobs/{job_id}/recipients", params={"status": "waiting", "limit": "2"})
    assert [each["email"] for each in page["recipients"]] == ["r0@example.com", "r1@example.com"]
    _, page = await site.get(
        f"/api/jobs/{job_id}/recipients", params={"status": "waiting", "cursor": page["next_cursor"]}
    )
    assert [each["email"] for each in page["recipients"]] == ["r3@example.com"]


async def test_jobs_come_the_newest_first_in_pages(site: Site) -> None:
    ids = sorted([await site.posted() for _ in range(5)], reverse=True)
    status, page = await site.get("/api/jobs", params={"limit": "3"})

    assert status == 200
    assert [each["job_id"] for each in page["jobs"]] == ids[:3]
    assert page["jobs"][0]["counts"]["waiting"] == 1
    _, page = await site.get("/api/jobs", params={"limit": "3", "cursor": page["next_cursor"]})
    assert [each["job_id"] for each in page["jobs"]] == ids[3:]
    assert page["next_cursor"] is None


async def test_no_jobs_are_an_empty_page(site: Site) -> None:
    assert await site.get("/api/jobs") == (200, {"jobs": [], "next_cursor": None})


@pytest.mark.parametrize("job_id", ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "x", "é", "01arz3ndektsv4rrffq69g5fav"])
@pytest.mark.parametrize("rest", ["", "/recipients"])
async def test_an_unknown_id_is_a_404(site: Site, job_id: str, rest: str) -> None:
    status, answer = await site.get(f"/api/jobs/{job_id}{rest}")

    assert (status, answer["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "parameters",
    [
        {"status": "done"},
        {"limit": "0"},
        {"limit": "1001"},
        {"limit": "x"},
        {"limit": "٣"},
        {"cursor": "x"},
        {"cursor": "-1"},
        {"color": "red"},
    ],
)
async def test_a_bad_parameter_is_a_422_that_names_it(site: Site, parameters: dict[str, str]) -> None:
    job_id = await site.posted()
    status, answer = await site.get(f"/api/jobs/{job_id}/recipients", params=parameters)

    assert status == 422
    assert [each["field"] for each in answer["error"]["details"]] == list(parameters)
    assert answer["error"]["message"] == "1 problem in the request"


async def test_an_empty_parameter_is_as_good_as_none(site: Site) -> None:
    job_id = await site.posted()
    for path, names in (
        (f"/api/jobs/{job_id}/recipients", "status cursor email limit"),
        ("/api/jobs", "status cursor"),
    ):
        answers = [await site.get(path, params=dict.fromkeys(names.split(), "")), await site.get(path)]
        for _, page in answers:
            for shown in page.get("jobs", ()):
                assert shown.pop("forecast")  # as of now, which is later each time
        assert answers[0] == answers[1]
        assert answers[0][0] == 200


async def test_a_bad_cursor_or_a_doubled_parameter_of_the_list_is_a_422(site: Site) -> None:
    assert (await site.get("/api/jobs", params={"cursor": "é"}))[0] == 422
    assert (await site.get("/api/jobs?limit=1&limit=2"))[0] == 422


async def test_a_download_gives_other_requests_their_turn_often(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    written, csv_lines = list[int](), responses.csv_lines

    def counted(rows: responses.Rows) -> bytes:
        written.append(len(rows))
        return csv_lines(rows)

    monkeypatch.setattr(responses, "csv_lines", counted)
    emails = [f"r{n}@example.com" for n in range(250)]
    job_id = await site.posted(*({"email": each, "name": "R"} for each in emails))
    body = {"suppressions": [{"email": each} for each in emails]}
    async with site.client.post(f"{site.url}/api/suppressions", json=body) as added:
        assert added.status == 200
    for path in (f"/api/jobs/{job_id}/results.csv", "/api/suppressions.csv"):
        written.clear()
        async with site.client.get(site.url + path) as response:
            assert len((await response.text()).splitlines()) == 251
        assert written == [1, 100, 100, 50]  # the columns, and no thousand rows that all others wait for


@pytest.mark.parametrize("what", ["results.csv", "events"])
async def test_a_head_gets_a_head_and_the_connection_stays_in_step(site: Site, what: str) -> None:
    job_id = await site.posted()
    host, _, port = site.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for method, path in (("HEAD", f"/api/jobs/{job_id}/{what}"), ("GET", "/health/live")):
        close = "" if method == "HEAD" else "Connection: close\r\n"
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {site.key}\r\n{close}\r\n".encode())
    first, second, body, *more = (await asyncio.wait_for(reader.read(), PATIENCE)).split(b"\r\n\r\n")
    writer.close()

    assert first.startswith(b"HTTP/1.1 200")
    assert second.startswith(b"HTTP/1.1 200")
    assert (body, more) == (b'{"status":"alive"}\n', [])


@pytest.mark.parametrize(
    "path, wrong",
    [
        (
            "/api/jobs",
            {
                "limit": "0",
                "status": "sleeping",
                "sender_email": "nobody",
                "reference": "r" * 321,
                "created_from": "yesterday",
                "created_before": "noon",
                "cursor": "1",
                "page": "2",
            },
        ),
        (
            "/api/jobs/{}/recipients",
            {"limit": "1e3", "status": "asleep", "email": "x", "result": "good", "cursor": "é"},
        ),
        ("/api/recipients", {"limit": "999999", "email": "x", "cursor": "first"}),
        ("/api/recipients", {"limit": "0", "email": ""}),
        ("/api/suppressions", {"limit": "-1", "reason": "none", "email": "x", "cursor": "first"}),
        ("/api/events", {"limit": "many", "after": "x", "types": "message.lost"}),
        ("/api/webhooks/none/deliveries", {"limit": "0", "status": "lost", "cursor": "x"}),
    ],
)
async def test_every_parameter_that_is_wrong_is_named_at_once(site: Site, path: str, wrong: dict[str, str]) -> None:
    status, answer = await site.get(path.format(await site.posted()), params=wrong)

    assert status == 422, answer
    assert {each["field"] for each in answer["error"]["details"]} == wrong.keys()


@pytest.mark.parametrize("bad", ["%FF", "%C3%28", "%ED%A0%80", "a%00b"])
async def test_a_parameter_that_is_no_text_is_refused(site: Site, bad: str) -> None:
    async with site.client.get(URL(f"{site.url}/api/jobs?reference={bad}", encoded=True)) as answer:
        assert answer.status == 422
        details = (await answer.json())["error"]["details"]
    assert details == [{"field": "reference", "message": "is not UTF-8 or contains a NUL character"}]


async def test_every_response_in_json_ends_as_a_line_of_a_terminal_does(site: Site) -> None:
    job_id, post = await site.posted(), f"{site.url}/api/jobs/send_template_emails"
    for _ in range(2):  # the second one is the stored response again
        async with site.client.post(post, json=job(), headers={"Idempotency-Key": "order-17"}) as response:
            assert (await response.text()).endswith("}\n")
    for path in ("/api/jobs", f"/api/jobs/{job_id}", f"/api/jobs/{job_id}/recipients", "/api/nothing", "/openapi.json"):
        async with site.client.get(f"{site.url}{path}") as response:
            assert (await response.text()).endswith("}\n"), path
