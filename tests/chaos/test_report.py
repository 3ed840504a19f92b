"""The page on the storms is what the writer makes of a run: its words are the code's, its numbers the run's."""

import re
from collections import Counter

from tests.chaos import report
from tests.chaos.place import Failover
from tests.chaos.running import Result
from tests.chaos.truth import Truth
from tests.house.markdown import Paper


def test_the_page_has_what_a_run_has_shown() -> None:
    shown = Result(
        "kill9", 7, faults=3, truth=Truth(messages=1234, apart=5), silence=2.25, events=Counter(lease_lapsed=9)
    )
    shown.failovers = [
        Failover("killed", 0.0, pause=4.0, after=1.5, refused=2),
        Failover("cut", 0.0, pause=6.5, refused=1),
    ]
    text = report.page_of([shown], took=61)
    assert "1234 messages, 3 faults: **0 lost, 0 sent twice**, 0 storms with a breach." in text
    assert "| `kill9` | SIGKILL of two daemons at random moments | 1234 | 3 | 0 | 0 | 5 | 0 | 0 | 2.2 | 9 | 0 |" in text
    assert "* `kill9`: 2 changes of the servers. Nothing was sent for 6.5 s at most,\n  and for 1.5 s" in text
    assert "3 posts got a 503" in text


def test_the_page_in_the_tree_is_not_edited_by_hand() -> None:
    ours, made = Paper(report.PROOF).text, report.page_of([], took=0)
    assert without_numbers(ours) == without_numbers(made)
    sent, rows = (
        re.search(r"^(\d+) messages", ours, re.MULTILINE),
        re.findall(r"^\| `.+\| (\d+) \|(?: [^|]+\|){9}$", ours, re.MULTILINE),
    )
    assert sent is not None
    assert int(sent[1]) == sum(map(int, rows))


def without_numbers(text: str) -> list[str]:
    """Its lines but those that a run fills: the sum, the date, the table's rows, the failovers, the machine."""
    text = re.sub(r"(?s)(## How to repeat it\n\n).+?\n\n", r"\1", text)
    lines = text.replace("\n  and for", " and for").splitlines()
    filled = re.compile(r"\| `|\* `\w+`: |\d+ messages, |\d{4}-\d\d-\d\d |$")
    return [line for line in lines if not filled.match(line)]
