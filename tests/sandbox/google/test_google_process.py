"""The sandbox Google as a process: ready, usable, gone at once, with nothing lost."""

import base64
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from mailerd.sandbox.google.__main__ import main


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mailerd.sandbox.google", "--units-per-minute", "0", "--port", "0"),
            *("--mailbox", "me@example.com", "--credentials-dir", str(tmp_path / "credentials")),
            *("--outbox-dir", str(tmp_path / "outbox"), "--latency", "0.001"),
            *("--fault", '{"kind": "backend_error", "method": "messages.send"}'),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def _post(url: str, body: bytes, **headers: str) -> dict[str, Any]:
    with urlopen(Request(url, data=body, headers=headers, method="POST"), timeout=60) as answer:  # noqa: S310 -- loopback
        result: dict[str, Any] = json.load(answer)
        return result


def test_it_is_ready_when_it_prints_its_url_and_ends_cleanly_with_every_message_on_disk(
    process: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert process.stdout is not None
    assert process.stderr is not None
    url = process.stdout.readline().strip()
    file = tmp_path / "credentials" / "me@example.com.json"
    assert file.stat().st_mode & 0o077 == 0
    blob = json.loads(file.read_text())
    form = {k: blob[k] for k in ("client_id", "client_secret", "refresh_token")} | {"grant_type": "refresh_token"}
    token = _post(url + "token", urlencode(form).encode())["access_token"]
    raw = base64.urlsafe_b64encode(b"To: ada@example.org\r\n\r\nhello").decode()
    sending, bearer = url + "gmail/v1/users/me/messages/send", {"Authorization": f"Bearer {token}"}
    body = json.dumps({"raw": raw}).encode()
    with pytest.raises(HTTPError, match="500") as refused:
        _post(sending, body, **bearer)
    refused.value.close()
    ids = [_post(sending, body, **bearer)["id"] for _ in range(20)]
    hanging = _post(url + "sandbox/faults", b'{"kind": "hang_before"}')
    assert hanging["kind"] == "hang_before"
    with pytest.raises(TimeoutError):
        urlopen(Request(sending, data=body, headers=bearer, method="POST"), timeout=0.1)  # noqa: S310 -- loopback
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0  # the call that hangs does so for a minute
    assert process.stderr.read() == ""
    written = sorted(path.stem for path in (tmp_path / "outbox").glob("*.eml"))
    assert written == ids
    assert (tmp_path / "outbox" / f"{ids[0]}.eml").read_bytes().endswith(b"\r\n\r\nhello")


@pytest.mark.parametrize(
    "arguments", [["--per-day", "-1"], ["--fault", "{"], ["--fault", '{"kind": "x"}'], ["--mailbox", "nobody"]]
)
def test_a_wrong_option_is_named_and_nothing_starts(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("mailerd sandbox: ")
