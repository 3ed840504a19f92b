"""`mailerd keys`: as an operator types it."""

import asyncio
import sys

import pytest

from mailerd.cli import main
from mailerd.config import DatabaseSettings
from mailerd.events.process import StoreEvents
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import migrate
from mailerd.store.write.api_keys import ApiKeys, digest
from mailerd.store.write.webhooks import NewEndpoint, Webhooks
from tests.support.heard import Heard

GO_ON = "Webhook endpoints that it created remain active: shop. To remove one: `mailerd webhooks remove NAME`"


class Command:
    """Runs `mailerd keys …`: its exit code, standard output and standard error."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setenv("DATABASE_URL", url)
        self.url = url
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["mailerd", "keys", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    def migrate(self) -> None:
        async def work(database: Database, events: StoreEvents) -> None:
            await migrate(database, events=events)

        self._with_database(work)

    def senders(self, secret: str) -> frozenset[str] | None:
        found: list[frozenset[str] | None] = []

        async def work(database: Database, _: StoreEvents) -> None:
            key = await ApiKeys(database, timeout=5).active(digest(secret))
            assert key is not None
            found.append(key.senders)

        self._with_database(work)
        return found[0]

    def endpoint(self, name: str, *, owner: int) -> None:
        async def work(database: Database, _: StoreEvents) -> None:
            await Webhooks(database, timeout=5).create(
                NewEndpoint(name, "https://example.com/", owner=owner), actor="test"
            )

        self._with_database(work)

    def _with_database(self, work: object) -> None:
        async def run() -> None:
            events = StoreEvents(Heard())
            database = Database(DatabaseSettings(url=self.url), events=events)
            await work(database, events)  # type: ignore[operator]
            await database.close()

        asyncio.run(run())


@pytest.fixture
def bare(fresh_database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(fresh_database_url, monkeypatch, capsys)


@pytest.fixture
def keys(bare: Command) -> Command:
    bare.migrate()
    return bare


def test_create_prints_the_key_as_the_last_line_and_it_works(keys: Command) -> None:
    code, out, err = keys("create", "my app")

    assert (code, err) == (0, "")
    secret = out.splitlines()[-1]
    assert secret.startswith("sk_live_")
    assert keys.senders(secret) is None


def test_a_key_can_be_made_for_several_senders(keys: Command) -> None:
    code, out, _ = keys("create", "app", "--sender", "Me@Example.com", "--sender", "you@example.com")

    assert code == 0
    assert keys.senders(out.splitlines()[-1]) == frozenset({"me@example.com", "you@example.com"})


def test_a_sender_that_is_no_address_is_refused_by_name(keys: Command) -> None:
    code, out, err = keys("create", "app", "--sender", "me")

    assert code == 1
    assert "--sender me:" in err
    assert "sk_live_" not in out


def test_the_list_shows_names_and_never_a_key(keys: Command) -> None:
    _, out, _ = keys("create", "app", "--sender", "me@example.com")
    secret = out.splitlines()[-1]
    keys("revoke", "app")
    code, out, _ = keys("list")

    assert code == 0
    assert "app" in out
    assert "me@example.com" in out
    assert secret[-4:] in out
    assert secret not in out


def test_a_name_in_brackets_is_listed_as_it_is(keys: Command) -> None:
    keys("create", "shop [/eu] :warning:")
    code, out, err = keys("list")

    assert (code, err) == (0, "")
    assert "shop [/eu] :warning:" in out


def test_the_endpoints_of_a_revoked_key_are_named_since_they_go_on(keys: Command) -> None:
    keys("create", "app")
    keys("create", "till")
    keys.endpoint("shop", owner=1)
    keys.endpoint("till", owner=2)
    code, out, _ = keys("revoke", "app")

    assert (code, out.splitlines()) == (0, ["Revoked API key 1.", GO_ON])


def test_a_revoked_key_is_gone_and_revoking_it_again_fails(keys: Command) -> None:
    keys("create", "app")
    code, out, _ = keys("revoke", "1")
    assert (code, out) == (0, "Revoked API key 1.\n")
    code, _, err = keys("revoke", "1")

    assert code == 1
    assert "no active key has the id '1'" in err


def test_without_a_schema_the_command_says_what_to_do(bare: Command) -> None:
    code, _, err = bare("create", "app")

    assert code == 1
    assert "mailerd migrate" in err
