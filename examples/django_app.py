"""Posts a message from Django, in one file: `MAILERD_API_KEY=… python examples/django_app.py runserver`."""

import os
import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from mailerd.client import ApiError, Client, ClientError

settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="an example", DEBUG=True, ALLOWED_HOSTS=["*"])
mailerd = Client(
    os.environ.get("MAILERD_URL", "http://127.0.0.1:5000"),
    key=os.environ["MAILERD_API_KEY"],
    patience=5,
)


@csrf_exempt
def thanks(request: HttpRequest, number: int) -> JsonResponse:
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
                "recipients": [{"email": request.POST["email"]}],
            },
            idempotency_key=f"order-{number}",
        )
    except ClientError as error:
        wrong = (
            isinstance(error, ApiError) and error.code == "invalid_request"
        )  # what the caller gave, such as the address
        return JsonResponse({"error": str(error)}, status=422 if wrong else 502)
    return JsonResponse({"job_id": posted["job_id"]}, status=202)


urlpatterns = [path("orders/<int:number>/thanks", thanks)]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
