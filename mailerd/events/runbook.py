"""What to do about each event at warning or above: what happened, the likely causes in their order, and what fixes each.

It becomes the catalogues behind `journalctl -x` and the page of events; a test refuses such an event without an entry here.
"""

from collections.abc import Mapping
from shlex import quote
from typing import Final, NamedTuple

from mailerd.core.i18n import Text, t
from mailerd.core.pauses import CAUSES


class LikelyCause(NamedTuple):
    """One likely cause with what to do about it, and the command (or the page) that does or shows it."""

    text: Text
    command: str


class Runbook(NamedTuple):
    """For one event."""

    meaning: Text
    """What it means, in one or two sentences."""
    causes: tuple[LikelyCause, ...]

    def steps(self, **names: str) -> list[tuple[Text, str]]:
        """The causes, each with its command for what has these names: `sender` stands for @MAILERD_SENDER@."""
        found = []
        for each in self.causes:
            command = each.command
            for field, name in names.items():
                command = command.replace(f"@MAILERD_{field.upper()}@", quote(name))
            found.append((each.text, command))
        return found


_SERVER_DOWN: Final = LikelyCause(
    t("the database server is down: start it"), "systemctl start mariadb || systemctl start mysql"
)
_FIREWALL: Final = LikelyCause(
    t(
        "a firewall drops packets, or host or port in database.url is wrong (no response, timed out): test the port"
    ),
    "timeout 5 bash -c '</dev/tcp/HOST/3306' && echo open",
)
_PASSWORD: Final = LikelyCause(
    t(
        "user, password or database in database.url is wrong (Access denied, Unknown database): try to connect"
    ),
    "mariadb --host HOST --user USER --password mailerd",
)
_NOT_PROVEN: Final = LikelyCause(
    t(
        "the server requests the password without proving its identity (TLS or Unix socket): see what is missing"
    ),
    "mailerd check",
)
_CONNECTIONS: Final = LikelyCause(
    t(
        "the server has no free connections (Too many connections): lower database.pool_size or raise max_connections"
    ),
    "mariadb -e \"SHOW GLOBAL STATUS LIKE 'Threads_connected'\"",
)
_SLOW: Final = LikelyCause(
    t("the server is overloaded or its disk is slow: see what it is doing"),
    "mariadb -e 'SHOW FULL PROCESSLIST'",
)
_READ_ONLY: Final = LikelyCause(
    t("the server is read-only: check its settings"),
    "mariadb -e \"SHOW VARIABLES LIKE '%read_only'\"",
)
_DATABASE_DOWN: Final = LikelyCause(
    t("the database is unavailable or slow: check it"), "mailerd check"
)
_LOG: Final = LikelyCause(
    t("the lines before this one name the reason: read them"),
    "journalctl -u mailerd -p warning -n 50",
)
_BUG: Final = LikelyCause(
    t("an internal error in mailerd or in a library: report the traceback"),
    "journalctl -u mailerd -p err -n 100 -o cat",
)
_NETWORK: Final = LikelyCause(
    t("no Internet access, or DNS is failing: test both"),
    "getent hosts gmail.googleapis.com; curl -sI https://gmail.googleapis.com/",
)
_GOOGLE: Final = LikelyCause(
    t("an incident at Google: see its status page"), "https://www.google.com/appsstatus/dashboard/"
)
_EXPLAIN: Final = LikelyCause(
    t("the history of the message says more: read it"), "mailerd explain @MAILERD_RECIPIENT@"
)
_LOGIN: Final = LikelyCause(
    t("the authorization was revoked or the password changed: authorize again"),
    "mailerd auth login --sender @MAILERD_SENDER@",
)
_LEASE: Final = LikelyCause(
    t("the machine or the database paused for longer than runner.lease: raise it, then restart"),
    "systemctl restart mailerd",
)
_CONFIG: Final = LikelyCause(
    t("a mistake in the configuration: see how it is read"),
    "mailerd config --config /etc/mailerd/mailerd.toml",
)
_MEMORY: Final = LikelyCause(
    t("the process was killed, for example because memory ran out: check the kernel log"),
    "journalctl -k -g 'out of memory' -n 20",
)
_CLOCK: Final = LikelyCause(
    t("the clock of the database's machine is wrong: check its synchronization"),
    "timedatectl status",
)
_CHECK: Final = LikelyCause(
    t("which part is wrong: check the sender"), "mailerd check --sender @MAILERD_SENDER@"
)
_RESUME: Final = LikelyCause(
    t("the cause is fixed: resume the sender"), "mailerd senders resume @MAILERD_SENDER@"
)
_BOUNCES: Final = LikelyCause(
    t("the reasons are in the bounces: read them"), "mailerd bounces --sender @MAILERD_SENDER@"
)
_TEST: Final = LikelyCause(
    t("the endpoint is down, slower than 15 s, or responds with an error or a redirect: test it"),
    "mailerd webhooks test @MAILERD_WEBHOOK@",
)
_DELIVERIES: Final = LikelyCause(
    t("the deliveries show each response: read them"), "mailerd webhooks show @MAILERD_WEBHOOK@"
)
_UNNEEDED: Final = LikelyCause(
    t("the endpoint is no longer needed: remove it"), "mailerd webhooks remove @MAILERD_WEBHOOK@"
)
_DELEGATION: Final = LikelyCause(
    t("a service account is not delegated for this domain or scope: delegate it"),
    "https://admin.google.com/ac/owl/domainwidedelegation",
)
_DATABASE: Final = (_SERVER_DOWN, _FIREWALL, _PASSWORD, _NOT_PROVEN, _CONNECTIONS)
_RESUMES: Final = t(
    "Messages of this mailbox wait, attempts are not counted, other mailboxes continue. It resumes automatically."
)
_RESUMES_ONCE_FIXED: Final = t(
    "Messages of this mailbox wait, attempts are not counted, other mailboxes continue. One message is tried every minute, so sending resumes automatically once the cause is fixed."
)

