"""Writes docs/man from the commands' own help, a page for each language; `make man` calls it.

A test checks that the pages are current.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

import mailerd
from mailerd.cli import app
from mailerd.cli.lazy_group import COMMANDS, framed, load
from mailerd.core.i18n import Language
from mailerd.locale import language as language_now
from mailerd.locale import speak

PAGES: Mapping[Path, Language] = {
    Path(__file__).resolve().parent.parent / "docs/man/mailerd.1": "en",
    Path(__file__).resolve().parent.parent / "docs/man/zh_CN/mailerd.1": "zh",
}
_HEADINGS = (
    ("NAME", "名称"),
    ("SYNOPSIS", "概要"),
    ("DESCRIPTION", "描述"),
    ("COMMANDS", "命令"),
    ("FILES", "文件"),
    ("EXIT STATUS", "退出码"),
)
_WHAT = (
    "mailerd accepts jobs (a template, a sender and many recipients) over HTTP or from a table. It stores them in "
    "MySQL or MariaDB and sends them through the Gmail API, within Google's limits.",
    "mailerd 通过 HTTP 或表格接收任务（一个模板、一个发件邮箱、许多收件人），保存在 MySQL 或 MariaDB 中，"
    "并在 Google 的限额内通过 Gmail API 发送。",
)
_FILES = (
    (
        "./mailerd.toml, ~/.config/mailerd/mailerd.toml, /etc/mailerd/mailerd.toml",
        ("The first that exists is read.", "读取其中第一个存在的文件。"),
    ),
    (".env", ("Variables, if only its user can write the file.", "变量，条件是只有其用户可写此文件。")),
)
_CODES = (
    ("0", ("Success.", "成功。")),
    ("1", ("The command, a message or a check failed.", "命令、邮件或检查失败。")),
    ("2", ("The command line or the configuration is not valid.", "命令行或配置无效。")),
    (
        "3",
        (
            "`mailerd audit` could not run, or could not report its result.",
            "`mailerd audit` 无法运行，或无法报告结果。",
        ),
    ),
)
"""The words of the pages that no command has, in English and Chinese: they are no part of mailerd itself."""


def escaped(text: str) -> str:
    """Text of a line that roff takes literally (groff_man(7))."""
    plain = re.sub(r"\s+", " ", text.replace("\\", "\\e")).strip().replace("-", "\\-")
    if language_now() == "en":  # a page in Chinese is UTF-8, which man(1) says of its folder
        plain = "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in plain)
    else:
        plain = re.sub(r"(?<=[，。；：]) ", "", plain)
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its words."""
    for name in COMMANDS:
        yield from _below(name, load(name))


def _below(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", {})
    if not children or command.invoke_without_command:
        yield words, command
    for name, child in children.items():
        yield from _below(f"{words} {name}", child)


def options(command: Any) -> Iterator[str]:
    """The lines of a command's arguments and options."""
    context = typer.Context(command)
    for it in command.params:
        record = it.get_help_record(context)
        if record and it.name != "help":
            yield f".TP\n.B {escaped(record[0])}\n{escaped(framed(record[1]))}"


def page(language: Language) -> str:
    """The manual page in a language."""
    was = language_now()
    speak(language)
    try:
        return "\n".join(line for line in _lines() if line) + "\n"
    finally:
        speak(was)


def _lines() -> Iterator[str]:
    main = get_command(app)
    zh = language_now() == "zh"
    yield ".\\\" Written by tools/manpage.py (make man); change the commands' help instead."
    yield f'.TH MAILERD 1 "" "mailerd {mailerd.__version__}" "{"用户命令" if zh else "User Commands"}"'
    yield ".ad l\n.nh" if zh else ""
    yield from (f".SH {_HEADINGS[0][zh]}", f"mailerd \\- {escaped((main.help or '').removeprefix('A ').rstrip('.。'))}")
    command, option = ("命令", "选项") if zh else ("COMMAND", "OPTION")
    yield f".SH {_HEADINGS[1][zh]}\n.B mailerd\n.I {command}\n[\\fI{option}\\fR ...]"
    yield from (f".SH {_HEADINGS[2][zh]}", escaped(_WHAT[zh]), f".SH {_HEADINGS[3][zh]}")
    for words, each in commands():
        yield from (f".SS mailerd {escaped(words)}", escaped(each.help or ""), *options(each))
    for heading, pairs in ((_HEADINGS[4], _FILES), (_HEADINGS[5], _CODES)):
        yield f".SH {heading[zh]}"
        yield from (f".TP\n{escaped(name)}\n{escaped(said[zh])}" for name, said in pairs)


if __name__ == "__main__":
    for path, each in PAGES.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(each), encoding="utf-8")
