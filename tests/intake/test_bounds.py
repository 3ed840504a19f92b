"""However much is wrong with a request, or however many values it is made of: little time, memory and answer."""

import gc
import io
import json
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from mailerd.http.errors import MAX_COUNTED, MAX_DETAILS, MAX_REASON, ApiError, FieldError
from mailerd.intake.parse_job import ParsedJob, parse_job
from mailerd.intake.request_body import MAX_RUN, MAX_VALUES, parse
from tests.intake.site import Build, Site, job
from tests.support.own_time import at_this_speed
from tests.support.rendering import rendering_in_thread

ONE = {"email": "a@example.com", "name": "A"}
ANSWER_AT_MOST = 1_000_000


def read(body: Any) -> ParsedJob:
    raw = body if isinstance(body, str) else json.dumps(body)
    with rendering_in_thread() as renderer:
        return parse_job(
            bytearray(raw.encode()), key=None, now=datetime.now(UTC), max_recipients=100_000, renderer=renderer
        )


def instead(body: dict[str, Any], piece: str) -> str:
    """The body with this text where it has "@@"."""
    return json.dumps(body).replace('"@@"', piece)


def many(piece: str, number: int) -> str:
    return "[" + f"{piece}," * (number - 1) + f"{piece}]"


FAULTY: dict[str, Callable[[], str]] = {
    "NULs deep down": lambda: instead(
        job(ONE, variables={"x": "@@"}), "[" * 900 + many('"\\u0000"', 250_000) + "]" * 900
    ),
    "names given twice": lambda: instead(job(ONE, variables={"x": "@@"}), many('{"a":1,"a":2}', 400_000)),
    "attachments": lambda: instead(
        job(recipients="@@"), many('{"email":"a@example.com","attachments":' + many('{"a":1,"b":1}', 50) + "}", 2_000)
    ),
    "attachments that are kept": lambda: instead(
        job(recipients="@@", on_invalid="skip"),
        many('{"email":"a@example.com","attachments":' + many('{"a":1,"b":1}', 50) + "}", 2_000)[:-1]
        + ',{"email":"b@example.com","name":"B"}]',
    ),
    "unknown fields": lambda: json.dumps(job(*({f"k{n}": 1 for n in range(20)} for _ in range(50_000)))),
    "addresses": lambda: json.dumps(job(*({"email": "x" * 250, "name": "y" * 300} for _ in range(50_000)))),
}


@pytest.mark.parametrize("name", FAULTY)
def test_however_many_faults_there_are_they_are_walked_over_fast(name: str) -> None:
    raw = FAULTY[name]()
    started = time.process_time()
    json.loads(raw)
    plain = time.process_time() - started
    started = time.process_time()
    with suppress(ApiError):
        read(raw)
    assert time.process_time() - started < 3 * plain + at_this_speed(1.0)


@pytest.mark.parametrize(
    "number, said",
    [(1, "1 problem in"), (100, "100 problems in the request;"), (1_334, "first 100 are listed, and 1,234 more"),
     (MAX_COUNTED + 500, f"more than {MAX_COUNTED:,} problems in")],
)  # fmt: skip
def test_the_first_hundred_faults_are_kept_and_the_rest_is_counted(number: int, said: str) -> None:
    for body in (
        json.dumps(job(*({"email": "x"} for _ in range(number)))),
        instead(job(ONE, variables={"x": "@@"}), many('"\\u0000"', number)),
    ):
        with pytest.raises(ApiError, match=said) as caught:
            read(body)
        assert len(caught.value.errors) == min(number, MAX_DETAILS)


def test_every_reason_is_short_where_it_is_made() -> None:
    assert len(FieldError("x", "y" * 10_000).message) == MAX_REASON
    long = {"email": "b@example.com", "name": "B", "variables": {"a": "1"}, **{f"{'k' * 200}{n}": 1 for n in range(9)}}
    order = read(job(ONE, long, on_invalid="skip"))
    [rejected] = order.rejected
    assert len(rejected.reason) <= MAX_REASON
    assert len(order.job.recipients[1].error or "") <= MAX_REASON


HUGE: dict[str, Callable[[], str]] = {
    "objects": lambda: many("{}", MAX_VALUES + 1),
    "lists": lambda: many("[]", MAX_VALUES + 1),
    "numbers in a row": lambda: many("1", MAX_RUN + 2),
    "texts in a row": lambda: many('""', MAX_RUN + 2),
    "fields in a row": lambda: "{" + ",".join(f'"{n}":1' for n in range(MAX_RUN + 2)) + "}",
}


