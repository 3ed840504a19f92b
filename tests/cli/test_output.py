"""What commands print of strangers' words: it is shown, and it does nothing to the terminal."""

import io
import json

import pytest
from rich.text import Text

from mailerd.cli import output, tables
from mailerd.core.reasons import in_row, reason
from tests.cli.conftest import Shop
from tests.support.rows import post, query

HOSTILE = "\x1b[31mRED\nfailed: a\u202eb\x9b1m"
SHOWN = "\\x1b[31mRED\\nfailed: a\\u202eb\\x9b1m"


@pytest.mark.parametrize("coded", [True, False], ids=["coded", "uncoded"])
async def test_a_reason_of_a_stranger_is_one_harmless_line(shop: Shop, *, coded: bool) -> None:
    job = await post(shop.database, recipients=["ada@example.com"])
    row = in_row(reason("not_accepted", cause=HOSTILE)) if coded else (HOSTILE, None, None)
    await query(
        shop.database,
        "UPDATE job_recipients SET status = 'failed', error = %s, error_code = %s, error_args = %s",
        *row,
    )
    for command in (("explain", job), ("jobs", "show", job), ("explain", "ada@example.com")):
        said = await shop.say(*command, code=0)
        assert SHOWN in said, said
        assert not set(said) & set("\x1b\u202e\x9b")
        assert not any(line.startswith("failed: a") for line in said.splitlines())


async def test_a_cell_of_a_table_and_json_are_harmless(shop: Shop) -> None:
    await post(shop.database)
    await query(shop.database, "UPDATE jobs SET sender_email = %s", f"{HOSTILE}@example.com")
    said = await shop.say("jobs", "list")
    assert SHOWN in said, said
    assert not set(said) & set("\x1b\u202e\x9b")
    raw = await shop.say("jobs", "list", "--json")
    assert not set(raw) & set("\x1b\u202e\x9b")
    assert json.loads(raw)["jobs"][0]["sender_email"] == f"{HOSTILE}@example.com"


def test_rich_draws_its_own_colours_and_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    window = tables.console(80)
    window.file, window._force_terminal = io.StringIO(), True
    window.print(Text(HOSTILE, "bold"))
    drawn = window.file.getvalue()
    assert "\\x1b[31mRED" in drawn
    assert "\x1b[31m" not in drawn
    output.echo(f"one\n\x1b[2J{HOSTILE}")
    assert capsys.readouterr().out == "one\n\\x1b[2J\\x1b[31mRED\nfailed: a\\u202eb\\x9b1m\n"
