"""Texts: English as they stand, and what they were made of."""

import copy
import pickle

import pytest

from mailerd.core.i18n import Language, Text, joined, t, tc, tn
from mailerd.locale import say


def test_a_text_is_its_english() -> None:
    assert t("sender {sender} resumed", sender="ada") == "sender ada resumed"
    assert tn("{n} message", "{n} messages", 1) == "1 message"
    assert tn("{n} message", "{n} messages", 2) == "2 messages"
    assert joined(["a", t("b")]) == "a; b"


def test_an_exception_keeps_the_text_that_it_was_raised_with() -> None:
    text = t("no job {job}", job="J")
    assert str(ValueError(text)) is text


@pytest.mark.parametrize(
    "text",
    [t("a {x}", x=t("b")), tn("{n} a", "{n} as", 2), tc("a time", "since"), joined([t("a"), "b"])],
    ids=["fields", "plural", "context", "joined"],
)
def test_a_copy_is_the_same_text(text: Text) -> None:
    for each in (copy.deepcopy(text), pickle.loads(pickle.dumps(text))):  # noqa: S301 - our own
        assert each == text
        assert [getattr(each, name) for name in Text.__slots__] == [getattr(text, name) for name in Text.__slots__]


UNSEEN = ("\x1b[31m", "\n", "\r", "\x07", "\x7f", "\x9b2J", "\u202e", "\u2066", "\u200f", "\u2028", "\ud800")


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("unseen", UNSEEN, ids=ascii)
def test_what_strangers_write_neither_moves_a_cursor_nor_begins_a_line(unseen: str, language: Language) -> None:
    for text in (
        t("skipped: {what}", what=unseen),
        tn("{n} problem: {what}", "{n} problems: {what}", 2, what=unseen),
        tc("a time", "{what}", what=unseen),
        t("skipped: {what}", what=ValueError(unseen)),
        t("skipped: {what}", what=t("skipped: {what}", what=unseen)),
    ):
        said = say(text, language)
        assert unseen not in said
        assert "\\" in said
        assert said.isprintable()
        said.encode()


def test_line_feeds_of_ours_and_foreign_scripts_stay() -> None:
    assert t("{what}", what="שלום, 世界\u3000é") == "שלום, 世界\u3000é"
    assert joined([t("a\n{b}", b=t("c\nd")), t("e")], "\n") == "a\nc\nd\ne"


def test_a_name_in_a_command_is_quoted_for_the_shell_in_both_languages_and_elsewhere_it_is_not() -> None:
    said = t("{sender} has no credential file: `mailerd auth login --sender {sender}`", sender="o'brien@example.com")
    command = "`mailerd auth login --sender 'o'\"'\"'brien@example.com'`"
    assert said == f"o'brien@example.com has no credential file: {command}"
    assert say(said, "zh").startswith("o'brien@example.com ")
    assert say(said, "zh").endswith(command)
