"""Standard streams that are closed or full: no command dies of them, and none pretends to have said something."""

import asyncio
import json
import os
import sys

import pytest

from tests.cli.conftest import Shop
from tests.support.eventually import eventually
from tests.support.heard import PATIENCE
from tests.support.rows import post, query


async def _typed(shop: Shop, line: str, **environment: str) -> tuple[int, str]:
    """A line as a person types it, `M` for mailerd; its exit code, and what it said in the end."""
    process = await _started(shop, line, **environment)
    out, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    said = out.decode(errors="replace")
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    return process.returncode or 0, said


async def _started(shop: Shop, line: str, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        "/bin/bash", "-c", line.replace("M ", f"{sys.executable} -m mailerd "), cwd=shop.folder,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"MAILERD_CONFIG": str(shop.config)} | environment,
    )  # fmt: skip


async def test_a_closed_stream_ends_no_command(shop: Shop) -> None:
    assert (await _typed(shop, "M jobs list <&-"))[0] == 0
    assert (await _typed(shop, "M jobs list 2>&-"))[0] == 0
    assert await _typed(shop, "M jobs show nothing <&- 2>&-") == (1, "")
    for line in ("M jobs list >&-", "M jobs list <&- >&-"):
        code, said = await _typed(shop, line)
        assert (code, said.splitlines()[0][:46]) == (1, "mailerd: could not write to standard output: B")


async def test_the_daemon_runs_without_standard_streams(shop: Shop) -> None:
    async def seen() -> bool:
        return bool(await query(shop.database, "SELECT 1 FROM daemons"))

    daemon = await _started(shop, "exec M run <&- >&- 2>&-")
    await eventually(seen)
    daemon.terminate()
    assert await asyncio.wait_for(daemon.wait(), PATIENCE) == 0


@pytest.mark.parametrize("unbuffered", ["", "1"])
async def test_a_full_disk_is_one_line(shop: Shop, unbuffered: str) -> None:
    for words in ("jobs list", "senders list", "version", "top --once", "config", "check", "--help"):
        code, said = await _typed(shop, f"M {words} >/dev/full", PYTHONUNBUFFERED=unbuffered)
        assert code == 1, words
        line, *which = said.splitlines()
        reads_none = words in {"version", "--help"}
        named = [each.partition(" /")[0] for each in which]
        assert named == ([] if reads_none else ["mailerd: using"]), words
        assert line.startswith("mailerd: could not write to standard output: No space left on device. "), words


async def test_a_reader_that_has_seen_enough_is_no_trouble(shop: Shop) -> None:
    assert await _typed(shop, "M --help | true; exit ${PIPESTATUS[0]}") in {(0, ""), (1, "")}
    assert await _typed(shop, "(sleep 2; M --help) | true; exit ${PIPESTATUS[0]}") == (1, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk"])
async def test_what_a_terminal_cannot_show_is_escaped(shop: Shop, encoding: str) -> None:
    name = "😀 Läden 书"
    assert (await _typed(shop, f"M keys create '{name}' >key", PYTHONIOENCODING=encoding))[0] == 0
    assert (shop.folder / "key").read_bytes().splitlines()[-1].startswith(b"sk_live_")
    for words in ("keys list", "config --example", "top --once", "check", "jobs list"):
        code, said = await _typed(shop, f"M {words} | cat", PYTHONIOENCODING=encoding, LC_ALL="zh_CN.UTF-8")
        assert code == 0, said
    await _typed(shop, "M keys list --json >keys", PYTHONIOENCODING=encoding)
    (key,) = json.loads((shop.folder / "keys").read_bytes())["keys"]
    assert key["name"] == name
    await _typed(shop, f"M suppress add ada@example.org --detail '{name}'")
    await _typed(shop, "M recipients ada@example.org --json >person", PYTHONIOENCODING=encoding)
    (suppression,) = json.loads((shop.folder / "person").read_bytes())["suppressions"]
    assert suppression["detail"] == name


async def test_a_key_that_could_not_be_shown_is_told_with_what_to_do(shop: Shop) -> None:
    code, said = await _typed(shop, "M keys create 'my shop' >/dev/full")
    assert code == 1
    assert (
        "API key 'my shop' was created but could not be shown: run `mailerd keys revoke 'my shop'` and create" in said
    )
    assert "No space left on device" in said
    assert await query(shop.database, "SELECT name FROM api_keys") == [("my shop",)]
    assert (await _typed(shop, "M keys create other >&-"))[0] == 1
    assert (await _typed(shop, "(sleep 2; M keys create third) | true; exit ${PIPESTATUS[0]}"))[0] == 1
    code, said = await _typed(shop, "M keys rotate 'my shop' >/dev/full")
    assert code == 1
    assert (
        "could not be shown. The old one remains valid for 24 h. Rotate it again: that ends the old one at once" in said
    )


async def test_what_was_ordered_is_done_though_nobody_hears_of_it(shop: Shop) -> None:
    await post(shop.database, recipients=1)
    code, said = await _typed(shop, "M after-restore --yes >/dev/full", PYTHONUNBUFFERED="1")
    assert (code, "could not write to standard output" in said) == (1, True)
    assert await query(shop.database, "SELECT status FROM job_recipients") == [("unsure",)]


async def test_an_error_is_said_also_where_the_reader_has_gone(shop: Shop) -> None:
    await query(shop.database, "DROP TABLE schema_version")
    code, said = await _typed(shop, "(sleep 2; M suppress export) | true; exit ${PIPESTATUS[0]}", PYTHONUNBUFFERED="")
    assert (code, "run `mailerd migrate`" in said) == (1, True)


async def test_an_audit_that_could_not_be_heard_is_no_finding(shop: Shop) -> None:
    for line in ("M audit >&-", "M audit >/dev/full"):
        assert (await _typed(shop, line))[0] == 3, line
    assert (await _typed(shop, "(sleep 2; M audit) | true; exit ${PIPESTATUS[0]}", PYTHONUNBUFFERED=""))[0] == 0
    await post(shop.database, recipients=1)
    await query(shop.database, "UPDATE jobs SET total = 2")
    assert (await _typed(shop, "(sleep 2; M audit) | true; exit ${PIPESTATUS[0]}"))[0] == 1
