"""The exceptions that cross a module's border; trouble with a message is a value, never one of
these.
"""

from mailerd.core.i18n import t


class MailerdError(Exception):
    """A failure whose text is meant for a person: it names the thing, the cause and the remedy."""


class ConfigurationError(MailerdError):
    """The configuration cannot be used; the text names every offending key."""


class ListenError(MailerdError):
    """The intake's address is taken, or is not this machine's."""


class SchemaError(MailerdError):
    """The database's schema is not the one that this code needs."""


class DatabaseError(MailerdError):
    """A guarded database call failed.

    `retry` says whether another try can help, `in_doubt` whether the transaction may have been
    committed all the same (COMMIT was sent and no proof of its outcome came): read back by token
    before acting.
    """

    explained = False
    """The store has logged the cause and the remedy, so a line about it needs no stack."""
    said = ""
    """What is to be said of the database, after "the database", with what to do; empty: nothing is
    known.
    """
    took = 0.0
    """Seconds from its first statement, or from its COMMIT, to the failure."""
    statement = b""
    """What the server refused; empty where it refused no statement."""

    def __init__(
        self,
        what: str,
        *,
        phase: str,
        cause: BaseException,
        errno: int,
        retry: bool,
        in_doubt: bool,
    ) -> None:
        name = f"{type(cause).__name__} {errno}" if errno else type(cause).__name__
        text = str(cause) or t("no response within the time-out")
        where = what if what == phase else f"{what}: {phase}"
        super().__init__(t("{where}: {error}: {text}", where=where, error=name, text=text))
        self.what = what
        self.phase = phase
        self.errno = errno
        self.retry = retry
        self.in_doubt = in_doubt


class DatabaseAwayError(DatabaseError):
    """The database cannot be reached at all (as opposed to: it refused this one statement)."""

    explained = True
    cut = False
    """The connection that was used has ended in the midst of it, and not because we cut it off."""


class LostKeysError(DatabaseError):
    """The table `secrets` was emptied, or not restored: without its key no suppression binds."""

    explained = True

    def __init__(self, what: str) -> None:
        super().__init__(
            what, phase=what, cause=LookupError(), errno=0, retry=False, in_doubt=False
        )
        self.args = (
            t(
                "the table secrets lacks the keys of the stored suppressions; without them nothing is sent, because "
                "people who unsubscribed could receive messages. Restore that table (docs/how-to/backup.md)"
            ),
        )
