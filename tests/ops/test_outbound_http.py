"""The door for requests to URLs of others: no form of an address leads into the operator's network."""

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest
import uvloop

from mailerd.core.network_rules import NetworkRules
from mailerd.ops.outbound_http import AddressInfo, AddressRefusedError, OutboundError, OutboundHttp, post_test
from tests.core.test_excerpts import NGINX
from tests.support.own_time import at_this_speed, own_time

OPEN = NetworkRules(allow_http=True, ports=frozenset())
"""Nothing but the addresses stands in the way."""
OURS = NetworkRules(allow_http=True, ports=frozenset(), allow_networks=(ip_network("127.0.0.0/8"),))

LITERALS = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0x7f.1", "017700000001", "0177.0.0.1",
    "0177.0x0.0.1", "127.0.0.1.", "127.0.0.2", "0.0.0.0", "0",  # noqa: S104 - it is asked for, nothing binds to it
    "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::127.0.0.1]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:7f00:1]", "[2002:7f00:1::]", "[64:ff9b::7f00:1]",
    "[64:ff9b::127.0.0.1]", "[64:ff9b:1::7f00:1]", "[2001:0:7f00:1::80ff:fffe]", "[fe80::1]", "[fec0::1]", "[fd00::1]",
    "[2a00:1450::5efe:7f00:1]", "[::ffff:0:7f00:1]", "[64:ff9b:1:7f00:0:100::]", "[64:ff9b:1::a9fe:a9fe]",
    "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "169.254.169.254",
    "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "100.100.100.200", "168.63.129.16", "224.0.0.1", "[ff02::1]",
    "１２７.０.０.１", "①②⑦.⓪.⓪.①", "127。0。0。1",
]  # fmt: skip
NAMES = {
    "localhost": ["127.0.0.1"], "private.test": ["10.0.0.1"], "mixed.test": ["93.184.216.34", "127.0.0.1"],
    "mixed-first.test": ["127.0.0.1", "93.184.216.34"], "mapped.test": ["::ffff:127.0.0.1"], "six.test": ["::1"],
    "nat64.test": ["64:ff9b::7f00:1"], "sixtofour.test": ["2002:7f00:1::"], "metadata.test": ["169.254.169.254"],
    "zero.test": ["0.0.0.0"],  # noqa: S104 - the same
    "teredo.test": ["2001:0:7f00:1::80ff:fffe"],
}  # fmt: skip


@dataclass
class Listener:
    """A server on every address of this machine, which counts who comes."""

    port: int = 0
    connections: int = 0
    answer: bytes = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"
    requests: list[bytes] = field(default_factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.answer)
            await writer.drain()
        writer.close()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    it = Listener()
    sock = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    it.port = sock.getsockname()[1]
    server = await asyncio.start_server(it.handle, sock=sock)
    yield it
    server.close()


def names(given: dict[str, list[str]], asked: Counter[str] | None = None) -> Callable[..., list[AddressInfo]]:
    """A resolver that knows these."""

    def look_up(host: str, port: int, family: int) -> list[AddressInfo]:
        assert family is not None
        if asked is not None:
            asked[host] += 1
        return [
            (int(socket.AF_INET6 if ":" in each else socket.AF_INET), int(socket.SOCK_STREAM), 6, "", (each, port))
            for each in given[host]
        ]

    return look_up


async def test_no_form_of_an_address_leads_into_the_own_network(listener: Listener) -> None:
    http = OutboundHttp(OPEN)
    for host in LITERALS:
        with pytest.raises(AddressRefusedError):
            await http.post(f"http://{host}:{listener.port}/", b"{}", {}, within=30)
    http = OutboundHttp(OPEN, look_up=names(NAMES))
    for host in NAMES:
        with pytest.raises(AddressRefusedError):
            await http.post(f"http://{host}:{listener.port}/", b"{}", {}, within=30)
    assert len(LITERALS) + len(NAMES) >= 30
    assert listener.connections == 0


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254", "::ffff:169.254.169.254", "::ffff:0:a9fe:a9fe", "::a9fe:a9fe", "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe", "64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:a9:fe:a9fe::", "64:ff9b:1:2:a9:fea9:fe00::",
        "2002:a9fe:a9fe::1", "2606::5efe:a9fe:a9fe", "2001:0:a9fe:a9fe::5601:5601", "fd00:ec2::254",
        "::ffff:0:a83f:8110", "64:ff9b:1::6464:64c8",
    ],
)  # fmt: skip
def test_metadata_stays_closed_in_every_form_whatever_is_opened(address: str) -> None:
    everything = NetworkRules(allow_networks=(ip_network("0.0.0.0/0"), ip_network("::/0")))
    assert "metadata" in everything.refusal(address)


