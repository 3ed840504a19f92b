"""Reads flufl.bounce's own corpus of notices by our classes, and says where they agree, and why not elsewhere.

`python -m tests.inbox.flufl_corpus DIR`:

DIR holds the unpacked sdist and, in `lib`, the installed package:
`pip download flufl.bounce --no-binary :all: --no-deps`, `pip install --target DIR/lib flufl.bounce`.
"""

import email
import importlib
import sys
from collections import Counter
from pathlib import Path
from typing import Final

from mailerd.core.notices import BOUNCES, Kind, ReceivedMail, read
from mailerd.inbox.examine import shown_headers
from mailerd.mail.read_notice import read_notice

REASONS: Final = {
    "aol_01.txt": "a bounce, by both; it names a screen name without a domain, which flufl completes to @aol.com",
    "dsn_15.txt": "a bounce, by both; its report stands in attached mail, as the message that comes back does",
    "dumbass_01.txt": "a bounce that names nobody: flufl says nothing, we say that the cause is unknown",
    "simple_20.txt": "no header says that a program wrote it, so it is a reply to us; flufl reads its text",
    "simple_38.txt": "a disposition notification (RFC 8098): the recipient's filter refused it, the address takes mail",
    "simple_43.txt": "a bounce that names nobody: flufl says nothing, we read `not a valid user`",
    "yale_01.txt": "a bounce, by both; it names a login without a domain, which flufl completes to two at Yale",
}
"""Why we differ from flufl on purpose."""


def agreement(raw: bytes, temporary: set[str], permanent: set[str]) -> tuple[bool, bool, str]:
    """Whether the class and the addresses of a notice agree with flufl's, and our class."""
    mail = email.message_from_bytes(raw)
    report = read_notice(raw)
    named = sorted(temporary | permanent)
    about = named[0] if named else ""
    listed = [{"name": name, "value": str(value)} for name, value in mail.items()]
    received = ReceivedMail(shown_headers(listed), report)
    meaning = read(received, about=about)
    ours = {it.lower() for one in report.recipients for it in one.addresses} | {it.lower() for it in meaning.addresses}
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
        if same and found:
            counts["agree"] += 1
            continue
        counts["differ"] += 1
        why = REASONS.get(file.name, "NOT EXPLAINED")
        sys.stdout.write(f"{file.name}: flufl {sorted(temporary)} {sorted(permanent)}, ours {kind}: {why}\n")
    sys.stdout.write(f"{dict(counts)}\n")


if __name__ == "__main__":
    main()
