"""Posts a message from Flask: `MAILERD_API_KEY=… flask --app examples/flask_app run`, then POST /orders/17/thanks."""

import os

from flask import Flask, request

from mailerd.client import ApiError, Client, ClientError

app = Flask(__name__)
mailerd = Client(
    os.environ.get("MAILERD_URL", "http://127.0.0.1:5000"),
    key=os.environ["MAILERD_API_KEY"],
    patience=5,
)


@app.post("/orders/<int:number>/thanks")
def thanks(number: int) -> tuple[dict[str, object], int]:
    """Post one message; with the order's number as its key, a repeated request sends no second message."""
    try:
        posted = mailerd.create_job(
            {
                "sender_email": "me@example.com",
                "reference": f"order {number}",
                "template": {
                    "subject": f"Your order {number}",
                    "text": "Thank you. It is on its way.",
                },
                "recipients": [{"email": request.form["email"]}],
            },
            idempotency_key=f"order-{number}",
        )
    except ClientError as error:
        wrong = (
            isinstance(error, ApiError) and error.code == "invalid_request"
        )  # what the caller gave, such as the address
        return {"error": str(error)}, 422 if wrong else 502
    return {"job_id": posted["job_id"]}, 202
