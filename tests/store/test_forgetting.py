"""The statement of docs/how-to/security.md takes a person out of the rows that stay, and the counts still agree."""

import json
import re
from datetime import timedelta

import pytest

from mailerd.core.copies import Copy, from_json
from mailerd.core.extras import Extras
from mailerd.core.states import JobChange
from mailerd.intake.tests_of_jobs import TEST_OF
from mailerd.store.db.database import Database
from mailerd.store.read.audit import audit
from mailerd.store.write.job_actions import JobActions
from tests.house.source import ROOT
from tests.support.copies import post_copied
from tests.support.rows import post, query


async def forget(database: Database) -> None:
    """Run the statements."""
    for statement in _statements()[1:]:
        await query(database, statement)


def _statements() -> list[str]:
    """Those of the page: the first one finds the tests that show a person, the others forget the person."""
    blocks = re.findall(r"```sql\n(.*?)```", (ROOT / "docs/how-to/security.md").read_text("utf-8"), re.DOTALL)
    return [*filter(None, map(str.strip, ";\n".join(blocks).split(";\n")))]


async def test_a_person_is_taken_out_and_the_counts_still_agree(database: Database) -> None:
    own = Extras(headers='{"X-Order":"17"}', metadata='{"customer":"c_81"}')
    await post(database, recipients=["ada@example.com", "Ada@example.com", "bob@example.com"], own=own)
    await query(database, "UPDATE job_recipients SET status = 'failed', error = 'no ada@example.com here'")
    await query(database, "UPDATE jobs SET status = 'completed', finished_at = UTC_TIMESTAMP(6)")
    await query(
        database,
        "INSERT INTO attempts (recipient_id, attempt, claim_token, daemon_id, event, error, at) "
        "SELECT id, 1, REPEAT('0', 26), REPEAT('0', 26), 'failed', CONCAT(to_email, ' is unknown'), "
        "UTC_TIMESTAMP(6) FROM job_recipients",
    )
    await query(
        database,
        "INSERT INTO notices (mailbox, gmail_id, thread_id, recipient_id, email, kind, detail, believed, at) "
        "SELECT 'me@example.com', id, '1', id, to_email, 'hard', CONCAT(to_email, ' is unknown'), 1, UTC_TIMESTAMP(6) "
        "FROM job_recipients",
    )
    before = (await audit(database))[1]
    await forget(database)
    rows = await query(database, "SELECT to_email, to_name, error FROM job_recipients ORDER BY seq")
    assert [row[1:] for row in rows[:2]] == [(None, "forgotten"), (None, "forgotten")]
    assert all(row[0].startswith("forgotten-") for row in rows[:2])
    assert rows[2][0] == "bob@example.com"
    given = await query(database, "SELECT headers, metadata FROM job_recipients ORDER BY seq")
    assert given == [(None, None), (None, None), (own.headers, own.metadata)]
    attempts = await query(database, "SELECT error FROM attempts ORDER BY recipient_id")
    assert [row[0] for row in attempts] == ["forgotten", "forgotten", "bob@example.com is unknown"]
    notices = await query(database, "SELECT email, detail FROM notices ORDER BY recipient_id")
    assert all(email.startswith("forgotten-") and detail is None for email, detail in notices[:2])
    assert notices[2][0] == "bob@example.com"
    assert (await audit(database))[1] == before


async def test_a_person_is_found_in_tests_and_taken_out_of_them(database: Database) -> None:
    tests, job = await post(database, recipients=2), await post(database, recipients=2)
    shown = [json.dumps({"email": "seen", TEST_OF: f"{name}@example.com"}) for name in ("ada", "bob")]
    await query(
        database, "UPDATE job_recipients SET to_email = 'desk@example.com', to_name = 'Somebody', variables = "
        "IF(seq, %s, %s), status = 'sent'", *reversed(shown),
    )  # fmt: skip
    await query(database, "UPDATE jobs SET status = 'completed', finished_at = UTC_TIMESTAMP(6)")
    await query(database, "UPDATE jobs SET type = 'test' WHERE id = %s", tests)
    ((first,),) = await query(database, "SELECT id FROM job_recipients WHERE job_id = %s AND seq = 0", tests)
    assert await query(database, _statements()[0]) == [(first, tests, "desk@example.com")]
    await forget(database)
    left = "SELECT seq, to_name, variables FROM job_recipients WHERE job_id = %s ORDER BY seq"
    assert await query(database, left, tests) == [(0, None, None), (1, "Somebody", shown[1])]
    assert await query(database, left, job) == [(0, "Somebody", shown[0]), (1, "Somebody", shown[1])], "no test"
    ((to,),) = await query(database, "SELECT to_email FROM job_recipients WHERE id = %s", first)
    assert to == f"forgotten-{first}@example.invalid"
    assert await query(database, _statements()[0]) == []


@pytest.mark.parametrize(
    "became, bounced", [("status = 'failed'", []), ("status = 'sent', result = 'bounced'", ["soft"])]
)
async def test_a_retry_sends_no_message_to_the_address_of_nobody_that_is_left(
    database: Database, became: str, bounced: list[str]
) -> None:
    job = await post(database, recipients=["ada@example.com", "bob@example.com"])
    await query(database, f"UPDATE job_recipients SET {became}, result_kind = 'soft', attempts = 1, error = 'full'")
    await query(database, "UPDATE jobs SET status = 'completed', bounced = 2, finished_at = UTC_TIMESTAMP(6)")
    await forget(database)
    actions = JobActions(database, timeout=5, late_arrival=timedelta(0))
    assert (await actions.apply(job, JobChange.RETRY, actor="T", bounced=bounced)).messages == 1
    assert await query(database, "SELECT to_email FROM job_recipients WHERE status = 'waiting'") == [
        ("bob@example.com",)
    ]


async def test_a_person_is_taken_out_of_the_copies_of_jobs_that_have_ended(database: Database) -> None:
    person = [Copy("cc", "Ada@example.com", 'A "d\\a}, "'), Copy("bcc", "bob@example.com", "Bob")]
    done = await post_copied(database, ("x@example.org", person), ("y@example.org", None), shared=person)
    open_ = await post_copied(database, ("x@example.org", person), ("y@example.org", None), shared=person)
    await query(database, "UPDATE job_recipients SET status = 'sent' WHERE job_id = %s", done)
    await query(database, "UPDATE jobs SET finished_at = UTC_TIMESTAMP(6) WHERE id = %s", done)
    await forget(database)
    for job, left in ((done, person[1:]), (open_, person)):
        lists = await query(
            database, "SELECT copy_list FROM job_recipients WHERE job_id = %s AND seq = 0 UNION ALL "
            "SELECT copy_list FROM jobs WHERE id = %s", job, job,
        )  # fmt: skip
        assert [from_json(each) for (each,) in lists] == [tuple(left)] * 2
        assert all(("Ada" in each) is (job == open_) for (each,) in lists)
