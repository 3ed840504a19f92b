"""Examines the machine: ports, disks, files and their rights, the public site, systemd and
journald.
"""

import asyncio
import errno
import os
import re
import shutil
import socket
import stat
import tomllib
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from mailerd.cli.checks.result import CheckResult, fail, ok, warn
from mailerd.cli.daemon import ask_ready
from mailerd.config import (
    AlertSettings,
    IntakeSettings,
    LogSettings,
    PublicSettings,
    discovery,
    dotenv_in_use,
)
from mailerd.core.i18n import t, tn
from mailerd.core.reading import JOURNAL
from mailerd.core.situation import Facts, situation
from mailerd.core.stats import QueueStats
from mailerd.core.suppression import DEAD_TOKEN
from mailerd.errors import ConfigurationError
from mailerd.http.server import Owner, port_owner, socket_owner
from mailerd.intake.unsubscribe_pages import MARK
from mailerd.ops.alerts import build_notifiers
from mailerd.ops.daemon_thread import in_thread

# Examines the files that hold secrets: who else may read them, and who may put others in their
# place.

_PASSWORD: Final = re.compile("//[^@]*:[^@]+@")
"""A user with a password, in a URL."""
_URLS: Final = frozenset({"database.url", "gmail.proxy"})
_ALL_SECRET: Final = frozenset({"alerts.urls", "alerts.webhook", "api_key"})
"""Settings that are a secret whatever is in them, but nothing."""


def configuration(path: Path | None) -> CheckResult:
    """The configuration file, which has been read and found good; it may hold passwords."""
    check = t("configuration")
    if path is None:
        return ok(check, t("no file found; the environment is valid"))
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o004 and (secrets := _secrets(path)):
        return warn(
            check,
            t(
                "{path} is valid, but everyone can read its secrets: {secrets} (mode {mode:04o})",
                path=path,
                secrets=", ".join(secrets),
                mode=mode,
            ),
            remedy=f"chmod 640 {path}",
        )
    return ok(check, t("{path}: valid", path=path))


def _secrets(path: Path) -> list[str]:
    """The keys of a file that hold secrets; what the environment has in their place is none of
    it.
    """
    given = {
        f"{section}.{key}": value
        for section, keys in tomllib.loads(path.read_text("utf-8")).items()
        for key, value in keys.items()
    }
    return sorted(key for key, value in given.items() if _is_secret(key, value))


def _is_secret(key: str, value: object) -> bool:
    return bool(value) and (
        key in _ALL_SECRET or (key in _URLS and bool(_PASSWORD.search(str(value))))
    )


def dotenv() -> list[CheckResult]:
    """The `.env` of the working folder, which has been read and found good, when it sets
    anything.
    """
    used = dotenv_in_use()
    if used is None:
        return []
    (path, names), check, values = used, t("the file .env"), discovery.read_dotenv()
    mode, sets = stat.S_IMODE(path.stat().st_mode), ", ".join(names)
    if mode & 0o004 and (
        secrets := ", ".join(name for name in names if _is_secret(_key(name), values[name]))
    ):
        return [
            warn(
                check,
                t(
                    "{path} also sets {sets}; everyone can read its secrets: {secrets} (mode {mode:04o})",
                    path=path,
                    sets=sets,
                    secrets=secrets,
                    mode=mode,
                ),
                remedy=f"chmod 640 {path}",
            )
        ]
    return [ok(check, t("{path} also sets {sets}", path=path, sets=sets))]


def _key(variable: str) -> str:
    """The setting that a variable names."""
    known = variable.upper().removeprefix("MAILERD_")
    return "database.url" if known == "DATABASE_URL" else known.replace("__", ".").lower()


def alerts(settings: AlertSettings) -> list[CheckResult]:
    """The ways of alerts, which a daemon that starts must be able to use; none of them is tried."""
    try:
        ways = len(build_notifiers(webhook=settings.webhook, urls=settings.urls))
    except ConfigurationError as error:
        return [
            fail(
                t("alerts"),
                str(error),
                remedy=t("correct [alerts]; a daemon does not start until then"),
            )
        ]
    return (
        [
            ok(
                t("alerts"),
                tn(
                    "{n} channel configured (not tested)",
                    "{n} channels configured (not tested)",
                    ways,
                ),
            )
        ]
        if ways
        else []
    )


