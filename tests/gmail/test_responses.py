"""What is read out of Google's answers."""

import json
from datetime import UTC, datetime

import pytest

from mailerd.core.replies import Accepted, Call, MalformedResponse, NotSent, Refused, TokenRefused
from mailerd.core.verdicts import Disposition, judge
from mailerd.gmail.session import Answer, TokenResponse, read, read_token
from tests.core.test_excerpts import NGINX


def answer(body: object, *, status: int = 200, **headers: str) -> Answer:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}, body=text)


def test_a_created_draft_has_its_own_id_and_its_message_thread() -> None:
    body = {"id": "r-1", "message": {"id": "m", "threadId": "t", "labelIds": ["DRAFT"]}}
    assert read(answer(body), call=Call.DRAFTS_CREATE) == Accepted(id="r-1", thread_id="t")


@pytest.mark.parametrize("call", [Call.DRAFTS_SEND, Call.MESSAGES_SEND])
def test_a_sent_message_has_the_message_id_and_thread(call: Call) -> None:
    assert read(answer({"id": "m", "threadId": "t"}), call=call) == Accepted(id="m", thread_id="t")


@pytest.mark.parametrize("call", [c for c in Call if c not in (Call.TOKEN, Call.DRAFTS_DELETE)])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"<html>hello</html>",
        b"null",
        b'"id"',
        b'[{"id":"m"}]',
        b"[" * 100_000,
        b'{"id":"\xff\xfe","emailAddress":3,"drafts":[1],"messages":[2]}',
        b'{"id":"a b","emailAddress":null,"drafts":{},"messages":{}}',
        b'{"id":"\\ud800","emailAddress":[],"drafts":[{}],"messages":[{"id":""}]}',
        b'{"id":7,"emailAddress":false,"drafts":null,"messages":null}',
    ],
)
def test_a_success_that_promises_nothing_is_garbled(call: Call, body: bytes) -> None:
    reply = read(answer(body), call=call)
    assert isinstance(reply, MalformedResponse)
    assert reply.status == 200
    assert len(reply.excerpt) <= 500


@pytest.mark.parametrize(
    "call, body",
    [
        (Call.DRAFTS_CREATE, {"id": "m", "threadId": "t", "labelIds": ["SENT"]}),
        (Call.DRAFTS_SEND, {"id": "d", "message": {"id": "m", "threadId": "t"}}),
        (Call.MESSAGES_SEND, {"id": "d", "message": {"id": "m", "threadId": "t"}}),
        (Call.MESSAGES_GET, {"id": "d", "message": {"id": "m", "threadId": "t"}}),
        (Call.DRAFTS_GET, {"id": "m", "threadId": "t", "payload": {"headers": []}}),
    ],
)
def test_the_answer_to_another_question_is_garbled(call: Call, body: dict[str, object]) -> None:
    assert isinstance(read(answer(body), call=call), MalformedResponse)


def test_an_empty_list_is_an_answer() -> None:
    body = {"resultSizeEstimate": 0}
    assert read(answer(body), call=Call.DRAFTS_LIST) == Accepted(body=body)
    assert read(answer(body), call=Call.MESSAGES_LIST) == Accepted(body=body)


def test_a_deleted_draft_is_an_empty_answer_and_a_page_is_not() -> None:
    assert read(answer(b"", status=204), call=Call.DRAFTS_DELETE) == Accepted()
    assert isinstance(read(answer(b"<html>Welcome to our hotel"), call=Call.DRAFTS_DELETE), MalformedResponse)


def test_a_refusal_carries_googles_reason_and_words() -> None:
    error = {"code": 429, "message": "User-rate limit exceeded.", "errors": [{"reason": "rateLimitExceeded"}]}
    reply = read(answer({"error": error}, status=429, Retry_After="7"), call=Call.DRAFTS_SEND)
    expected = Refused(status=429, reason="rateLimitExceeded", message="User-rate limit exceeded.", retry_after=7.0)
    assert reply == expected


def test_the_error_info_gives_the_reason_when_the_old_list_is_missing() -> None:
    error = {"message": "no", "details": [{"@type": "x"}, {"reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT"}]}
    reply = read(answer({"error": error}, status=403), call=Call.DRAFTS_SEND)
    assert reply == Refused(status=403, reason="ACCESS_TOKEN_SCOPE_INSUFFICIENT", message="no")


@pytest.mark.parametrize(
    "http_status, status, disposition",
    [
        (404, "NOT_FOUND", Disposition.DRAFT_GONE),
        (400, "FAILED_PRECONDITION", Disposition.NOT_COUNTED),
        (400, "INVALID_ARGUMENT", Disposition.REJECTED),
        (403, "PERMISSION_DENIED", Disposition.NOT_COUNTED),
        (404, None, Disposition.TRANSIENT),
    ],
)
def test_an_envelope_that_has_a_status_alone_means_the_same(
    http_status: int, status: object, disposition: Disposition
) -> None:
    """As https://google.aip.dev/193 has it: the list `errors` is of an older form."""
    error = {"code": http_status, "message": "Requested entity was not found.", "status": status}
    reply = read(answer({"error": error}, status=http_status), call=Call.DRAFTS_GET)
    assert judge(Call.DRAFTS_GET, reply).disposition is disposition


