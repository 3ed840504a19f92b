"""examples/django_app.py takes one request."""

import django
import django_app
from django.test import Client

django.setup()
answer = Client().post("/orders/18/thanks", {"email": "django@example.org"})
assert answer.status_code == 202, answer.content
assert django_app.urlpatterns