def folder(path: Path) -> CheckResult:
    """The folder of credential files."""
    check = t("credentials folder")
    try:
        status = path.stat()
        if not path.is_dir():
            return fail(
                check,
                t("{path} is not a folder", path=path),
                remedy=t("correct gmail.credentials_dir"),
            )
        list(path.iterdir())
    except FileNotFoundError:
        return warn(
            check,
            t("{path} does not exist", path=path),
            remedy=t("mkdir -m 700 {path}, or correct gmail.credentials_dir", path=path),
        )
    except OSError as error:
        return fail(
            check,
            t(
                "{path}: {strerror} (as user {user})",
                path=path,
                strerror=error.strerror,
                user=os.geteuid(),
            ),
            remedy=t(
                "chown the folder to mailerd's user, or run this as user {user}", user=_owner(path)
            ),
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o022:
        return warn(
            check,
            t("others can put files into {path} (mode {mode:04o})", path=path, mode=mode),
            remedy=f"chmod 700 {path}",
        )
    return ok(check, t("{path} (mode {mode:04o})", path=path, mode=mode))


def templates(named: str) -> list[CheckResult]:
    """The folder of the named templates, where one is set; a daemon without it knows none, and
    refuses their jobs.
    """
    if not named:
        return []
    try:
        os.listdir(named)  # noqa: PTH208 - its error, and not what it lists, is asked for
    except FileNotFoundError:
        return [
            warn(
                t("templates"),
                t("{named} does not exist", named=named),
                remedy=t("create the folder, or correct templates.folder"),
            )
        ]
    except OSError as error:
        remedy = t("correct templates.folder, or let mailerd's user read it")
        return [
            fail(
                t("templates"),
                t(
                    "{named} cannot be read: {strerror} (as user {user})",
                    named=named,
                    strerror=error.strerror,
                    user=os.geteuid(),
                ),
                remedy=remedy,
            )
        ]
    return [ok(t("templates"), t("{named}: readable", named=named))]


def _owner(path: Path) -> str:
    try:
        return str(path.stat().st_uid)
    except OSError:
        return "root"


# Examines whether unsubscribe links work: whether `public.base_url` leads to our own page.

ANSWER_TIMEOUT: Final = 5.0
"""Seconds for the whole answer; mail programs wait for some ten."""
_CONNECT_TIMEOUT: Final = 1.0
"""Seconds for our own listener to be reached."""
_MAX_READ: Final = 64 * 1024
"""Bytes of the answer that are read; our pages have one or two thousand."""
_CHECK: Final = t("public: base_url")


async def examine(settings: PublicSettings) -> list[CheckResult]:
    """The finding; none where there are no unsubscribe links.

    A link that no key has made is asked for: only our site answers it with its page, and nothing is
    changed by it.
    """
    if not settings.base_url:
        return []
    url = f"{settings.base_url}/u/{DEAD_TOKEN}"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT)) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            body = await answer.content.read(_MAX_READ)
            status, place = answer.status, answer.headers.get("Location", "")
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError) as error:
        remedy = t(
            "give the proxy a certificate for this name that mail programs trust; without one no recipient can "
            "unsubscribe"
        )
        return [
            fail(
                _CHECK,
                t(
                    "{base_url} has no valid certificate: {error}",
                    base_url=settings.base_url,
                    error=error,
                ),
                remedy=remedy,
            )
        ]
    except TimeoutError:
        return [
            await _not_reachable(
                settings, t("no response within {bound:g} s", bound=ANSWER_TIMEOUT)
            )
        ]
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return [await _not_reachable(settings, str(error) or type(error).__name__)]
    return [evaluate(settings, status=status, ours=MARK.encode() in body, location=place)]


def evaluate(
    settings: PublicSettings, *, status: int, ours: bool, location: str = ""
) -> CheckResult:
    """What an answer means; `ours`: it is a page of our site."""
    base, links = settings.base_url, f"{settings.base_url}/u/"
    if ours and status == 503:  # noqa: PLR2004 - HTTP's "unavailable"
        remedy = t("see the findings of the database; mail programs retry, but not forever")
        return warn(
            _CHECK,
            t("{base} leads to mailerd's site, which cannot reach its database", base=base),
            remedy=remedy,
        )
    if ours:
        return ok(_CHECK, t("{base} serves the unsubscribe page", base=base))
    if 300 <= status < 400:  # noqa: PLR2004 - HTTP's redirects
        remedy = t("let {links} respond without a redirect; mail programs follow none", links=links)
        return fail(
            _CHECK,
            t("{base} redirects to {location}", base=base, location=location or t("nowhere")),
            remedy=remedy,
        )
    passed = (
        f"{settings.host}:{settings.port}"
        if settings.port
        else t("the daemon whose public.port is set")
    )
    remedy = t(
        "let the proxy pass {links} to {passed} and leave the responses unchanged, or correct public.base_url",
        links=links,
        passed=passed,
    )
    return fail(
        _CHECK,
        t(
            "{base} responds with {status} and a page that is not mailerd's",
            base=base,
            status=status,
        ),
        remedy=remedy,
    )


