"""The client of the API for programs in Python: `Client`, and `AsyncClient`, which is the same with `await`.

    with Client("http://127.0.0.1:5000", key=os.environ["MAILERD_API_KEY"]) as mailerd:
        posted = mailerd.create_job(
            {"sender_email": "me@example.com", "template_name": "welcome", "recipients": [{"email": "ada@example.com"}]}
        )
        job = mailerd.wait_until_finished(posted["job_id"])

Each call may be repeated without harm. So one that gets no answer, a 429, 502, 503 or 504 is made again, as
`Retry-After` says, until `patience` is used up. Answers are plain dicts: a newer daemon may add fields to them.
"""

from mailerd.client.answers import (
    AcceptedJob,
    DryRun,
    Event,
    Forecast,
    Job,
    JobActionResult,
    NewAttachment,
    NewCopy,
    NewJob,
    NewRecipient,
    NewTemplate,
    Recipient,
    Unmailed,
)
from mailerd.client.clients import ApiError, AsyncClient, Client, ClientError, NoAnswerError
from mailerd.client.signature import SignatureError, WebhookEvent, verify

__all__ = [
    "AcceptedJob",
    "ApiError",
    "AsyncClient",
    "Client",
    "ClientError",
    "DryRun",
    "Event",
    "Forecast",
    "Job",
    "JobActionResult",
    "NewAttachment",
    "NewCopy",
    "NewJob",
    "NewRecipient",
    "NewTemplate",
    "NoAnswerError",
    "Recipient",
    "SignatureError",
    "Unmailed",
    "WebhookEvent",
    "verify",
]
