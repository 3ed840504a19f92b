"""Every setting, with its unit, default and bounds; loaded once, unknown keys refused, handed down
by section.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, override

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mailerd.config import database_url, discovery, file_owner, values
from mailerd.config.discovery import Found
from mailerd.config.values import Count, Limit, Seconds, Section
from mailerd.config.webhook_settings import RetentionSettings, WebhookSettings
from mailerd.core.i18n import Text, joined, t
from mailerd.core.wrong_values import wrong_value
from mailerd.errors import ConfigurationError


class DatabaseSettings(Section):
    """`[database]`."""

    url: Annotated[str, AfterValidator(database_url.mysql)] = Field(
        "mysql://mailerd@127.0.0.1:3306/mailerd",
        repr=False,
        description="the database; @db1,db2:3307/ for several hosts, ?unix_socket=/path, ?ssl_ca=/ca.pem; or set "
        "DATABASE_URL",
    )
    connect_timeout: Seconds = Field(
        10.0, description="seconds for one connection, including greeting and login"
    )
    statement_timeout: Seconds = Field(
        30.0, description="seconds for one transaction, including the wait for a connection"
    )
    connect_attempts: Count = Field(
        3, description="connection attempts at start, 1 s, 2 s, 4 s … apart"
    )
    pool_size: Annotated[int, Field(ge=2, le=200)] = Field(
        8, description="maximum connections per daemon"
    )


class IntakeSettings(Section):
    """`[intake]`."""

    host: Annotated[str, AfterValidator(values.host)] = Field(
        "127.0.0.1", description="the address to listen on"
    )
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(5000, description="the port to listen on")
    max_body: Count = Field(
        64 * 1024 * 1024, description="maximum bytes of one request; larger requests get a 413"
    )
    max_recipients: Count = Field(100_000, description="maximum recipients of one job")
    idempotency_keep: Annotated[float, Field(ge=60, le=366 * 86_400)] = Field(
        604_800.0, description="seconds to keep the response to an Idempotency-Key: 7 days"
    )
    posts_per_key: Count = Field(
        100, description="concurrent posts of one API key per daemon; further posts get a 429"
    )
    checks_per_key: Annotated[int, Field(ge=1, le=16)] = Field(
        2,
        description="of those, posts whose recipients are checked at once; the others wait in a queue for each key",
    )
    large_bodies_per_key: Annotated[int, Field(ge=1, le=16)] = Field(
        1,
        description="concurrent bodies above 1 MiB of one key, each read in its own process; twice as many for all "
        "keys",
    )
    dry_runs_per_key: Annotated[int, Field(ge=1, le=16)] = Field(
        1, description="concurrent dry runs of one key"
    )
    downloads_per_key: Annotated[int, Field(ge=1, le=16)] = Field(
        2,
        description="concurrent CSV downloads of one key; the others wait; twice as many for all keys",
    )
    reads_per_key: Annotated[int, Field(ge=1, le=100)] = Field(
        2, description="concurrent reads of jobs, recipients and so on of one key; the others wait"
    )
    streams_per_key: Annotated[int, Field(ge=1, le=10_000)] = Field(
        20, description="event streams of one key; five times as many for all keys"
    )
    unix_socket: str = Field(
        "", description="a socket file for its group, to listen on instead of host and port"
    )
    trusted_proxies: Annotated[str, AfterValidator(values.networks)] = Field(
        "",
        description="addresses or networks whose X-Forwarded-For is trusted, separated by commas",
    )


class PublicSettings(Section):
    """`[public]`: the site of unsubscribe links, a listener of its own."""

    host: Annotated[str, AfterValidator(values.host)] = Field(
        "127.0.0.1", description="the address to listen on"
    )
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        0, description="the port of the unsubscribe site; 0: no site"
    )
    base_url: Annotated[str, AfterValidator(values.https_or_none)] = Field(
        "",
        description="the site's public address, https://mail.example.com; empty: no unsubscribe links in messages",
    )


class UnsubscribeSettings(Section):
    """`[unsubscribe]`."""

    warn_above: Limit = Field(
        100,
        description="a job without a list and with more recipients gets a warning in its response; 0: never",
    )


class WebSettings(Section):
    """`[web]`: the console, at / of the intake's address."""

    enabled: bool = Field(True, description="whether to serve the console")
    hosts: Annotated[str, AfterValidator(values.host_names)] = Field(
        "",
        description="host names for the console, /docs and /metrics, separated by commas; addresses always work",
    )
    outbox: Annotated[str, AfterValidator(values.web_or_none)] = Field(
        "", description="where to read the sandbox's messages; empty: no link"
    )

    @property
    def names(self) -> frozenset[str]:
        """The names of `hosts`."""
        return frozenset(self.hosts.split(",")) - {""}


