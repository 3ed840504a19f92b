"""The commands of the README and of the tutorials, as they stand, in a second terminal beside `make run`."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pymysql
import pytest
from pymysql.cursors import Cursor
from yarl import URL

from mailerd.sandbox.mariadb import Server
from tests.house.markdown import Paper
from tests.sandbox.test_demo import ROOT, Sandbox, commands, eventually
from tests.support.group import mysql_server
from tests.support.ports import free_port
from tests.support.wheel import build, install

# The blocks that need nothing but the sandbox; the others set up a mailbox of one's own.
SECTIONS = (
    ("README.md", "Send"),
    ("docs/tutorial/first-campaign.md", ""),
    ("docs/tutorial/first-call.md", ""),
    ("docs/how-to/mailboxes.md", "Limits"),
)
VARIABLES = ("MAILERD_", "DATABASE_URL", "XDG_CONFIG_HOME")
MAKE = re.compile(r"^make .*\n", re.MULTILINE)


@dataclass(frozen=True)
class Place:
    """A folder in which a reader types, and what runs there."""

    folder: Path
    site: Path
    """Where the package is: this tree, or an installed wheel."""

    @property
    def environment(self) -> dict[str, str]:
        known = {name: value for name, value in os.environ.items() if not name.startswith(VARIABLES)}
        path = f"{self.folder}/.venv/bin:{known['PATH']}"
        return {**known, "HOME": "/nonexistent", "PYTHONPATH": str(self.site), "PATH": path}

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-x", "-c", script], cwd=self.folder, env=self.environment, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip

    def sandbox(self) -> Iterator[Sandbox]:
        """What `make run` runs, or the line of the README for a wheel."""
        it = Sandbox(self.folder)
        it.process = subprocess.Popen(
            ["mailerd", "sandbox", "--demo", "--latency", "0"], cwd=self.folder, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True, env=self.environment,
            executable=self.folder / ".venv" / "bin" / "mailerd",
        )  # fmt: skip
        yield it
        it.process.terminate()
        it.wait()
        assert eventually(lambda: not any(str(self.folder) in line for line in commands()))


def programs(folder: Path) -> None:
    """What the lines call by name: `mailerd` and `python` of a virtual environment."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name, words in (("mailerd", "-m mailerd"), ("python", "")):
        program = folder / ".venv" / "bin" / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        program.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Place:
    """A checkout as far as the lines of the README see it."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    programs(tmp_path)
    return Place(tmp_path, ROOT)


@pytest.fixture
def sandbox(checkout: Place, port_5000: None) -> Iterator[Sandbox]:  # noqa: ARG001 # it is held
    yield from checkout.sandbox()


@pytest.fixture
def wheel(tmp_path: Path) -> Place:
    """An empty folder beside an installed wheel."""
    site = install(build(tmp_path / "dist"), tmp_path / "site")
    (tmp_path / "empty").mkdir()
    programs(tmp_path / "empty")
    return Place(tmp_path / "empty", site)


@pytest.fixture
def installed(wheel: Place, port_5000: None) -> Iterator[Sandbox]:  # noqa: ARG001 # it is held
    assert wheel.run("mailerd install-files .").returncode == 0
    yield from wheel.sandbox()


def paper(folder: Path, name: str, section: str = "") -> Paper:
    """A page, or a section of it."""
    text = (ROOT / name).read_text("utf-8")
    part = folder / "part.md"
    part.write_text(text.split(f"\n## {section}\n")[1].split("\n## ")[0] + "\n" if section else text, "utf-8")
    return Paper(part)


def lines(folder: Path, sections: Sequence[tuple[str, str]], *, ports: dict[str, str]) -> str:
    """All lines of shell on those pages, as one script that stops at the first that fails; writes their programs."""
    blocks: list[str] = []
    for name, section in sections:
        page = paper(folder, name, section)
        blocks += [block.body for block in page.blocks if block.language == "bash"]
        for file, body in re.findall(r"`(\w+\.py)`[^`]*\n\n```python\n(.*?)^```$", page.text, re.DOTALL | re.MULTILINE):
            (folder / file).write_text(translated(body, ports), "utf-8")
    script = MAKE.sub("", translated("".join(blocks), ports))
    # A person needs longer than the bounce that they have just ordered.
    script = re.sub(r"^(\S+ suppress why .*)$", r"until \1; do sleep 0.2; done", script, flags=re.MULTILINE)
    return f"set -euo pipefail\n{script}"


def translated(text: str, ports: dict[str, str]) -> str:
    for port, free in ports.items():
        text = text.replace(f":{port}/", f":{free}/").replace(f':{port}"', f':{free}"')
        text = text.replace(f'"127.0.0.1", {port}', f'"127.0.0.1", {free}')
    return text


def ports_of(sandbox: Sandbox) -> dict[str, str]:
    """The ports of the pages, each with the one that is free here."""
    sandbox.until("Ctrl-C stops the sandbox")
    daemon = sandbox.said.split("Daemon               http://127.0.0.1:")[1].split()[0]
    return {"5000": daemon, "8000": str(free_port())}


def assert_the_readme_is_right(ended: subprocess.CompletedProcess[str]) -> None:
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "using the sandbox's configuration" in ended.stderr
    assert "3 of 3 messages can be sent" in ended.stdout
    [job] = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith('{"job_id"')][:1]
    [shown] = [block for block in Paper(ROOT / "README.md").blocks if block.language == "json"]
    assert json.loads(shown.body).items() <= job.items(), "the response that the README shows"


def test_the_lines_of_the_readme_work_as_they_stand_beside_the_demonstration(checkout: Place, sandbox: Sandbox) -> None:
    ports = ports_of(sandbox)
    ended = checkout.run(lines(checkout.folder, SECTIONS, ports=ports))
    assert_the_readme_is_right(ended)
    assert "job.finished {" in ended.stdout, "the receiver of the tutorial has its event"
    assert "completed {'waiting': 0, 'sending': 0, 'unsure': 0, 'sent': 2" in ended.stdout
    [program] = [it.body for it in paper(checkout.folder, "README.md", "Send").blocks if it.language == "python"]
    job = (ROOT / "examples" / "first-job.json").read_text("utf-8")
    (checkout.folder / "own.py").write_text(
        f"import json, os\nkey, job = os.environ['KEY'], json.loads('''{job}''', strict=False)\n"
        + translated(program, ports)
    )
    ended = checkout.run("set -e; export KEY=$(mailerd keys create python --quiet); .venv/bin/python own.py")
    assert "'sent': 2" in ended.stdout, ended.stderr


def test_the_lines_of_the_readme_work_with_a_wheel_in_an_empty_folder(wheel: Place, installed: Sandbox) -> None:
    script = lines(wheel.folder, SECTIONS[:1], ports=ports_of(installed))
    assert (wheel.folder / ".sandbox/templates/welcome/body.html").is_file(), "the console of the tutorial has one"
    assert_the_readme_is_right(wheel.run(script.replace(".venv/bin/", "")))


def test_the_lines_for_a_mailbox_of_ones_own_lead_to_a_daemon_that_is_ready(checkout: Place, sandbox: Sandbox) -> None:
    sandbox.until("Ctrl-C stops the sandbox")
    known = tomllib.loads((checkout.folder / ".sandbox" / "mailerd.toml").read_text("utf-8"))
    admin = known["database"]["url"].replace("//mailerd:", "//admin:")
    blocks = paper(checkout.folder, "README.md", "Your own Gmail").blocks
    own = Place(checkout.folder / "own", ROOT)
    programs(own.folder)
    (own.folder / "client.json").write_text((checkout.folder / ".sandbox/credentials/client.json").read_text())
    (own.folder / "client.json").chmod(0o600)
    toml = own_database(own.folder, admin)
    port, google = free_port(), {name: known["gmail"][name] for name in ("api_root", "token_uri", "auth_uri")}
    toml += "\n[gmail]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in google.items())
    (own.folder / "mailerd.toml").write_text(f"{toml}\n[intake]\nport = {port}\n")
    (own.folder / "mailerd.toml").chmod(0o600)
    login, run = [block.body for block in blocks if block.language == "bash"]
    authorize(own, login)
    assert run.endswith("mailerd run\n")
    ended = own.run("set -e\n" + run.removesuffix(".venv/bin/mailerd run\n"))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    daemon = subprocess.Popen(
        [own.folder / ".venv/bin/mailerd", "run"], cwd=own.folder, env=own.environment, stderr=subprocess.DEVNULL
    )
    try:
        assert eventually(lambda: ready(port))
    finally:
        daemon.terminate()
        assert daemon.wait(60) == 0


@pytest.mark.parametrize("kind", ["mariadb", "mysql"])
def test_the_database_of_the_readme_lets_in_at_the_first_login_after_each_start(checkout: Place, kind: str) -> None:
    """MySQL asks for the password itself then, which goes to a server that has proved its identity and no other."""
    program = mysql_server() if kind == "mysql" else shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip(f"no {kind} is installed; for MySQL: tools/mysql-server")
    config = checkout.folder / "mailerd.toml"
    with Server(cache=ROOT / ".cache", program=program) as server:
        config.write_text(own_database(checkout.folder, server.url_of("mailerd", user="admin")))
        config.chmod(0o600)
        for line in ("mailerd migrate", "mailerd jobs list", "mailerd keys list"):
            ended = checkout.run(line)
            assert ended.returncode == 0, ended.stdout + ended.stderr
            server.restart()
        if kind == "mysql":  # over TCP it cannot prove it, and the error says how it can
            tcp = f"MAILERD_DATABASE__URL=mysql://mailerd:{server.password}@127.0.0.1:{server.port}/mailerd"
            with as_admin(server.url_of("mailerd", user="admin")) as cursor:
                cursor.execute("FLUSH PRIVILEGES")  # as a start does, behind which the server's own logins are
            ended = checkout.run(f"{tcp} mailerd migrate")
            assert ended.returncode == 1
            assert "?unix_socket=/run/mysqld/mysqld.sock" in ended.stderr
            assert "'user'@'localhost'" in ended.stderr


@contextmanager
def as_admin(url: str) -> Iterator[Cursor]:
    it = URL(url)
    assert it.host
    assert it.password
    server = pymysql.connect(host=it.host, port=it.port or 0, user="admin", password=it.password, autocommit=True)
    with server, server.cursor() as cursor:
        yield cursor


def own_database(folder: Path, admin: str) -> str:
    """Make the database of the README for a user `reader`; the configuration that leads to it."""
    blocks = paper(folder, "README.md", "Your own Gmail").blocks
    [statements] = [block.body.replace("mailerd", "reader") for block in blocks if block.language == "sql"]
    with as_admin(admin) as cursor:
        for each in filter(str.strip, statements.split(";")):
            cursor.execute(each)
        cursor.execute("SELECT @@socket")  # as the README says
        [socket] = cursor.fetchone() or [""]
    [toml] = [block.body for block in blocks if block.language == "toml"]
    toml = toml.replace("//mailerd:", "//reader:").replace("/mailerd?", "/reader?")
    return toml.replace("/run/mysqld/mysqld.sock", socket)


def authorize(place: Place, line: str) -> None:
    """Type the line of the README, and agree in the browser as the owner of the mailbox does."""
    process = subprocess.Popen(
        ["bash", "-c", line], cwd=place.folder, env=place.environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = ""
    while not (found := re.search(r"http\S+/auth\?\S+", said)):
        more = process.stdout.readline()
        assert more, said
        said += more
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(found[0], timeout=60) as page:
        assert "is authorized" in page.read().decode()
    assert process.wait(60) == 0
    process.stdout.close()


def ready(port: int) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://127.0.0.1:{port}/health/ready", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def test_without_the_sandbox_a_command_says_that_it_found_no_configuration(checkout: Place) -> None:
    ended = checkout.run("DATABASE_URL=mysql://u@127.0.0.1:9/d .venv/bin/mailerd jobs list")
    assert ended.returncode == 1
    assert "no configuration file found" in ended.stderr
