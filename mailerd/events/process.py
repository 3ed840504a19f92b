"""Events of the process as a whole, and of its database."""

from mailerd.core.i18n import N_
from mailerd.events.base import EventEmitter, Messages, Records, Seconds, event

# Events of the database.


class StoreEvents(EventEmitter):
    """Connections, attempts, absence and return of the database."""

    @event(
        "warning",
        N_(
            "database {where}: attempt {attempt}/{attempts} failed: {cause}; next in {again_in:g} s"
        ),
    )
    def database_attempt_failed(
        self, *, where: str, attempt: int, attempts: int, cause: str, again_in: float
    ) -> None: ...

    @event("error", N_("database {where}: attempt {attempts}/{attempts} failed: {cause}; {remedy}"))
    def database_unreachable(
        self, *, where: str, attempts: int, cause: str, remedy: str, error: BaseException
    ) -> None: ...

    @event("info", N_("database {where} connected ({version})"))
    def database_connected(self, *, where: str, version: str) -> None: ...

    @event("error", N_("database {where} unavailable: {cause}; not claiming until it is back"))
    def database_unavailable(self, *, where: str, cause: str) -> None: ...

    @event("warning", N_("database {where} still unavailable after {seconds}: {cause}"))
    def database_still_unavailable(self, *, where: str, seconds: Seconds, cause: str) -> None: ...

    @event("warning", N_("database {where}: connection cut: {cause}; reconnected"))
    def connection_cut(self, *, where: str, cause: str) -> None: ...

    @event(
        "warning",
        N_(
            "database {where} changed or restarted: {messages} recorded again, {lost} of them lost by the server"
        ),
    )
    def outcomes_rewritten(self, *, where: str, messages: Messages, lost: int) -> None: ...

    @event("warning", N_("database writes moved from {before} to {where}: {cause}"))
    def writer_changed(self, *, where: str, before: str, cause: str) -> None: ...

    @event(
        "warning",
        N_(
            "database {where} allows no further connections: {connections} of {wanted} are in use: {cause}"
        ),
    )
    def database_crowded(
        self, *, where: str, connections: int, wanted: int, cause: str
    ) -> None: ...

    @event("info", N_("database {where} back after {seconds}"))
    def database_back(self, *, where: str, seconds: Seconds) -> None: ...

    @event(
        "warning",
        N_(
            "database {where}: clock went back by {seconds}; turns of all senders restarted, retries and pauses last longer by that"
        ),
    )
    def database_clock_back(self, *, where: str, seconds: Seconds) -> None: ...

    @event("warning", N_("transaction {what} repeated in {again_in:.2f} s: {cause}"))
    def transaction_repeated(self, *, what: str, again_in: float, cause: str) -> None: ...

    @event(
        "critical",
        N_(
            "database {where} full in {what}: nothing can be stored; free disk space on its server: {cause}"
        ),
    )
    def database_full(self, *, where: str, what: str, cause: str) -> None: ...

    @event(
        "warning",
        N_(
            "connection {thread} could not be killed: {cause}; its locks remain until the server drops it"
        ),
    )
    def kill_failed(self, *, thread: int, cause: str) -> None: ...

    @event("info", N_("migration {number} applied: {name}"))
    def migration_applied(self, *, number: int, name: str) -> None: ...

    @event("info", N_("schema up to date: migration {number}"))
    def schema_current(self, *, number: int) -> None: ...


class ProcessEvents(EventEmitter):
    """The process: its start and end, its settings, its own log, and loops that make no progress."""

    @event("critical", N_("mailerd cannot run: {cause} ({file})"))
    def process_refused(self, *, cause: str, file: str) -> None: ...

    @event("critical", N_("mailerd exiting after an unexpected error; please report the traceback"))
    def process_died(self, *, error: BaseException) -> None: ...

    @event("info", N_("settings also read from {file}: {names}"))
    def dotenv_used(self, *, file: str, names: str) -> None: ...

    @event("info", N_("settings reloaded from {file}: {what}"))
    def settings_reloaded(self, *, file: str, what: str) -> None: ...

    @event("error", N_("reload failed: {cause}; previous settings kept"))
    def settings_refused(self, *, cause: str) -> None: ...

    @event(
        "error",
        N_("reload failed: internal error, the service continues; please report the traceback"),
    )
    def reload_failed(self, *, error: BaseException) -> None: ...

    @event("error", N_("{lost} of this log lost: journald did not read them in time"))
    def log_records_lost(self, *, lost: Records) -> None: ...

    @event(
        "critical",
        N_(
            "loop {loop}: no progress for {seconds} while {doing}; please report all of this:\n{stacks}"
        ),
    )
    def loop_stalled(self, *, loop: str, doing: str, seconds: Seconds, stacks: str) -> None: ...

    @event("critical", N_("event loop blocked for {seconds}; please report all of this:\n{stacks}"))
    def loop_blocked(self, *, seconds: Seconds, stacks: str) -> None: ...

    @event(
        "warning",
        N_(
            "clock of this machine is {seconds} {direction} the database's; due times and sending limits follow the database's"
        ),
    )
    def clock_off(self, *, seconds: Seconds, direction: str) -> None: ...

    @event(
        "warning",
        N_("daemon {daemon} has not responded for {seconds}; its messages are taken over"),
    )
    def daemon_gone(self, *, daemon: str, seconds: Seconds) -> None: ...

    @event("warning", N_("tables not read for metrics and status: {cause}"))
    def stats_failed(self, *, cause: str) -> None: ...

    @event(
        "error",
        N_(
            "tables not read for metrics and status: internal error, sending not affected; please report the traceback"
        ),
    )
    def stats_crashed(self, *, error: BaseException) -> None: ...

    @event("warning", N_("alert not sent: {cause}"))
    def alert_failed(self, *, cause: str) -> None: ...

    @event("info", N_("alert sent: {subject}"))
    def alert_sent(self, *, subject: str) -> None: ...

    @event("info", N_("sender {sender} paused manually {until}: {reason}"))
    def sender_paused_manually(self, *, sender: str, until: str, reason: str) -> None: ...

    @event("info", N_("sender {sender} resumed manually"))
    def sender_resumed_manually(self, *, sender: str) -> None: ...
