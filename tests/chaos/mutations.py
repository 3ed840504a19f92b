"""Breaks the code on purpose, one line at a time in a copy of the tree, and sees that a named test notices."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.chaos.mutation import Mutation
from tests.chaos.mutations_events import OF_EVENTS
from tests.chaos.mutations_failover import OF_FAILOVER
from tests.chaos.mutations_intake import OF_INTAKE
from tests.chaos.mutations_model import OF_MODEL
from tests.chaos.mutations_moves import OF_CONSEQUENCES, OF_FENCES, OF_REFUNDS, OF_THE_DOOR, OF_THE_LOG, OF_WHOLE_JOBS
from tests.chaos.mutations_neighbours import OF_NEIGHBOURS
from tests.chaos.mutations_opt_out import OF_OPT_OUT
from tests.chaos.mutations_proof import OF_PROOF
from tests.chaos.mutations_renderer import OF_RENDERER

ROOT: Final = Path(__file__).parents[2]
_WITHIN: Final = 600.0
_TESTS_FAILED: Final = 1
"""pytest's exit code: https://docs.pytest.org/en/stable/reference/exit-codes.html"""


_RECORDS: Final = "tests/store/queue/test_record.py::"
_MUTANTS: Final = "tests/daemon/test_mutants.py::"
MUTATIONS: Final = (
    *OF_MODEL,
    *OF_THE_DOOR,
    *OF_WHOLE_JOBS,
    *OF_CONSEQUENCES,
    *OF_REFUNDS,
    *OF_FENCES,
    *OF_THE_LOG,
    *OF_NEIGHBOURS,
    *OF_RENDERER,
    Mutation(
        "who holds a row is not asked by the token",
        "mailerd/core/moves.py",
        "return self.status == State.SENDING and self.claim_token == message.token",
        "return self.status == State.SENDING",
        _RECORDS + "test_a_worker_with_another_token_writes_nothing",
    ),
    Mutation(
        "who holds a row is not asked by the state",
        "mailerd/core/moves.py",
        "return self.status == State.SENDING and self.claim_token == message.token",
        "return self.claim_token == message.token",
        _RECORDS + "test_a_row_that_is_not_sending_any_more_is_not_written",
    ),
    Mutation(
        "a message that Google has said to have is handed over again",
        "mailerd/core/moves.py",
        "or log.answer is not None\n        or log.unresolved is not None",
        "or log.unresolved is not None",
        "tests/core/test_moves.py::test_what_google_has_or_may_have_is_not_handed_over",
    ),
    Mutation(
        "what a late worker knows of a message that waits again is forgotten",
        "mailerd/core/moves.py",
        "if row.status in {State.WAITING, State.UNSURE}:",
        "if row.status == State.UNSURE:",
        _RECORDS + "test_what_a_late_worker_knows_settles_a_message_that_waits_again",
    ),
    Mutation(
        "a late answer goes by the row's number alone",
        "mailerd/store/queue/record.py",
        "if row is None or row.job_id != it.message.job_id:",
        "if row is None:",
        _RECORDS + "test_what_a_late_worker_knows_of_a_lost_message_says_nothing_of_another_that_has_its_number",
    ),
    Mutation(
        "what became young while old rows are deleted is deleted with them: an answer to a key that is used anew",
        "mailerd/store/write/retention.py",
        "await cursor.execute(self.delete_one, (*key, age))",
        "await cursor.execute(self.delete_one, (*key, -1))",
        "tests/store/test_retention.py::test_what_is_young_again_by_then_stays",
    ),
    Mutation(
        "a sign-in is used whosever mailbox it opens",
        "mailerd/gmail/account.py",
        "if same_mailbox(address, self._sender):",
        "if True:",
        "tests/daemon/test_wrong_mailbox.py",
    ),
    Mutation(
        "a changed credential file is taken for the mailbox that the one before was",
        "mailerd/gmail/account.py",
        "return token.generation == self._checked",
        "return self._checked > 0",
        "tests/daemon/test_wrong_mailbox.py",
    ),
    Mutation(
        "what is given up goes on its way",
        "mailerd/gmail/session.py",
        "happy_eyeballs_delay=_NEXT_ADDRESS_S, socket_factory=_socket",
        "happy_eyeballs_delay=_NEXT_ADDRESS_S",
        "tests/daemon/test_late.py::test_a_request_that_the_network_held_back_is_not_carried_out_after_the_look",
    ),
    Mutation(
        "a cancelled message leaves its draft",
        "mailerd/worker/recovery.py",
        "                await self._discard(message)\n",
        "",
        "tests/daemon/test_late.py::test_the_draft_of_a_message_that_is_cancelled_is_deleted_at_once",
    ),
    Mutation(
        "a connection is killed by its number on whatever server answers",
        "mailerd/store/db/pool.py",
        "if await _leads_where(cursor, cut_off):",
        "if True:",
        "tests/store/db/test_kill.py::test_the_connection_number_of_another_server_is_somebody_elses_and_is_not_killed",
    ),
    Mutation(
        "the draft's id is not committed before drafts.send",
        "mailerd/worker/delivery.py",
        "await self._record_handover(state, mailbox)\n        return None\n",
        "return None\n",
        _MUTANTS + "test_the_drafts_id_is_durable_before_google_is_asked_to_send_it",
    ),
    Mutation(
        "a direct send is not recorded before it is made",
        "mailerd/worker/delivery.py",
        "await self._record_handover(state, mailbox)\n        if state.claim_lost:",
        "if state.claim_lost:",
        _MUTANTS + "test_a_direct_send_is_durable_before_google_is_asked",
    ),
    Mutation(
        "a worker that was fenced off at the hand-over sends all the same",
        "mailerd/worker/delivery.py",
        "        state.claim_lost = True\n",
        "",
        _MUTANTS + "test_a_worker_whose_claim_has_gone_does_not_send",
    ),
    Mutation(
        "a look does not wait for what may be in flight",
        "mailerd/config/__init__.py",
        "return 2 * self.request_timeout",
        "return 0.0",
        _MUTANTS + "test_nobody_looks_before_a_lost_request_can_no_longer_arrive",
    ),
    Mutation(
        "a .env that belongs to somebody else is used",
        "mailerd/config/file_owner.py",
        '    if not _is_ours(status.st_uid):\n        raise _refused(\n            path,\n            t("it belongs',
        '    if False:\n        raise _refused(\n            path,\n            t("it belongs',
        "tests/core/test_dotenv.py::test_somebody_elses_file_is_refused",
    ),
    Mutation(
        "a sandbox's configuration is taken beside another database",
        "mailerd/config/discovery.py",
        "        if not instead:\n",
        "        if True:\n",
        "tests/core/test_config_discovery.py::test_a_sandbox_is_never_mixed_with_another_database_or_with_google",
    ),
    Mutation(
        "a configuration that was found is read though others can write to it",
        "mailerd/config/__init__.py",
        "        if not named:\n",
        "        if False:\n",
        "tests/core/test_config_discovery.py::test_a_file_that_others_can_write_to_is_refused_unless_somebody_named_it",
    ),
    Mutation(
        "a call to the database has no bound",
        "mailerd/store/db/pool.py",
        "await asyncio.wait_for(self._with_connection(run, phase), bound or self._settings.statement_timeout)",
        "await self._with_connection(run, phase)",
        "tests/house/test_guard.py::test_whatever_speaks_to_the_database_stands_in_wait_for",
    ),
    Mutation(
        "an answer of any size is read",
        "mailerd/gmail/session.py",
        "self._complete = len(self._body) > self._max_body",
        "self._complete = False",
        "tests/gmail/test_large_responses.py::test_a_body_that_is_too_large_leaves_a_send_in_doubt",
    ),
    Mutation(
        "what came unasked over a connection is taken for the next answer",
        "mailerd/gmail/session.py",
        "return not self._next.done() and not self._writer.is_closing()",
        "return not self._writer.is_closing()",
        "tests/gmail/test_connection.py::test_what_comes_unasked_before_a_draft_is_sent_answers_nothing",
    ),
    Mutation(
        "a message that was slow to Google is not noted",
        "mailerd/store/queue/record.py",
        "reached and it.took > it.message.latency_threshold",
        "it.took < 0",
        "tests/daemon/test_pauses.py::test_a_slow_way_to_google_is_learnt_by_the_sender_that_has_it",
    ),
    Mutation(
        "the slack is no more than the slowest message",
        "mailerd/core/rate_limit.py",
        "_LATENCY_FACTOR: Final = 1.25",
        "_LATENCY_FACTOR: Final = 1.0",
        "tests/core/test_rate_limit_arrivals.py::test_however_late_messages_arrive_google_never_counts_too_many_in_a_minute",
    ),
    Mutation(
        "an older Cloud project keeps its pace after Google's Standard tier holds",
        "mailerd/core/rate_limit.py",
        "if self.standard and now >= STANDARD_PACE_FROM:",
        "if False:",
        "tests/store/queue/test_rate_limits.py::test_across_the_night_of_googles_new_tier_two_daemons_slow_down_in_time",
    ),
    Mutation(
        "the last minute before the Standard tier is as full as before",
        "mailerd/core/rate_limit.py",
        "STANDARD_PACE_FROM: Final = STANDARD_FROM - _CALLS_KEPT",
        "STANDARD_PACE_FROM: Final = STANDARD_FROM",
        "tests/core/test_rate_limit_tier.py::test_a_greedy_sender_with_late_answers_is_not_throttled_across_that_midnight",
    ),
    Mutation(
        "a lapsed lease is looked at without the wait",
        "mailerd/core/moves.py",
        "lease_until=now + late_arrival if lost else None,",
        "lease_until=now if lost else None,",
        "tests/store/queue/test_recovery.py",
    ),
    Mutation(
        "a paused job is not held while a message comes back into it",
        "mailerd/store/write/job_changes.py",
        'await cursor.execute(_LOCK_JOBS if wait else f"{_LOCK_JOBS} SKIP LOCKED",',
        'await cursor.execute(_LOCK_JOBS.removesuffix(" FOR UPDATE"),',
        "tests/store/queue/test_stuck_jobs.py::test_a_message_that_comes_back_while_its_job_is_resumed_is_claimed",
    ),
    Mutation(
        "what a look found is written whatever became of the row",
        "mailerd/core/moves.py",
        "if row.status != State.UNSURE or row.claim_token != message.token:",
        "if False:",
        "tests/store/queue/test_recovery.py",
    ),
    Mutation(
        "a lost answer to drafts.send is taken for a refusal",
        "mailerd/core/verdicts.py",
        "Disposition.UNKNOWN if call in _IRREVERSIBLE else Disposition.TRANSIENT",
        "Disposition.TRANSIENT",
        "tests/daemon/test_doubts.py::test_no_lost_answer_to_drafts_send_loses_or_doubles_a_message",
    ),
    Mutation(
        "a draft that is gone is taken for not sent",
        "mailerd/core/decisions.py",
        "return Transition.FOUND",
        "return Transition.MISSING",
        "tests/daemon/test_doubts.py::test_no_lost_answer_to_drafts_send_loses_or_doubles_a_message",
    ),
    *OF_INTAKE,
    *OF_EVENTS,
    *OF_FAILOVER,
    *OF_OPT_OUT,
    *OF_PROOF,
)