class TemplateSettings(Section):
    """`[templates]`."""

    folder: str = Field(
        "",
        description="a folder with a subfolder for each named template; empty: no named templates",
    )


class RunnerSettings(Section):
    """`[runner]`."""

    poll_interval: Seconds = Field(
        2.0, description="seconds between polls for work; new jobs also wake the daemon"
    )
    concurrency: Annotated[int, Field(ge=1, le=1000)] = Field(
        20,
        description="concurrent messages at Google per daemon; up to three times as many if some are slow",
    )
    lease: Seconds = Field(
        120.0,
        description="seconds that a claim is valid; must be more than 2 x gmail.request_timeout",
    )
    drain_timeout: Seconds = Field(
        60.0, description="seconds for messages in flight when the daemon stops"
    )
    sweep_interval: Seconds = Field(
        600.0, description="seconds between two searches for drafts that are no longer needed"
    )


class GmailSettings(Section):
    """`[gmail]`."""

    api_root: Annotated[str, AfterValidator(values.slash)] = Field(
        "https://gmail.googleapis.com/", description="Google, or the sandbox"
    )
    token_uri: Annotated[str, AfterValidator(values.web)] = Field(
        "https://oauth2.googleapis.com/token", description="the source of access tokens"
    )
    auth_uri: Annotated[str, AfterValidator(values.web)] = Field(
        "https://accounts.google.com/o/oauth2/v2/auth",
        description="where the mailbox owner grants access, for `mailerd auth login`",
    )
    proxy: Annotated[str, AfterValidator(values.proxy_or_none)] = Field(
        "",
        repr=False,
        description="the HTTP proxy for requests to Google, if any: http://user:password@proxy.example.com:3128",
    )
    request_timeout: Seconds = Field(
        30.0, description="seconds for one call to Google, including the connection"
    )
    credentials_dir: Path = Field(
        Path("credentials"),
        description="a folder with one JSON file in Google's format for each mailbox or @domain",
    )
    aliases: Annotated[
        dict[str, str], BeforeValidator(values.table), AfterValidator(values.aliases)
    ] = Field(
        {},
        description='other addresses that a mailbox may send as: {"sales@example.com" = "me@example.com"}',
    )

    @property
    def late_arrival(self) -> float:
        """Seconds after which a request that got no answer can no longer reach Google: twice the
        time-out.
        """
        return 2 * self.request_timeout

    @property
    def late_by_proxy(self) -> float:
        """The same where it may lie in a proxy, which tries on whatever we reset: twice Linux's 15
        min and more.

        https://www.kernel.org/doc/html/latest/networking/ip-sysctl.html: tcp_retries2 is 924.6 s at
        least.
        """
        return max(self.late_arrival, 1800.0) if self.proxy else self.late_arrival