UNWRITABLE: Final = Runbook(
    t(
        "The database accepts no writes. New jobs get a 503. Messages in flight are finished and recorded when it does."
    ),
    (),
)

RUNBOOKS: Final[Mapping[str, Runbook]] = {
    "database_attempt_failed": Runbook(
        t(
            "One attempt to reach the database failed. mailerd retries automatically; a single line is no cause for concern."
        ),
        _DATABASE,
    ),
    "database_unreachable": Runbook(
        t(
            "The database cannot be reached. mailerd keeps trying. Until it succeeds, new jobs get a 503 and nothing is sent or lost."
        ),
        _DATABASE,
    ),
    "database_unavailable": Runbook(
        t(
            "The database is unavailable or accepts no writes. New jobs get a 503. Messages in flight are finished and recorded when it is back."
        ),
        (*_DATABASE, _READ_ONLY, _SLOW),
    ),
    "database_still_unavailable": Runbook(
        t("The database is still unavailable. Nothing is sent, and nothing is lost."),
        (*_DATABASE, _READ_ONLY),
    ),
    "database_full": Runbook(
        t(
            "The database cannot write: a disk or a table is full. Nothing is accepted or sent until there is space."
        ),
        (
            LikelyCause(t("the disk of the database is full: free space"), "df -h /var/lib/mysql"),
            LikelyCause(
                t("binary logs have accumulated: purge old ones"), "mariadb -e 'SHOW BINARY LOGS'"
            ),
            LikelyCause(
                t("a table space has reached its quota or maximum size: raise it"),
                "mariadb -e 'SHOW TABLE STATUS' mailerd",
            ),
        ),
    ),
    "database_crowded": Runbook(
        t(
            "The database allows mailerd fewer connections than database.pool_size. mailerd works with those it has, more slowly; nothing is lost."
        ),
        (_CONNECTIONS,),
    ),
    "transaction_repeated": Runbook(
        t(
            "A transaction failed for a temporary reason (deadlock, lock, restart) and is repeated. Now and then this is normal."
        ),
        (
            _SLOW,
            LikelyCause(
                t("another program holds locks: see which"),
                "mariadb -e 'SHOW ENGINE INNODB STATUS\\G'",
            ),
        ),
    ),
    "kill_failed": Runbook(
        t(
            "A statement was abandoned, and its connection could not be ended on the server. Its locks remain until the server drops it."
        ),
        (_SLOW, _SERVER_DOWN, _FIREWALL),
    ),
    "connection_cut": Runbook(
        t("A connection to the database was cut while in use. A new one works; nothing waits."),
        (
            LikelyCause(
                t("the server was restarted or replaced, or killed its connections: read its log"),
                "journalctl -u mariadb -u mysql -n 50",
            ),
            LikelyCause(
                t("a firewall or router drops connections: see how often"),
                "journalctl -u mailerd MAILERD_EVENT=connection_cut",
            ),
            _SLOW,
        ),
    ),
    "outcomes_rewritten": Runbook(
        t(
            "The database restarted or was replaced, and may have lost its last commits. Before anything was claimed, the outcomes of the last minute were written again, so nothing is sent twice."
        ),
        (
            LikelyCause(
                t("a failover, a restart or a restored backup: compare rows and counts"),
                "mailerd audit",
            ),
        ),
    ),
    "writer_changed": Runbook(
        t(
            "Another server in database.url accepts the writes now. mailerd continues there, and rewrites the outcomes of the last minute."
        ),
        (
            LikelyCause(
                t(
                    "a failover: the previous server stopped, hangs or lost its replicas: read its log"
                ),
                "journalctl -u mysql -u mariadb -n 50",
            ),
            LikelyCause(
                t("an operator moved the writes for maintenance: check the servers"),
                "mailerd check",
            ),
        ),
    ),
    "database_clock_back": Runbook(
        t(
            "The database's clock was ahead and went back. Turns, sending limits and inbox reading restart from now. Pauses made meanwhile last longer."
        ),
        (
            _CLOCK,
            LikelyCause(
                t("a sender is paused for too long: find it, then resume it"),
                "mailerd senders list",
            ),
        ),
    ),
    "request_unserved": Runbook(
        t(
            "A request got a 503 because the database was unavailable or busy. Nothing was stored; the client can repeat it."
        ),
        _DATABASE,
    ),
    "job_in_doubt": Runbook(
        t(
            "The connection was cut while a job was being committed. The client got a 503 and should repeat the request with the same Idempotency-Key."
        ),
        (
            LikelyCause(
                t("the COMMIT may have succeeded: look up the job"),
                "mailerd jobs show @MAILERD_JOB@",
            ),
            _SERVER_DOWN,
            _FIREWALL,
        ),
    ),
    "request_failed": Runbook(
        t("An internal error occurred in a request, which returned 500."), (_BUG,)
    ),
    "connection_failed": Runbook(
        t("An internal error occurred on a connection, which was closed."), (_BUG,)
    ),
    "forecast_failed": Runbook(
        t(
            "The response to a job has no forecast of when it will be sent. Sending is not affected."
        ),
        (_SLOW, _SERVER_DOWN),
    ),
    "forecast_crashed": Runbook(
        t("An internal error occurred in a forecast. Sending is not affected."), (_BUG,)
    ),
    "key_use_unwritten": Runbook(
        t("The time of an API key's last use could not be stored. Nothing else is affected."),
        (_SERVER_DOWN, _FIREWALL),
    ),
    "key_refused": Runbook(
        t(
            "A client sent no API key, or an unknown or revoked one, and got a 401. After 60 invalid keys in a minute an address gets a 429 for a while."
        ),
        (
            LikelyCause(
                t("a program still uses a revoked or rotated key: find its key"),
                "mailerd keys list",
            ),
            LikelyCause(
                t("a client guesses keys: see from where"),
                "journalctl -u mailerd MAILERD_EVENT=key_refused",
            ),
            LikelyCause(
                t("the address is a proxy: add it to intake.trusted_proxies, then reload"),
                "systemctl reload mailerd",
            ),
        ),
    ),
    "requests_not_logged": Runbook(
        t(
            "More requests without a verified API key arrived than are logged one by one: it was missing or wrong, or the database could not be asked. All got a response, and the metrics count them."
        ),
        (
            LikelyCause(
                t("a client guesses keys or scans for weaknesses: see from where"),
                "journalctl -u mailerd MAILERD_EVENT=requests_not_logged",
            ),
        ),
    ),
    "connection_too_slow": Runbook(
        t(
            "A client did not send its request or read its response in time, or was idle while more than 1,000 connections were open. Its connection was closed."
        ),
        (
            LikelyCause(
                t("the client has a bad network: see which"),
                "journalctl -u mailerd MAILERD_EVENT=connection_too_slow",
            ),
            LikelyCause(
                t("a client opens connections to exhaust mailerd: find its address"),
                "ss -tn | grep :5000",
            ),
        ),
    ),
    "unsubscribe_unserved": Runbook(
        t(
            "The database did not respond to a request of the public site. Mail programs retry automatically; a person sees a page that says to try again."
        ),
        (_DATABASE_DOWN, _READ_ONLY),
    ),
    "unsubscribe_failed": Runbook(
        t(
            "An internal error occurred on the public site, which returned 500. The request changed nothing."
        ),
        (_BUG,),
    ),
    "google_call_crashed": Runbook(
        t("A call to Google ended in an internal error. The message is safe."), (_BUG,)
    ),
    "google_unreachable": Runbook(
        t(
            "Google is unreachable from this machine. Messages wait, attempts are not counted, and mailerd retries automatically."
        ),
        (
            _NETWORK,
            LikelyCause(
                t("a firewall blocks the way: open it, or set gmail.proxy"),
                "curl -v https://oauth2.googleapis.com/",
            ),
            _GOOGLE,
        ),
    ),
    "google_still_unreachable": Runbook(
        t("Google is still unreachable. Messages wait."), (_NETWORK, _GOOGLE)
    ),
    "sender_unreachable": Runbook(
        t(
            "Google's token endpoint issued no token for this mailbox. Its messages wait, attempts are not counted, and mailerd retries automatically. Senders with a valid token continue."
        ),
        (
            LikelyCause(
                t("the token endpoint is unreachable or slow: test it"),
                "curl -v https://oauth2.googleapis.com/token",
            ),
            LikelyCause(
                t("the proxy in gmail.proxy is unavailable or refuses the connection: check it"),
                "mailerd check",
            ),
        ),
    ),
    "sender_paused": Runbook(
        t(
            "Google does not accept messages from this mailbox now. Its messages wait; other mailboxes continue. A failed authorization is retried every minute and resumes automatically once it is fixed."
        ),
        (
            LikelyCause(
                t(
                    "Google's daily limit of the mailbox is reached (daily_limit), it resumes automatically: see when"
                ),
                "mailerd senders list",
            ),
            LikelyCause(
                t("it sends too fast (throttled), it resumes automatically: lower its limit"),
                "mailerd senders set @MAILERD_SENDER@ --per-minute 40",
            ),
            _LOGIN,
            LikelyCause(
                t(
                    "the credential file is missing, unreadable or damaged (no_credentials, client_refused): look at it"
                ),
                "ls -l /etc/mailerd/credentials",
            ),
            LikelyCause(
                t(
                    "a scope is missing, or Gmail is off for the mailbox (scope_missing, mailbox_refused): check it"
                ),
                "mailerd check --sender @MAILERD_SENDER@",
            ),
            LikelyCause(
                t("the quota of the Cloud project is exhausted (project_limit): see its quotas"),
                "https://console.cloud.google.com/iam-admin/quotas",
            ),
        ),
    ),
    "project_paused": Runbook(
        t(
            "The quota of the whole Cloud project is exhausted. All its senders wait, attempts are not counted, and sending resumes automatically."
        ),
        (
            LikelyCause(
                t("another program uses the project, or its quota was lowered: see its quotas"),
                "https://console.cloud.google.com/iam-admin/quotas",
            ),
            LikelyCause(
                t("pace.project_units_per_minute is higher than the project's quota: compare it"),
                "mailerd config",
            ),
            LikelyCause(
                t("the quota is available again: retry now"),
                "mailerd senders resume @MAILERD_SENDER@",
            ),
        ),
    ),
    "mailbox_wrong": Runbook(
        t(
            "The credential file named after a sender opens another mailbox. Nothing is sent with it; the sender's messages wait and continue automatically once the right file is in place."
        ),
        (
            LikelyCause(
                t(
                    "the file belongs to another mailbox, or another account authorized it: authorize again"
                ),
                "mailerd auth login --sender @MAILERD_SENDER@",
            ),
            LikelyCause(
                t("the sender is an alias of that mailbox: add it to gmail.aliases, then reload"),
                "systemctl reload mailerd",
            ),
            LikelyCause(
                t("the mailbox was renamed at Google: check it"),
                "mailerd check --sender @MAILERD_SENDER@",
            ),
        ),
    ),
    "message_failed": Runbook(
        t("This message failed and is not sent. Other messages of the job continue."),
        (
            LikelyCause(
                t(
                    "the address does not exist or is malformed, or the template lacks a variable: read the history"
                ),
                "mailerd explain @MAILERD_RECIPIENT@",
            ),
            LikelyCause(
                t("a temporary failure outlasted all attempts: retry the job's failed messages"),
                "mailerd jobs retry @MAILERD_JOB@",
            ),
        ),
    ),
    "message_deferred": Runbook(
        t("An attempt failed for a temporary reason and is repeated."),
        (_GOOGLE, _NETWORK, _EXPLAIN),
    ),
    "message_unsure": Runbook(
        t(
            "The response to a send was lost. mailerd does not send again; it checks at Google first."
        ),
        (
            LikelyCause(
                t("the network failed during the send: read the history"),
                "mailerd explain @MAILERD_RECIPIENT@",
            ),
            _GOOGLE,
        ),
    ),
    "message_still_unsure": Runbook(
        t("Google gave no clear response about an unconfirmed message. It is checked again later."),
        (_NETWORK, _LOGIN, _EXPLAIN),
    ),
    "message_unresolved": Runbook(
        t(
            "Only a check of the mailbox can show whether this message was sent: it was sent directly without a response, or its draft is gone after Google rejected it. Without gmail.metadata mailerd cannot look itself. Check Sent, then confirm."
        ),
        (
            LikelyCause(
                t("it is in Sent: confirm it as sent"), "mailerd settle @MAILERD_RECIPIENT@ --sent"
            ),
            LikelyCause(
                t("it is not in Sent: confirm it as not sent"),
                "mailerd settle @MAILERD_RECIPIENT@ --not-sent",
            ),
        ),
    ),
    "message_undone": Runbook(
        t(
            "The response to a send was lost and Google reported the draft as gone, but it still exists: the message was not sent. The row is corrected and the message is sent with that draft."
        ),
        (
            LikelyCause(
                t(
                    "Google responded from a copy of the mailbox that lagged: grant gmail.metadata, so that Sent is checked instead"
                ),
                "mailerd auth login --sender @MAILERD_SENDER@ --metadata",
            ),
        ),
    ),
    "message_returned": Runbook(
        t(
            "Google had accepted this message and reported later that it was not sent: the mailbox had reached its limit. The message is requeued, attempts are not counted, and it is sent when the limit allows."
        ),
        (
            LikelyCause(
                t(
                    "the mailbox may send less than pace.per_day (a trial or new account): lower its limit"
                ),
                "mailerd senders set @MAILERD_SENDER@ --per-day 500",
            ),
            LikelyCause(
                t("its owner or another program sends from it too: keep a reserve"),
                "mailerd senders set @MAILERD_SENDER@ --reserve 50",
            ),
        ),
    ),
    "message_claim_lost": Runbook(
        t(
            "This daemon recorded an outcome too late: another one had taken the message over. The outcome stays in `attempts`, and the message is safe."
        ),
        (_LEASE, _SLOW),
    ),
    "message_handover_lost": Runbook(
        t(
            "This daemon's claim on a message had expired. It makes no further request to Google, and the next claim continues safely."
        ),
        (_LEASE, _SLOW),
    ),
    "message_crashed": Runbook(
        t(
            "An internal error occurred with this one message, which failed or is checked. Others continue."
        ),
        (_BUG, _EXPLAIN),
    ),
    "message_tried_alone": Runbook(
        t(
            "Several daemons crashed while this message was in flight. It is retried alone. If three daemons in a row crash again, only this message fails."
        ),
        (
            _MEMORY,
            LikelyCause(
                t("the content of the message crashes a library: read its history"),
                "mailerd explain @MAILERD_RECIPIENT@",
            ),
        ),
    ),
    "leases_not_renewed": Runbook(
        t(
            "The database did not store the renewal of leases. Nothing is sent whose lease could expire before the response."
        ),
        _DATABASE,
    ),
    "daemon_gone": Runbook(
        t(
            "Another daemon of this database does not respond. Its messages are safe: this daemon sends them again, or checks them first."
        ),
        (
            LikelyCause(
                t("the daemon was killed, or its machine is off: start it"),
                "systemctl start mailerd",
            ),
            LikelyCause(
                t("its log says why it ended: read it on its machine"),
                "journalctl -u mailerd -n 50",
            ),
        ),
    ),
    "lease_lapsed": Runbook(
        t(
            "A daemon claimed a message and is no longer responding. The message is safe: it is sent again, or checked first."
        ),
        (
            LikelyCause(
                t("the daemon was killed or lost power: read its last lines"),
                "journalctl -u mailerd -b -1 -n 50",
            ),
            LikelyCause(
                t("it lost the database for longer than runner.lease: see when"),
                "journalctl -u mailerd -g 'database .* (unavailable|back)' -n 50",
            ),
        ),
    ),
    "job_stuck": Runbook(
        t(
            "A job had due messages and no turn. Only an internal error or a change made in the tables causes that. It is repaired: the job continues."
        ),
        (
            LikelyCause(
                t("an internal error: report it with the job's history"),
                "mailerd explain @MAILERD_JOB@",
            ),
        ),
    ),
    "jobs_left_open": Runbook(
        t(
            "The last messages of a job were sent during a stop, and the database did not record in time that the job is finished. The next daemon completes it."
        ),
        (_DATABASE_DOWN,),
    ),
    "drain_cut_off": Runbook(
        t(
            "The stop took longer than runner.drain_timeout. Messages that were cut off are checked at the next start."
        ),
        (
            LikelyCause(
                t("Google was slow: raise runner.drain_timeout and TimeoutStopSec=, then restart"),
                "systemctl edit mailerd",
            ),
            _DATABASE_DOWN,
        ),
    ),
    "step_failed": Runbook(
        t("A step of a loop failed and is repeated; the line says which and why."),
        (_SLOW, _SERVER_DOWN, _FIREWALL, _BUG),
    ),
    "orphans_not_searched": Runbook(
        t(
            "Drafts that are no longer needed could not be searched for in this mailbox. Nothing else is affected."
        ),
        (_NETWORK, _LOGIN),
    ),
    "runner_already_running": Runbook(
        t("A second runner was started in one process and ended at once. Nothing was sent twice."),
        (_BUG,),
    ),
    "process_refused": Runbook(
        t("mailerd cannot run with this configuration; the line says why."),
        (
            _CONFIG,
            LikelyCause(
                t("the port is taken by another program: find it"), "ss -ltnp | grep :5000"
            ),
            LikelyCause(
                t("the schema is newer than this version: install the newer one"), "mailerd version"
            ),
            _PASSWORD,
        ),
    ),
    "process_died": Runbook(
        t(
            "A part of mailerd failed unexpectedly, and the process exited. systemd restarts it, and the recovery checks the messages that were in flight."
        ),
        (_BUG,),
    ),
    "settings_refused": Runbook(
        t(
            "A reload found a configuration that cannot be used. The previous settings stay in effect."
        ),
        (_CONFIG,),
    ),
    "reload_failed": Runbook(
        t(
            "A reload ended in an internal error. Sending continues, but some settings may have changed: restart mailerd when convenient."
        ),
        (
            _BUG,
            LikelyCause(t("some settings may be in effect: restart"), "systemctl restart mailerd"),
        ),
    ),
    "log_records_lost": Runbook(
        t(
            "journald did not read for so long that lines of this log were dropped. Sending was not affected; the tables have everything."
        ),
        (
            LikelyCause(
                t("journald hangs or was stopped: check it"), "systemctl status systemd-journald"
            ),
            LikelyCause(
                t("the disk of the journal is full or slow: check it"),
                "df -h /var/log/journal; journalctl --disk-usage",
            ),
        ),
    ),
    "loop_stalled": Runbook(
        t(
            "A part of mailerd made no progress for too long. systemd's watchdog restarts the process, and the recovery checks the messages that were in flight."
        ),
        (_BUG,),
    ),
    "loop_blocked": Runbook(
        t(
            "The event loop is blocked. If it does not recover, systemd's watchdog restarts the process. The traceback of MainThread shows where."
        ),
        (
            LikelyCause(
                t("the machine was suspended, or has no CPU or memory left: check its load"),
                "uptime; free -h; vmstat 1 5",
            ),
            _BUG,
        ),
    ),
    "clock_off": Runbook(
        t(
            "The clocks of this machine and of the database differ. Leases, sending limits and due times follow the database. Service accounts cannot authorize while this machine's clock is far off."
        ),
        (
            LikelyCause(
                t("time is not synchronized on this machine: turn it on"),
                "systemctl enable --now systemd-timesyncd",
            ),
            _CLOCK,
        ),
    ),
    "stats_failed": Runbook(
        t("The tables could not be read for metrics and the status line. Sending is not affected."),
        (_SLOW, _SERVER_DOWN),
    ),
    "stats_crashed": Runbook(
        t(
            "Counting for metrics, console and status line ended in an internal error. Sending is not affected; the tables are read again every ten seconds."
        ),
        (
            LikelyCause(
                t("someone wrote an unknown status into a row: correct it"),
                "mariadb mailerd -e 'SELECT status, COUNT(*) FROM job_recipients GROUP BY status'",
            ),
            _BUG,
        ),
    ),
    "alert_failed": Runbook(
        t(
            "An alert could not be delivered. Its text is in this log, and is repeated with the next alert unless another channel accepted it. Sending is not affected."
        ),
        (
            LikelyCause(
                t("the address or token in alerts.webhook or alerts.urls is wrong: check them"),
                "mailerd check",
            ),
            _NETWORK,
            _LOG,
        ),
    ),
    "renderer_ended": Runbook(
        t(
            "The process that renders templates ended or was killed; another started at once. A message at fault fails with this reason, or its request is rejected. If the process was killed, the message waits and its request gets a 503."
        ),
        (
            LikelyCause(
                t("a template needs more than 1 s of CPU or 320 MB for one message: find its job"),
                "mailerd jobs list",
            ),
            _MEMORY,
        ),
    ),
    "renderer_ends_often": Runbook(
        t(
            "The renderer ends repeatedly: a client's templates are too costly, or this machine kills it or gives it no CPU. Other messages continue; each restart costs about a second."
        ),
        (
            LikelyCause(
                t("a client posts templates that are too costly: find the key in the line"),
                "mailerd keys list",
            ),
            LikelyCause(
                t("memory or CPU is short: check the pressure"),
                "cat /proc/pressure/cpu /proc/pressure/memory",
            ),
            _LOG,
        ),
    ),
    "renderer_not_started": Runbook(
        t(
            "No template can be rendered. Requests get a 503, messages wait, attempts are not counted, and mailerd retries automatically."
        ),
        (
            LikelyCause(
                t("the service has no memory or processes left: check its limits"),
                "systemctl show mailerd -p MemoryCurrent,MemoryMax,TasksCurrent,TasksMax",
            ),
            LikelyCause(
                t(
                    "the installation is incomplete, for example during an upgrade: start the renderer manually"
                ),
                "/opt/mailerd/bin/python -I -m mailerd.mail.render_child 1 335544320 $$ </dev/null",
            ),
        ),
    ),
    "renderer_crashed": Runbook(
        t(
            "An internal error occurred in the part that uses the renderer. Messages wait, and attempts are not counted."
        ),
        (_BUG,),
    ),
    "inbox_unreadable": Runbook(
        t(
            "Google did not allow this inbox to be read. Sending continues; bounces and replies are read later, and nothing is lost."
        ),
        (
            LikelyCause(
                t("the authorization was revoked or lacks a scope to read: renew it"),
                "mailerd auth login --sender @MAILERD_SENDER@ --readonly",
            ),
            _LOG,
        ),
    ),
    "sender_paused_by_notice": Runbook(
        t(
            "Notices in the mailbox show that it should not send for a while: a limit was reached, or receiving servers block its messages."
        ),
        (
            LikelyCause(
                t("Google's limit is reached (daily_limit), it resumes automatically: see when"),
                "mailerd senders list",
            ),
            LikelyCause(
                t(
                    "messages are blocked, or too many addresses do not exist (blocked, bounces): read the reasons, fix list or content"
                ),
                "mailerd bounces --sender @MAILERD_SENDER@",
            ),
            _RESUME,
        ),
    ),
    "job_paused_for_bounces": Runbook(
        t(
            "Too many addresses of this job do not exist; it was paused to protect the mailbox's reputation. Its other messages wait. After a manual resume only messages sent from then on count."
        ),
        (
            LikelyCause(
                t(
                    "the list is old or bought: read the bounces, cancel the job, post the rest from a clean list"
                ),
                "mailerd bounces --job @MAILERD_JOB@",
            ),
            LikelyCause(
                t("the list is correct: resume the job"), "mailerd jobs resume @MAILERD_JOB@"
            ),
        ),
    ),
    "job_bounces": Runbook(
        t(
            "This job has half of the bounces that pause it: addresses do not exist. This does not pause it yet."
        ),
        (
            LikelyCause(
                t("the list is old or bought: read the bounces"),
                "mailerd bounces --job @MAILERD_JOB@",
            ),
        ),
    ),
    "notice_not_verified": Runbook(
        t(
            "A notice claims to concern a message, but Google does not vouch for it, or it names another address or message. It changed nothing."
        ),
        (
            LikelyCause(
                t(
                    "it concerns a message of the mailbox owner, or is forged: look at it in the mailbox"
                ),
                "mailerd bounces --sender @MAILERD_SENDER@",
            ),
            LikelyCause(
                t(
                    "another mail system's notice, whose body gmail.metadata cannot read: grant gmail.readonly"
                ),
                "mailerd auth login --sender @MAILERD_SENDER@ --readonly",
            ),
        ),
    ),
    "notice_skipped": Runbook(
        t(
            "A notice could not be read three times. It is skipped, so that others are not held up; what it reports is unknown."
        ),
        (
            LikelyCause(
                t("it is too large or damaged: look at it in the mailbox"),
                "mailerd bounces --sender @MAILERD_SENDER@",
            ),
            LikelyCause(
                t("it concerns an unconfirmed message: confirm that first"), "mailerd jobs list"
            ),
        ),
    ),
    "history_expired": Runbook(
        t(
            "Google keeps the history of a mailbox for about a week, sometimes for hours. mailerd reads the inbox back to where it was, and finds the same notices."
        ),
        (
            LikelyCause(
                t("no daemon ran for days, or the inbox could not be read: no action needed"),
                "mailerd check",
            ),
        ),
    ),
    "notice_crashed": Runbook(
        t("A notice caused an internal error. It is retried twice, then skipped and logged."),
        (_BUG,),
    ),
    "inbox_crashed": Runbook(
        t(
            "Reading inboxes ended in an internal error. Sending is not affected; reading continues from its last commit."
        ),
        (_BUG,),
    ),
    "inbox_step_failed": Runbook(
        t(
            "The database rejected a step of reading inboxes. Nothing was written; the step is repeated."
        ),
        (_DATABASE_DOWN,),
    ),
    "webhook_failing": Runbook(
        t(
            "An application's endpoint does not accept its events. They are kept and delivered when it is back; sending is not affected. After webhooks.pause_after (5 days) it is paused."
        ),
        (
            _TEST,
            LikelyCause(
                t("its address is not public and not in webhooks.allow_networks: check it"),
                "mailerd check",
            ),
            _DELIVERIES,
        ),
    ),
    "webhook_paused": Runbook(
        t(
            "An endpoint failed for days and receives nothing until someone resumes it. Its events are kept for retention.events and delivered when it resumes."
        ),
        (
            _TEST,
            LikelyCause(
                t("the application is fixed: resume the endpoint"),
                "mailerd webhooks resume @MAILERD_WEBHOOK@",
            ),
            _UNNEEDED,
        ),
    ),
    "webhook_gone": Runbook(
        t(
            "An endpoint responded 410: it wants no more events. It receives none until someone resumes it."
        ),
        (
            _UNNEEDED,
            LikelyCause(
                t("the 410 was a mistake, for example of a proxy: resume the endpoint"),
                "mailerd webhooks resume @MAILERD_WEBHOOK@",
            ),
        ),
    ),
    "webhook_event_given_up": Runbook(
        t(
            "One event was rejected at every attempt over days, while the endpoint accepted others. It is kept as failed."
        ),
        (
            _DELIVERIES,
            LikelyCause(
                t("the application is fixed: deliver the event again"),
                "mailerd webhooks replay @MAILERD_WEBHOOK@ --failed",
            ),
        ),
    ),
    "webhook_events_expired": Runbook(
        t(
            "Events older than retention.events are deleted. An active endpoint delays that; a paused one does not."
        ),
        (
            LikelyCause(
                t("the endpoint was paused for too long: read the state from the API instead"),
                "mailerd webhooks show @MAILERD_WEBHOOK@",
            ),
            _UNNEEDED,
        ),
    ),
    "webhook_step_failed": Runbook(
        t(
            "The part that delivers events could not use the database. It retries automatically, and no event is lost."
        ),
        (_DATABASE_DOWN,),
    ),
    "webhook_crashed": Runbook(
        t(
            "An attempt to deliver an event ended in an internal error. The event is delivered again after its lease."
        ),
        (_BUG,),
    ),
}

