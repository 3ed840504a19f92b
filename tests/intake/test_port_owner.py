"""A port that is taken: the message names the setting, who has the port, and what to do."""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mailerd.errors import ListenError
from mailerd.http import server
from mailerd.http.server import cannot_listen
from tests.intake.site import Site


@asynccontextmanager
async def listener(answer: bytes) -> AsyncIterator[int]:
    """A program that answers every request so; with b"" it says nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        if answer:
            writer.write(answer)
        else:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def refusal(port: int, *, number: int = errno.EADDRINUSE) -> str:
    error = OSError(number, os.strerror(number))
    found = await cannot_listen(error, part="the API", section="intake", host="127.0.0.1", port=port)
    assert isinstance(found, ListenError)
    return str(found)


async def test_another_mailerd_is_named_as_such() -> None:
    async with listener(b'HTTP/1.0 200 OK\r\nServer: mailerd\r\n\r\n{"status": "alive"}') as port:
        said = await refusal(port)
    assert said == (
        f"the API cannot listen on 127.0.0.1:{port} (intake.port): another mailerd is listening there; use that one, "
        "stop it, or choose another intake.port"
    )


async def test_a_daemon_that_serves_is_known(site: Site) -> None:
    host, _, port = site.url.removeprefix("http://").partition(":")
    assert await server.port_owner(host, int(port)) == "mailerd"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 404 Not Found\r\n\r\n",
        b'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n{"status": "alive"}',
        b"",
    ],
)
async def test_another_program_is_named_with_the_way_to_see_which(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "ANSWER_TIMEOUT", 0.2)
    async with listener(answer) as port:
        said = await refusal(port)
    assert f"another program is listening there; find it (`ss -ltnp sport = :{port}`)" in said
    assert said.endswith("then stop it or choose another intake.port")


async def test_what_is_not_about_the_port_s_owner_names_its_cause() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        said = await refusal(free.getsockname()[1], number=errno.EADDRNOTAVAIL)
    assert said.endswith("Cannot assign requested address; correct intake.host and intake.port")
