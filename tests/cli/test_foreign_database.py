"""A database that another program uses: every command says so, and none of them changes it."""

from tests.cli.conftest import Shop
from tests.support.rows import query

_FOUND = "the database contains tables of another program, or altered ones: jobs (without type, "
_REMEDY = "give mailerd a database of its own (database.url); nothing was changed"


async def test_migrate_run_and_check_refuse_it_and_name_its_tables(shop: Shop) -> None:
    ours = ", ".join(name for (name,) in await query(shop.database, "SHOW TABLES"))
    await query(shop.database, f"DROP TABLE {ours}")
    await query(shop.database, "CREATE TABLE jobs (id INT AUTO_INCREMENT PRIMARY KEY, state VARCHAR(20))")
    await query(shop.database, "CREATE TABLE job_recipients (id INT AUTO_INCREMENT PRIMARY KEY, email VARCHAR(255))")
    for command in (["migrate"], ["run"], ["keys", "list"]):
        said = await shop.say(*command, code=1)
        assert _FOUND in said
        assert "job_recipients (without job_id, " in said
        assert _REMEDY in said
        assert "Traceback" not in said
    (failed,) = [line for line in (await shop.say("check", code=1)).splitlines() if "database: schema" in line]
    assert failed.startswith("FAIL")
    assert _FOUND in failed
    assert failed.endswith(f"-> {_REMEDY}")
    assert await query(shop.database, "SHOW TABLES") == [("job_recipients",), ("jobs",)]
