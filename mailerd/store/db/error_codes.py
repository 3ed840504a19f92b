"""What an error number of MySQL or MariaDB means for the transaction and for the connection it came
on.
"""

import asyncio
import os
import re
import ssl
from collections.abc import Mapping
from typing import Final

from pymysql.err import MySQLError

from mailerd.core.i18n import t
from mailerd.core.reading import CORRECT_LOGIN, FEWER_CONNECTIONS, GRANT, RESTORE_TABLES

LOST: Final = (MySQLError, OSError, EOFError, asyncio.IncompleteReadError, TimeoutError)
"""What is raised where a connection was lost, or could not be made; some MySQLErrors are a server's
answer instead.
"""

RETRY: Final = frozenset(
    {
        1015,  # cannot lock: a server that was started with innodb_read_only (MySQL)
        1020,  # record has changed since last read (MariaDB 11.6+, REPEATABLE READ)
        1021,  # disk full
        1036,  # table is read only
        # out of memory
        1037,
        1041,
        1040,  # too many connections
        1053,  # server shutdown in progress
        1105,  # unknown error
        1114,  # table is full
        # a privilege was taken away
        1142,
        1143,
        # packets out of order, malformed: out of step
        1156,
        1835,
        # network trouble
        1158,
        1159,
        1160,
        1161,
        1180,  # error during COMMIT
        1203,  # user has too many connections
        1205,  # lock wait time-out
        1213,  # deadlock
        1226,  # user's resources used up
        1290,  # running with --read-only
        1317,  # query interrupted
        # the binary log cannot be written: the server ends itself, and decides when it is back (MySQL)
        1598,
        1614,  # XA rolled back
        1637,  # too many active transactions (undo full)
        1665,  # binlog_format was set to STATEMENT
        1792,  # read-only transaction
        1836,  # running in read-only mode
        1927,  # connection was killed (MariaDB)
        1969,  # max_statement_time exceeded (MariaDB)
        # cannot connect
        2002,
        2003,
        # connection gone
        2006,
        2013,
        2055,
        3024,  # max_execution_time exceeded (MySQL)
        3032,  # offline mode
        # Group Replication hook, certification
        3100,
        3101,
        3169,  # session was killed
        3572,  # NOWAIT
        # Group Replication holds all sessions until a new primary has applied what the old one sent
        3781,
        3782,
        3783,
        # Group Replication: this member cannot give the consistency that is asked for
        3796,
        3797,
        3798,
        3799,
        3989,  # the schema is read-only (MySQL 8.0.22+)
        4031,  # disconnected by the server for inactivity
        6400,  # offline mode, with its reason (MySQL 9)
        9001,  # ProxySQL: it reaches no server
    }
)
"""Another try of the whole transaction can help."""

DROP: Final = frozenset(
    {
        1015,
        1036,
        1053,
        1180,
        1290,
        1598,
        1792,
        1836,
        1927,
        3032,
        3100,
        3169,
        3989,
        4031,
        6400,
        3781,
        3782,
        3783,
        3796,
        3797,
        3798,
        3799,
        1142,
        1143,
        1665,  # a session keeps the privileges and the binlog_format that it began with
        1156,
        1158,
        1159,
        1160,
        1161,
        1835,  # the packets themselves went wrong
    }
)
"""The session looks healthy but the server behind it is the wrong one now: never back into the
pool.
"""

DOUBT: Final = frozenset({1021, 1053, 1105, 1180, 1317, 1598, 1927, 3169, 9001})
"""Errors that do not prove, as an answer to COMMIT, that it was rolled back."""

