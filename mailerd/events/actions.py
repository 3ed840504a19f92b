"""What people and programs change: one event for each act, from any surface."""

from enum import StrEnum

from mailerd.core.i18n import N_
from mailerd.events.base import Code, EventEmitter, Messages, Suppressions, event


class Via(StrEnum):
    """The surface by which an act came."""

    API = "api"
    CONSOLE = "console"
    COMMAND = "command"
    """A command on this machine or on another one: daemons read it in the log of actions."""


class ActionEvents(EventEmitter):
    """Acts."""

    @event("info", N_("job {job}: {action} by {actor}: {messages} changed, now {status}"))
    def job_action(
        self, *, job: str, action: Code, actor: str, messages: Messages, status: Code, via: Code
    ) -> None: ...

    @event("info", N_("sender {sender}: {action} by {actor}"))
    def sender_action(self, *, sender: str, action: Code, actor: str, via: Code) -> None: ...

    @event("info", N_("webhook {webhook}: {action} by {actor}"))
    def webhook_action(self, *, webhook: str, action: Code, actor: str, via: Code) -> None: ...

    @event("info", N_("suppressions for {mailing_list}: {action} by {actor}: {changed}"))
    def suppression_action(
        self,
        *,
        mailing_list: str,
        action: Code,
        actor: str,
        changed: Suppressions,
        reason: Code,
        source: Code,
        via: Code,
    ) -> None: ...

    @event("info", N_("API key {name}: {action} by {actor}"))
    def key_action(self, *, name: str, action: Code, actor: str, via: Code) -> None: ...

    @event("info", N_("list {mailing_list}: {action} by {actor}"))
    def list_action(self, *, mailing_list: str, action: Code, actor: str, via: Code) -> None: ...

    @event("info", N_("template {name}: {action} by {actor}, version {version}"))
    def template_action(
        self, *, name: str, action: Code, version: str, actor: str, via: Code
    ) -> None: ...