class InboxSettings(Section):
    """`[inbox]`: what comes back to the mailboxes, read where the sign-in allows it."""

    enabled: bool = Field(
        True, description="read the senders' inboxes for bounces, limit notices and replies"
    )
    interval: Annotated[float, Field(gt=0, le=3600)] = Field(
        60.0,
        description="seconds between two reads while a sender is sending; 5 times as long for a day after, then 30 "
        "times",
    )
    undo_over_limit: bool = Field(
        True,
        description="resend a message that Google returned with a limit notice; if false, only its sender is paused",
    )
    limit_pause: Annotated[float, Field(ge=0, le=7 * 86_400)] = Field(
        3600.0, description="minimum seconds to pause a sender after a limit notice"
    )


class SafetySettings(Section):
    """`[safety]`: when a bad list stops, by what comes back to an inbox that is read by
    gmail.readonly.
    """

    job_bounces: Limit = Field(
        5,
        description="a job is paused at this many invalid addresses among its last 200 messages or more; 0: never …",
    )
    job_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.08,
        description="… and 5 more than this share of them: max(5, 5 + 8 %), 6 of 6, 13 of 100, 21 of 200; 0: never",
    )
    sender_bounces: Limit = Field(
        20,
        description="a sender is paused for a day at this many among its last 200 messages of all jobs, or more; 0: "
        "never …",
    )
    sender_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.08,
        description="… and 5 more than this share of them: max(20, 5 + 8 %), so 20 of 100, 21 of 200; 0: never",
    )


class PaceSettings(Section):
    """`[pace]`: what a sender may use unless it has its own."""

    units_per_minute: Limit = Field(
        6000,
        description="Google's quota units per sender; 15000 until 2027-04-01 for Cloud projects before May 2026; 0: "
        "no limit",
    )
    tier: Annotated[Literal["standard", "scaled", "internal"], BeforeValidator(values.word)] = (
        Field(
            "standard",
            description="standard: at most 6000 units from 2027-04-01, see docs/how-to/mailboxes.md",
        )
    )
    per_minute: Limit = Field(
        0, description="messages per sender and minute, an additional limit; 0: no limit"
    )
    per_day: Limit = Field(
        2000,
        description="messages per sender in any 24 h; Workspace 2000, new domains 500 "
        "(support.google.com/a/answer/166852); 0: no limit",
    )
    consumer_per_day: Limit = Field(
        500, description="the same for @gmail.com and @googlemail.com mailboxes; 0: no limit"
    )
    reserve: Limit = Field(0, description="messages per day to leave for the mailbox owner")
    min_gap: Annotated[float, Field(ge=0, le=86_400)] = Field(
        0.0,
        description="minimum seconds between two messages of a sender; up to half as much is added at random",
    )
    warm_up: Limit = Field(
        0, description="messages on a new sender's first day, fewer than per_day; 0: no warm-up"
    )
    warm_up_growth: Limit = Field(0, description="additional messages on each day after the first")
    project_units_per_minute: Limit = Field(
        1_200_000,
        description="Google's quota units for all senders of one Cloud project; 0: no limit",
    )

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        for key, messages in (
            ("per_day", self.per_day),
            ("consumer_per_day", self.consumer_per_day),
        ):
            if messages and self.reserve >= messages:
                raise ValueError(
                    t(
                        "pace.reserve ({reserve}) leaves nothing of pace.{key} ({messages}): lower it, or set it for "
                        "single senders with `mailerd senders set --reserve`",
                        reserve=self.reserve,
                        key=key,
                        messages=messages,
                    )
                )
        return self


class RetrySettings(Section):
    """`[retry]`: messages that failed for a passing reason."""

    max_attempts: Count = Field(
        8, description="attempts before a message fails; throttling never counts"
    )
    base: Seconds = Field(
        10.0, description="seconds; the n-th wait is random, up to base x 2^(n-1)"
    )
    cap: Seconds = Field(3600.0, description="maximum seconds of one wait")


class LogSettings(Section):
    """`[log]`."""

    level: Annotated[
        Literal["debug", "info", "success", "warning", "error", "critical"],
        BeforeValidator(values.level),
    ] = Field("info", description="the lowest level to log")
    format: Annotated[Literal["auto", "journald", "text", "json"], BeforeValidator(values.word)] = (
        Field("auto", description="auto: journald under systemd, otherwise text")
    )
    language: Annotated[Literal["en", "zh"], BeforeValidator(values.word)] = Field(
        "en", description="the language of the log"
    )


