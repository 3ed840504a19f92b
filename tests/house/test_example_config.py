"""config.example.toml lists every key with its default and why, and a daemon takes it as it is."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel
from rich.cells import cell_len

from mailerd.config import Settings, load
from mailerd.config.example import example
from tests.house.sentences import english_left, is_chinese
from tests.house.source import ROOT

FILE = ROOT / "config.example.toml"
SECTIONS = {name: field.default for name, field in Settings.model_fields.items()}
KEYS = [(name, key) for name, section in SECTIONS.items() for key in type(section).model_fields]


def test_the_example_is_what_the_settings_make_it() -> None:
    assert FILE.read_text("utf-8") == example(), "LC_ALL=C .venv/bin/mailerd config --example >config.example.toml"


@pytest.mark.parametrize("section, key", KEYS)
def test_the_example_gives_every_key_its_default(section: str, key: str) -> None:
    default = getattr(SECTIONS[section], key)
    assert tomllib.loads(FILE.read_text("utf-8"))[section][key] == (
        str(default) if isinstance(default, Path) else default
    )


def test_the_example_has_no_key_that_the_settings_lack() -> None:
    given = tomllib.loads(FILE.read_text("utf-8"))
    assert [(section, key) for section, keys in given.items() for key in keys] == KEYS


@pytest.mark.parametrize("section, key", KEYS)
def test_every_key_says_why_on_one_line(section: str, key: str) -> None:
    lines = FILE.read_text("utf-8").splitlines()
    place = next(i for i in range(lines.index(f"[{section}]"), len(lines)) if lines[i].startswith(f"{key} = "))
    why = lines[place - 1]
    assert why.startswith("# ")
    assert 15 <= len(why) <= 120


def test_the_example_speaks_the_language_of_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    ours, theirs = FILE.read_text("utf-8").splitlines(), _command("config", "--example").splitlines()
    assert [line for line in ours if not line.startswith("#")] == [line for line in theirs if not line.startswith("#")]
    comments = [line for line in theirs if line.startswith("#")]
    assert [line for line in comments if not is_chinese(line) and line != "# /etc/mailerd/mailerd.toml。"] == []
    assert [line for line in comments if english_left(line)] == []
    assert [line for line in comments if cell_len(line) > 120] == []


def _command(*words: str) -> str:
    told = subprocess.run([sys.executable, "-m", "mailerd", *words], capture_output=True, text=True, check=True)
    return told.stdout


def test_the_example_loads_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no .env of somebody else's
    loaded = load(FILE, environment={})
    assert loaded.gmail.credentials_dir == ROOT / "credentials"
    assert _sections(loaded) == _sections(Settings())


def _sections(settings: Settings) -> dict[str, object]:
    """Everything but the folder that is relative to the file."""
    dumped = settings.model_dump()
    del dumped["gmail"]["credentials_dir"]
    return dumped


def test_every_setting_belongs_to_a_section() -> None:
    assert all(isinstance(section, BaseModel) for section in SECTIONS.values())
