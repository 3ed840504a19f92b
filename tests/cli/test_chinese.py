"""The commands in Chinese: the frame of their help, and lines that fit a window."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from rich.cells import cell_len

from mailerd import locale
from mailerd.cli.check import _broken
from mailerd.cli.checks.result import warn
from mailerd.core.i18n import t
from mailerd.core.reading import Reading, waits
from mailerd.core.states import Proof
from mailerd.core.stats import SenderStats
from mailerd.core.suppression import Reason, why_suppressed
from mailerd.locale import say
from mailerd.store.read.describe import by_proof, stored_and_waits
from tests.cli.conftest import ME, Shop
from tests.house.source import ROOT
from tests.support.prepared import PreparedProcess

FRAME = re.compile(r"Usage|OPTIONS|COMMAND|ARGS|Options|Arguments|Commands|Show |Install |required|default:|env var")


@pytest.fixture
def _chinese() -> Iterator[None]:
    locale.speak("zh")
    yield
    locale.speak("en")


@pytest.mark.parametrize("words", [[], ["send"], ["jobs"], ["jobs", "pause"], ["sandbox"]])
async def test_help_has_no_english_frame(
    prepared: PreparedProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str]
) -> None:
    monkeypatch.setenv("MAILERD_LOG__LANGUAGE", "zh")
    monkeypatch.setenv("COLUMNS", "80")
    code, printed = await prepared.mailerd(*words, "--help", cwd=tmp_path, given=b"", within=60)
    out = printed.decode()
    assert (code, out.startswith("用法：")) == (0, True)
    assert FRAME.findall(out) == []


@pytest.mark.usefixtures("_chinese")
def test_a_finding_is_broken_at_the_columns_of_its_characters() -> None:
    locale.speak("zh")
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


AT = datetime(2026, 12, 1, 8, 49, tzinfo=UTC)
SENDER = SenderStats("me@example.com", 54, 2000, 0, 0, None, "", "")
LOGIN = t("the authorization is renewed")
SAID: Final[dict[str | None, str]] = {
    waits(
        Reading(AT, replace(SENDER, paused_until=AT + timedelta(hours=1), pause_cause="project_limit")),
        name="me@example.com", say="{:%H:%M}".format,
    )[0].why: "me@example.com 已暂停（至 09:49）：云项目配额已用尽",
    waits(Reading(AT, replace(SENDER, repair=LOGIN)))[0].why: "发件邮箱已暂停，需先重新授权（每分钟重试一次）",
    by_proof({Proof.PERSON: 1200, None: 1}): "人工确认 1,200，没有依据 1",
    stored_and_waits([])[0]: (
        "已有 30 秒未见守护进程：请启动 `mailerd run`。任务已保存，有守护进程运行时即发送；本命令继续等待。"
    ),
}  # fmt: skip


@pytest.mark.parametrize("english", SAID)
def test_figures_and_pauses_are_said_in_chinese(english: str) -> None:
    assert say(english, "zh") == SAID[english]


@pytest.mark.parametrize("reason", Reason)
def test_a_suppression_is_said_in_chinese_with_its_reason(reason: Reason) -> None:
    assert not re.search("[a-z]", say(why_suppressed(reason), "zh"))


@pytest.mark.parametrize(
    "words,said",
    [
        ("send", "mailerd: 缺少参数：file\n"),
        ("nosuch", "mailerd: 未知的命令：nosuch\n"),
        ("send --foo", "mailerd: 未知的选项：--foo\n"),
        ("send --lis x", "mailerd: 未知的选项：--lis。相近的选项：--list, --url\n"),
        ("jobs list --limit", "mailerd: 选项 --limit 需要一个值\n"),
        ("jobs list --limit x", "mailerd: --limit：必须是整数\n"),
        ("suppress list --limit 0", "mailerd: --limit：不得小于 1\n"),
        ("suppress list --reason x", "mailerd: --reason：'x' 不在可选值之中：'unsubscribed', 'hard_bounce'"),
        ("keys create a b c", "mailerd: 多余的参数：b c\n"),
        ("templates check --folder /nope", "mailerd: --folder：/nope 不存在\n"),
        ("senders", " senders [选项] 命令 [参数]..."),
    ],
)
async def test_a_command_typed_wrongly_is_answered_in_chinese(
    prepared: PreparedProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, said: str
) -> None:
    monkeypatch.setenv("MAILERD_LOG__LANGUAGE", "zh")
    code, printed = await prepared.mailerd(*words.split(), cwd=tmp_path, given=b"", within=60)
    out = printed.decode()
    assert said in out
    assert (code, "Error" in out, out.count("用法：") <= 1) == (2, False, True)


def test_a_configuration_that_cannot_be_used_is_said_in_chinese(tmp_path: Path) -> None:
    (tmp_path / "mailerd.toml").write_text(
        'top = 1\n[database]\nconnect_timeout = "5s"\npool_size = 0\n[runner]\npoll_interval = 0\n[log]\nformat = "x"\n'
    )
    said = [
        subprocess.run(
            [sys.executable, "-m", "mailerd", command], check=False, capture_output=True, text=True, cwd=tmp_path,
            env={**os.environ, "MAILERD_LOG__LANGUAGE": "zh", "HOME": str(tmp_path)},
        )
        for command in ("config", "check")
    ]  # fmt: skip
    assert said[0].stderr == (
        "mailerd: 配置（mailerd.toml 和环境变量）无法使用：\n"
        "  database.connect_timeout：必须是数字\n"
        "  database.pool_size：不得小于 2\n"
        "  runner.poll_interval：必须大于 0\n"
        "  log.format：必须是以下之一：'auto', 'journald', 'text', 'json'\n"
        "  top：未知的键；config.example.toml 列出了全部的键\n"
    )
    assert (
        "无法使用：database.connect_timeout：必须是数字；database.pool_size：不得小于 2；"
        "runner.poll_interval：必须大于 0" in said[1].stdout
    )


ENGLISH = re.compile(r"[A-Za-z]{2,}[,:;]? [a-z]{2,}")


async def test_what_commands_say_has_no_english_words_in_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILERD_LOG__LANGUAGE", "zh")
    example = shop.folder / "templates" / "welcome"
    shutil.copytree(ROOT / "examples" / "templates" / "welcome", example)
    table = shop.folder / "people.csv"
    table.write_text("email,name,product\nada@example.org,Ada,tea\n")
    posted = await shop.say("send", str(table), "--template", "welcome", "--sender", ME, "--no-wait")
    job = re.findall("[0-9A-Z]{26}", posted)[0]
    await shop.say("jobs", "pause", job)
    await shop.say("jobs", "cancel", job)
    await shop.database.execute(
        "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 MINUTE, pause_cause = 'token_refused'",
        what="senders.pause",
    )
    said = [
        await shop.say("explain", job),
        await shop.say("recipients", "ada@example.org"),
        await shop.say("templates", "check"),
        await shop.say("suppress", "add", "ada@example.org"),
        await shop.say("suppress", "remove", "ada@example.org"),
        await shop.say("suppress", "add", "nix", code=1),
        await shop.say("senders", "pause", "nix", code=1),
        await shop.say("senders", "set", ME, "--per-day", "7", "--reserve", "2"),
        await shop.say("senders", "pause", ME),
        await shop.say("senders", "list"),
    ]
    known = ("command, ", "mailerd: nix")
    assert [
        line
        for line in "\n".join(said).splitlines()
        for found in ENGLISH.findall(re.sub("`[^`]*`", "", line))
        if not any(found in each or each in found for each in known)
    ] == []
