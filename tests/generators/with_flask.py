"""examples/flask_app.py takes one request."""

from flask_app import app

answer = app.test_client().post("/orders/17/thanks", data={"email": "flask@example.org"})
assert answer.status_code == 202, answer.text
