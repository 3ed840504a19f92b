"""Ways in and ways to the database: instances that share one, unix sockets, TLS, and a pace that changes on the way."""

import re
import time
from pathlib import Path

import pymysql

from mailerd.sandbox.mariadb import Server
from tests.support.certificates import authority_and_server
from tests.systemd.machine import (
    CONFIG,
    URL,
    active,
    configure,
    drop_in,
    expect,
    finished,
    job,
    journal,
    pid,
    send,
    sh,
    show,
    status,
    step,
    until,
)  # fmt: skip

CERTIFICATES = Path("/srv/certificates")
_SOCKET = "/run/mysqld/mysqld.sock"


def tls_options() -> tuple[str, ...]:
    """Make certificates, and let the server use them."""
    CERTIFICATES.mkdir(parents=True, exist_ok=True)
    _, certificate, key = authority_and_server(CERTIFICATES)
    sh(f"chmod -R a+rX {CERTIFICATES}")
    return f"--ssl-cert={certificate}", f"--ssl-key={key}"


def instances(server: Server, key: str) -> None:
    step("mailerd@one and mailerd@two on one database")
    sh("systemctl stop mailerd.socket mailerd")
    for name, port in (("one", 5001), ("two", 5002)):
        configure(server, file=Path(f"/etc/mailerd/{name}.toml"), port=port)
    show(sh("systemctl enable --now mailerd@one mailerd@two 2>&1"))
    messages = 3000  # several of the second instance's polls
    id_ = send(key, messages, url="http://127.0.0.1:5001")
    expect(until(lambda: finished(key, id_, url="http://127.0.0.1:5002")), "a job posted to one is completed, says two")
    sent = {
        name: len(journal(f"-u mailerd@{name} MAILERD_EVENT=message_sent MAILERD_JOB={id_} -o cat").splitlines())
        for name in ("one", "two")
    }
    show(f"sent by each: {sent}", sh("systemctl status 'mailerd@*' --no-pager -n 0"))
    expect(sum(sent.values()) == messages and min(sent.values()) > 0, "both sent, and no message twice")
    sh("systemctl kill --signal=SIGKILL mailerd@one")
    expect(
        until(lambda: "mailerd@one.service has failed" in journal("-t mailerd-alert")), "OnFailure tells of an instance"
    )
    expect(until(lambda: sh("systemctl is-active mailerd@one", check=False) == "active"), "and it is started again")
    sh(
        "systemctl disable --now mailerd@one mailerd@two; systemctl reset-failed"
        "; systemctl start mailerd.socket mailerd"
    )


def intake_on_a_socket_file(key: str) -> None:
    step("the intake on a unix socket")
    drop_in(
        "mailerd.socket",
        "[Socket]\nListenStream=\nListenStream=/run/mailerd.sock\nSocketMode=0660\nSocketGroup=mailerd\n",
    )
    sh("systemctl stop mailerd; systemctl restart mailerd.socket; systemctl start mailerd")
    show(sh("ls -l /run/mailerd.sock"), journal("MAILERD_EVENT=intake_listening -n 1 -o cat"))
    expect(
        "unix:/run/mailerd.sock" in journal("MAILERD_EVENT=intake_listening -n 1 -o cat"), "it says where it listens"
    )
    id_ = send(key, 3, socket="/run/mailerd.sock")
    expect(until(lambda: id_ in journal("MAILERD_EVENT=job_finished -n 1 -o cat")), "a POST by it is sent")
    refused = sh("runuser -u nobody -- curl -s --unix-socket /run/mailerd.sock http://x/health/live; echo rc=$?")
    expect(refused.endswith("rc=7"), "who is not in its group cannot connect")
    drop_in("mailerd.socket", "")
    sh("systemctl stop mailerd; systemctl restart mailerd.socket; systemctl start mailerd")


def database_by_socket_and_tls(server: Server, key: str) -> None:
    step("the database by a unix socket without a password, and by TLS")
    place = sh(f"tr '\\0' '\\n' </proc/{server.pid}/cmdline | sed -n 's/^--socket=//p'")
    sh(f"mkdir -p /run/mysqld && touch {_SOCKET} && mount --bind {place} {_SOCKET}")
    _admin(server, "CREATE USER mailerd@localhost IDENTIFIED VIA unix_socket")
    _admin(server, "GRANT ALL ON mailerd.* TO mailerd@localhost")
    configure(server, url=f"mysql://mailerd@localhost/mailerd?unix_socket={_SOCKET}")
    _works(key, "by the socket, as the system's user mailerd")
    expect(_SOCKET in journal("MAILERD_EVENT=database_connected -n 1 -o cat"), "the log names the socket")
    _admin(server, "ALTER USER mailerd@127.0.0.1 REQUIRE SSL")
    sh(f"install -m 644 {CERTIFICATES}/ca.pem /etc/mailerd/ca.pem")
    configure(server, url=f"{server.url}?ssl_ca=/etc/mailerd/ca.pem")
    _works(key, "by TLS, which the account demands")
    configure(server, url=f"{server.url}?ssl=true")
    sh("systemctl restart mailerd")
    said = "MAILERD_EVENT=database_unreachable -n 1 -o cat"
    expect(until(lambda: "certificate is rejected" in journal(said)), "a certificate of nobody known is refused")
    _admin(server, "ALTER USER mailerd@127.0.0.1 REQUIRE NONE")
    configure(server)
    _works(key, "by TCP again")


def _works(key: str, how: str) -> None:
    sh("systemctl restart mailerd")
    id_ = send(key, 5)
    expect(until(lambda: finished(key, id_)), how)


def _admin(server: Server, statement: str) -> None:
    with (
        pymysql.connect(host="127.0.0.1", port=server.port, user="admin", password=server.password) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)


def pace_by_reload(server: Server, key: str) -> None:
    step("a reload changes the pace of messages that wait already")
    expect(until(lambda: " 0 waiting" in status(), within=60), "nothing waits from before")
    before = pid()
    configure(server, per_minute=30)
    sh(f"kill -HUP {before}")
    expect(until(lambda: _limit(key) == 30), "/metrics shows the new limit")
    show(sh(f"mailerd senders list --config {CONFIG}"))
    id_ = send(key, 100)
    time.sleep(6)
    slow = job(key, id_)["counts"]["sent"]
    began = time.monotonic()
    configure(server)
    sh(f"kill -HUP {before}")
    done = until(lambda: finished(key, id_), within=20)
    show(
        f"{slow} of 100 messages in 6 s at 30 a minute; "
        f"the others {time.monotonic() - began:.1f} s after the second reload"
    )
    expect(2 <= slow <= 6, "as slow as it was told to be")
    expect(done and pid() == before and active() == "active", "and fast again, in the same process")


def _limit(key: str) -> float:
    page = sh(f"curl -s -H 'X-API-Key: {key}' {URL}/metrics")  # without a key it names no sender
    found = re.search(r'mailerd_sender_limit_messages\{sender="me@example.com",window="minute"\} (\S+)', page)
    return float(found[1]) if found else -1