def test_a_refusal_in_a_list_is_read_too() -> None:
    body = [{"error": {"message": "Backend Error", "errors": [{"reason": "backendError"}]}}]
    reply = read(answer(body, status=503), call=Call.DRAFTS_SEND)
    assert reply == Refused(status=503, reason="backendError", message="Backend Error")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"[3]",
        b"{}",
        b'{"error":null}',
        b'{"error":[]}',
        b'{"error":{"errors":[null],"details":7}}',
        b"\xff",
    ],
)
def test_a_refusal_without_an_envelope_is_still_a_refusal(body: bytes) -> None:
    reply = read(answer(body, status=502), call=Call.DRAFTS_SEND)
    assert isinstance(reply, Refused)
    assert (reply.status, reply.reason, reply.retry_after) == (502, "", None)


def test_a_text_becomes_one_line_of_at_most_500_characters() -> None:
    text = b"upstream\n\t502\x00\x1b[31m " + b"x" * 5000
    reply = read(answer(text, status=502), call=Call.DRAFTS_SEND)
    assert isinstance(reply, Refused)
    assert reply.message.startswith("upstream 502 [31m xxx")
    assert len(reply.message) == 500
    assert reply.message.isprintable()


def test_a_redirect_is_a_refusal() -> None:
    assert isinstance(read(answer(b"", status=302), call=Call.DRAFTS_GET), Refused)


def test_retry_after_as_a_date_counts_from_the_answers_own_date() -> None:
    headers = {"Retry_After": "Tue, 24 Nov 2026 11:01:30 GMT", "Date": "Tue, 24 Nov 2026 11:00:00 GMT"}
    reply = read(answer({}, status=503, **headers), call=Call.DRAFTS_SEND)
    assert isinstance(reply, Refused)
    assert reply.retry_after == 90.0


@pytest.mark.parametrize("said", ["", "soon", "Tue, 99 Nov 2026 11:01:30 GMT"])
def test_a_refusal_tells_googles_clock_where_its_date_is_one(said: str) -> None:
    whole = read(answer({}, status=429, Date="Tue, 24 Nov 2026 11:00:00 GMT"), call=Call.DRAFTS_SEND)
    assert isinstance(whole, Refused)
    assert whole.answered_at == datetime(2026, 11, 24, 11, 0, tzinfo=UTC)
    without = read(answer({}, status=429, Date=said), call=Call.DRAFTS_SEND)
    assert isinstance(without, Refused)
    assert without.answered_at is None


@pytest.mark.parametrize("said", ["", "soon", "-3", "1e9", "٣", "9" * 40])
def test_a_retry_after_that_means_nothing_is_none(said: str) -> None:
    reply = read(answer({}, status=503, Retry_After=said), call=Call.DRAFTS_SEND)
    assert isinstance(reply, Refused)
    assert reply.retry_after is None


def test_a_token_without_scope_or_lifetime_is_a_token() -> None:
    granted = read_token(answer({"access_token": "ya29.x", "token_type": "Bearer"}))
    assert granted == TokenResponse(access_token="ya29.x", lifetime_s=3599.0, scopes=None)


@pytest.mark.parametrize("lifetime", [True, "3599", -1, float("nan"), float("inf"), None])
def test_a_lifetime_that_cannot_be_one_is_googles_usual(lifetime: object) -> None:
    granted = read_token(answer({"access_token": "t", "expires_in": lifetime}))
    assert isinstance(granted, TokenResponse)
    assert granted.lifetime_s == 3599.0


@pytest.mark.parametrize("token", [None, "", 3, "a b", "a\r\nX-Evil: 1", "ü"])
def test_a_token_that_cannot_stand_in_a_header_is_none_and_is_not_quoted(token: object) -> None:
    refusal = read_token(answer({"access_token": token, "secret": "hush"}))
    assert isinstance(refusal, NotSent)
    assert "hush" not in refusal.cause


def test_a_token_refusal_carries_oauths_own_words() -> None:
    body = {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
    expected = TokenRefused(400, error="invalid_grant", description="Token has been expired or revoked.")
    assert read_token(answer(body, status=400)) == expected


def test_a_token_endpoint_that_answers_html_refuses_without_a_word_of_oauth() -> None:
    assert read_token(answer(b"<html>oops", status=503)) == TokenRefused(503, description="oops")


def test_of_a_proxys_page_only_its_title_reaches_the_surfaces() -> None:
    reply = read(answer(NGINX.encode(), status=502), call=Call.DRAFTS_SEND)
    assert judge(Call.DRAFTS_SEND, reply).reason == "Google responded 502: 502 Bad Gateway"


@pytest.mark.parametrize("call", [Call.DRAFTS_SEND, Call.MESSAGES_SEND])
def test_an_id_that_is_longer_than_its_column_is_none(call: Call) -> None:
    assert read(answer({"id": "m" * 128, "threadId": "t" * 129}), call=call) == Accepted(id="m" * 128)
    assert isinstance(read(answer({"id": "m" * 129}), call=call), MalformedResponse)
