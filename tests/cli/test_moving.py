"""The page on moving from another mailer: its commands, as written, against a mock-up of that mailer's tables."""

import asyncio
import os
import re
import shutil
from pathlib import Path

import pymysql
import pytest

from mailerd.sandbox.mariadb import Server
from tests.cli.conftest import Shop
from tests.house.source import ROOT
from tests.support.rows import query

_OLD = """
CREATE DATABASE old_mailer;
CREATE TABLE old_mailer.jobs (id INT AUTO_INCREMENT PRIMARY KEY, template TEXT, status VARCHAR(20));
CREATE TABLE old_mailer.job_recipients (id INT AUTO_INCREMENT PRIMARY KEY, job_id INT, email VARCHAR(255),
  name VARCHAR(255), status VARCHAR(20), sent_at DATETIME);
INSERT INTO old_mailer.job_recipients (job_id, email, name, status, sent_at) VALUES
  (17, 'ada@example.com', 'Ada "the Countess", Lovelace', 'pending', NULL),
  (17, 'libai@example.org', '李白', 'pending', NULL), (17, 'noname@example.com', NULL, 'pending', NULL),
  (17, 'sent@example.com', 'S', 'sent', '2026-01-01'), (17, 'begun@example.com', 'B', 'sending', NULL),
  (18, 'other@example.com', 'O', 'pending', NULL)"""


@pytest.mark.skipif(not shutil.which("mariadb"), reason="the page uses MariaDB's client")
@pytest.mark.parametrize("page", ["how-to/moving.md", "how-to/moving.zh-CN.md"])
async def test_the_commands_of_the_page_bring_over_what_was_not_sent_and_nothing_twice(
    page: str, shop: Shop, mariadb: Server, tmp_path: Path
) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / page).read_text("utf-8"), re.DOTALL)
    look, export, template, send = blocks
    (tmp_path / ".my.cnf").write_text(
        f"[client]\nhost=127.0.0.1\nport={mariadb.port}\nuser=admin\npassword={mariadb.password}\nskip-ssl\n"
    )
    with (
        pymysql.connect(
            host="127.0.0.1", port=mariadb.port, user="admin", password=mariadb.password, autocommit=True
        ) as admin,
        admin.cursor() as cursor,
    ):
        for statement in _OLD.split(";"):
            cursor.execute(statement)
        try:
            for block in (look, export, template):
                shell = await asyncio.create_subprocess_exec(
                    "sh", "-euc", block, cwd=shop.folder, env={**os.environ, "HOME": str(tmp_path)}
                )
                assert await shell.wait() == 0
        finally:
            cursor.execute("DROP DATABASE old_mailer")
    tried, posted = (line.split()[1:] for line in send.splitlines())
    await shop.say(*tried)
    assert await query(shop.database, "SELECT COUNT(*) FROM jobs") == [(0,)]
    await shop.say(*posted, "--no-wait")
    assert "nothing was sent. Progress: `mailerd jobs show " in await shop.say(*posted, "--no-wait", code=1)
    found = await query(shop.database, "SELECT to_email, to_name FROM job_recipients ORDER BY id")
    assert found == [
        ("ada@example.com", 'Ada "the Countess", Lovelace'),
        ("libai@example.org", "李白"),
        ("noname@example.com", None),
    ]
