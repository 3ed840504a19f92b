"""Reasons: a row keeps the English for who looks there, and a code with fields for everybody else, in any language."""

import json
import time
from string import Formatter

import pytest

from mailerd.core.i18n import Text, joined, t, tc, tn
from mailerd.core.quantities import in_words
from mailerd.core.reasons import MAX_FIELD, REASONS, code_of, from_json, from_row, in_row, reason, to_json
from mailerd.locale import say

FIELDS = dict.fromkeys(("n", "attempt", "status", "dead", "sent", "limit", "domains", "blocked", "crashes", "alone"), 3)


def made(code: str) -> Text:
    names = [name for _, name, _, _ in Formatter().parse(REASONS[code]) if name]
    return reason(code, **{name: FIELDS.get(name, f"<{name}>") for name in names})


@pytest.mark.parametrize("code", REASONS)
def test_each_reason_is_read_back_from_its_row_in_both_languages(code: str) -> None:
    written = made(code)
    english, its_code, args = in_row(written)
    assert (english, its_code) == (str(written), code)
    found = from_row(english, its_code, args)
    assert (found, code_of(found)) == (english, code)
    assert say(found or "", "zh") == say(written, "zh") != english
    assert len(code) <= 40, "as long as its column"


def test_no_two_codes_have_the_same_words() -> None:
    assert len(set(REASONS.values())) == len(REASONS)


def test_what_a_reason_quotes_is_read_back_whole() -> None:
    before = reason("google_silent", cause=t("no response within {span}", span=in_words(7500)))
    given_up = reason("gave_up_after", attempt=5, reason=before)
    found = from_row(*in_row(given_up))
    assert found == "gave up after attempt 5; last error: no response from Google: no response within 2 h 5 min"
    assert say(found, "zh") == say(given_up, "zh")
    assert "第 5 次尝试后放弃；最后的错误：Google 没有响应：" in say(found, "zh")
    assert isinstance(found, Text)
    assert code_of(found.fields["reason"]) == "google_silent"


@pytest.mark.parametrize(
    "text",
    [
        joined([t("{n} s", n=3), "as it is", tn("{n} day", "{n} days", 2)]), tc("a time", "since"), "plain", 7,
        None, 1.5, Text("of no template"), made("given_back"), t("{a}: {b}", a=made("throttled"), b=joined(["x", "y"])),
    ],
)  # fmt: skip
def test_a_text_goes_through_json(text: object) -> None:
    found = from_json(json.loads(json.dumps(to_json(text))))
    assert found == text
    if isinstance(text, Text) and isinstance(found, Text):
        assert (found.msgid, found.plural, found.context, found.parts) == (
            text.msgid, text.plural, text.context, text.parts,
        )  # fmt: skip


def test_a_long_reason_is_cut_to_its_column_and_keeps_its_fields() -> None:
    english, code, args = in_row(reason("google_silent", cause="x" * 5000), 300)
    assert english is not None
    assert (len(english), english[-1]) == (300, "…")
    assert len(json.loads(args or "")["cause"]) == MAX_FIELD
    assert from_row(english, code, args) == english


@pytest.mark.parametrize(
    "code, args",
    [
        (None, None),
        ("of_a_later_version", "{}"),
        ("throttled", "no JSON"),
        ("throttled", "[]"),
        ("throttled", '{"said": {}}'),
    ],
)  # fmt: skip
def test_what_is_not_understood_stays_in_english(code: str | None, args: str | None) -> None:
    found = from_row("as it was written", code, args)
    assert found == "as it was written"
    assert say(found, "zh") == "as it was written"


HOSTILE = {
    "brackets without end": "[" * 30_000,
    "parts of parts": '{"cause":' + '{"parts":[' * 900 + '"x"' + "]}" * 900 + "}",
    "texts of texts": '{"cause":' + '{"text":"{x}{x}{x}","args":{"x":' * 25 + '"x"' + "}}" * 25 + "}",
    "a field named often": json.dumps({"cause": {"text": "{a}" * 3000, "args": {"a": "x" * 1000}}}),
    "a wide field": '{"cause":{"text":"{a:>99999999}","args":{"a":"z"}}}',
    "a nested width": '{"cause":{"text":"{a:{b}}","args":{"a":"z","b":">99999999"}}}',
    "an attribute": '{"cause":{"text":"{a.__class__}","args":{"a":"z"}}}',
    "an item": '{"cause":{"text":"{a[0]}","args":{"a":"z"}}}',
    "a plural of no number": '{"cause":{"text":"a {n}","plural":"b {n}","args":{"n":"x"}}}',
    "a plural of a fraction": '{"cause":{"text":"a {n}","plural":"b {n}","args":{"n":1.5}}}',
    "a plural of nothing": '{"cause":{"text":"a","plural":"b","args":{}}}',
    "a plural with a field more": '{"cause":{"text":"a","plural":"{c}","args":{"n":1}}}',
    "a context that is a number": '{"cause":{"text":"a","context":5,"args":{}}}',
    "a text that is a list": '{"cause":{"text":["x"],"args":{}}}',
    "a text that moves a cursor": '{"cause":{"text":"\\u001b[2J","args":{}}}',
    "arguments that are a list": '{"cause":{"text":"a","args":[]}}',
}  # fmt: skip


@pytest.mark.parametrize("args", HOSTILE.values(), ids=HOSTILE)
def test_a_row_that_nobody_of_us_has_written_stays_in_english(args: str) -> None:
    started = time.process_time()
    found = from_row("as it was written", "not_accepted", args)
    assert (found, say(found or "", "zh")) == ("as it was written", "as it was written")
    assert time.process_time() - started < 1


def test_half_a_character_of_a_row_is_said_in_both_languages() -> None:
    found = from_row("not accepted: ?", "not_accepted", '{"cause":"\\ud800 lone"}')
    assert isinstance(found, Text)
    assert say(found, "zh").encode().decode().endswith("\\ud800 lone")


def test_no_reason_is_none() -> None:
    assert in_row(None) == (None, None, None)
    assert from_row(None, "throttled", '{"said": "429"}') is None
    assert in_row("a person's own words") == ("a person's own words", None, None)
