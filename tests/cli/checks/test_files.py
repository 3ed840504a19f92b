"""What `mailerd check` says of the configuration file."""

from pathlib import Path

import pytest

from mailerd.cli.checks import files
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
    found = files.configuration(path)
    assert found.level is (Level.WARN if named else Level.PASS)
    assert f"in it: {named} (mode 0644)" in found.what or not named
    path.chmod(0o640)
    assert files.configuration(path).level is Level.PASS
