"""Templates compiled and rendered in the test's own process, for what their language says; no bound holds here."""

import json
from typing import Any

from mailerd.mail.render import CompiledTemplate
from mailerd.mail.templates import Content, RecipientData, RenderError, Source, Template


class InProcess:
    """A compiled template."""

    def __init__(self, *, subject: str, html: str | None, text: str | None, inline_css: bool = False) -> None:
        template = Template(Source(subject, html, text), inline_css=inline_css)
        self._compiled = CompiledTemplate(template, at=lambda _: None)
        self.names = frozenset(self._compiled.names()[""])

    def render(self, variables: dict[str, Any]) -> Content:
        """The message, or the first reason why there is none."""
        made = self._made(variables)
        if isinstance(made, Content):
            return made
        raise made[0]

    def errors(self, variables: dict[str, Any]) -> list[RenderError]:
        """All reasons."""
        made = self._made(variables)
        return [] if isinstance(made, Content) else made

    def _made(self, variables: dict[str, Any]) -> Content | list[RenderError]:
        return self._compiled.render(RecipientData("reader@example.com", None, json.dumps(variables)))
