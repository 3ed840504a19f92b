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
from mailerd.intake import job_reader
from mailerd.intake.parse_job import ParsedJob, parse_job
from mailerd.mail.cage import Limits
from tests.intake.site import Build, Site, job
from tests.support.own_time import at_this_speed
from tests.support.rendering import reading

ONE = {"email": "a@example.com", "name": "A"}
ANSWER_AT_MOST = 1_000_000


async def read(body: Any) -> ParsedJob:
    raw = body if isinstance(body, str) else json.dumps(body)
    async with reading() as reader:
        return await parse_job(
            raw.encode(), key=None, now=datetime.now(UTC), max_recipients=100_000, reader=reader, origin="the test"
        )


def cpu() -> float:
    """Seconds of CPU of this process and of its children that have ended."""
    ours, theirs = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return ours.ru_utime + ours.ru_stime + theirs.ru_utime + theirs.ru_stime


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
async def test_however_many_faults_there_are_they_are_walked_over_fast(name: str) -> None:
    raw = FAULTY[name]()
    started = time.process_time()
    json.loads(raw)
    plain = time.process_time() - started
    gc.freeze()  # what other tests have left behind is not walked over
    started, ours = cpu(), time.process_time()
    with suppress(ApiError):
        await read(raw)
    gc.unfreeze()
    assert time.process_time() - ours < plain + at_this_speed(0.5)
    assert cpu() - started < 3 * plain + at_this_speed(2.5)  # two processes are started for it


@pytest.mark.parametrize(
    "number, said",
    [(1, "1 problem in"), (100, "100 problems in the request;"),
     (1_334, "1,334 problems in the request; the first 100 are listed"),
     (MAX_COUNTED + 500, f"more than {MAX_COUNTED:,} problems in the request")],
)  # fmt: skip
async def test_the_first_hundred_faults_are_kept_and_the_rest_is_counted(number: int, said: str) -> None:
    for body in (
        json.dumps(job(*({"email": "x"} for _ in range(number)))),
        instead(job(ONE, variables={"x": "@@"}), many('"\\u0000"', number)),
    ):
        with pytest.raises(ApiError, match=said) as caught:
            await read(body)
        assert len(caught.value.errors) == min(number, MAX_DETAILS)


async def test_every_reason_is_short_where_it_is_made() -> None:
    assert len(FieldError("x", "y" * 10_000).message) == MAX_REASON
    long = {"email": "b@example.com", "name": "B", "variables": {"a": "1"}, **{f"{'k' * 200}{n}": 1 for n in range(9)}}
    order = await read(job(ONE, long, on_invalid="skip"))
    [rejected] = order.rejected
    assert len(rejected.reason) <= MAX_REASON
    assert len(order.job.recipients[1].error or "") <= MAX_REASON


HUGE: dict[str, Callable[[], str]] = {
    "objects": lambda: many("{}", 3_000_000),
    "lists": lambda: many("[]", 3_000_000),
    "numbers in a row": lambda: many("1.5", 3_000_000),
    "texts in a row": lambda: many('"ab"', 3_000_000),
    "fields in a row": lambda: "{" + ",".join(f'"{n}":1' for n in range(1_000_000)) + "}",
}


@pytest.mark.parametrize("name", HUGE)
async def test_a_body_of_too_many_values_takes_the_memory_of_the_cage_and_none_of_ours(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_reader, "READ_LIMITS", Limits(cpu=0.2, memory=120 * 1024 * 1024))
    monkeypatch.setattr(job_reader, "MEMORY_PER_BYTE", 2)
    raw = instead(job(ONE, variables={"x": "@@"}), HUGE[name]())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ours = time.process_time()
    with pytest.raises(ApiError, match="reading it takes too much memory; nothing was stored") as caught:
        await read(raw)
    assert (caught.value.status, caught.value.code) == (422, "invalid_json")
    assert time.process_time() - ours < at_this_speed(0.5)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 2 * len(raw) + 30_000_000


async def test_a_body_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_reader, "_CHILD", "tests.intake.slow_reader")
    with pytest.raises(ApiError, match="reading it takes too long; nothing was stored") as caught:
        await read(job(ONE))
    assert (caught.value.status, caught.value.code) == (422, "invalid_json")


async def test_a_large_honest_body_is_read() -> None:
    fields = {f"v{n}": "x, y" for n in range(15)}
    order = await read(job(*({"email": f"r{n}@example.com", "name": "R", "variables": fields} for n in range(60_000))))

    assert order.accepted == 60_000


async def test_variables_of_more_values_than_a_message_can_show_are_a_fault() -> None:
    wide = [[0] * 1000] * 200
    with pytest.raises(ApiError) as caught:
        await read(job(ONE, variables={"x": wide}))
    assert [(each.field, "values" in each.message) for each in caught.value.errors] == [("variables", True)]
    with pytest.raises(ApiError) as caught:
        await read(job({**ONE, "variables": {"x": wide}}))
    assert [(each.field, "values" in each.message) for each in caught.value.errors] == [
        ("recipients[0].variables", True)
    ]


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
