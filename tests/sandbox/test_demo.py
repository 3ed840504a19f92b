"""The demonstration: what it shows is true, what it prints works, and however it ends it leaves no process."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mailerd.config import load
from mailerd.config.discovery import runs
from mailerd.sandbox import mariadb
from mailerd.sandbox.sandbox_dir import SandboxDir
from tests.support.heard import PATIENCE

ROOT = Path(__file__).parent.parent.parent
WELCOME = ROOT / "examples" / "welcome.json"
CACHE = ROOT / ".cache"
FAKE = Path(__file__).with_name("fake_mailerd.py")
OWN = {"MAILERD_WEBHOOKS__TIMEOUT": "7", "MAILERD_GMAIL__API_ROOT": "http://somebody.example/"}

RUN = """
import sys
from pathlib import Path
from mailerd.sandbox.demo import Options, run
demo, fake, *rest = sys.argv[1:]
sys.exit(run(Options(
    demo=Path(demo) if demo else None,
    then_exit="exit" in rest,
    intake_port=None if "usual-port" in rest else next((int(word) for word in rest if word.isdecimal()), 0),
    latency_s=0.0,
    program=(sys.executable, fake),
)))
"""


class Sandbox:
    """`mailerd sandbox` in a process of its own, in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[str] | None = None
        self.said = ""

    def start(
        self,
        *,
        demo: Path | None = WELCOME,
        then_exit: bool = False,
        usual_port: bool = False,
        port: int = 0,
        trouble: str = "",
    ) -> None:
        (self.folder / "trouble").write_text(trouble)
        words = [str(demo or ""), str(FAKE), *(["exit"] if then_exit else []), *(["usual-port"] if usual_port else [])]
        words += [str(port)] if port else []
        self.said = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, *words],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "DATABASE_URL": "mysql://somebody@else.example/where", **OWN},
        )

    def until(self, text: str) -> None:
        """Read what it says up to a line with that text."""
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if text in line:
                return
        raise AssertionError(f"{text!r} was never said:\n{self.said}")

    def wait(self) -> int:
        assert self.process is not None
        self.said += self.process.communicate(timeout=PATIENCE)[0]
        return self.process.returncode

    def ends_with(self, number: signal.Signals) -> int:
        assert self.process is not None
        # A terminal sends its signals to the whole group.
        if number in (signal.SIGINT, signal.SIGHUP):
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        return self.wait()

    def processes(self) -> list[str]:
        """Every living process that has to do with this folder, itself excepted."""
        return [line for line in commands() if str(self.folder) in line]


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path)
    yield sandbox
    if sandbox.process is not None and sandbox.process.stdout is not None:
        sandbox.process.kill()
        sandbox.process.stdout.close()
        sandbox.process.wait()
    assert eventually(lambda: not sandbox.processes()), sandbox.processes()


@pytest.fixture
def sandbox(empty: Sandbox) -> Sandbox:
    """One whose database is there, as at every start but the first: making it takes longer than all the rest."""
    template = mariadb.template(mariadb.find(), CACHE)
    shutil.copytree(template, SandboxDir(empty.folder / ".sandbox").database)
    return empty


