"""Configuration: where a value comes from, which one wins, and that every mistake is refused by name."""

import json
from pathlib import Path
from urllib.parse import quote

import pytest
import yarl
from hypothesis import example, given
from hypothesis import strategies as st

from mailerd.config import Settings, found, load
from mailerd.config.database_url import each_host
from mailerd.config.discovery import Found
from mailerd.core.suppression import DEAD_TOKEN
from mailerd.errors import ConfigurationError
from mailerd.mail.mime import ListHeaders

URL = "mysql://u:p@127.0.0.1:3306/mailerd"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder: a `.env` that lies about elsewhere must not be read."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, "utf-8")
    return path


def refusal(path: Path | None = None, **environment: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(path, environment=environment)
    return str(caught.value)


def test_without_any_file_the_defaults_are_those_of_the_documentation() -> None:
    settings = load(environment={})
    assert settings == Settings()
    assert (settings.intake.host, settings.intake.port) == ("127.0.0.1", 5000)
    assert (settings.runner.poll_interval, settings.runner.concurrency) == (2.0, 20)
    assert (settings.pace.units_per_minute, settings.pace.per_minute, settings.pace.per_day) == (6000, 0, 2000)
    assert (settings.database.connect_timeout, settings.database.connect_attempts) == (10.0, 3)


def test_the_later_source_wins_key_by_key(folder: Path) -> None:
    path = written(folder, '[runner]\npoll_interval = 3\nconcurrency = 4\nlease = 90\n[log]\nlevel = "debug"\n')
    (folder / ".env").write_text("MAILERD_RUNNER__CONCURRENCY=5\nMAILERD_RUNNER__LEASE=91\nOTHER=ignored\n")
    settings = load(path, environment={"MAILERD_RUNNER__LEASE": "92", "HOME": "/ignored"})
    assert (settings.runner.poll_interval, settings.runner.concurrency, settings.runner.lease) == (3.0, 5, 92.0)
    assert settings.log.level == "debug"


def test_database_url_works_from_dotenv_and_the_environment_wins_over_it(folder: Path) -> None:
    path = written(folder, '[database]\nurl = "mysql://file@h/d"\npool_size = 3\n')
    (folder / ".env").write_text("DATABASE_URL=mysql://dotenv@h/d\n")
    assert load(path, environment={}).database.url == "mysql://dotenv@h/d"
    settings = load(path, environment={"DATABASE_URL": URL})
    assert (settings.database.url, settings.database.pool_size) == (URL, 3)


@pytest.mark.parametrize(
    "query, why",
    [
        ("sslmode=require", "not sslmode"),
        ("ssl=false", "ssl must be true, verify_ca or unverified"),
        ("ssl=1", "ssl must be true, verify_ca or unverified"),
        ("charset=latin1", "charset can only be utf8mb4"),
        ("unix_socket=", "unix_socket needs a value"),
        ("unix_socket", "unix_socket needs a value"),
        ("ssl=true&unix_socket=", "unix_socket needs a value"),
        ("unix_socket=/s&unix_socket=", "unix_socket needs a value"),
        ("ssl_ca=", "ssl_ca needs a value"),
    ],
)
def test_a_wish_for_tls_that_nobody_understands_is_refused(query: str, why: str) -> None:
    assert why in refusal(DATABASE_URL=f"{URL}?{query}")


@pytest.mark.parametrize(
    "query", ["ssl=true", "ssl=unverified", "ssl_ca=/ca.pem", "unix_socket=/run/mysqld/mysqld.sock", "charset=utf8mb4"]
)
def test_what_may_follow_the_question_mark(query: str) -> None:
    assert load(environment={"DATABASE_URL": f"{URL}?{query}"}).database.url.endswith(query)


def test_the_key_of_our_own_wins_over_database_url() -> None:
    environment = {"DATABASE_URL": "mysql://other@h/d", "MAILERD_DATABASE__URL": URL}
    assert load(environment=environment).database.url == URL


def test_an_empty_database_url_is_none_at_all() -> None:
    assert load(environment={"DATABASE_URL": ""}).database.url == Settings().database.url


def test_the_name_of_the_file_is_not_a_key() -> None:
    assert (
        load(environment={"MAILERD_CONFIG": "/etc/mailerd.toml", "MAILERD_URL": "http://127.0.0.1:5000"}) == Settings()
    )


@pytest.mark.parametrize(
    "text, named",
    [
        ("[runner]\nconcurency = 3\n", "runner.concurency: unknown key"),
        ("[runer]\nconcurrency = 3\n", "runer: unknown key"),
        ("poll_interval = 3\n", "poll_interval: unknown key"),
        ("[runner]\nconcurrency = 0\n", "runner.concurrency: "),
        ("[runner]\npoll_interval = -1\n", "runner.poll_interval: "),
        ("[intake]\nport = 70000\n", "intake.port: "),
        ('[log]\nlevel = "loud"\n', "log.level: "),
        ('[gmail]\napi_root = "gmail.googleapis.com"\n', "gmail.api_root: must start with http:// or https://"),
        ('[gmail]\nproxy = "proxy.example.com:3128"\n', "gmail.proxy: must be an HTTP proxy with its port"),
        ('[gmail]\nproxy = "socks5://proxy.example.com:1080"\n', "gmail.proxy: must be an HTTP proxy with its port"),
        ('[gmail]\nproxy = "http://proxy.example.com"\n', "gmail.proxy: must be an HTTP proxy with its port"),
        ('[gmail]\nproxy = "http://proxy.example.com:x"\n', "gmail.proxy: must be an HTTP proxy with its port"),
        *(
            (f"[gmail]\nproxy = 'http://{user}@proxy.example.com:3128'\n", "gmail.proxy: must be an HTTP proxy")
            for user in (
                "me:12#x",
                "me:12?x",
                "me:12/x",
                "me:1[2",
                "office\\me:12",
                "m%3Ae:12",
            )  # else the host were me:12
        ),
        ("runner = 3\n", "runner: "),
        ('[database]\nurl = "postgresql://u@h/d"\n', "database.url: must look like mysql://"),
        ('[database]\nurl = "mysql://h/"\n', "database.url: must name a user and a database"),
        ('[database]\nurl = "mysql://u@h:notaport/d"\n', "database.url: is not an address"),
        ('[database]\nurl = "mysql://u@a,b:notaport/d"\n', "database.url: is not an address"),
        ('[database]\nurl = "mysql://u@a,db..example.com/d"\n', "database.url: is not an address"),
        (f'[database]\nurl = "mysql://u@{64 * "a"}.example.com/d"\n', "database.url: is not an address"),
        ('[database]\nurl = "mysql://u@a,,b/d"\n', "database.url: names an empty host"),
        ('[database]\nurl = "mysql://u@a,b/d?unix_socket=/s"\n', "database.url: names an empty host or a unix_socket"),
        ('[database]\nurl = "mysql://u@a,b:3306,a:3306/d"\n', "database.url: names a host twice"),
    ],
)
def test_a_mistake_in_the_file_is_refused_by_name(folder: Path, text: str, named: str) -> None:
    assert f"\n  {named}" in refusal(written(folder, text))


def test_several_hosts_share_user_password_database_and_options() -> None:
    url = load(environment={"DATABASE_URL": "mysql://u:p,q%40@a,b:3307,[::1]/d?ssl=true"}).database.url
    assert each_host(url) == [
        "mysql://u:p,q%40@a/d?ssl=true", "mysql://u:p,q%40@b:3307/d?ssl=true", "mysql://u:p,q%40@[::1]/d?ssl=true",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name, named",
    [
        ("MAILERD_RUNNER__CONCURENCY", "runner.concurency: unknown key"),
        ("MAILERD_RUNER__CONCURRENCY", "runer: unknown key"),
        ("MAILERD_CONCURRENCY", "MAILERD_CONCURRENCY (no section): unknown key"),
        ("MAILERD_RUNNER", "MAILERD_RUNNER (no section): unknown key"),
        ("mailerd_runner__concurency", "runner.concurency: unknown key"),
        ("MAILERD_RUNNER__CONCURRENCY", "runner.concurrency: "),
    ],
)
def test_a_mistake_in_the_environment_or_in_dotenv_is_refused_by_name(folder: Path, name: str, named: str) -> None:
    assert f"\n  {named}" in refusal(None, **{name: "many"})
    (folder / ".env").write_text(f"{name}=many\n")
    assert f"\n  {named}" in refusal()


def test_every_mistake_is_named_at_once(folder: Path) -> None:
    text = refusal(written(folder, "[runner]\nconcurrency = 0\nconcurency = 3\n[intake]\nport = -1\n"), MAILERD_X="y")
    for key in ("runner.concurrency", "runner.concurency", "intake.port", "MAILERD_X (no section)"):
        assert f"\n  {key}: " in text


def test_a_lease_shorter_than_the_longest_send_is_refused_with_both_keys_and_numbers() -> None:
    text = refusal(MAILERD_RUNNER__LEASE="60", MAILERD_GMAIL__REQUEST_TIMEOUT="30")
    for part in ("runner.lease (60 s)", "gmail.request_timeout (30 s)", "raise the lease above 60"):
        assert part in text
    assert load(environment={"MAILERD_RUNNER__LEASE": "60.1"}).runner.lease == 60.1


@pytest.mark.parametrize(
    "given, refused",
    [
        ({"RESERVE": "500"}, "pace.reserve (500) leaves nothing of pace.consumer_per_day (500)"),
        ({"RESERVE": "2000", "CONSUMER_PER_DAY": "0"}, "pace.reserve (2000) leaves nothing of pace.per_day (2000)"),
        ({"RESERVE": "499"}, ""),
        ({"RESERVE": "1999", "CONSUMER_PER_DAY": "0"}, ""),
        ({"RESERVE": "9000", "CONSUMER_PER_DAY": "0", "PER_DAY": "0"}, ""),
    ],
)
def test_a_reserve_that_leaves_a_mailbox_nothing_is_refused_with_both_keys(given: dict[str, str], refused: str) -> None:
    environment = {f"MAILERD_PACE__{key}": value for key, value in given.items()}
    if not refused:
        assert load(environment=environment).pace.reserve == int(given["RESERVE"])
        return
    assert refused in (said := refusal(None, **environment))
    assert "lower it" in said


def test_a_file_that_is_missing_or_no_toml_is_named(folder: Path) -> None:
    assert "missing.toml: No such file or directory; name another" in refusal(folder / "missing.toml")
    assert "config.toml is not valid TOML" in refusal(written(folder, "[runner\n"))


def test_a_file_that_this_user_may_not_read_is_told_with_what_helps(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")  # root, which runs tests in a container, may read everything

    file = written(folder, "")
    monkeypatch.setattr(Path, "open", closed)
    assert f"{file}: not readable by this user; run this as a user who can read the file" in refusal(file)


def test_a_refusal_never_shows_the_password() -> None:
    text = refusal(DATABASE_URL="mysql://u:geheim@h:notaport/d", MAILERD_RUNNER__LEASE="x")
    assert "database.url" in text
    assert "geheim" not in text
    assert "geheim" not in repr(load(environment={"DATABASE_URL": "mysql://u:geheim@h/d"}))


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:p@SECRET.invalid/x@127.0.0.1/mailerd",
        "mysql://u:p@ss/x?SECRET@h/db",
        "mysql://u:p@SECRET/x#tail@h/db",
        "mysql://u:p@ss/SECRET@h/db",
        "mysql://u:p@ss/x/SECRET",
        "mysql://u:SECRET/x@h/db",
        "mysql://u:SECRET#x@h/db",
        "mysql://u:SECRET?x@h/db",
        "mysql://u:SECRET[x@h/db",
        "mysql://u:1/SECRET@h/db",
        "mysql://u:p@h/db?x=1&SECRET=2",
    ],
)
def test_a_password_that_was_not_encoded_is_refused_with_the_remedy_and_not_shown(url: str) -> None:
    text = refusal(DATABASE_URL=url)
    assert "\n  database.url: " in text
    assert text.endswith("a password's @ / # ? [ are written %40 %2F %23 %3F %5B")
    assert "secret" not in text.lower()


