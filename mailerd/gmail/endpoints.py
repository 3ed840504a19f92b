"""A discovery document of our own with the few Gmail methods that mailerd calls, so that starting needs no network.

Source: https://gmail.googleapis.com/$discovery/rest?version=v1, revision 20261005, cut down to what is used.
"""

from typing import Any

from aiogoogle.resource import GoogleAPI

_ME = "gmail/v1/users/{userId}/"
_PATH = {"location": "path", "required": True, "type": "string"}
_TEXT = {"location": "query", "type": "string"}
_TEXTS = {"location": "query", "type": "string", "repeated": True}
_NUMBER = {"location": "query", "type": "integer"}

UPLOAD_ABOVE = 5_000_000
"""Bytes; larger letters take the upload address, which Google documents up to 35 MiB."""


def _method(verb: str, path: str, *, upload: bool = False, **parameters: dict[str, Any]) -> dict[str, Any]:
    order = ["userId", "id"] if "{id}" in path else ["userId"]
    method: dict[str, Any] = {
        "httpMethod": verb,
        "path": _ME + path,
        "parameters": {name: dict(_PATH) for name in order} | {name: dict(p) for name, p in parameters.items()},
        # aiogoogle fails without this list.
        "parameterOrder": order,
    }
    if upload:
        method["supportsMediaUpload"] = True
        method["mediaUpload"] = {"protocols": {"simple": {"path": "/upload/" + _ME + path}}}
    return method


def document(root: str) -> dict[str, Any]:
    """The discovery document for a Gmail at `root`, which ends in "/"; a new one each time: aiogoogle alters it."""
    drafts = {
        "create": _method("POST", "drafts", upload=True),
        "send": _method("POST", "drafts/send"),
        "get": _method("GET", "drafts/{id}", format=_TEXT),
        "list": _method("GET", "drafts", pageToken=_TEXT, maxResults=_NUMBER),
        "delete": _method("DELETE", "drafts/{id}"),
    }
    messages = {
        "send": _method("POST", "messages/send", upload=True),
        "get": _method("GET", "messages/{id}", format=_TEXT, metadataHeaders=_TEXTS),
        "list": _method("GET", "messages", pageToken=_TEXT, maxResults=_NUMBER, labelIds=_TEXTS),
    }
    history = {
        "list": _method(
            "GET", "history", startHistoryId=_TEXT, historyTypes=_TEXTS, pageToken=_TEXT, maxResults=_NUMBER
        )
    }
    threads = {"get": _method("GET", "threads/{id}", format=_TEXT, metadataHeaders=_TEXTS)}
    return {
        "kind": "discovery#restDescription",
        "id": "gmail:v1",
        "name": "gmail",
        "version": "v1",
        "rootUrl": root,
        "servicePath": "",
        "batchPath": "batch",
        "parameters": {},
        "schemas": {},
        "resources": {
            "users": {
                "methods": {"getProfile": _method("GET", "profile")},
                "resources": {
                    "drafts": {"methods": drafts},
                    "messages": {"methods": messages},
                    "threads": {"methods": threads},
                    "history": {"methods": history},
                },
            },
        },
    }


class Endpoints:
    """The URLs of Gmail's methods; those that every letter needs are made once."""

    def __init__(self, root: str) -> None:
        self._users = GoogleAPI(document(root)).users
        drafts, messages = self._users.drafts, self._users.messages
        self.drafts_create = str(drafts.create(userId="me").url)
        self.drafts_send = str(drafts.send(userId="me").url)
        self.messages_send = str(messages.send(userId="me").url)
        self._root = root
        self.upload_draft = self._upload(drafts.create)
        self.upload_message = self._upload(messages.send)

    def _upload(self, method: Any) -> str:
        path = str(method["mediaUpload"]["protocols"]["simple"]["path"])
        return self._root + path.lstrip("/").format(userId="me") + "?uploadType=media"

    def draft(self, draft_id: str, *, shape: str = "") -> str:
        """One draft; `shape` is Google's "format", empty for methods that have none."""
        method, given = (self._users.drafts.get, {"format": shape}) if shape else (self._users.drafts.delete, {})
        return self._one(method, ident=draft_id, **given)

    def message(self, message_id: str, *, headers: tuple[str, ...]) -> str:
        """One message's labels and named headers."""
        return self._one(self._users.messages.get, ident=message_id, format="metadata", metadataHeaders=list(headers))

    def thread(self, thread_id: str, *, headers: tuple[str, ...]) -> str:
        """One thread's messages, with their labels and named headers."""
        return self._one(self._users.threads.get, ident=thread_id, format="metadata", metadataHeaders=list(headers))

    def drafts(self, *, page_token: str) -> str:
        """A page of the drafts."""
        return str(self._users.drafts.list(userId="me", maxResults=100, pageToken=page_token or None).url)

    def sent(self, *, page_token: str) -> str:
        """A page of the sent messages, newest first; without `q`, which the scope gmail.metadata forbids."""
        listed = self._users.messages.list(userId="me", maxResults=100, labelIds=["SENT"], pageToken=page_token or None)
        return str(listed.url)

    def history(self, start: int, *, page_token: str) -> str:
        """A page of what came since a history id."""
        listed = self._users.history.list(
            userId="me", startHistoryId=str(start), historyTypes=["messageAdded"], maxResults=500,
            pageToken=page_token or None,
        )  # fmt: skip
        return str(listed.url)

    def labelled(self, label: str, *, page_token: str) -> str:
        """A page of the messages with a label, newest first; without `q`, as for `sent`."""
        listed = self._users.messages.list(userId="me", maxResults=500, labelIds=[label], pageToken=page_token or None)
        return str(listed.url)

    def raw_message(self, message_id: str) -> str:
        """One whole message."""
        return self._one(self._users.messages.get, ident=message_id, format="raw")

    def profile(self) -> str:
        """The mailbox itself."""
        return str(self._users.getProfile(userId="me").url)

    def _one(self, method: Any, *, ident: str, **given: Any) -> str:
        # An empty id would name the collection, and dots another path.
        if ident.strip(".") == "":
            raise ValueError(f"{ident!r} is not an id of Google's")
        # By default aiogoogle does not escape "/".
        return str(method(userId="me", id=ident, path_params_safe_chars={"id": ""}, **given).url)