class MetricsSettings(Section):
    """`[metrics]`: what `/metrics` shows without a key."""

    senders: bool = Field(
        False,
        description="show mailboxes without an API key; otherwise only to a key that may see them",
    )


class AlertSettings(Section):
    """`[alerts]`: messages to people, without Prometheus.

    With neither urls nor webhook, none are sent.
    """

    urls: Annotated[list[str], BeforeValidator(values.addresses)] = Field(
        [],
        repr=False,
        description="where to send alerts, as Apprise URLs: slack://…, mailto://…; needs mailerd[alerts]",
    )
    webhook: Annotated[str, AfterValidator(values.web_or_none)] = Field(
        "", repr=False, description="a URL to post each alert to as JSON; empty: none"
    )
    database_away: Seconds = Field(
        60.0, description="seconds that the database may be unavailable before an alert"
    )
    unsure: Seconds = Field(
        900.0, description="seconds that a message may be unconfirmed before an alert"
    )
    failure_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.2, description="share of messages that may fail …"
    )
    failure_messages: Count = Field(20, description="… of at least this many …")
    failure_window: Seconds = Field(600.0, description="… within this many seconds")
    min_interval: Seconds = Field(
        60.0, description="minimum seconds between two alerts; alerts in between are grouped"
    )
    repeat: Seconds = Field(
        14_400.0, description="seconds after which a persistent alert is sent again"
    )


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, case_sensitive=True)

    database: DatabaseSettings = DatabaseSettings()
    intake: IntakeSettings = IntakeSettings()
    public: PublicSettings = PublicSettings()
    unsubscribe: UnsubscribeSettings = UnsubscribeSettings()
    web: WebSettings = WebSettings()
    templates: TemplateSettings = TemplateSettings()
    runner: RunnerSettings = RunnerSettings()
    gmail: GmailSettings = GmailSettings()
    inbox: InboxSettings = InboxSettings()
    safety: SafetySettings = SafetySettings()
    pace: PaceSettings = PaceSettings()
    retry: RetrySettings = RetrySettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    alerts: AlertSettings = AlertSettings()
    webhooks: WebhookSettings = WebhookSettings()
    retention: RetentionSettings = RetentionSettings()

    @classmethod
    @override
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` hands over: the library's own sources pass over a misspelt section in
        silence.
        """
        return (init_settings,)

    @model_validator(mode="after")
    def _times_fit_together(self) -> Self:
        bound = self.gmail.request_timeout
        if self.runner.lease <= 2 * bound:
            raise ValueError(
                t(
                    "runner.lease ({lease:g} s) must be longer than the longest send, two calls of "
                    "gmail.request_timeout ({bound:g} s) each: raise the lease above {least:g} s or lower the "
                    "time-out",
                    lease=self.runner.lease,
                    bound=bound,
                    least=2 * bound,
                )
            )
        return self


_PREFIX = "MAILERD_"
CONFIG = "MAILERD_CONFIG"
"""The variable that names the file itself; it has the prefix and is no key."""
API_KEY = "MAILERD_API_KEY"
"""The variable with the key of a command that posts over HTTP; it is no key of the configuration
either.
"""
_NO_KEYS = {CONFIG, API_KEY, "MAILERD_URL"}
"""What has the prefix and is no key; with the last one, programs that use the client say where the
API is.
"""


def found(named: Path | None = None) -> Found:
    """The configuration file that is used: `named`, or the first of the places that `discovery`
    lists.

    Raises:
        ConfigurationError: others could have written what is there, or it cannot be read.
    """
    variables = {**discovery.read_dotenv(), **os.environ}
    if named is None and (name := variables.get(CONFIG)):
        named = Path(name)
    return discovery.find(named, settings=variables)


def dotenv_in_use() -> tuple[Path, list[str]] | None:
    """The `.env` file that `load` takes settings from and the names of what it sets, or None.

    Raises:
        ConfigurationError: others could have written it, or it cannot be read.
    """
    names = [
        name
        for name in discovery.read_dotenv()
        if name == "DATABASE_URL" or name.upper().startswith(_PREFIX)
    ]
    return (discovery.DOTENV.absolute(), sorted(names)) if names else None


def _from_environment(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """`MAILERD_<SECTION>__<KEY>` and DATABASE_URL, as nested keys; an unknown one is kept, so that
    it is refused.
    """
    found: dict[str, dict[str, Any]] = {}
    if environment.get("DATABASE_URL"):
        found["database"] = {"url": environment["DATABASE_URL"]}
    for name, value in environment.items():
        if name.upper().startswith(_PREFIX) and name.upper() not in _NO_KEYS:
            section, separator, key = name[len(_PREFIX) :].lower().partition("__")
            # Without a section there is no key of that name: kept under a name that no section has,
            # it is refused.
            found.setdefault(section if separator else f"{name} (no section)", {})[key] = value
    return found


def _from_file(path: Path, *, named: bool) -> dict[str, Any]:
    try:
        if not named:
            return tomllib.loads(file_owner.read(path) or "")
        with path.open("rb") as file:
            return tomllib.load(file)
    except PermissionError as error:
        raise ConfigurationError(
            t(
                "{path}: not readable by this user; run this as a user who can read the file",
                path=path,
            )
        ) from error
    except OSError as error:
        raise ConfigurationError(
            t(
                "cannot read {path}: {strerror}; name another file with --config",
                path=path,
                strerror=error.strerror,
            )
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            t("{path} is not valid TOML: {error}", path=path, error=error)
        ) from error


def load(
    path: Path | None = None, *, environment: Mapping[str, str] | None = None, named: bool = True
) -> Settings:
    """The settings from a TOML file, `.env` in the working folder and the environment, the later
    ones winning.

    A relative `credentials_dir` or `templates.folder` that was named in the file is relative to the
    file's folder. `named` False: the file was found and not named, so it is read only if no other
    user can have written it.

    Raises:
        ConfigurationError: a file cannot be read, a key is unknown or a value is out of bounds; all
        are named.
    """
    given = _from_file(path, named=named) if path else {}
    gmail = given.get("gmail")
    if path and isinstance(gmail, dict) and isinstance(gmail.get("credentials_dir"), str):
        gmail["credentials_dir"] = path.parent / gmail["credentials_dir"]
    templates = given.get("templates")
    if (
        path
        and isinstance(templates, dict)
        and isinstance(templates.get("folder"), str)
        and templates["folder"]
    ):
        templates["folder"] = str(path.parent / templates["folder"])
    variables = dict(os.environ) if environment is None else dict(environment)
    for source in (_from_environment(discovery.read_dotenv()), _from_environment(variables)):
        for section, keys in source.items():
            known = given.get(section)
            # a section that is no table is refused, not replaced
            if known is None or isinstance(known, dict):
                given[section] = {**(known or {}), **keys}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        where = t("{path} and the environment", path=path) if path else t("the environment")
        heading = t("the configuration ({where}) cannot be used:", where=where)
        raise ConfigurationError(joined([heading, *map(_problem, error.errors())], "\n")) from None


def _problem(error: ErrorDetails) -> Text:
    why: str = (
        t("unknown key; config.example.toml lists every key")
        if error["type"] == "extra_forbidden"
        else wrong_value(error["type"], error.get("ctx", {}))
        or error["msg"].removeprefix("Value error, ")
    )
    return t("  {key}: {why}", key=".".join(map(str, error["loc"])) or t("together"), why=why)


@dataclass
class Live[T]:
    """What a reload changes: its users keep this cell, and read `now` each time."""

    now: T