@example("[]@#")
@given(st.text(st.sampled_from("@/#?[]%:&=;~ab1"), min_size=1, max_size=12))
def test_whatever_a_password_holds_it_is_refused_or_leads_to_the_host_that_was_meant(password: str) -> None:
    try:
        url = load(environment={"DATABASE_URL": f"mysql://u:{password}@right.example/mailerd"}).database.url
    except ConfigurationError:
        return
    parts = yarl.URL(url)
    assert (parts.host, parts.path, parts.fragment, parts.user) == ("right.example", "/mailerd", "", "u")


@given(st.text(min_size=1, max_size=12))
def test_an_encoded_password_is_the_one_that_was_meant(password: str) -> None:
    coded = quote(password, safe="", errors="surrogatepass")
    url = load(environment={"DATABASE_URL": f"mysql://u:{coded}@h/mailerd"}).database.url
    assert (yarl.URL(url).password, yarl.URL(url).host) == (password, "h")


def test_a_relative_folder_of_credentials_is_relative_to_the_file_that_names_it(folder: Path) -> None:
    (folder / "etc").mkdir()
    path = written(folder / "etc", '[gmail]\ncredentials_dir = "keys"\n')
    assert load(path, environment={}).gmail.credentials_dir == folder / "etc" / "keys"
    from_environment = load(path, environment={"MAILERD_GMAIL__CREDENTIALS_DIR": "keys"})
    assert from_environment.gmail.credentials_dir == Path("keys")


