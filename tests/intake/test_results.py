"""What became of sent messages, as the API shows it, and sending again what came back."""

from typing import Any

import pytest

from tests.intake.site import Site, job
from tests.intake.test_job_actions import ask

GOOD, BAD = {"email": "ada@example.com", "name": "Ada"}, {"email": "bob@example.com", "name": "Bob"}
RESULT = {"state": "bounced", "kind": "soft", "code": "5.2.2", "reason": "mailbox full"}


async def bounced(site: Site) -> str:
    """A finished job of two messages, the second of which came back."""
    _, answer = await site.post(job(GOOD, BAD))
    job_id: str = answer["job_id"]
    await site.rows(
        "UPDATE job_recipients SET status = 'sent', attempts = 1, message_id = CONCAT('m', seq), draft_id = 'd', "
        "thread_id = CONCAT('t', seq), mode = 'draft', proof = 'answered', sent_at = UTC_TIMESTAMP(6)"
    )
    await site.rows(
        "INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, message_id, at) "
        "SELECT id, 1, '01ARZ3NDEKTSV4RRFFQ69G5FAV', 'D', 'sent', message_id, UTC_TIMESTAMP(6) FROM job_recipients"
    )
    await site.rows(
        "UPDATE job_recipients SET result = 'bounced', result_kind = 'soft', result_code = '5.2.2', "
        "result_reason = 'mailbox full', result_at = UTC_TIMESTAMP(6) WHERE seq = 1"
    )
    await site.rows(
        "INSERT INTO notices (mailbox, gmail_id, thread_id, recipient_id, job_id, kind, believed, at) "
        "SELECT 'me@example.com', 'n', 't1', id, job_id, 'soft', 1, UTC_TIMESTAMP(6) FROM job_recipients WHERE seq = 1"
    )
    await site.rows(
        "UPDATE jobs SET status = 'completed', bounced = 1, next_claim_at = NULL, finished_at = UTC_TIMESTAMP(6)"
    )
    return job_id


async def test_results_are_shown_filtered_and_counted(site: Site) -> None:
    job_id = await bounced(site)
    _, page = await site.get(f"/api/jobs/{job_id}/recipients")
    assert [it["result"] and {k: v for k, v in it["result"].items() if k != "at"} for it in page["recipients"]] == [
        None,
        RESULT,
    ]
    _, page = await site.get(f"/api/jobs/{job_id}/recipients?result=bounced")
    assert [it["email"] for it in page["recipients"]] == ["bob@example.com"]
    _, page = await site.get(f"/api/jobs/{job_id}/recipients?result=replied")
    assert page["recipients"] == []
    assert (await site.get(f"/api/jobs/{job_id}/recipients?result=lost"))[0] == 422
    _, shown = await site.get(f"/api/jobs/{job_id}")
    assert (shown["bounced"], shown["replied"], shown["counts"]["sent"]) == (1, 0, 2)
    async with site.client.get(f"{site.url}/api/jobs/{job_id}/results.csv") as response:
        head, first, second = (await response.text()).splitlines()
    assert head.endswith("result,result_kind,result_code,result_reason,result_at,metadata")
    assert first.endswith(",,,,,")
    assert ",bounced,soft,5.2.2,mailbox full," in second
    _, person = await site.get("/api/recipients?email=bob@example.com")
    assert person["recipients"][0]["result"]["state"] == "bounced"


async def test_what_bounced_is_sent_again_and_nothing_else(site: Site) -> None:
    job_id = await bounced(site)
    status, answer = await ask(site, job_id, "retry", {"only": "bounced", "kind": "soft"})
    assert (status, answer["recipients"], answer["job"]["bounced"]) == (200, 1, 0)
    assert answer["job"]["status"] == "sending"
    rows = await site.rows(
        "SELECT status, attempts, message_id, draft_id, thread_id, result FROM job_recipients ORDER BY seq"
    )
    assert rows == [("sent", 1, "m0", "d", "t0", None), ("waiting", 0, None, None, None, None)]
    log = await site.rows("SELECT event, message_id FROM attempts ORDER BY id")
    assert log == [("sent", "m0"), ("sent", None), ("retried", "m1")]
    _, answer = await ask(site, job_id, "retry", {"only": "bounced", "kind": "soft"})
    assert (answer["changed"], answer["recipients"]) == (False, 0)


@pytest.mark.parametrize("body", [{"only": "bounced"}, {"kind": "soft"}, {"only": "bounced", "kind": "firm"}])
async def test_a_retry_of_bounces_names_their_kind(site: Site, body: dict[str, Any]) -> None:
    job_id = await bounced(site)
    status, answer = await ask(site, job_id, "retry", body)
    assert (status, [it["field"] for it in answer["error"]["details"]]) == (422, ["kind"])
    assert await site.rows("SELECT COUNT(*) FROM job_recipients WHERE status = 'waiting'") == [(0,)]


async def test_another_kind_is_left_alone(site: Site) -> None:
    job_id = await bounced(site)
    _, answer = await ask(site, job_id, "retry", {"only": "bounced", "kind": "blocked"})
    assert answer["recipients"] == 0
