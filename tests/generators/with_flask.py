"""examples/flask_app.py takes a request, and one with an address that is none."""

from flask_app import app

for number, email, status in ((17, "flask@example.org", 202), (19, "nobody", 422)):
    answer = app.test_client().post(f"/orders/{number}/thanks", data={"email": email})
    assert answer.status_code == status, answer.text
