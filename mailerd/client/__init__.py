"""The client of the API for programs in Python: `Client`, and `AsyncClient`, which is the same with
`await`.

    with Client("http://127.0.0.1:5000", key=os.environ["MAILERD_API_KEY"]) as mailerd:
        posted = mailerd.create_job(
            {"sender_email": "me@example.com", "template_name": "welcome", "recipients": [{"email":
            "ada@example.com"}]}
        )
        job = mailerd.wait_until_finished(posted["job_id"])

Where the environment has `MAILERD_URL` and `MAILERD_API_KEY`, one message is one line:

    mailerd.client.send("ada@example.com", template="welcome", sender="me@example.com", name="Ada",
    once="order-17")

A call that gets no answer, a 429, 502, 503 or 504 is made again, as `Retry-After` says, until
`patience` is used up. That does no harm; the two calls to which it would, since they make a secret,
are made once. Answers are plain dicts: a newer daemon may add fields to them.
"""

from mailerd.client.answers import (
    AcceptedJob,
    AcceptedMessage,
    Cancelled,
    DryRun,
    Event,
    Forecast,
    Job,
    JobActionResult,
    JobActions,
    JobChanged,
    KeyDetails,
    MailingList,
    MailingLists,
    MessageOptions,
    NewAttachment,
    NewCopy,
    NewJob,
    NewJobFields,
    NewMessage,
    NewRecipient,
    NewSenderLimits,
    NewSuppression,
    NewTemplate,
    NewWebhook,
    NewWebhookFields,
    OneMessage,
    PersonsMessage,
    Recipient,
    RecipientHistory,
    Removed,
    RemovedSuppression,
    Replayed,
    RotatedSecret,
    SearchResult,
    Sender,
    SenderChanged,
    Settled,
    Stats,
    Suppressed,
    Suppression,
    Templates,
    To,
    Unmailed,
    Webhook,
    WebhookDelivery,
    Webhooks,
    WebhookTested,
)
from mailerd.client.calls import is_finished
from mailerd.client.clients import AsyncClient, Client
from mailerd.client.exchange import ApiError, ClientError, NoAnswerError
from mailerd.client.one_line import send
from mailerd.client.signature import SignatureError, WebhookEvent, verify

__all__ = [
    "AcceptedJob",
    "AcceptedMessage",
    "ApiError",
    "AsyncClient",
    "Cancelled",
    "Client",
    "ClientError",
    "DryRun",
    "Event",
    "Forecast",
    "Job",
    "JobActionResult",
    "JobActions",
    "JobChanged",
    "KeyDetails",
    "MailingList",
    "MailingLists",
    "MessageOptions",
    "NewAttachment",
    "NewCopy",
    "NewJob",
    "NewJobFields",
    "NewMessage",
    "NewRecipient",
    "NewSenderLimits",
    "NewSuppression",
    "NewTemplate",
    "NewWebhook",
    "NewWebhookFields",
    "NoAnswerError",
    "OneMessage",
    "PersonsMessage",
    "Recipient",
    "RecipientHistory",
    "Removed",
    "RemovedSuppression",
    "Replayed",
    "RotatedSecret",
    "SearchResult",
    "Sender",
    "SenderChanged",
    "Settled",
    "SignatureError",
    "Stats",
    "Suppressed",
    "Suppression",
    "Templates",
    "To",
    "Unmailed",
    "Webhook",
    "WebhookDelivery",
    "WebhookEvent",
    "WebhookTested",
    "Webhooks",
    "is_finished",
    "send",
    "verify",
]
