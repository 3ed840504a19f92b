"""Posts one event to one endpoint as Standard Webhooks 1.0.0 has it; only this module signs.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from standardwebhooks import Webhook as Signer

from mailerd.clock import new_id
from mailerd.core.webhook_retries import WebhookAttempt, body_of
from mailerd.ops.outbound_http import OutboundError, OutboundHttp

TEST_TYPE: Final = "webhook.test"


async def post_event(
    http: OutboundHttp, url: str, *, uid: str, body: bytes, secrets: Sequence[bytes], now: datetime, within: float
) -> WebhookAttempt:
    """Post, once. `secrets`: all that sign, the newest first. `now`: the time of this attempt. `within`: seconds."""
    began = time.monotonic()
    http_status, said, asked = None, None, ""
    try:
        answer = await http.post(url, body, signed(uid, body, secrets, now=now), within=within)
        http_status, asked = answer.status, answer.retry_after
        if not 200 <= http_status < 300:  # noqa: PLR2004 - HTTP's successes
            said = _said(http_status, answer.text)
    except OutboundError as error:
        said = str(error)
    return WebhookAttempt(http_status, said, timedelta(seconds=time.monotonic() - began), asked)


def signed(uid: str, body: bytes, secrets: Sequence[bytes], *, now: datetime) -> dict[str, str]:
    """The headers of an attempt: a signature of each secret, of these very bytes."""
    now = now.astimezone(UTC)
    signatures = [Signer(secret).sign(uid, now, body.decode()) for secret in secrets]
    return {
        "Content-Type": "application/json",
        "webhook-id": uid,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _said(status: int, text: str) -> str:
    if 300 <= status < 400:  # noqa: PLR2004 - HTTP's redirects
        return f"it answered {status}, a redirect, and none is followed"
    words = " ".join(text.split())[:200]
    return f"it answered {status}" + (f": {words}" if words.isprintable() and words else "")


async def post_test(
    http: OutboundHttp, url: str, *, name: str, secrets: Sequence[bytes], now: datetime, within: float
) -> WebhookAttempt:
    """Post an event of the type `webhook.test`, which stands in no table and is not repeated."""
    data = json.dumps({"webhook": name}, ensure_ascii=False, separators=(",", ":"))
    body = body_of(TEST_TYPE, now.astimezone(UTC).isoformat().replace("+00:00", "Z"), data)
    return await post_event(http, url, uid=f"evt_{new_id()}", body=body, secrets=secrets, now=now, within=within)