def test_translators_of_ones_own_are_reached_where_they_are_opened() -> None:
    through = "64:ff9b:1::808:808"
    assert "not a public" in NetworkRules().refusal(through)
    assert NetworkRules(allow_networks=(ip_network("64:ff9b:1::/48"),)).refusal(through) == ""
    assert "not a public" in NetworkRules(allow_networks=(ip_network("64:ff9b:1::/48"),)).refusal("64:ff9b:1::a00:1")


@pytest.mark.parametrize("host", [each for each in LITERALS if each.isascii() and each.startswith("127")])
async def test_what_is_refused_by_its_url_is_refused_again_where_its_socket_is_made(
    listener: Listener, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    http = OutboundHttp(OPEN)
    monkeypatch.setattr(http, "refusal", lambda _: "")
    with pytest.raises(OutboundError):
        await http.post(f"http://{host}:{listener.port}/", b"{}", {}, within=30)
    assert listener.connections == 0


async def test_a_name_that_changes_its_address_between_the_look_and_the_connection_gains_nothing(
    listener: Listener,
) -> None:
    """The first look shows a public address, each later one the machine itself."""
    asked: Counter[str] = Counter()

    def turns() -> Iterator[str]:
        yield "192.0.2.1"  # allowed here; nobody answers there
        while True:
            yield "127.0.0.1"

    turn = turns()

    def look_up(host: str, port: int, family: int) -> list[AddressInfo]:
        assert family is not None
        asked[host] += 1
        return [(int(socket.AF_INET), int(socket.SOCK_STREAM), 6, "", (next(turn), port))]

    rules = NetworkRules(allow_http=True, ports=frozenset(), allow_networks=(ip_network("192.0.2.0/24"),))
    http = OutboundHttp(rules, look_up=look_up)
    with pytest.raises(OutboundError) as first:
        await http.post(f"http://rebind.test:{listener.port}/", b"{}", {}, within=0.5)
    assert not isinstance(first.value, AddressRefusedError)
    assert asked == {"rebind.test": 1}, "what was checked is what was connected to: there was no second look"
    with pytest.raises(AddressRefusedError):
        await http.post(f"http://rebind.test:{listener.port}/", b"{}", {}, within=30)
    assert listener.connections == 0


async def test_a_name_with_one_private_address_is_refused_as_a_whole(listener: Listener) -> None:
    http = OutboundHttp(OURS, look_up=names({"mixed.test": ["127.0.0.1", "10.0.0.1"]}))
    with pytest.raises(AddressRefusedError, match=r"mixed.test resolves to 10.0.0.1"):
        await http.post(f"http://mixed.test:{listener.port}/", b"{}", {}, within=30)
    assert listener.connections == 0


async def test_what_the_operator_opens_is_reached_and_metadata_is_not(listener: Listener) -> None:
    answer = await OutboundHttp(OURS).post(f"http://127.0.0.1:{listener.port}/x", b"{}", {"A": "b"}, within=30)
    assert (answer.status, listener.connections) == (204, 1)
    assert b"\r\nA: b\r\n" in listener.requests[0]
    everything = NetworkRules(
        allow_http=True, ports=frozenset(), allow_networks=(ip_network("0.0.0.0/0"), ip_network("::/0"))
    )
    for host in ("169.254.169.254", "[::ffff:a9fe:a9fe]", "[fd00:ec2::254]", "100.100.100.200", "[64:ff9b::a9fe:a9fe]"):
        with pytest.raises(AddressRefusedError):
            await OutboundHttp(everything).post(f"http://{host}/latest/meta-data", b"", {}, within=30)
    assert OutboundHttp(everything).refusal("http://[::1]:5000/") == ""


@pytest.mark.parametrize(
    "url, why",
    [
        ("http://example.com/", "https://"), ("ftp://example.com/", "https://"), ("https://u:p@example.com/", "user"),
        ("https://example.com:22/", "port 22"), ("https:///x", "host"), ("https://2130706433/", "number"),
        ("https://[::1]/", "public"), ("nonsense", "https://"),
        ("https://[::1", "URL"), ("https://10.0.0.1/", "public"),
    ],
)  # fmt: skip
def test_a_url_that_is_refused_says_why(url: str, why: str) -> None:
    assert why in OutboundHttp(NetworkRules()).refusal(url)


@pytest.mark.parametrize("url", ["https://example.com/hook?x=1", "https://example.com:8443/", "https://1.1.1.1/"])
def test_a_public_url_is_none_of_them(url: str) -> None:
    assert OutboundHttp(NetworkRules()).refusal(url) == ""


async def test_no_redirect_is_followed_and_no_proxy_of_the_environment_is_used(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    url = f"http://127.0.0.1:{listener.port}/"
    listener.answer = f"HTTP/1.1 302 Found\r\nLocation: {url}again\r\nContent-Length: 0\r\n\r\n".encode()
    answer = await OutboundHttp(OURS).post(url, b"{}", {}, within=30)
    assert (answer.status, listener.connections) == (302, 1)


async def test_an_answer_is_read_to_its_bound_only(listener: Listener) -> None:
    listener.answer = b"HTTP/1.1 500 No\r\nRetry-After: 7\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 1_000_000
    answer = await OutboundHttp(OURS).post(f"http://127.0.0.1:{listener.port}/", b"{}", {}, within=30)
    assert (answer.status, answer.retry_after, len(answer.text)) == (500, "7", 300)


async def test_of_a_proxys_page_only_its_title_is_the_last_response_of_a_webhook(listener: Listener) -> None:
    page = f"<!-- {'x' * 900} -->{NGINX}".encode()
    listener.answer = b"HTTP/1.1 502 Bad\r\nContent-Length: %d\r\n\r\n%s" % (len(page), page)
    url, now = f"http://127.0.0.1:{listener.port}/", datetime.now(UTC)
    attempt = await post_test(OutboundHttp(OURS), url, name="shop", secrets=[b"x" * 32], now=now, within=30)
    assert attempt.error == "it responded 502: 502 Bad Gateway"


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-", b"\x00\xff\r\n\r\n", b"220 smtp\r\n"]
)
async def test_what_breaks_off_in_its_head_or_is_no_http_is_no_answer(listener: Listener, answer: bytes) -> None:
    listener.answer = answer
    with pytest.raises(OutboundError) as raised:
        await OutboundHttp(OURS).post(f"http://127.0.0.1:{listener.port}/?token=hush", b"{}", {}, within=30)
    assert "hush" not in str(raised.value), "logs and alerts say it"
    assert "\n" not in str(raised.value)


ENDLESS = {
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 3000),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"a:\r\n" * 20_000),
    "chunk extensions": (b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a" * 70_000),
    "trailers": (b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"a:b\r\n" * 14_000),
    "tiny chunks": (b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nz\r\n" * 12_000),
}


def flood(server: socket.socket, begin: bytes, again: bytes, sent: list[int]) -> None:
    """Answer one request without an end, as fast as it is taken; from a thread, so that the loop's lag is its own."""
    connection, _ = server.accept()
    with connection, contextlib.suppress(OSError):
        connection.settimeout(10)
        connection.recv(65_536)
        connection.sendall(begin)
        while True:
            sent.append(connection.send(again))


@pytest.mark.parametrize("what", ENDLESS)
@pytest.mark.parametrize("loops", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_answer_without_an_end_breaks_off_and_holds_up_nothing(
    what: str, loops: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    sent: list[int] = []
    lag = 0.0

    async def look() -> None:
        nonlocal lag
        while True:
            began = own_time()
            try:
                await asyncio.sleep(0.005)
            finally:
                lag = max(lag, own_time() - began)

    async def go(port: int) -> None:
        looking = asyncio.create_task(look())
        try:
            answer = await OutboundHttp(OURS).post(f"http://127.0.0.1:{port}/", b"{}", {}, within=30)
            assert answer.status == 500
        except OutboundError as error:
            assert "64 kB" in str(error) or "400" in str(error), error  # noqa: PT017 - either is right
        looking.cancel()
        await asyncio.wait([looking])

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=flood, args=(server, *ENDLESS[what], sent))
        thread.start()
        with asyncio.Runner(loop_factory=loops) as runner:
            runner.run(go(server.getsockname()[1]))
        thread.join(10)
    assert not thread.is_alive(), "the connection was closed"
    assert sum(sent) < 20_000_000, "what the kernel's buffers took"
    assert lag < at_this_speed(0.5), lag


async def test_a_success_with_a_large_body_is_a_success(listener: Listener) -> None:
    listener.answer = b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5_000_000
    assert (await OutboundHttp(OURS).post(f"http://127.0.0.1:{listener.port}/", b"{}", {}, within=30)).status == 200


async def test_a_resolver_that_hangs_holds_up_nobody_else(listener: Listener) -> None:
    hangs, free = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def look_up(host: str, port: int, family: int) -> list[AddressInfo]:
        if host == "hangs.test":
            loop.call_soon_threadsafe(hangs.set)
            asyncio.run_coroutine_threadsafe(free.wait(), loop).result(60)
        return names({host: ["127.0.0.1"]})(host, port, family)

    http = OutboundHttp(OURS, look_up=look_up)
    slow = [asyncio.create_task(http.post("http://hangs.test:1/", b"", {}, within=0.3)) for _ in range(20)]
    await hangs.wait()
    assert (await http.post(f"http://here.test:{listener.port}/", b"", {}, within=30)).status == 204
    for each in await asyncio.gather(*slow, return_exceptions=True):
        assert isinstance(each, OutboundError)
    free.set()
