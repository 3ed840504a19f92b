"""A receiver of mailerd's events in Flask: verify, store once, respond; the work comes after the response.

pip install flask standardwebhooks
WEBHOOK_SECRET=whsec_… flask --app webhook_receiver run --port 8443 --cert cert.pem --key key.pem
"""

import os
import sqlite3
from contextlib import closing

from flask import Flask, Response, request
from standardwebhooks import Webhook, WebhookVerificationError

SECRET = os.environ["WEBHOOK_SECRET"]
DATABASE = os.environ.get("WEBHOOK_DATABASE", "events.sqlite3")

app = Flask(__name__)


def database() -> sqlite3.Connection:
    """The received events; `handled` is for work that takes longer than a response may."""
    connection = sqlite3.connect(DATABASE)
    connection.execute(
        "CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, type TEXT NOT NULL, body TEXT NOT NULL,"
        " handled INTEGER NOT NULL DEFAULT 0)"
    )
    return connection


@app.post("/mailerd")
def receive() -> Response:
    """Take one event.

    An event can arrive more than once, with the same ID, and events can arrive out of order.
    Anything but a 2xx makes mailerd try again later, so the 204 comes after the commit.
    """
    body = request.get_data()  # the bytes as they came: the signature is of these
    try:
        event = Webhook(SECRET).verify(body, dict(request.headers))
    except (WebhookVerificationError, ValueError):
        return Response("the signature is not good", status=400)
    with closing(database()) as connection, connection:  # closed, and committed before
        connection.execute(
            "INSERT OR IGNORE INTO events (id, type, body) VALUES (?, ?, ?)",
            (request.headers["webhook-id"], event["type"], body.decode()),
        )
    return Response(status=204)