def test_settings_never_change() -> None:
    settings = load(environment={})
    with pytest.raises(ValueError, match="frozen"):
        settings.runner.lease = 1.0  # type: ignore[misc]  # that it is an error is what is shown


def test_aliases_are_read_in_lower_case_from_file_and_environment(folder: Path) -> None:
    path = written(folder, '[gmail]\naliases = {"Sales@Example.com" = "ME@example.com"}\n')
    assert load(path, environment={}).gmail.aliases == {"sales@example.com": "me@example.com"}
    settings = load(path, environment={"MAILERD_GMAIL__ALIASES": '{"a@example.com": "b@example.com"}'})
    assert settings.gmail.aliases == {"a@example.com": "b@example.com"}
    assert load(path, environment={"MAILERD_GMAIL__ALIASES": ""}).gmail.aliases == {}


@pytest.mark.parametrize(
    "given, words",
    [
        ('{"sales": "me@example.com"}', "both must be email addresses"),
        ('{"sales@example.com": "@example.com"}', "both must be email addresses"),
        ('{"a@example.com": "b@example.com", "b@example.com": "c@example.com"}', "the value is an alias itself"),
        ("a=b", "is not JSON"),
        ("[1]", "gmail.aliases"),
    ],
)
def test_aliases_that_lead_nowhere_are_refused(given: str, words: str) -> None:
    assert words in refusal(MAILERD_GMAIL__ALIASES=given)


