"""The API and token endpoints: the only place where requests come in, wait, go wrong and are
answered.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import assert_never
from urllib.parse import parse_qsl

from aiohttp import web

from mailerd.sandbox.google.answers import Answer, Refused, too_large, unknown_path
from mailerd.sandbox.google.fake_google import FakeGoogle
from mailerd.sandbox.google.faults import Fault
from mailerd.sandbox.google.gmail import Call, describe
from mailerd.sandbox.google.methods import route

LATE_SILENCE_S = 120.0
"""How long a client that has not gone is kept waiting after its request was accepted late."""

_NO_LINGER = struct.pack("ii", 1, 0)


class GoogleRequestHandler:
    """Lets requests in. What has been accepted is done whether or not the client is still there."""

    def __init__(self, google: FakeGoogle) -> None:
        self._google = google

    async def gmail(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """Answer a call of the Gmail API."""
        google = self._google
        way = route(request.method, path)
        # it stands in the log all the same: what a client tries is what the log is for
        if way is None:
            google.note(f"{request.method} {path[:200]}", user="", status=404, accepted=False)
            return response(unknown_path())
        try:
            grant, box = google.authenticate(request.headers.get("Authorization"), user=way.user)
            body = await request.read()
            google.limits.enter(box)
        except Refused as refused:
            google.note(way.method.name, user="", status=refused.answer.status, accepted=False)
            return response(refused.answer)
        except web.HTTPRequestEntityTooLarge:
            return response(too_large(google.rules.max_message_bytes))
        call = Call(
            route=way,
            mailbox=box,
            scopes=grant.allowed(),
            asked=request,
            body=body,
            max_bytes=google.rules.max_message_bytes,
            now=0.0,
            permit=lambda message: google.limits.permit_sending(
                box, message.recipients, now=google.now()
            ),
            on_sent=google.record_sent,
        )
        try:
            return await self._call(request, call)
        finally:
            box.usage.in_flight -= 1

    async def token(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a token request."""
        google = self._google
        form = dict(parse_qsl((await request.read()).decode("utf-8", "replace")))
        sender = google.oauth.sender_of(form)

        def note(answer: Answer | None, *, status: int, fault: str) -> None:
            google.note("token", user=sender, status=status, accepted=_done(answer), fault=fault)

        fault = google.faults.pick("token", sender)
        if fault is not None:
            return await self._misbehave(
                request, fault, act=lambda: google.oauth.token(form), note=note
            )
        await asyncio.sleep(google.rules.token_latency_s)
        answer = google.oauth.token(form)
        note(answer, status=answer.status, fault="")
        return response(answer)

    async def _call(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        google = self._google
        name, user = call.route.method.name, call.mailbox.email

        def note(answer: Answer | None, *, status: int, fault: str) -> None:
            if answer is None:
                describe(call)
            google.note(
                name,
                user=user,
                status=status,
                accepted=_done(answer),
                key=call.key,
                draft_id=call.draft_id,
                units=call.units,
                fault=fault,
            )

        pause = google.rules.latency_s / 2
        if pause:
            await asyncio.sleep(pause)
        fault = google.faults.pick(name, user)
        if fault is not None:
            if fault.kind == "undelivered":
                call.on_sent = google.not_delivered
            return await self._misbehave(
                request, fault, act=lambda: google.perform(call), note=note
            )
        answer = google.perform(call)
        note(answer, status=answer.status, fault="")
        if pause:
            await asyncio.sleep(pause)
        return response(answer)

    async def _misbehave(
        self,
        request: web.BaseRequest,
        fault: Fault,
        *,
        act: Callable[[], Answer],
        note: Callable[..., None],
    ) -> web.StreamResponse:
        """Go wrong as asked. aiohttp lets this run on when the client goes, so what is late still
        happens.
        """
        if fault.kind in ("latency", "late"):
            await asyncio.sleep(fault.seconds)
        done = act() if fault.does_the_work else None
        retry_at = self._google.now() + self._google.rules.retry_after_s
        honest = fault.kind in ("latency", "undelivered")
        asked_id = request.path.rpartition("/")[2]
        answer = (
            done
            if done is not None and honest
            else fault.answer(done, retry_at=retry_at, asked_id=asked_id)
        )
        note(done, status=answer.status if fault.ending == "answer" else 0, fault=fault.kind)
        match fault.ending:
            case "answer":
                return response(answer)
            case "cut_off":
                return await _cut_off(request, answer)
            case "hang":
                await asyncio.sleep(LATE_SILENCE_S if fault.kind == "late" else fault.seconds)
                return _reset(request)
            case "reset":
                return _reset(request)
            case _ as never:
                assert_never(never)


def response(answer: Answer) -> web.Response:
    """The answer as aiohttp wants it."""
    return web.Response(
        status=answer.status,
        body=answer.body,
        headers=[("Content-Type", answer.content_type), *answer.headers],
    )


def _done(answer: Answer | None) -> bool:
    return answer is not None and answer.status < 300  # noqa: PLR2004 -- 2xx


def _reset(request: web.BaseRequest) -> web.Response:
    """Send a TCP reset instead of an answer; the response is only what aiohttp wants to have
    returned.
    """
    transport = request.transport
    if transport is not None:
        # Without lingering, closing sends RST and not FIN: "connection reset by peer", as a broken
        # line gives it.
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER
        )
        transport.abort()
    return web.Response(status=500)


async def _cut_off(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    """Promise the whole answer, send half of it and close."""
    half = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
    half.content_length = max(len(answer.body), 2)
    await half.prepare(request)
    await half.write(answer.body[: len(answer.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return half