async def _not_reachable(settings: PublicSettings, why: str) -> CheckResult:
    what = t("{base_url} unreachable: {why}", base_url=settings.base_url, why=why)
    if settings.port and not await _listens(settings):
        where = f"{settings.host}:{settings.port}"
        return warn(
            _CHECK,
            t("{what}; nothing listens on {where}", what=what, where=where),
            remedy=t("start the daemon (`mailerd run`), then check again"),
        )
    remedy = t(
        "check DNS, firewall and proxy; until the site responds, no recipient can unsubscribe by the links"
    )
    return fail(_CHECK, what, remedy=remedy)


async def _listens(settings: PublicSettings) -> bool:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - it is compared, nothing binds to it
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT):
            _, writer = await asyncio.open_connection(reachable, settings.port)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True


UNIT: Final = "mailerd.service"
SOCKET: Final = "mailerd.socket"
_ANSWER_TIMEOUT: Final = 2.0
"""Seconds for systemctl to answer."""
_MIB: Final = 1 << 20
DISK_WARN: Final = 1024 * _MIB
"""Bytes that are free, below which there is a WARN."""
DISK_FAIL: Final = 100 * _MIB
_INODES_FAIL: Final = 1000


@dataclass(frozen=True)
class SystemPaths:
    """Where systemd shows itself: sd_booted(3), sd-journal's socket, journald.conf(5)'s
    Storage=.
    """

    booted: Path = Path("/run/systemd/system")
    journal: Path = Path("/run/systemd/journal/socket")
    kept: Path = Path("/var/log/journal")


async def port(
    settings: IntakeSettings, ours: Awaitable[QueueStats | None], paths: SystemPaths
) -> CheckResult:
    """Whether the intake can listen, or does already; `ours`: what our database shows."""
    where = settings.unix_socket or f"{settings.host}:{settings.port}"
    check = t("API: socket") if settings.unix_socket else t("API: port")
    if await _kept(where, paths):
        return ok(
            check,
            t(
                "systemd listens on {where} (mailerd.socket), and starts mailerd at the first request",
                where=where,
            ),
        )
    if settings.unix_socket:
        return await _socket_file(settings, ours)
    try:
        await in_thread(lambda: _listen(settings.host, settings.port))  # a name's resolver may hang
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return await _taken(settings, ours)
        remedy = (
            t("choose another intake.port above 1023")
            if error.errno == errno.EACCES
            else t("correct intake.host and intake.port")
        )
        return fail(
            check,
            t(
                "{where} cannot be listened on: {strerror}",
                where=where,
                strerror=error.strerror or error,
            ),
            remedy=remedy,
        )
    return ok(check, t("{where} is free", where=where))


async def _kept(where: str, paths: SystemPaths) -> bool:
    if not paths.booted.is_dir():
        return False
    try:
        return kept(await _show(SOCKET, "SubState,Listen"), where)
    except (OSError, TimeoutError):  # the finding of the unit says so
        return False


def kept(shown: str, where: str) -> bool:
    """Whether systemd listens there for a daemon that does not run; to ask who listens would start
    that daemon.

    `shown`: what systemd shows of its socket; "listening" is one whose service does not run.
    """
    lines, number = shown.splitlines(), where.rpartition(":")[2]
    addresses = [
        line.removeprefix("Listen=").partition(" ")[0]
        for line in lines
        if line.startswith("Listen=")
    ]
    found = any(
        where == it if "/" in where else number == it.rpartition(":")[2] for it in addresses
    )
    return found and "SubState=listening" in lines


async def _why_not_ready(settings: IntakeSettings) -> tuple[str, str]:
    """Why the daemon that listens there can store no job, as it says itself, and the remedy; both
    empty when it can.

    It has met what nothing shows that is asked from here: a disk that is full takes a change of
    what is stored.
    """
    try:
        said = await ask_ready(settings)
    except OSError as error:
        return str(error), "systemctl restart mailerd"
    if said.outage:
        found = situation(Facts(None, said.outage))[0]
        return found.text, found.remedies[0]
    return said.reason, JOURNAL if said.reason else ""


