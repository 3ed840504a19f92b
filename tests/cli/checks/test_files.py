"""What `mailerd check` says of the configuration file."""

from pathlib import Path

import pytest

from mailerd.cli.checks import machine
from mailerd.cli.checks.result import Level

URL = 'url = "mysql://me:secret@db1:3306,db2:3307/mailerd"'


@pytest.mark.parametrize(
    "text, named",
    [
        (f"[database]\n{URL}\n", "database.url"),
        ('[gmail]\nproxy = "http://me:secret@proxy:3128"\n', "gmail.proxy"),
        (f'[database]\n{URL}\n[gmail]\nproxy = "http://me:secret@proxy:3128"\n', "database.url, gmail.proxy"),
        ('[alerts]\nurls = ["slack://token"]\nwebhook = ""\n', "alerts.urls"),
        ('[alerts]\nwebhook = "https://example.com/token"\n', "alerts.webhook"),
        ('[database]\nurl = "mysql://me@db:3306/mailerd"\n[gmail]\nproxy = "http://proxy:3128"\n', ""),
        ("", ""),
    ],
)
def test_a_file_that_everybody_can_read_is_told_with_what_is_secret_in_it(
    tmp_path: Path, text: str, named: str
) -> None:
    path = tmp_path / "mailerd.toml"
    path.write_text(text, "utf-8")
    path.chmod(0o644)
    found = machine.configuration(path)
    assert found.level is (Level.WARN if named else Level.PASS)
    assert f"read its secrets: {named} (mode 0644)" in found.what or not named
    path.chmod(0o640)
    assert machine.configuration(path).level is Level.PASS


def test_a_folder_of_templates_that_is_missing_or_cannot_be_read_is_told(tmp_path: Path) -> None:
    assert machine.templates("") == []
    assert [it.level for it in machine.templates(str(tmp_path))] == [Level.PASS]
    (tmp_path / "file").touch()
    for named, level, why in (
        ("mistyped", Level.WARN, "does not exist"),
        ("file", Level.FAIL, "cannot be read: Not a directory"),
    ):
        (found,) = machine.templates(str(tmp_path / named))
        assert (found.level, why in found.what) == (level, True)
        assert "templates.folder" in found.remedy


@pytest.mark.parametrize(
    "text, named",
    [
        ("DATABASE_URL=mysql://me:secret@db/mailerd\nMAILERD_LOG__LEVEL=info\n", "DATABASE_URL"),
        ("MAILERD_GMAIL__PROXY=http://me:secret@proxy:3128\n", "MAILERD_GMAIL__PROXY"),
        ("MAILERD_API_KEY=mk_secret\n", "MAILERD_API_KEY"),
        ("DATABASE_URL=mysql://me@db:3306/mailerd\nMAILERD_LOG__LEVEL=info\nOTHER=x\n", ""),
    ],
)
def test_a_dotenv_that_everybody_can_read_is_told_with_what_is_secret_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text(text, "utf-8")
    Path(".env").chmod(0o644)
    (found,) = machine.dotenv()
    assert found.level is (Level.WARN if named else Level.PASS)
    assert f"read its secrets: {named} (mode 0644)" in found.what or not named
    Path(".env").chmod(0o640)
    (found,) = machine.dotenv()
    assert found.level is Level.PASS
