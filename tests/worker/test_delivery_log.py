"""The numbers of a job's progress in the log."""

from mailerd.worker.delivery_log import JobProgress


def test_a_message_that_starts_has_the_number_that_it_would_finish_with_if_all_before_it_did() -> None:
    progress = JobProgress()
    progress.add("J", total=4)
    assert [progress.begin("J", 1), progress.begin("J", 2)] == [(1, 4), (2, 4)]
    assert progress.advance("J", 2) == (1, 4)
    assert progress.begin("J", 3) == (3, 4)  # two are finished or under way
    progress.end("J", 1)  # it waits again
    assert progress.advance("J", 3) == (2, 4)
    assert progress.begin("J", 1) == (3, 4)


def test_no_number_is_above_the_jobs_own() -> None:
    progress = JobProgress()
    progress.add("J", total=2)
    progress.set_done("J", ended=2)
    progress.claimed("J", messages=1)  # Google gave one back
    assert progress.begin("J", 2) == (2, 2)
    progress.add("K", total=1)
    progress.set_done("K", ended=1)
    assert progress.begin("K", 9) == (1, 1)