def main() -> int:
    """Try all; 0 when each was noticed and the tests pass without any."""
    survivors = []
    with tempfile.TemporaryDirectory(prefix="mailerd-mutations-") as name:
        tree = Path(name) / "tree"
        _copy(tree)
        tests = sorted({mutation.test for mutation in MUTATIONS})
        said = _pytest(tree, tests)
        if said.returncode:
            sys.stdout.write(f"the tests fail without any mutation:\n{said.stdout[-3000:]}{said.stderr[-1000:]}\n")
            return 1
        for mutation in MUTATIONS:
            noticed = is_noticed(tree, mutation)
            sys.stdout.write(f"{'noticed ' if noticed else 'SURVIVED'}  {mutation.what}  ({mutation.test})\n")
            sys.stdout.flush()
            survivors += [] if noticed else [mutation]
    sys.stdout.write(f"{len(MUTATIONS)} mutations, {len(survivors)} survived\n")
    return 1 if survivors else 0


def is_noticed(tree: Path, mutation: Mutation) -> bool:
    """Apply one, run its test, take it back; whether the test has noticed.

    Raises:
        ValueError: the line that it changes is not there any more, or not once.
    """
    file = tree / mutation.file
    sound = file.read_text(encoding="utf-8")
    file.write_text(mutation.apply(sound), encoding="utf-8")
    try:
        return _pytest(tree, [mutation.test]).returncode == _TESTS_FAILED
    finally:
        file.write_text(sound, encoding="utf-8")


def _copy(tree: Path) -> None:
    tree.mkdir()
    for part in ("mailerd", "tests", "docs", "tools"):
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    (ROOT / ".cache").mkdir(exist_ok=True)
    (tree / ".cache").symlink_to(ROOT / ".cache")  # the template of the database server
    # A Python that finds this tree by itself, before what is installed: the renderer's child takes no PYTHONPATH.
    venv.create(tree / ".venv", symlinks=True, with_pip=False)
    (site,) = (tree / ".venv" / "lib").glob("python*/site-packages")
    (site / "tree.pth").write_text(f"{tree}\n{sysconfig.get_path('purelib')}\n", encoding="utf-8")


def _pytest(tree: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [
        str(tree / ".venv" / "bin" / "python"),
        "-B",
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        *tests,
    ]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    return subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, timeout=_WITHIN, check=False
    )
