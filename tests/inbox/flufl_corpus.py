"""Reads flufl.bounce's own corpus of notices by our classes, and says where they agree.

`python -m tests.inbox.flufl_corpus DIR`:

DIR holds the unpacked sdist and, in `lib`, the installed package:
`pip download flufl.bounce --no-binary :all: --no-deps`, `pip install --target DIR/lib flufl.bounce`.
"""

import email
import importlib
import sys
from collections import Counter
from pathlib import Path

from mailerd.core.notices import BOUNCES, InboxMessage, Kind, read
from mailerd.mail.read_notice import read_notice


def agreement(raw: bytes, temporary: set[str], permanent: set[str]) -> tuple[bool, bool, str]:
    """Whether the class and the addresses of a notice agree with flufl's, and our class."""
    mail = email.message_from_bytes(raw)
    report = read_notice(raw)
    named = sorted(temporary | permanent)
    about = named[0] if named else ""
    message = InboxMessage(tuple((name, str(value)) for name, value in mail.items()), report)
    meaning = read(message, about=about)
    ours = {it.address.lower() for it in report.recipients} | {it.lower() for it in meaning.addresses}
    found = set(named) <= ours or all(it in report.text.lower() for it in named)
    if about in permanent:
        same = meaning.kind in BOUNCES
    elif about in temporary:
        same = meaning.kind in (Kind.DELAYED, Kind.SOFT)
    else:
        same = meaning.kind not in BOUNCES
    return same, found, meaning.kind


def main() -> None:
    """Compare every file of the corpus."""
    folder = Path(sys.argv[1])
    sys.path.append(str(folder / "lib"))
    all_failures = importlib.import_module("flufl.bounce").all_failures
    counts: Counter[str] = Counter()
    for file in sorted(folder.glob("flufl*/tests/data/*.txt")):
        raw = file.read_bytes()
        temporary, permanent = (
            {it.decode().lower() for it in part} for part in all_failures(email.message_from_bytes(raw))
        )
        same, found, kind = agreement(raw, temporary, permanent)
        counts["agree" if same and found else "differ"] += 1
        if not (same and found):
            sys.stdout.write(f"{file.name}: flufl {sorted(temporary)} {sorted(permanent)}, ours {kind}\n")
    sys.stdout.write(f"{dict(counts)}\n")


if __name__ == "__main__":
    main()
