"""What keeps a failover from sending letters twice, broken on purpose."""

from __future__ import annotations

from typing import Final

from tests.chaos.mutation import Mutation

_HISTORY: Final = "tests/store/test_history.py::"
OF_FAILOVER: Final = (
    Mutation(
        "a server that was never told is claimed from",
        "mailerd/store/history.py",
        "if not self.is_told(cursor):",
        "if False:",
        "tests/daemon/test_failover.py::test_letters_that_a_failover_has_forgotten_are_sent_once",
    ),
    Mutation(
        "what is in hand is not told again",
        "mailerd/store/history.py",
        "forgotten += await self._hold(cursor, one)",
        "forgotten += 0",
        _HISTORY + "test_what_is_in_hand_stays_in_hand",
    ),
    Mutation(
        "a hand-over that was refused is told again",
        "mailerd/store/history.py",
        "what is not Written.TAKEN:",
        "what is None:",
        _HISTORY + "test_a_hand_over_that_its_row_did_not_take_is_not_told",
    ),
    Mutation(
        "other daemons are not waited for",
        "mailerd/store/history.py",
        "if others and time.monotonic() - met.at < OTHERS_WITHIN:",
        "if False:",
        _HISTORY + "test_others_that_are_alive_are_waited_for",
    ),
    Mutation(
        "what is remembered of a lost letter is told of another that has its number",
        "mailerd/store/history.py",
        "if job != one.letter.job_id:",
        "if job is None:",
        _HISTORY + "test_a_letter_whose_number_is_anothers_now_tells_nothing_of_that_one",
    ),
)