REST_RUNBOOKS: Final[Mapping[str, Runbook]] = {
    "bounces": Runbook(
        t(
            "Too many addresses of this mailbox's messages do not exist; it is paused for a day to protect its reputation. Nothing is lost. After a manual resume only messages sent from then on count."
        ),
        (
            _BOUNCES,
            LikelyCause(
                t("jobs with old or bought lists: cancel them, post the rest from a clean list"),
                "mailerd jobs cancel @MAILERD_JOB@",
            ),
            _RESUME,
        ),
    ),
    "blocked": Runbook(
        t("Receiving servers block messages of this mailbox as unwanted; it is paused for a day."),
        (_BOUNCES, _RESUME),
    ),
}
"""What to do about a pause after notices in the mailbox, by its cause; the console shows it."""

PAUSE_RUNBOOKS: Final[Mapping[str, Runbook]] = {
    "throttled": Runbook(
        _RESUMES,
        (
            LikelyCause(
                t("other programs send from the mailbox, or its limit is too high: lower it"),
                "mailerd senders set @MAILERD_SENDER@ --per-minute 40",
            ),
        ),
    ),
    "daily_limit": Runbook(
        _RESUMES,
        (
            LikelyCause(
                t(
                    "Google's daily limit is reached (2,000 messages for Workspace, 500 for gmail.com, the owner's own included): lower the limit"
                ),
                "mailerd senders set @MAILERD_SENDER@ --per-day 1500",
            ),
        ),
    ),
    "too_many_concurrent": Runbook(
        _RESUMES,
        (
            LikelyCause(
                t(
                    "other programs call Gmail for the mailbox at the same time; mailerd has lowered its own concurrency: see it"
                ),
                "mailerd senders list",
            ),
        ),
    ),
    "token_refused": Runbook(
        _RESUMES_ONCE_FIXED,
        (
            _LOGIN,
            LikelyCause(
                t(
                    'the OAuth app is in "Testing", where an authorization ends after 7 days: publish it, then authorize again'
                ),
                "https://console.cloud.google.com/auth/audience",
            ),
            _DELEGATION,
        ),
    ),
    "client_refused": Runbook(
        _RESUMES_ONCE_FIXED,
        (
            LikelyCause(
                t(
                    "the OAuth client of the credential file was deleted, or its secret was changed: see it"
                ),
                "https://console.cloud.google.com/auth/clients",
            ),
            LikelyCause(
                t("there is a new client: authorize with it"),
                "mailerd auth login --sender @MAILERD_SENDER@ --client client.json",
            ),
        ),
    ),
    "no_credentials": Runbook(
        _RESUMES_ONCE_FIXED,
        (
            LikelyCause(
                t("the credential file is missing, damaged or readable by others: look at it"),
                "ls -l /etc/mailerd/credentials",
            ),
            LikelyCause(
                t("this mailbox was never authorized: authorize it"),
                "mailerd auth login --sender @MAILERD_SENDER@",
            ),
        ),
    ),
    "wrong_mailbox": Runbook(
        _RESUMES_ONCE_FIXED,
        (
            LikelyCause(
                t(
                    "the credential file opens another mailbox: authorize again with the right account"
                ),
                "mailerd auth login --sender @MAILERD_SENDER@",
            ),
        ),
    ),
    "scope_missing": Runbook(
        _RESUMES_ONCE_FIXED,
        (
            LikelyCause(
                t("the authorization lacks a scope for sending: authorize again"),
                "mailerd auth login --sender @MAILERD_SENDER@",
            ),
            _DELEGATION,
        ),
    ),
    "mailbox_refused": Runbook(
        _RESUMES_ONCE_FIXED,
        (
            LikelyCause(
                t(
                    "Gmail is off for this account, or the account is suspended: see it in the admin console"
                ),
                "https://admin.google.com/ac/users",
            ),
            _CHECK,
        ),
    ),
    "api_disabled": Runbook(
        _RESUMES_ONCE_FIXED,
        (
            LikelyCause(
                t(
                    "the Gmail API is not enabled in the Cloud project, or was switched off there: enable it"
                ),
                "https://console.cloud.google.com/apis/library/gmail.googleapis.com",
            ),
        ),
    ),
    "domain_policy": Runbook(
        _RESUMES_ONCE_FIXED,
        (
            LikelyCause(
                t(
                    "the domain's administrator does not allow this app, or any app, to use Gmail: ask for it"
                ),
                "https://admin.google.com/ac/owl",
            ),
        ),
    ),
}
"""The runbooks of `sender_paused`, by its field `cause`: each has a MESSAGE_ID of its own."""

