"""What the demonstration shows of a job that does not go on."""

import pytest

from mailerd.sandbox.demo import Job, Screen


def test_why_a_job_waits_is_said_once_and_again_when_it_changes(capsys: pytest.CaptureFixture[str]) -> None:
    def waiting(cause: str) -> Job:
        return Job(id="J", total=3, status="sending", counts={}, elapsed_s=1.0, cause_of_wait=cause)

    with Screen().progress(3) as show:
        for cause in ("", "me@example.com is paused", "me@example.com is paused", "", "the job is paused"):
            show(waiting(cause))
    said = [line.strip() for line in capsys.readouterr().out.splitlines() if "waiting" in line]
    assert said == ["waiting: me@example.com is paused", "waiting: the job is paused"]
