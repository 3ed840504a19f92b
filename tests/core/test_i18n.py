"""Texts: English as they stand, and what they were made of."""

import copy
import pickle

import pytest

from mailerd.core.i18n import Text, joined, t, tc, tn


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
