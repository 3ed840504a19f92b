"""The commands in Chinese: the frame of their help, and lines that fit a window."""

import os
import re
import subprocess
import sys

import pytest
from rich.cells import cell_len

from mailerd import texts
from mailerd.cli.check import _broken
from mailerd.cli.checks.result import warn

FRAME = re.compile(r"Usage|OPTIONS|COMMAND|ARGS|Options|Arguments|Commands|Show |Install |required|default:|env var")


@pytest.mark.parametrize("words", [[], ["send"], ["jobs"], ["jobs", "pause"], ["sandbox"]])
def test_help_has_no_english_frame(words: list[str]) -> None:
    it = subprocess.run(
        [sys.executable, "-m", "mailerd", *words, "--help"],
        env={**os.environ, "MAILERD_LOG__LANGUAGE": "zh", "COLUMNS": "80"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert it.stdout.startswith("用法：")
    assert FRAME.findall(it.stdout) == []


def test_a_finding_is_broken_at_the_columns_of_its_characters() -> None:
    texts.speak("zh")
    remedy = (
        "give the proxy a certificate for this name that mail programs trust; without one no recipient can unsubscribe"
    )
    finding = warn("public site", "https://news.example.com has no good certificate: expired", remedy=remedy)
    line = finding.line()
    assert cell_len(line[: line.index("https")]) == len("PASS  ") + 21 + 1, "the columns stand below one another"
    lines = _broken(line, 60)
    assert len(lines) > 1
    assert max(map(cell_len, lines)) <= 60
    assert all(each.startswith(" " * 6) and each[6] not in " ，。；：、）？！" for each in lines[1:])
    assert "".join(each.strip() for each in lines).replace(" ", "") == line.replace(" ", "")
