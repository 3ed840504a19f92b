"""One job has one word: in the list of jobs, on its page, on the first page, in the commands."""

import re

from mailerd.store.describe import of_job, standing
from mailerd.store.jobs import Jobs
from tests.support.rows import post, query
from tests.web.conftest import ConsoleSite

PAUSED = (
    "UPDATE senders SET pause_cause = 'throttled', pause_reason = '429', next_claim_at = paused_until, "
    "paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR"
)


async def test_a_job_whose_sender_is_paused_is_called_so_everywhere(site: ConsoleSite) -> None:
    id_ = await post(site.database)
    await query(site.database, PAUSED)
    await query(site.database, "UPDATE jobs SET status = 'sending', started_at = created_at")
    browser = await site.signed_in()
    for path in ("/", "/jobs", f"/jobs/{id_}"):
        async with browser.get(path) as answer:
            badges = re.findall(r'class="badge b-\w+">([^<]+)<', await answer.text())
        assert "Sender paused" in badges, path
        assert "Sending" not in badges, path
    job = await Jobs(site.database, timeout=5).job(id_)
    assert job is not None
    assert standing(job, daemon=True) == "sender paused"
    assert of_job(job)[0].startswith(f"Job {id_} from me@example.com: sender paused, 3 recipients")