def test_an_address_of_googles_that_is_none_is_refused() -> None:
    assert "gmail.auth_uri: must start with http" in refusal(MAILERD_GMAIL__AUTH_URI="accounts.google.com")
    assert "gmail.token_uri: must start with http" in refusal(MAILERD_GMAIL__TOKEN_URI="oauth2")


@pytest.mark.parametrize(
    "url", ["https://bücher.example", "https://mail.example.com/ü", "https://a b.example", "https://x/<", "https://"]
)
def test_a_public_address_that_no_message_could_name_is_refused(url: str) -> None:
    assert "public.base_url: must be plain ASCII" in refusal(MAILERD_PUBLIC__BASE_URL=url)


def test_a_public_address_may_have_a_port_and_a_path() -> None:
    settings = load(environment={"MAILERD_PUBLIC__BASE_URL": "https://xn--bcher-kva.example:8443/mail/"})
    assert settings.public.base_url == "https://xn--bcher-kva.example:8443/mail"
    headers = ListHeaders(f"{settings.public.base_url}/u/{DEAD_TOKEN}", "mailto:me@example.com", "News", "news.example")
    assert f"<{settings.public.base_url}/u/" in headers.lines()[0]


def test_a_dotenv_that_is_not_utf_8_is_refused_with_its_place_and_the_remedy(folder: Path) -> None:
    (folder / ".env").write_bytes("MAILERD_LOG__LEVEL=debug\n# für den Dienst\n".encode("latin-1"))
    said = refusal()
    assert f"{folder / '.env'} is not UTF-8 (line 2)" in said
    assert "save it as UTF-8" in said


