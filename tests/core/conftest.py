"""Properties are tried often enough to find what is wrong, and seldom enough that the whole folder takes seconds.

And what the tests of files that belong to somebody else share.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("mailerd", max_examples=60, deadline=None)
settings.load_profile("mailerd")

NOBODY = 65534

GiveAway = Callable[[Path], None]


@pytest.fixture
def give_away(monkeypatch: pytest.MonkeyPatch) -> GiveAway:
    """Makes a path somebody else's. Only root can; another user becomes somebody else, and makes the rest root's."""

    def give(path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
            return
        ours, real = os.geteuid(), os.fstat
        monkeypatch.setattr("mailerd.config.file_owner.os.geteuid", lambda: ours + 1)
        strangers = {path.lstat().st_ino}

        def owned(status: os.stat_result) -> os.stat_result:
            return status if status.st_ino in strangers else os.stat_result((*status[:4], 0, *status[5:]))

        monkeypatch.setattr("mailerd.config.file_owner.os.fstat", lambda handle: owned(real(handle)))
        for name in ("stat", "lstat"):
            original = getattr(Path, name)
            monkeypatch.setattr(Path, name, lambda self, original=original, **how: owned(original(self, **how)))

    return give