AWAY: Final = frozenset(
    {
        1015,
        1021,
        1036,
        1037,
        1040,
        1041,
        1053,
        1114,
        1142,
        1143,
        1146,
        1203,
        1226,
        1290,
        1598,
        1792,
        1836,
        1927,
        2002,
        2003,
        2006,
        2013,
        2055,
        3032,
        3100,
        3169,
        3781,
        3782,
        3783,
        3796,
        3797,
        3798,
        3799,
        3989,
        4031,
        6400,
        9001,
        1044,
        1045,
        1049,  # refused at log-in: wrong user, password or database
    }
)
"""Nothing can be stored at the moment."""

READ_ONLY: Final[Mapping[int, str]] = {
    1015: "innodb_read_only",
    1036: "innodb_read_only",  # the tables of a server that was started with it
    1290: "read_only",
    1792: "transaction_read_only",
    1836: "innodb_read_only",
    3989: "READ ONLY of the schema",
}
"""Nothing can be stored, but everything can be read: by the number of a refused write, the variable
that forbids it.
"""

LOCKED: Final = frozenset({1205})
"""Another transaction has held a lock that is needed for longer than a statement waits."""

CROWDED: Final = frozenset({1040, 1203, 1226})
"""There is no connection more, for all or for this user."""
_LOGIN: Final = frozenset({1044, 1045, 1049, 1130, 1698, 2059, 2061})
DISK_FULL: Final = 1021
_FULL: Final = frozenset({DISK_FULL, 1114})
_DENIED: Final = frozenset({1142, 1143})
_MISSING: Final = 1146
_NO_SPACE: Final = re.compile(
    r"\b(?:Errcode|error|errno):? *28\b|No space left on device", re.IGNORECASE
)
_TOOK_TOO_LONG: Final = frozenset({1969})
"""The server has ended a statement by max_statement_time, which in MariaDB alone concerns writes
too.
"""


def number(error: BaseException) -> int:
    """The error number that the driver put first into its exception; 0 when there is none.

    A disk without space has a dozen numbers, one for each file that could not be written; they all
    become 1021.
    """
    first = error.args[0] if error.args else 0
    if not isinstance(first, int):
        return 0
    is_full = from_server(first) and len(error.args) > 1 and _NO_SPACE.search(str(error.args[1]))
    return DISK_FULL if is_full else first


def read_only(variables: str) -> tuple[str, str]:
    """What is wrong with a server that these variables keep from writing, and the remedy."""
    return (
        t("the server is read-only ({variables})", variables=variables),
        t(
            "point database.url at the writer, not a replica, or turn {variables} off",
            variables=variables,
        ),
    )


def remedy(errno: int, cause: BaseException | None, where: str) -> str:
    """What to do about a database that cannot be reached at this address, or does not let in."""
    return getattr(cause, "remedy", "") or refused(errno, cause) or away_remedy(where)


def away_remedy(where: str) -> str:
    """What to do about a database that does not answer at this address."""
    if "/" in where:
        return t(
            "check that the server is running, that its socket is {where} and that this user may open it "
            "(unix_socket in database.url)",
            where=where,
        )
    return t(
        "check that the server is running, that a firewall allows {where}, and host and port in database.url",
        where=where,
    )


def refused(errno: int, cause: BaseException | None = None) -> str:
    """The remedy where the server answers and refuses the log-in; empty for other numbers.

    `cause`: what was raised.
    """
    match errno:
        case 1045 | 1698:
            return CORRECT_LOGIN
        case 1044 | 1049:
            return t(
                "run CREATE DATABASE …, then GRANT ALL PRIVILEGES on it to the user in database.url"
            )
        case 1040 | 1203 | 1226:
            return FEWER_CONNECTIONS
        case 1037 | 1041:
            return t("free memory on the server, or lower its innodb_buffer_pool_size")
        case 1130:
            return t("create the user for the host from which this machine connects")
        case 2012:
            return t("check that host and port in database.url are those of MySQL or MariaDB")
        case 2026 if cause and isinstance(cause.__cause__, ssl.SSLCertVerificationError):
            return t(
                "add the authority that signed the certificate to database.url as ssl_ca=…, with ssl=verify_ca if"
                " it names another host; ssl=unverified accepts any certificate, even that of an attacker"
            )
        case 2026:
            return t(
                "remove ssl and ssl_ca from database.url if the server is on this host, use unix_socket=…, or "
                "turn on TLS at the server"
            )
        case 2059:
            return t("let the user log in with a password: ALTER USER … IDENTIFIED BY …")
        case 2061:  # MySQL asks for it also after its start, and where the password is wrong
            return t(
                "on the same machine let database.url end in ?unix_socket=/run/mysqld/mysqld.sock, with a user that was"
                " created as 'user'@'localhost'; on another one in ?ssl=verify_ca&ssl_ca=FILE, the server's ca.pem. If"
                " it does, the password is wrong, or another server responds there"
            )
        case 2068:
            return t(
                "check which server responds at host and port in database.url; mailerd requested no such thing"
            )
        case _:
            return ""


