"""The demonstration from a message's button to a suppression, with the real daemon."""

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.sandbox.test_demo import ROOT
from tests.support.heard import PATIENCE


def asked(url: str, *, post: bool = False) -> str:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, data=b"" if post else None, timeout=PATIENCE) as answer:
        text: str = answer.read().decode()
        return text


def test_who_presses_the_button_of_a_message_is_suppressed(tmp_path: Path) -> None:
    job = json.loads((ROOT / "examples" / "welcome.json").read_text("utf-8"))
    job["recipients"] = job["recipients"][:1]
    (tmp_path / "job.json").write_text(json.dumps(job), "utf-8")
    words = ["sandbox", "--demo", "--job", "job.json", "--latency", "0", "--intake-port", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "mailerd", *words], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as sandbox:
        assert sandbox.stdout is not None
        try:
            said = ""
            while "Ctrl-C stops the sandbox" not in said:
                line = sandbox.stdout.readline()
                assert line, said
                said += line
            assert re.search(r"Unsubscribe links +http://127\.0\.0\.1:\d+/u/, on this machine only", said)
            (outbox,) = re.findall(r"Messages +(http\S+)", said)
            (message,) = re.findall(r'href="/(messages/[^"]+)"', asked(outbox))
            assert "<button>Unsubscribe</button>" in asked(outbox + message)
            answered = asked(f"{outbox}{message}/unsubscribe", post=True)
            assert "<h1>Unsubscribed</h1>" in answered
            assert "You are unsubscribed" in answered
            why = subprocess.run(
                [sys.executable, "-m", "mailerd", "suppress", "why", job["recipients"][0]["email"]],
                cwd=tmp_path, capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert re.search(
                r"suppressed \(new-readers\) at [-\d]+ [:\d]+Z: unsubscribed, source: one-click unsubscribe", why.stdout
            )
        finally:
            sandbox.terminate()
            sandbox.wait(PATIENCE)
