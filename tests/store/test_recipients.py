"""One person's messages: every spelling of the address finds them, and an index does the finding."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailerd.core.suppression import canonical
from mailerd.store.db.database import Database
from mailerd.store.read.history import HistoryReader
from mailerd.store.read.recipients import Recipients, messages_statement
from tests.support.dialect import plan
from tests.support.rows import post, query

SPELLINGS = ("ada.l@gmail.com", "A.D.A.L@googlemail.com", "ADAL@gmail.com")
OTHERS = ("adal+news@gmail.com", "adal@example.com", "ada.l@example.com")

LOCAL = st.from_regex(r"[A-Za-z0-9+_.-]{1,20}", fullmatch=True)
DOMAIN = st.sampled_from(
    ["gmail.com", "Gmail.com", "googlemail.com", "xgmail.com", "gmail.com.example", "a.example", "xn--strae-oqa.de"]
)


async def found(database: Database, email: str) -> set[str]:
    messages = await Recipients(database, timeout=5).of_person(email, before=None, limit=50, senders=None)
    return {it.email for it in messages}


async def test_every_spelling_finds_every_spelling(database: Database) -> None:
    await post(database, recipients=[*SPELLINGS, *OTHERS, "Bob.X@Example.com", "bobx@example.com"])
    for spelling in SPELLINGS:
        assert await found(database, spelling) == set(SPELLINGS)
        assert {it.to_email for it in await HistoryReader(database).of_address(spelling)} == set(SPELLINGS)
    assert await found(database, "bob.x@EXAMPLE.com") == {"Bob.X@Example.com"}
    assert await found(database, OTHERS[0]) == {OTHERS[0]}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(addresses=st.lists(st.builds("{}@{}".format, LOCAL, DOMAIN), min_size=1, max_size=20))
async def test_the_column_says_what_canonical_says(database: Database, addresses: list[str]) -> None:
    job = await post(database, recipients=addresses)
    rows = await query(database, "SELECT to_email, person FROM job_recipients WHERE job_id = %s", job)
    assert {(given, canonical(given)) for given, _ in rows} == set(rows)


async def test_the_newest_come_first_and_pages_join(database: Database) -> None:
    jobs = [await post(database, recipients=["ada@example.com"], sender=f"s{n}@example.com") for n in range(5)]
    recipients, before, seen = Recipients(database, timeout=5), None, list[str]()
    while page := await recipients.of_person("ada@example.com", before=before, limit=2, senders=None):
        seen += [it.job_id for it in page]
        before = page[-1].id
    assert seen == jobs[::-1]


async def test_only_the_messages_of_the_senders_that_are_asked_for(database: Database) -> None:
    for sender in ("me@example.com", "you@example.com"):
        await post(database, recipients=["ada@example.com"], sender=sender)
    recipients = Recipients(database, timeout=5)
    for senders, expected in (({"you@example.com"}, ["you@example.com"]), (set[str](), [])):
        page = await recipients.of_person("ada@example.com", before=None, limit=9, senders=senders)
        assert [it.sender_email for it in page] == expected


async def test_the_index_finds_them_in_their_order(database: Database) -> None:
    for _ in range(3):
        await post(database, recipients=500)
    await query(database, "ANALYZE TABLE job_recipients, jobs")
    for before, senders in ((None, None), (1400, None), (1400, {"me@example.com"})):
        statement = messages_statement("r7@example.org", before=before, limit=101, senders=senders)
        messages, jobs = await plan(database, *statement)
        assert messages["key"] == "person"
        assert int(messages["rows"]) < 10
        assert jobs["key"] == "PRIMARY"
        assert "filesort" not in f"{messages['Extra']}{jobs['Extra']}"