def no_entry(errno: int) -> str:
    """Why no connection can be made, as `Database.outage` calls it."""
    if errno in CROWDED:
        return "connections"
    return "login" if errno in _LOGIN else "away"


def refusal(errno: int) -> str:
    """Which kind of refusal of a statement the number is, as `Database.outage` calls it; empty for
    other numbers.
    """
    if errno in READ_ONLY:
        return "read-only"
    if errno in _FULL:
        return "full"
    if errno in _DENIED:
        return "denied"
    return "incomplete" if errno == _MISSING else ""


def is_stuck(error: BaseException | None, errno: int) -> bool:
    """Whether a statement that writes was given up: it was not refused, and not done in time."""
    return errno in _TOOK_TOO_LONG or (errno == 0 and isinstance(error, TimeoutError))


STUCK: Final = (
    t("responds, but does not finish writes in time"),
    t(
        "see `df -h` on its server, its log, and SHOW FULL PROCESSLIST: is its disk full or slow, is a table locked?"
    ),
)
"""What is to be said of a database whose writes hang, after "the database", and the remedy."""
COMMITS_HANG: Final = (
    t("does not respond to COMMIT"),
    t(
        "see that the primary's replicas are connected, and that the disk of its binary log has room"
    ),
)


def explained(errno: int) -> tuple[str, str]:
    """What is to be said of a database that refused a statement in this way, after "the database",
    and the remedy.

    Both are empty for other numbers.
    """
    match refusal(errno):
        case "read-only":
            said, remedy = read_only(READ_ONLY[errno])
        case "full":
            said = t("its disk or a table is full ({errno})", errno=errno)
            remedy = t("free disk space on its server (df -h), or raise its limit")
        case "denied":
            said = t("its user lacks a privilege ({errno})", errno=errno)
            remedy = GRANT
        case "incomplete":
            said = t("lacks a table ({errno})", errno=errno)
            return said, RESTORE_TABLES
        case _:
            return "", ""
    return t("accepts no writes: {said}", said=said), remedy


def no_writes(errno: int) -> str:
    """Both in one sentence; empty for other numbers."""
    return sentence(explained(errno))


def sentence(explanation: tuple[str, str]) -> str:
    """What is said of the database, and the remedy."""
    said, remedy = explanation
    return t("{said}; {remedy}", said=said, remedy=remedy) if said else ""


def words(error: BaseException) -> str:
    """The driver's words without their number, and the system's own below them; empty for a bare
    time-out.
    """
    said = str(error.args[1]) if number(error) and len(error.args) > 1 else str(error)
    below = error.__cause__
    # whose errno is not the system's
    if isinstance(below, OSError) and not isinstance(below, ssl.SSLError):
        said += f": {os.strerror(below.errno) if below.errno and below.errno > 0 else below}"
    return said


def from_server(errno: int) -> bool:
    """Whether the number came in a whole error packet, so that client and server are still in
    step.
    """
    return 0 < errno < 2000 or errno >= 3000  # below 1000: of the file system