def _listen(host: str, number: int) -> None:
    """Listen for a moment, as the intake would."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind((host, number))
        trial.listen(1)


async def _taken(settings: IntakeSettings, ours: Awaitable[QueueStats | None]) -> CheckResult:
    """The port is in use: by a mailerd, or by another program."""
    see, owner = (
        t("check which program it is (`ss -ltnp sport = :{port}`)", port=settings.port),
        await port_owner(settings.host, settings.port),
    )
    return await _owned(settings, owner, ours, see=see)


async def _owned(
    settings: IntakeSettings, owner: Owner, ours: Awaitable[QueueStats | None], *, see: str
) -> CheckResult:
    where, setting = settings.unix_socket or f"{settings.host}:{settings.port}", "intake.port"
    check = t("API: port")
    if settings.unix_socket:
        check, setting = t("API: socket"), "intake.unix_socket"
    if owner == "mailerd":  # where it can store nothing, its database has not heard of it for long
        what, remedy = await _why_not_ready(settings)
        if what:
            return fail(
                check,
                t("the mailerd on {where} is not ready: {what}", where=where, what=what),
                remedy=remedy,
            )
        if _is_ours(await ours):
            return ok(check, t("a mailerd listens on {where}", where=where))
    if owner == "silent":
        return fail(
            check,
            t(
                "{where} is in use but not responding: a daemon that hangs, or another program",
                where=where,
            ),
            remedy=t("{see}; run `systemctl restart mailerd`, or stop the program", see=see),
        )
    return fail(
        check,
        t(
            "{where} is in use by {owner}",
            where=where,
            owner=t("the mailerd of another database")
            if owner == "mailerd"
            else t("another program"),
        ),
        remedy=t("{see}, then stop it or choose another {setting}", see=see, setting=setting),
    )


def _is_ours(stats: QueueStats | None) -> bool:
    """Whether a daemon of our database runs on this machine; it may be, where that is not known.

    One that is ready may not have had the time for a heartbeat since the database came back.
    """
    return stats is None or any(
        it.host == socket.gethostname() and not it.is_gone for it in stats.daemons
    )


async def _socket_file(settings: IntakeSettings, ours: Awaitable[QueueStats | None]) -> CheckResult:
    """A socket file in the place of a port, which then does not matter."""
    check, where, path = t("API: socket"), settings.unix_socket, Path(settings.unix_socket)
    if owner := await socket_owner(where):
        see = t("check which program it is (`ss -lxp src {where}`)", where=where)
        return await _owned(settings, owner, ours, see=see)
    if number := await in_thread(lambda: _errno_of(path)):
        strerror = os.strerror(number)
        remedy = t("correct intake.unix_socket, or let mailerd's user write into its folder")
        return fail(
            check,
            t("{where} cannot be listened on: {strerror}", where=where, strerror=strerror),
            remedy=remedy,
        )
    return ok(check, t("{where} is free", where=where))


def _errno_of(path: Path) -> int:
    """What keeps this user from making a socket file here; 0: nothing."""
    if not path.parent.is_dir():
        return errno.ENOENT
    if path.exists() and not path.is_socket():
        return errno.EEXIST
    return 0 if os.access(path.parent, os.W_OK | os.X_OK) else errno.EACCES


def disks(folders: Iterable[Path]) -> list[CheckResult]:
    """Room on the file systems under these folders, each once.

    It may block: a dead network drive does.
    """
    found: list[CheckResult] = []
    seen: set[int] = set()
    for folder in folders:
        place = next((each for each in (folder, *folder.parents) if _is_seen(each)), None)
        if place is not None and (device := place.stat().st_dev) not in seen:
            seen.add(device)
            found.append(_disk(place))
    return found


def _is_seen(folder: Path) -> bool:
    try:
        return folder.exists()
    except OSError:
        # it lies in a folder that this user may not look into, and on the same disk or on one below
        # it
        return False


def _disk(place: Path) -> CheckResult:
    usage, inodes = shutil.disk_usage(place), os.statvfs(place)
    return room(
        place,
        free=usage.free,
        total=usage.total,
        inodes=inodes.f_favail if inodes.f_files else None,
    )


def room(place: Path, *, free: int, total: int, inodes: int | None) -> CheckResult:
    """What it means that so many bytes of a file system are free, and so many inodes (None: it has
    no such thing).
    """
    check, words = (
        t("disk"),
        t(
            "{place}: {free:.1f} GiB of {total:.1f} GiB free",
            place=place,
            free=free / (1 << 30),
            total=total / (1 << 30),
        ),
    )
    if inodes is not None and inodes < _INODES_FAIL:
        return fail(
            check,
            t("{words}, but only {inodes} inodes", words=words, inodes=inodes),
            remedy=t("delete many small files there (`df -i`)"),
        )
    if free < DISK_FAIL:
        return fail(check, words, remedy=t("free some space there"))
    if free < DISK_WARN:
        return warn(check, words, remedy=t("free some space there before it is full"))
    return ok(check, words)


async def systemd(paths: SystemPaths, log: LogSettings) -> list[CheckResult]:
    """The unit and the journal, where systemd runs; and that the log does not go to a journal where
    there is none.
    """
    found = _log(log, paths)
    if not paths.booted.is_dir():
        return [ok("systemd", t("not running here; nothing to check")), *found]
    return [await _unit(), journald(paths), *found]


def _log(settings: LogSettings, paths: SystemPaths) -> list[CheckResult]:
    trouble = _unreachable(paths.journal) if settings.format == "journald" else ""
    if not trouble:
        return []
    what = t(
        'log.format is "journald", but {journal}: {trouble}; a daemon could not log anything',
        journal=paths.journal,
        trouble=trouble,
    )
    return [
        fail(
            t("log"), what, remedy=t('set log.format = "auto", which uses journald where available')
        )
    ]


async def _show(unit: str, properties: str) -> str:
    """What systemd shows of a unit, a property a line.

    Raises:
        OSError: it cannot be asked.
        TimeoutError: it gives no answer.
    """
    async with asyncio.timeout(_ANSWER_TIMEOUT):
        asked = await asyncio.create_subprocess_exec(
            *("systemctl", "show", unit, f"--property={properties}"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            stdin=asyncio.subprocess.DEVNULL,
        )
        try:
            said, _ = await asked.communicate()
        finally:
            if asked.returncode is None:
                asked.kill()
    return said.decode("utf-8", "replace")


async def _unit() -> CheckResult:
    check = "systemd"
    try:
        said = await _show(UNIT, "LoadState,ActiveState,Type,WatchdogUSec,NRestarts")
    except (OSError, TimeoutError) as error:
        cause = str(error) or t("no response within {bound:g} s", bound=_ANSWER_TIMEOUT)
        return warn(
            check,
            t("systemctl does not respond: {cause}", cause=cause),
            remedy=t("check whether `systemctl status` responds"),
        )
    return unit(dict(line.split("=", 1) for line in said.splitlines() if "=" in line))


def unit(shown: dict[str, str]) -> CheckResult:
    """What systemd's properties of our unit mean."""
    check = "systemd"
    load, active = shown.get("LoadState", ""), shown.get("ActiveState", "")
    if load == "not-found":
        return warn(
            check,
            t("no {unit}: a daemon that crashes is not restarted", unit=UNIT),
            remedy="make install",
        )
    if load != "loaded":
        return fail(
            check,
            t("{unit} is {load}", unit=UNIT, load=load or t("unknown state")),
            remedy=f"systemctl status {UNIT}",
        )
    if active == "failed":
        return fail(
            check,
            t("{unit} has failed", unit=UNIT),
            remedy=t("journalctl -u {unit} -e, then systemctl reset-failed {unit}", unit=UNIT),
        )
    if active != "active":
        return warn(
            check,
            t("{unit} is {active}", unit=UNIT, active=active),
            remedy=f"systemctl enable --now {UNIT}",
        )
    if shown.get("WatchdogUSec", "0") in {"0", "infinity"}:
        return warn(
            check,
            t("{unit} runs without a watchdog: a daemon that hangs goes unnoticed", unit=UNIT),
            remedy=t("set WatchdogSec=30s"),
        )
    return ok(
        check,
        t(
            "{unit} is active, watchdog {watchdog}, {restarts} restarts",
            unit=UNIT,
            watchdog=shown["WatchdogUSec"],
            restarts=shown.get("NRestarts", "0"),
        ),
    )


def _unreachable(journal: Path) -> str:
    """Why the journal's socket cannot be spoken to; "" when it can."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as trial:
            trial.setblocking(False)
            trial.connect(str(journal))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def journald(paths: SystemPaths) -> CheckResult:
    """Whether the journal can be spoken to, and has a place to keep things over a restart of the
    machine.
    """
    check = "journald"
    if trouble := _unreachable(paths.journal):
        return warn(
            check,
            t("{journal}: {trouble}", journal=paths.journal, trouble=trouble),
            remedy="systemctl restart systemd-journald",
        )
    if not paths.kept.is_dir():
        return warn(
            check,
            t("the journal is lost when the machine restarts"),
            remedy=f"mkdir -p {paths.kept} && systemctl restart systemd-journald",
        )
    return ok(
        check,
        t("available, stored in {kept} (unless Storage=volatile)", kept=paths.kept),
    )
