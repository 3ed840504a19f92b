"""Bytes to JSON: what is ambiguous or broken is refused with its place, and never a crash."""

import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailerd.http.errors import ApiError
from mailerd.intake.strict_json import MAX_DEPTH, parse, why_too_large

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def outcome(raw: bytes) -> object:
    try:
        return parse(raw)
    except ApiError as problem:
        return problem.status


def json_of(raw: bytes) -> object:
    try:
        return json.loads(raw)
    except ValueError:
        return None


def clean(value: object) -> bool:
    return "\\u0000" not in json.dumps(value)


@given(tree=st.dictionaries(st.text(), JSON).filter(clean), ascii_only=st.booleans())
@example(tree={"🎉": "a🎉é中\U0010ffff"}, ascii_only=False)
def test_what_is_good_json_is_read_as_the_library_reads_it(tree: dict[str, Any], *, ascii_only: bool) -> None:
    assert parse(json.dumps(tree, ensure_ascii=ascii_only).encode()) == tree


@given(st.binary())
def test_any_bytes_are_an_object_or_a_422(raw: bytes) -> None:
    assert outcome(raw) == 422 or isinstance(outcome(raw), dict)


@given(st.binary(max_size=12))
def test_any_bytes_in_a_string_are_an_object_or_a_422(raw: bytes) -> None:
    body = b'{"a": "' + raw + b'\xf0\x9f\x8e\x89"}'

    assert outcome(body) in (422, json_of(body))


@pytest.mark.parametrize(
    "raw, words",
    [
        (b"", "line 1, column 1"),
        (b'{"a": 1,}', "line 1"),
        (b'{"a": 1} x', "Extra data"),
        (b"[]", "must be an object"),
        (b"null", "must be an object"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": -Infinity}', "-Infinity is not JSON"),
        (b'{"a": "\xff"}', r"it is not UTF-8 \(near byte 7\)"),
        (b'{"a": "\xed\xa0\x80"}', "UTF-8"),
        (b'{"a": "\xf0\x9f\x8e"}', "UTF-8"),
        (b'{"a": "\\\xf0\x9f\x8e\x89"}', "Invalid"),
        (b'{"a": "\xf0\x9f\x8e\x89 \xf4\x90\x80\x80"}', "UTF-8"),
        (b'{"a": "\x00"}', "control character"),
        (b'\xef\xbb\xbf{"a": 1}', "BOM"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a number has more than 4,300 digits"),
    ],
)
def test_what_is_no_json_is_named(raw: bytes, words: str) -> None:
    with pytest.raises(ApiError, match=words) as caught:
        parse(raw)

    assert caught.value.status == 422


@pytest.mark.parametrize(
    "raw, field, words",
    [
        (b'{"a": 1, "a": 2}', "a", "twice"),
        (b'{"r": [{}, {"v": {"x": 1, "y": 2, "x": 1}}]}', "r[1].v.x", "twice"),
        (b'{"a": ["b", "\\u0000"]}', "a[1]", "NUL"),
        (b'{"a": {"b": "x\\ud800"}}', "a.b", "surrogate"),
        (b'{"a": "\\udC00\\uD83D"}', "a", "surrogate"),
        (b'{"a\\u0000": 1}', "a\\0", "NUL"),
        (b'{"a\\ud83d": 1}', "a\\ud83d", "surrogate"),
    ],
)
def test_a_blemish_is_named_with_its_path(raw: bytes, field: str, words: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(raw)

    [fault] = caught.value.errors
    assert fault.field == field
    assert words in fault.message
    fault.field.encode()


def parsed_within(raw: bytes) -> tuple[ApiError, float, int]:
    """How a bad body is refused, in what multiple of the time of reading it plainly, and the bytes that it took."""
    started = time.process_time()
    json.loads(raw)
    plain = time.process_time() - started
    tracemalloc.start()
    with pytest.raises(ApiError) as caught:
        parse(raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    started = time.process_time()
    with pytest.raises(ApiError):
        parse(raw)
    return caught.value, (time.process_time() - started) / plain, peak


def test_a_name_given_twice_among_many_is_found_in_one_pass() -> None:
    names = ", ".join(f'"k{number}": 0' for number in range(20_000))

    problem, times, _ = parsed_within(f'{{{names}, "k7": 1}}'.encode())

    assert [fault.field for fault in problem.errors] == ["k7"]
    assert times < 100  # it is some five times; with each name looked for among all of them it was a thousand


@pytest.mark.parametrize("blemish", ['"a": 1, "a": 2', '"a": "\\u0000"'])
def test_a_long_path_is_not_spelled_for_what_is_good(blemish: str) -> None:
    raw = f'{{{blemish}, "{"n" * 10_000}": [{", ".join(["0"] * 10_000)}]}}'.encode()

    problem, _, peak = parsed_within(raw)

    assert [fault.field for fault in problem.errors] == ["a"]
    assert peak < 100 * len(raw)  # a path for every number was 100 MB


def test_many_blemishes_are_counted_and_the_first_hundred_are_listed_by_the_beginnings_of_their_paths() -> None:
    raw = json.dumps({"n" * 10_000: ["\0"] * 5_000}).encode()

    problem, _, peak = parsed_within(raw)

    assert str(problem) == "5,000 problems in the request; the first 100 are listed; nothing was stored"
    assert len(problem.errors) == 100
    assert all(300 <= len(fault.field) < 400 for fault in problem.errors)
    assert peak < 100 * len(raw)


def test_a_surrogate_pair_and_an_escaped_backslash_are_no_blemish() -> None:
    assert parse(b'{"a": "\\ud83c\\udf89", "b": "\\\\u0000"}') == {"a": "🎉", "b": "\\u0000"}


def nested(levels: int) -> dict[str, Any]:
    """Lists between two objects, so many levels in all."""
    value: object = {"x": 1}
    for _ in range(levels - 2):
        value = [value]
    return {"x": value}


def test_depth_is_counted_in_lists_and_objects() -> None:
    assert why_too_large(nested(MAX_DEPTH + 1)) == "is nested too deeply"
    assert why_too_large(nested(MAX_DEPTH)) == ""
    assert why_too_large({"x": [[{"x": 1}]]}) == ""
    assert why_too_large({"x": 1}) == ""
