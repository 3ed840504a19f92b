"""The message that is measured: about 2 KB of HTML with a few variables, as newsletters and receipts have them."""

import json
from datetime import UTC, datetime, timedelta

from mailerd.mail.mime import Envelope, compose
from mailerd.mail.templates import Content

SUBJECT = "Hello {{ name }}, your order {{ order }}"
HTML = (
    "<!doctype html><html><body><h1>Hello {{ name }}</h1>"
    + "".join(
        f"<p>Line {n}: thank you for your order of {{{{ product }}}}, we hope you like it.</p>" for n in range(22)
    )
    + "<p>Order {{ order }}</p></body></html>"
)
TEXT = "Hello {{ name }},\n\nthank you for your order {{ order }} of {{ product }}.\n"


def job(
    sender: str,
    *,
    recipients: int,
    first: int = 0,
    filler: int = 0,
    mailing_list: str | None = None,
    later: bool = False,
) -> bytes:
    """A job's body; `filler` bytes more for each recipient; `later`: due tomorrow."""
    due = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    return json.dumps(
        {
            "sender_email": sender,
            "sender_name": "The Shop",
            "template": {"subject": SUBJECT, "html": HTML, "text": TEXT},
            "variables": {"product": "a good book"},
            **({"list": mailing_list} if mailing_list else {}),
            **({"send_at": due} if later else {}),
            "recipients": [
                {
                    "email": f"reader{n}@example.org",
                    "name": f"Reader {n}",
                    "variables": {"name": f"Reader {n}", "order": n, **({"note": "x" * filler} if filler else {})},
                }
                for n in range(first, first + recipients)
            ],
        }
    ).encode()


def raw(sender: str) -> bytes:
    """The same message's bytes, for the client that has them ready."""
    html = HTML.replace("{{ name }}", "Reader 1").replace("{{ product }}", "a good book").replace("{{ order }}", "1")
    text = TEXT.replace("{{ name }}", "Reader 1").replace("{{ product }}", "a good book").replace("{{ order }}", "1")
    made = compose(
        Content(subject="Hello Reader 1, your order 1", html=html, text=text),
        Envelope(
            sender_email=sender, sender_name="The Shop", reply_to=None, to_email="reader1@example.org",
            to_name="Reader 1", key="bare",
        ),
        date=datetime(2026, 1, 1, tzinfo=UTC),
        message_id=f"<1@{sender.partition('@')[2]}>",
    )  # fmt: skip
    return made.replace(b"X-Mailerd-Key: bare\r\n", b"")  # Google would count them as one message sent many times