def test_a_dotenv_that_cannot_be_read_is_refused_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("MAILERD_LOG__LEVEL=debug\n")

    def closed(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")  # root, which runs tests in a container, may read everything

    monkeypatch.setattr("mailerd.config.file_owner.os.open", closed)
    assert f"cannot read {folder / '.env'}: Permission denied" in refusal()


def test_every_key_can_be_set_by_its_variable() -> None:
    """Whatever its kind: its default, written as config.example.toml would have it, is read back as what it is."""
    for section, field in Settings.model_fields.items():
        for key in type(field.default).model_fields:
            default = getattr(field.default, key)
            text = json.dumps(default) if isinstance(default, dict | list) else str(default)
            known = load(environment={f"MAILERD_{section.upper()}__{key.upper()}": text})
            assert getattr(getattr(known, section), key) == default, f"{section}.{key}"


@pytest.mark.parametrize(
    "given",
    [
        '["slack://a/b/c", "mailto://u:p@h?to=x@y,z@y"]',
        "slack://a/b/c,mailto://u:p@h?to=x@y,z@y",
        "slack://a/b/c, mailto://u:p@h?to=x@y,z@y",
        " slack://a/b/c  mailto://u:p@h?to=x@y,z@y ",
    ],
)
def test_a_list_in_the_environment_is_json_or_words(given: str) -> None:
    known = load(environment={"MAILERD_ALERTS__URLS": given})
    assert known.alerts.urls == ["slack://a/b/c", "mailto://u:p@h?to=x@y,z@y"]


def test_a_list_that_is_none_is_refused_by_name_and_shows_no_token() -> None:
    said = refusal(MAILERD_ALERTS__URLS='["slack://secret"')
    assert "alerts.urls: is not a JSON list" in said
    assert "secret" not in said
    assert load(environment={"MAILERD_ALERTS__URLS": ""}).alerts.urls == []


@pytest.mark.parametrize("given, level", [("INFO", "info"), ("warn", "warning"), ("Warning", "warning")])
def test_a_level_may_be_written_as_elsewhere(given: str, level: str) -> None:
    assert load(environment={"MAILERD_LOG__LEVEL": given}).log.level == level


def test_what_is_one_of_several_words_may_be_in_capitals() -> None:
    log = load(environment={"MAILERD_LOG__FORMAT": "TEXT", "MAILERD_LOG__LANGUAGE": "ZH"}).log
    assert (log.format, log.language) == ("text", "zh")


def test_an_empty_host_is_refused_since_it_would_be_every_address() -> None:
    assert "intake.host: is empty, which means every address; name one" in refusal(MAILERD_INTAKE__HOST="")


def test_dotenv_may_name_the_file(folder: Path) -> None:
    assert found().path != Path("config.toml")
    (folder / ".env").write_text("MAILERD_CONFIG=config.toml\n")
    assert found() == Found(Path("config.toml"), named=True)
    assert found(Path("other.toml")) == Found(Path("other.toml"), named=True)
    assert load(environment={}) == Settings()