FULL_DAY: Final = Runbook(
    t(
        "Messages of this mailbox wait, attempts are not counted. They are sent as the messages of the last 24 hours leave the count."
    ),
    (
        LikelyCause(
            t(
                "its limit is lower than Google's (2,000 messages for Workspace, 500 for gmail.com, the owner's own included): raise it"
            ),
            "mailerd senders set @MAILERD_SENDER@ --per-day 2000",
        ),
        LikelyCause(
            t("more is to be sent than one mailbox may: use several"), "mailerd senders list"
        ),
    ),
)
"""The runbook of a mailbox that has reached a limit of the operator's: that is no pause, and has no event."""

GOOGLE_SILENT: Final = Runbook(
    t(
        "Requests reach Google, but no response comes. Each message is retried, and each attempt counts: after the last one (retry.max_attempts) it fails."
    ),
    RUNBOOKS["google_unreachable"].causes,
)
"""The runbook of requests that get no response; a message whose send had begun is unconfirmed."""


def pause_runbook(cause: str) -> Runbook:
    """What the console shows about a sender's pause of this cause."""
    if cause == "project_limit":
        return RUNBOOKS["project_paused"]
    return REST_RUNBOOKS.get(cause) or PAUSE_RUNBOOKS.get(cause, RUNBOOKS["sender_paused"])