@pytest.mark.parametrize("name", HUGE)
def test_a_body_of_too_many_values_is_refused_before_it_is_read(name: str) -> None:
    raw = bytearray(instead(job(ONE, variables={"x": "@@"}), HUGE[name]()).encode())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    with pytest.raises(ApiError, match="values") as caught:
        parse(raw)
    assert caught.value.status == 422
    assert time.process_time() - started < at_this_speed(2.0)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 2 * len(raw) + 30_000_000


def test_commas_and_brackets_in_texts_are_no_values() -> None:
    text = "a,b[{" * (MAX_VALUES // 2) + '\\"\\\\'
    parsed = parse(bytearray(json.dumps({"a": text, "b": [text[-500_000:]]}).encode()))

    assert parsed["a"] == text


def test_a_large_honest_body_is_read() -> None:
    fields = {f"v{n}": "x, y" for n in range(15)}
    order = read(job(*({"email": f"r{n}@example.com", "name": "R", "variables": fields} for n in range(60_000))))

    assert order.accepted == 60_000


def test_variables_of_more_values_than_a_letter_can_show_are_a_fault() -> None:
    wide = [[0] * 1000] * 200
    with pytest.raises(ApiError) as caught:
        read(job(ONE, variables={"x": wide}))
    assert [(each.field, "values" in each.message) for each in caught.value.errors] == [("variables", True)]
    with pytest.raises(ApiError) as caught:
        read(job({**ONE, "variables": {"x": wide}}))
    assert [(each.field, "values" in each.message) for each in caught.value.errors] == [
        ("recipients[0].variables", True)
    ]


def test_reading_leaves_the_collector_of_garbage_as_it_was() -> None:
    assert gc.isenabled()
    parse(bytearray(b'{"a": [1, {"b": 2}]}'))
    assert gc.isenabled()
    with pytest.raises(ApiError):
        parse(bytearray(b'{"a": '))
    assert gc.isenabled()


# What an answer is made of, at its longest: control characters take six bytes each, those beyond U+FFFF four.
WIDE = "\U0001f389"


@pytest.mark.parametrize("filler", ["\x07", WIDE, '"', "x"])
async def test_no_refusal_is_above_a_megabyte(site: Site, filler: str) -> None:
    people = [{"email": filler * 500, "name": filler * 500, filler * 500 + str(n): 1} for n in range(1_500)]
    for body in (
        job(*people),
        job(*people, on_invalid="skip"),
        job(ONE, **{filler * 400 + str(n): 1 for n in range(99)}),
    ):
        await _answered(site, body)


@pytest.mark.parametrize("filler", ["\x07", WIDE, '"', "<"])
async def test_no_dry_run_is_above_a_megabyte(site: Site, filler: str) -> None:
    text = filler * 190_000  # five times as much as HTML, and a body may have 1 MB
    bad = [{"email": filler * 500, "name": filler * 500} for _ in range(1_500)]
    good = [{"email": f"a{n}@example.com", "name": "A"} for n in range(4)]
    template = {"subject": "x", "html": "{{ long }}", "text": "{{ long }}"}
    status, answer = await _answered(
        site, job(*bad, *good, template=template, variables={"long": text}, dry_run=True, on_invalid="skip")
    )

    assert (status, answer["accepted"], answer["rejected_total"]) == (200, 4, 1_500)
    assert len(answer["samples"]) == 3
    assert all(sample["html"] and sample["text"] for sample in answer["samples"])


async def test_no_job_kept_with_bad_recipients_is_answered_above_a_megabyte(build: Build) -> None:
    site = await build(patience=30)
    bad = [{"email": WIDE * 500, "name": WIDE * 500, f"{WIDE * 200}{n}": 1} for n in range(1_500)]
    status, answer = await _answered(site, job(ONE, *bad, on_invalid="skip"))

    assert (status, answer["accepted"], answer["rejected_total"]) == (200, 1, 1_500)
    assert len(answer["rejected"]) >= 100


async def _answered(site: Site, body: dict[str, Any]) -> tuple[int, Any]:
    sent = io.BytesIO(json.dumps(body).encode())
    async with site.client.post(f"{site.url}/api/jobs/send_template_emails", data=sent) as response:
        raw = await response.read()
    assert len(raw) < ANSWER_AT_MOST
    return response.status, json.loads(raw)
