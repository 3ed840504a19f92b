"""Every sentence that people read is a text of the catalogue, which has its Chinese (test_catalogue.py)."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.house.sentences import Sentence, sentences
from tests.house.source import ROOT, modules

SURFACES: Final[Mapping[str, tuple[str, ...]]] = {
    "causes in the log": ("core", "store", "gmail", "worker", "inbox", "ops", "app.py"),
    "errors of the API": ("http", "intake", "mail"),
    "the configuration": ("config",),
    "what the console refuses": ("web/frame/forms.py", "web/frame/forms.py"),
    "commands and their help": ("cli",),
    "mailerd check": ("cli/checks",),
    "the sandbox": (
        "sandbox/demo.py",
        "sandbox/demo.py",
        "sandbox/demo.py",
        "sandbox/demo.py",
        "sandbox/google/pages.py",
        "sandbox/google/pages.py",
    ),
}
"""The folders and modules that speak to people, by where their words are read."""
SILENT: Final = (
    "cli/failure.py",
    "cli/manual.py",
    "cli/lazy_group.py",
    "config/example.py",
    "core/pauses.py",
    "gmail/oauth_login.py",
    "intake/docs/api_pages.py",
    "intake/openapi.py",
    "intake/routes.py",
    "intake/unsubscribe_pages.py",
    "intake/unsubscribe_site.py",
    "mail/environment.py",
    "mail/mime.py",
    "ops/watchdog.py",
    "ops/metrics.py",
)
"""What is for developers and for Prometheus, which is English; what click says and we say again; the help, which is
checked below; and pages that have their own languages."""
NO_WORDS: Final = frozenset(
    {
        "error, error_code, error_args",
        "NULL, NULL, error, error_code, error_args",
        "daemon {host}:{pid}",
        "inbox {email}",
        "ALL PRIVILEGES",
        "Bearer {access_token}",
        'Bearer realm="mailerd"',
        "FORCE INDEX (PRIMARY)",
        "FORCE INDEX (by_sender)",
        "FORCE INDEX (message)",
        "FORCE INDEX (thread)",
        "an unknown user",
        "Gmail is used outside `async with`",
        "unknown user",
        "X-API-Key: {key}",
        "bold green",
        "bold red",
        "bold yellow",
        "ddress already in use",
        "gzip, deflate",
        "mkdir -p {kept} && systemctl restart systemd-journald",
        "job_actions a FORCE INDEX (PRIMARY)",
        "of the command",
        "{check}: {what}: a remedy is missing",
        " and {it} more",
        "'is sent, and nothing says why'",
        "'is unsure, but neither a draft nor a direct send is recorded'",
        "(Mail sending)",
        "Accept-Language, Cookie",
        "the library",
        ": still here\n\n",
        "Hello {{{{ name }}}}",
        "FORCE INDEX (job)",
        "Mail service not enabled",
        "access denied",
        "mailbox unavailable",
        "Quota exceeded",
        "ROLLBACK TO SAVEPOINT s",
        "SAVEPOINT s",
        "READ ONLY of the schema",
        "Value error, ",
        "\\bADD (COLUMN|KEY) (\\w+)",
        "BASE TABLE",
        "\\bADD COLUMN (\\w+)",
        "auto reply",
        "automatic reply",
        "automatisch antwoord",
        "automatische antwort",
        "no one",
        "out of office",
        "primary key",
        "primary key <(.*)>",
        "rate limit",
        "resposta automática",
        "respuesta automática",
        "retry: {it}\n\n",
        "risposta automatica",
        "réponse automatique",
        "a blob of {size} bytes",
        "a frame of {length} bytes",
        "a suppression has changed since it was read",
        "bounced: {bounced}",
        "command, {user_name}",
        "draft gone",
        "failure rate",
        "has {number} fields; known fields: {known}",
        "is required",
        "job {id}",
        "key {api_key_id}",
        "key {name}",
        "key:(?P<name>.+) via console",
        "list {list_id}",
        "must be a string",
        "no object",
        "no scope",
        "not allowed",
        "not ready",
        "public site",
        "renderer {fields}",
        "seen in SENT",
        "sender {email}",
        "stalled {loop}",
        "the key of the addresses has not been loaded",
        "webhook {name}",
        "{ident} is not an id of Google's",
        "GET {path} HTTP/1.0",
        "Host: {authority}",
        "{name} (no section)",
    }
)
"""What looks like a sentence and is none: SQL and fragments; words that are looked for in what others say; codes and
keys (a state of a mailbox, a proof, who did it, what a condition or an alert is about); what only who develops mailerd
reads; and what pydantic needs as a constant, which is said again by its type."""


def spoken(places: tuple[str, ...]) -> list[Sentence]:
    """The sentences of some modules or folders of mailerd."""
    paths: list[Path] = []
    for place in places:
        whole = ROOT / "mailerd" / place
        paths += modules(f"mailerd/{place}") if whole.is_dir() else [whole]
    silent = {ROOT / "mailerd" / each for each in SILENT}
    return [
        each
        for path in paths
        if path not in silent
        for each in sentences(path)
        if unescaped(each.template) not in NO_WORDS
    ]


def unescaped(template: str) -> str:
    """A template in which a field of a later `format` stands like any other."""
    return re.sub(r"\{\{(\w+)\}\}", r"{\1}", template)


@pytest.mark.parametrize("surface", SURFACES)
def test_what_people_read_is_a_text_of_the_catalogue(surface: str) -> None:
    assert [f"{each.spot} {each.template!r}" for each in spoken(SURFACES[surface])] == [], "wrap it in t() or tn()"


def test_every_word_of_the_pages_of_the_sandbox_has_its_chinese() -> None:
    pages = "".join(path.read_text("utf-8") for path in (ROOT / "mailerd/sandbox/google/pages").glob("*.html"))
    bare = re.sub(r"\{%.*?%\}|\{\{.*?\}\}|<pre>.*?</pre>|<[^>]*>", " ", pages, flags=re.DOTALL)
    assert set(re.findall(r"[A-Za-z][\w-]+", bare)) <= {
        "HTML",
        "eml",
        "sandbox",
        "List-Unsubscribe",
        "List-Unsubscribe-Post",
    }


def test_no_exception_outlives_its_reason() -> None:
    everything = {unescaped(each.template) for path in modules("mailerd") for each in sentences(path)}
    assert sorted(NO_WORDS - everything) == []
