"""One message in one line, for programs whose environment says where mailerd is."""

import os
from typing import Final, Unpack

from mailerd.client.answers import AcceptedMessage, MessageOptions, NewMessage, To
from mailerd.client.clients import Client
from mailerd.client.exchange import PATIENCE
from mailerd.core.i18n import t

URL: Final = "MAILERD_URL"
API_KEY: Final = "MAILERD_API_KEY"


def send(
    to: str,
    *,
    sender: str,
    template: str | None = None,
    subject: str | None = None,
    html: str | None = None,
    text: str | None = None,
    name: str | None = None,
    once: str | None = None,
    patience: float = PATIENCE,
    **options: Unpack[MessageOptions],
) -> AcceptedMessage:
    """Send one message; once this returns, it is durable.

    `MAILERD_URL` and `MAILERD_API_KEY` say where and by whom.

        send("ada@example.com", template="welcome", sender="me@example.com", name="Ada",
             variables={"product": "Tea"}, once="welcome-17")

    Either `template`, with `variables`, or `subject` and `html` or `text`, which are sent as they
    are. `name` is the recipient's, in To: and as the variable `name`. `options`: `reply_to`,
    `attachments`, `send_at`, …

    `once` is an ID of what the message is about, such as an order's number: however often your
    program sends with it and with the same values, there is one message, for as long as the daemon
    keeps keys (7 days by default). Other values with it are an ApiError (409). Without `once` a
    UUID is made. That is safe for this call only, which repeats what got no answer, a 429, 502, 503
    or 504 for `patience` seconds. If it raises, and you send again, there may be two messages; not
    if you give `once=error.idempotency_key`.

    Raises:
        ApiError: the message was refused; the error says which field is wrong.
        NoAnswerError: no answer came.
        ValueError: the environment does not say where mailerd is, or has no key.
    """
    parts = {"template_name": template, "subject": subject, "html": html, "text": text}
    given = {part: it for part, it in parts.items() if it is not None}
    person: To = {"email": to} if name is None else {"email": to, "name": name}
    message: NewMessage = {"sender_email": sender, "to": person, **given, **options}  # type: ignore[typeddict-item]
    with Client(_required(URL), key=_required(API_KEY), patience=patience) as client:
        return client.send_message(message, idempotency_key=once)


def _required(name: str) -> str:
    if value := os.environ.get(name):
        return value
    raise ValueError(t("the environment variable {name} is missing", name=name))
