"""The process that reads jobs, with a bug; `test_job_reader` starts it."""

from typing import Any

from mailerd.intake import job_reader_child


def _broken(_: Any, __: Any) -> Any:
    return 1 // 0


if __name__ == "__main__":
    job_reader_child.JobChild.answer = _broken  # type: ignore[assignment, method-assign]
    job_reader_child.main()
