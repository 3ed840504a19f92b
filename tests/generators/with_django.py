"""examples/django_app.py takes a request, and one with an address that is none."""

import django
import django_app
from django.test import Client

django.setup()
for number, email, status in ((18, "django@example.org", 202), (20, "nobody", 422)):
    answer = Client().post(f"/orders/{number}/thanks", {"email": email})
    assert answer.status_code == status, answer.content
assert django_app.urlpatterns
