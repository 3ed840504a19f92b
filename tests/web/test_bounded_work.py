"""What a client's table and message can make the console compute is bounded, and is not computed in the event loop."""

import json
import threading
import time
import tracemalloc
from base64 import b64encode
from collections.abc import Sequence

import pytest

from mailerd.core.reasons import from_json, to_json
from mailerd.mail import recipient_table
from mailerd.mail.mime import MAX_MESSAGE_BYTES
from mailerd.mail.recipient_table import columns_of, guessed_uses, mapping_errors
from mailerd.mail.spreadsheet import Sheet, SpreadsheetError
from mailerd.mail.table_checker_child import SparseTable
from mailerd.mail.templates import RenderError
from mailerd.web.frame import rendered_message
from mailerd.web.send import send_preview
from tests.support.own_time import at_this_speed

LONG = "ab" * 150


async def test_the_nearest_columns_are_sought_for_three_errors_by_short_names_in_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sought = list[tuple[int, bool]]()

    def nearest(name: str, others: Sequence[str], n: int) -> list[str]:
        in_loop = threading.current_thread() is threading.main_thread()
        sought.append((max(map(len, [name, *others])), in_loop))
        return [*others][:n]

    monkeypatch.setattr(send_preview, "get_close_matches", nearest)
    errors = [RenderError("undefined", part="text", line=1, variable=f"{LONG}{n}") for n in range(100)]
    found = await send_preview.hints(errors, [f"{LONG}{n}" for n in range(500)])
    assert len(found) == len(errors)
    assert sought == [(40, False)] * 3


def test_each_header_and_each_variable_is_folded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    folded, fold = list[str](), recipient_table._folded

    def counted(text: str) -> str:
        folded.append(text)
        return fold(text)

    monkeypatch.setattr(recipient_table, "_folded", counted)
    header = [f"{'x' * 5000} {n}" for n in range(500)]
    wanted = [f"{LONG}{n}" for n in range(400)]
    columns_of(Sheet([header, ["a@example.org"] * 500], [1, 2]), 1, wanted=wanted)
    assert len(folded) <= len(header) + len(wanted)
    assert max(map(len, folded)) <= 310


@pytest.mark.parametrize("character", ["x", "\u202e"])
def test_what_is_wrong_with_very_many_long_columns_can_be_said(character: str) -> None:
    header = [character * 250] * 500
    columns = columns_of(Sheet([header], [1]), 1)
    for uses in (guessed_uses(columns), {each.index: "product" for each in columns}):
        errors = mapping_errors(columns, uses, wanted=[f"{LONG}{n}" for n in range(400)])
        assert max(len(from_json(to_json(each))) for each in errors) < 10_000


PEOPLE = {
    "each has variables of their own: a table of all of them would have a million columns": [
        {f"v{at}_{n}": "x" for n in range(1000)} for at in range(1000)
    ],
    "wide rows are counted before they are cells": [{f"v{n}": "" for n in range(400)}, *[{"v399": "x"}] * 4000],
}


@pytest.mark.parametrize("which", PEOPLE)
def test_the_people_of_a_job_take_no_more_memory_than_a_table_may(which: str) -> None:
    variables = [json.dumps(each).encode() for each in PEOPLE[which]]
    people = [["a@example.org", None, False, len(each)] for each in variables]
    given = b"".join(variables)
    tracemalloc.start()
    try:
        with pytest.raises(SpreadsheetError, match="do not fit"):
            SparseTable(100_000).add(people, given)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * 1024 * 1024


def test_a_message_is_shown_in_pieces_of_a_millisecond_however_it_is_made() -> None:
    """The longest of them held the loop for 200 ms, with a picture of many megabytes or with many names of pictures."""
    pictures = {"big": ("image/png", bytes(MAX_MESSAGE_BYTES)), "dot": ("image/gif", b"GIF")}
    for html in ("<img src='cid:big'>", "cid:dot " * 120_000, "cid:none " * 110_000, "x" * 1_000_000):
        pieces, longest = list[bytes](), 0.0
        making = rendered_message._pieces(html, pictures)
        while True:
            began = time.thread_time()
            if (piece := next(making, None)) is None:
                break
            longest = max(longest, time.thread_time() - began)
            pieces.append(piece)
        assert longest < at_this_speed(0.02), html[:20]
        assert max(map(len, pieces)) < 256 * 1024
        whole = b"".join(pieces).decode()
        shown = html.replace("cid:none", "data:,").replace("cid:dot", "data:image/gif;base64,R0lG")
        assert whole == shown.replace(
            "cid:big", f"data:image/png;base64,{b64encode(bytes(MAX_MESSAGE_BYTES)).decode()}"
        )