_FINDINGS: Final[Mapping[str, Runbook]] = {
    **RUNBOOKS,
    "not_known": RUNBOOKS["stats_failed"],
    "late": RUNBOOKS["job_stuck"],
    "unsure": RUNBOOKS["message_unsure"],
    "long_unsure": RUNBOOKS["message_still_unsure"],
    "day_full": FULL_DAY,
    "no_daemon": RUNBOOKS["loop_stalled"],
    "daemon_late": RUNBOOKS["loop_stalled"],
    "awaiting_google": GOOGLE_SILENT,
    "daemon_gone": RUNBOOKS["lease_lapsed"],
    "google_silent": GOOGLE_SILENT,
    "deferred": RUNBOOKS["message_deferred"],
    "failed": RUNBOOKS["message_failed"],
    "database_denied": UNWRITABLE,
    "database_read_only": UNWRITABLE,
    "database_incomplete": UNWRITABLE,
    "database_stuck": UNWRITABLE,
    "database_login": UNWRITABLE,
    "database_connections": UNWRITABLE,
    "job_failed": RUNBOOKS["message_failed"],
}


def finding_runbook(code: str) -> Runbook:
    """What the console shows about a finding with this code."""
    if code in CAUSES and code != "google_unreachable":
        return pause_runbook(code)
    return _FINDINGS.get(code, RUNBOOKS["database_unavailable"])