def commands() -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit():
                yield (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def eventually(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def job() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(WELCOME.read_text(encoding="utf-8"))
    return loaded


def test_the_sample_job_is_large_and_all_different() -> None:
    recipients = job()["recipients"]
    addresses = [recipient["email"] for recipient in recipients]
    assert len(recipients) >= 200
    assert len(set(addresses)) == len(addresses)
    assert all(re.search(r"@example\.(com|org|net)$", address) for address in addresses)
    assert sum(bool(re.search(r"[一-鿿]", recipient["name"])) for recipient in recipients) > 80
    assert sum(bool(re.search(r"[À-žΑ-ω]", recipient["name"])) for recipient in recipients) > 80


@pytest.mark.parametrize("file", ["welcome.json", "first-job.json"])
def test_every_recipient_of_an_example_has_what_its_template_asks_for(file: str) -> None:
    example = json.loads((WELCOME.with_name(file)).read_text(encoding="utf-8"))
    asked = set(re.findall(r"{{ (\w+) }}", "".join(example["template"].values())))
    for recipient in example["recipients"]:
        assert asked <= set(example.get("variables", {})) | set(recipient["variables"])


def test_the_demonstration_sends_the_whole_job_and_says_so(empty: Sandbox) -> None:
    sandbox, total = empty, len(job()["recipients"])
    sandbox.start(then_exit=True)
    assert sandbox.wait() == 0, sandbox.said
    assert "nothing leaves this machine" in sandbox.said
    another = rf"^  Another link +{re.escape(sys.executable)} .* console login --config .*/mailerd.toml$"
    assert re.search(another, sandbox.said, re.MULTILINE), sandbox.said
    assert re.search(rf"^{total} messages sent in [\d.]+ s$", sandbox.said, re.MULTILINE)
    assert f"The simulated Google received {total} messages, none more than once" in sandbox.said
    assert "100 %" in sandbox.said
    assert "With the real Google this takes about 4 min: " in sandbox.said
    assert len(list((sandbox.folder / ".sandbox" / "outbox").glob("*.eml"))) == total


@pytest.mark.usefixtures("port_5000")
def test_the_real_daemon_sends_the_whole_job_and_its_books_balance(tmp_path: Path) -> None:
    words = ["sandbox", "--demo", "--job", str(WELCOME), "--exit", "--latency", "0"]
    ended = subprocess.run(
        [sys.executable, "-m", "mailerd", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    total = len(job()["recipients"])
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(rf"^{total} messages sent in [\d.]+ s$", ended.stdout, re.MULTILINE)
    assert f"The simulated Google received {total} messages, none more than once" in ended.stdout
    assert not ended.stderr


def test_the_daemon_sees_the_sandbox_and_nothing_else(sandbox: Sandbox) -> None:
    sandbox.start(then_exit=True)
    sandbox.wait()
    place = sandbox.folder / ".sandbox"
    settings = tomllib.loads((place / "mailerd.toml").read_text(encoding="utf-8"))
    assert set(settings["pace"].values()) == {0}
    assert settings["gmail"]["token_uri"].startswith("http://127.0.0.1:")
    assert (place / "mailerd.log").read_text().startswith("DATABASE_URL None\n")
    rules = load(place / "mailerd.toml").webhooks.network_rules
    assert rules.refusal_of_url("http", "127.0.0.1", 8000, user=False) == "", "a receiver may stand on this machine"
    assert rules.refusal("::1") == ""
    assert rules.refusal("10.0.0.1")
    assert "MAILERD_WEBHOOKS__TIMEOUT 7\n" in (place / "mailerd.log").read_text()
    assert "MAILERD_GMAIL" not in (place / "mailerd.log").read_text()
    for secret in (place / "mailerd.toml", *(place / "credentials").iterdir()):
        assert secret.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_stays_up_until_it_is_told_to_end_and_then_drains(sandbox: Sandbox, number: signal.Signals) -> None:
    sandbox.start()
    sandbox.until("Ctrl-C stops the sandbox")
    assert sandbox.ends_with(number) == 0
    assert (sandbox.folder / ".sandbox" / "mailerd.log").read_text().endswith("drained\n")
    assert "Traceback" not in sandbox.said


def test_the_curl_line_is_a_whole_request(sandbox: Sandbox) -> None:
    sandbox.start()
    sandbox.until("curl -sS")
    words = shlex.split(sandbox.said.splitlines()[-1])
    assert words[:4] == ["curl", "-sS", "--noproxy", "*"]
    headers = dict(words[at + 1].split(": ") for at, word in enumerate(words) if word == "-H")
    body = Path(words[words.index("--data-binary") + 1].removeprefix("@")).read_bytes()
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(words[-1], data=body, headers=headers)  # noqa: S310 # it was just printed to us
    with direct.open(request, timeout=PATIENCE) as answer:
        assert json.load(answer)["accepted"] == 2


def test_a_second_start_works_and_shows_its_own_messages_alone(sandbox: Sandbox) -> None:
    for _ in range(2):
        sandbox.start(then_exit=True)
        assert sandbox.wait() == 0, sandbox.said
        assert len(list((sandbox.folder / ".sandbox" / "outbox").glob("*.eml"))) == len(job()["recipients"])


@pytest.mark.parametrize("moment", ["nothing leaves", "Simulated Google", "Sample job"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_end_in_the_middle_of_the_start_leaves_no_process(
    empty: Sandbox, moment: str, number: signal.Signals
) -> None:
    empty.start()
    empty.until(moment)
    assert empty.ends_with(number) == (0 if number is signal.SIGTERM else -signal.SIGKILL)
    assert eventually(lambda: not empty.processes())


def test_a_start_right_after_kill_9_works(sandbox: Sandbox) -> None:
    sandbox.start()
    sandbox.until("Sample job")
    assert sandbox.ends_with(signal.SIGKILL) == -signal.SIGKILL
    sandbox.start(then_exit=True)
    assert sandbox.wait() == 0, sandbox.said


def test_a_second_signal_does_not_wait_for_a_child_that_hangs(sandbox: Sandbox) -> None:
    sandbox.start(trouble="deaf")
    sandbox.until("Simulated Google")
    assert eventually(lambda: any("migrate" in line for line in sandbox.processes()))
    assert sandbox.ends_with(signal.SIGINT) == 0


@pytest.mark.parametrize(
    "trouble,shown",
    [
        ("migrate", "mailerd migrate` ended with exit code 1:\n"),
        ("start", "mailerd run` ended with exit code 1. The end of "),
        ("half-way", "mailerd run` ended with exit code 3. The end of "),
    ],
)
def test_a_child_that_fails_is_named_with_its_last_words(sandbox: Sandbox, trouble: str, shown: str) -> None:
    sandbox.start(trouble=trouble)
    assert sandbox.wait() == 1
    assert shown in sandbox.said
    assert "the dog ate it" in sandbox.said
    assert "Traceback" not in sandbox.said


def test_messages_to_people_who_have_opted_out_in_an_earlier_run_are_told_and_no_failure(sandbox: Sandbox) -> None:
    sandbox.start(then_exit=True, trouble="opted-out")
    assert sandbox.wait() == 0, sandbox.said
    assert "  5 messages cancelled: their recipients unsubscribed or bounced in an earlier run. To" in sandbox.said
    folder = sandbox.folder / ".sandbox"
    assert f"To start with new data, delete {folder}\n" in sandbox.said, "a wheel has no `make clean`"


def test_messages_that_an_earlier_run_has_left_are_named_since_google_receives_them_too(sandbox: Sandbox) -> None:
    sandbox.start(then_exit=True, trouble="earlier")
    assert sandbox.wait() == 0, sandbox.said
    assert "  3 messages of an earlier run continue\n" in sandbox.said


def test_a_database_that_dies_ends_the_demonstration(sandbox: Sandbox) -> None:
    sandbox.start()
    sandbox.until("Ctrl-C stops the sandbox")
    (pid,) = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and is_server(p, sandbox.folder)]
    os.kill(pid, signal.SIGKILL)
    assert sandbox.wait() == 1
    assert "the private database server stopped unexpectedly (its log is above)" in sandbox.said.splitlines()[-1], (
        "the cause stands below the log"
    )


def is_server(process: Path, folder: Path) -> bool:
    with suppress(OSError):
        return f"--datadir={folder}".encode() in (process / "cmdline").read_bytes()
    return False


def test_a_job_that_is_none_is_refused_in_a_sentence(sandbox: Sandbox) -> None:
    broken = sandbox.folder / "job.json"
    broken.write_text("{")
    sandbox.start(demo=broken)
    assert sandbox.wait() == 1
    assert "is not valid JSON" in sandbox.said
    assert "Traceback" not in sandbox.said


def test_a_configuration_in_the_folder_that_commands_take_before_the_sandbox_is_named_at_its_start(
    sandbox: Sandbox,
) -> None:
    (sandbox.folder / "mailerd.toml").touch(mode=0o600)
    broken = sandbox.folder / "job.json"
    broken.write_text("{")
    sandbox.start(demo=broken)
    sandbox.wait()
    assert "commands in this folder use ./mailerd.toml. To use this sandbox, add --config" in sandbox.said


def test_what_a_person_changed_in_the_sandboxs_templates_stays(tmp_path: Path) -> None:
    place = SandboxDir(tmp_path)
    place.make()
    body = place.templates / "welcome" / "body.html"
    body.write_text("mine")
    place.make()
    assert body.read_text() == "mine"


def test_two_sandboxes_in_one_folder_are_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.start()
    sandbox.until("Ctrl-C stops the sandbox")
    second = Sandbox(tmp_path)
    second.start()
    assert second.wait() == 1
    assert "another sandbox is using" in second.said


def bound(listener: socket.socket, port: int) -> bool:
    with suppress(OSError):
        listener.bind(("127.0.0.1", port))
        return True
    return False


@pytest.mark.usefixtures("port_5000")
def test_another_port_is_taken_and_said_where_somebody_has_the_one_of_the_readme(sandbox: Sandbox) -> None:
    with socket.socket() as somebody:
        somebody.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Another program may still be ending: the port is ours, or the other's for good, before we begin.
        if eventually(lambda: bound(somebody, 5000)):
            somebody.listen()
        sandbox.start(then_exit=True, usual_port=True)
        assert sandbox.wait() == 0, sandbox.said
    assert "Port 5000, which the README uses, is in use by another process." in sandbox.said
    port = tomllib.loads((sandbox.folder / ".sandbox" / "mailerd.toml").read_text("utf-8"))["intake"]["port"]
    assert port != 5000
    assert f"http://127.0.0.1:{port} (process" in sandbox.said


def test_a_port_that_was_named_and_is_taken_ends_the_start_before_another_daemon_gets_its_job(sandbox: Sandbox) -> None:
    first = Sandbox(sandbox.folder / "first")
    first.folder.mkdir()
    first.start()
    try:
        first.until("Ctrl-C stops the sandbox")
        other = tomllib.loads((first.folder / ".sandbox" / "mailerd.toml").read_text("utf-8"))["intake"]["port"]
        sandbox.start(then_exit=True, port=other)
        assert sandbox.wait() == 1
    finally:
        assert first.ends_with(signal.SIGINT) == 0
    assert f"cannot listen on port {other} (Address already in use): stop the process" in sandbox.said
    assert "Sample job" not in sandbox.said


def test_commands_see_a_sandbox_while_it_runs_however_it_ends(sandbox: Sandbox) -> None:
    sandbox.start()
    sandbox.until("Ctrl-C stops the sandbox")
    assert runs(sandbox.folder / ".sandbox")
    assert sandbox.ends_with(signal.SIGKILL) == -signal.SIGKILL
    assert eventually(lambda: not runs(sandbox.folder / ".sandbox"))


def test_without_a_job_it_prints_how_to_point_a_daemon_at_it(sandbox: Sandbox) -> None:
    sandbox.start(demo=None)
    sandbox.until("Ctrl-C stops the sandbox")
    config = sandbox.folder / ".sandbox" / "mailerd.toml"
    assert f"run --config {config}" in sandbox.said
    assert tomllib.loads(config.read_text(encoding="utf-8"))["pace"] == {}
    assert sandbox.ends_with(signal.SIGINT) == 0


def test_pace_and_quota_are_off_in_the_demonstration_whatever_the_mailbox(tmp_path: Path) -> None:
    place = SandboxDir(tmp_path)
    place.write_configuration(
        database="mysql://me@127.0.0.1/mailerd", google="http://127.0.0.1:1/", token_uri="http://127.0.0.1:1/token",
        auth_uri="http://127.0.0.1:1/auth",
        intake_port=5000, public_port=5001, drain_s=1, limits=False,
    )  # fmt: skip
    pace = load(place.configuration).pace
    assert {name: value for name, value in pace.model_dump().items() if value} == {"tier": "standard"}
