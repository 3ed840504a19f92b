"""The process that reads jobs, but reading takes for ever; `test_bounds` starts it."""

from typing import Any

from mailerd.intake import job_reader_child


def _for_ever(_: bytes, **__: Any) -> Any:
    while True:
        pass


if __name__ == "__main__":
    warm_up = job_reader_child.warm_up

    def warm_up_first() -> None:
        warm_up()
        job_reader_child.JobBody = _for_ever  # type: ignore[assignment, misc]

    job_reader_child.warm_up = warm_up_first
    job_reader_child.READ_SECONDS = 0.2  # type: ignore[misc]
    job_reader_child.main()
