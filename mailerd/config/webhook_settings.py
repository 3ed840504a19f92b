"""Settings of webhooks, and of how long events are kept."""

from datetime import timedelta
from ipaddress import ip_network
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from mailerd.config import values
from mailerd.config.values import Limit, Seconds, Section
from mailerd.core.network_rules import NetworkRules
from mailerd.core.webhooks import RetryRules

_RETRIES = [5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0]
"""The schedule that Standard Webhooks 1.0.0 recommends ("Deliverability and reliability")."""


class WebhookSettings(Section):
    """`[webhooks]`: events that are posted to applications."""

    allow_http: bool = Field(False, description="allow endpoints without TLS")
    ports: Annotated[
        list[Annotated[int, Field(ge=1, le=65_535)]], BeforeValidator(values.numbers)
    ] = Field([443, 8443], description="allowed ports of endpoints; empty: any")
    allow_networks: Annotated[str, AfterValidator(values.networks)] = Field(
        "",
        description="private networks to allow, separated by commas; never link-local addresses or a cloud's "
        "metadata service",
    )
    timeout: Annotated[float, Field(gt=0, le=60)] = Field(
        15.0, description="seconds for one attempt, including the response"
    )
    retries: Annotated[
        list[Seconds], BeforeValidator(values.numbers), Field(min_length=1, max_length=30)
    ] = Field(
        _RETRIES,
        description="seconds until the next attempt, after each attempt; randomly a fifth more or less",
    )
    pause_after: Annotated[float, Field(gt=0, le=90 * 86_400)] = Field(
        432_000.0, description="seconds of failures after which an endpoint is paused: 5 days"
    )
    per_endpoint: Annotated[int, Field(ge=1, le=64)] = Field(
        4, description="concurrent attempts to one endpoint from all daemons"
    )
    concurrency: Annotated[int, Field(ge=1, le=256)] = Field(
        16, description="concurrent attempts per daemon"
    )

    @property
    def network_rules(self) -> NetworkRules:
        """Where endpoints may be."""
        networks = (each.strip() for each in self.allow_networks.split(",") if each.strip())
        return NetworkRules(
            allow_http=self.allow_http,
            ports=frozenset(self.ports),
            allow_networks=tuple(ip_network(each, strict=False) for each in networks),
        )

    @property
    def retry_rules(self) -> RetryRules:
        """When what failed is tried again."""
        return RetryRules(
            retries=tuple(timedelta(seconds=each) for each in self.retries),
            pause_after=timedelta(seconds=self.pause_after),
        )


class RetentionSettings(Section):
    """`[retention]`: for how long is kept what is not needed for sending."""

    events: Limit = Field(
        90, description="days to keep feed events and their deliveries; 0: forever"
    )
