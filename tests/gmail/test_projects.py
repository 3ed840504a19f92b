"""Which Cloud project's quota a credential uses."""

import pytest

from mailerd.gmail.credentials import AuthorizedUser, ServiceAccount


@pytest.mark.parametrize(
    "client, project",
    [("424242424242-abc.apps.googleusercontent.com", "424242424242"), ("odd.example", "odd.example")],
)
def test_a_persons_sign_in_uses_the_project_of_its_client(client: str, project: str) -> None:
    assert AuthorizedUser(client_id=client, client_secret="s", refresh_token="r").project == project


def test_a_service_account_uses_its_own_project() -> None:
    account = ServiceAccount(client_email="me@my-project.iam.gserviceaccount.com", private_key_id="", private_key="k")
    assert account.project == "my-project"
