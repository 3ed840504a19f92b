"""`mailerd recipients`: as an operator types it."""

import json
import re

from tests.cli.conftest import Shop
from tests.support.rows import post, query


async def test_a_persons_messages_and_what_keeps_messages_from_that_person(shop: Shop) -> None:
    jobs = [await post(shop.database, recipients=["A.da@gmail.com"]) for _ in range(3)]
    await shop.say("suppress", "add", "ada@gmail.com", "--list", "news", "--new-list")
    told = await shop.say("recipients", "ADA@googlemail.com", "--limit", "2")
    assert re.search(r"ADA@googlemail.com suppressed \(news\) at 20[-\d]+ [:\d]+Z: manual, source: command line", told)
    assert jobs[2] in told
    assert jobs[0] not in told
    (more,) = [line for line in told.splitlines() if line.startswith("For more: --before ")]
    rest = await shop.say("recipients", "ada@gmail.com", "--before", more.rpartition(" ")[2], "--json")
    answer = json.loads(rest)
    assert [(it["job_id"], it["email"], it["status"]) for it in answer["recipients"]] == [
        (jobs[0], "A.da@gmail.com", "waiting")
    ]
    assert [it["list"] for it in answer["suppressions"]] == ["news"]
    assert answer["next_cursor"] is None


async def test_a_person_of_whom_nothing_is_known_and_an_address_that_is_none(shop: Shop) -> None:
    assert "no messages to bob@example.com, and no suppressions of it" in await shop.say(
        "recipients", "bob@example.com", code=1
    )
    assert "bob: " in await shop.say("recipients", "bob", code=1)


async def test_a_message_that_bounced_says_so_and_not_that_google_took_it(shop: Shop) -> None:
    await post(shop.database, recipients=["ada@gmail.com"])
    await query(
        shop.database,
        "UPDATE job_recipients SET status = 'sent', proof = 'answered', result = 'bounced', result_kind = 'hard', "
        "result_code = '5.1.1', result_reason = 'no such user', result_at = UTC_TIMESTAMP(6)",
    )
    told = await shop.say("recipients", "ada@gmail.com")
    assert "sent    bounced (hard)  " in told
    assert "5.1.1 no such user" in told
    assert "answered" not in told
