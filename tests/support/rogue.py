"""A server that speaks MySQL's protocol, is none, and keeps whatever it can get: a password, or a file."""

import socket
import ssl
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pymysql.constants import CLIENT

SALT: Final = bytes(range(65, 85))
ALL: Final = CLIENT.CAPABILITIES | CLIENT.CONNECT_WITH_DB
OK: Final = b"\x00\x00\x00\x02\x00\x00\x00"
FULL: Final = b"\x01\x04"
"""caching_sha2_password: the digest is not known here, send the password."""
FILE: Final = b"\xfb/etc/hostname"
"""The answer to LOAD DATA LOCAL INFILE: send that file."""
_KEY: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEY: Final = b"\x01" + _KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
"""What a server answers to the wish for its public key."""


def switch(plugin: str) -> bytes:
    """Asks the client to log in by that plugin."""
    return b"\xfe" + plugin.encode() + b"\x00" + SALT + b"\x00"


class Rogue:
    """Listens on 127.0.0.1; `script` is what it answers to the log-in, packet by packet, whatever the client sends.

    After it, each command is answered by OK, but a query by `query`.
    """

    def __init__(
        self,
        *,
        plugin: str = "mysql_native_password",
        script: Sequence[bytes] = (OK,),
        query: bytes = OK,
        capabilities: int = ALL,
        tls: tuple[Path, Path] | None = None,
        greeting: bytes = b"",
        silent: threading.Event | None = None,
    ) -> None:
        """`silent`: after its first answer it neither reads nor closes before that."""
        self.got = b""
        """All that clients have sent, as this server could read it."""
        self.packets: list[bytes] = []
        self.queries = 0
        self.port = 0
        self._script, self._query, self._greeting, self._silent = script, query, greeting, silent
        self._tls: ssl.SSLContext | None = None
        if tls:
            capabilities |= CLIENT.SSL
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(*tls)
        self._hello = (
            b"\x0a8.0.40\x00" + struct.pack("<I", 7) + SALT[:8] + b"\x00" + struct.pack("<H", capabilities & 0xFFFF)
            + b"\x2d\x02\x00" + struct.pack("<HB", capabilities >> 16, 21) + bytes(10) + SALT[8:] + b"\x00"
            + plugin.encode() + b"\x00"
        )  # fmt: skip

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # close() alone would leave its thread in accept()
        self._listener.close()

    def url(self, password: str, query: str = "", *, user: str = "mailerd") -> str:
        """Where a daemon would look for its database."""
        return f"mysql://{user}:{password}@127.0.0.1:{self.port}/mailerd{query}"

    def has(self, password: str) -> bool:
        """Whether it can read the password from what it got, with its own private key where that helps."""
        return password.encode() + b"\x00" in self.got or any(
            _decrypted(packet) == password.encode() + b"\x00" for packet in self.packets
        )

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=self._listener.accept()[:1], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError), client:
            self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        if self._greeting:
            client.sendall(self._greeting)
            client.recv(1)
            return
        _write(client, 0, self._hello)
        number, said = self._read(client)
        if self._tls is not None and len(said) == 32:
            with self._tls.wrap_socket(client, server_side=True) as hidden:
                self._log_in(hidden, *self._read(hidden))
        else:
            self._log_in(client, number, said)

    def _log_in(self, client: socket.socket, number: int, said: bytes) -> None:
        for answer in self._script:
            _write(client, number + 1, answer)
            if self._silent:
                self._silent.wait()
            if answer != OK:
                number, said = self._read(client)
        while True:
            number, said = self._read(client)
            query = said[:1] == b"\x03" and b"AUTOCOMMIT" not in said
            self.queries += query
            _write(client, number + 1, self._query if query else OK)

    def _read(self, client: socket.socket) -> tuple[int, bytes]:
        head = _exactly(client, 4)
        packet = _exactly(client, int.from_bytes(head[:3], "little"))
        self.got += packet
        self.packets.append(packet)
        return head[3], packet


def _exactly(client: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        if not (more := client.recv(size - len(got))):
            raise EOFError
        got += more
    return got


def _write(client: socket.socket, number: int, packet: bytes) -> None:
    client.sendall(len(packet).to_bytes(3, "little") + bytes([number % 256]) + packet)


def _decrypted(packet: bytes) -> bytes:
    try:
        mixed = _KEY.decrypt(packet, padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None))  # noqa: S303
    except ValueError:
        return b""
    return bytes(byte ^ SALT[place % len(SALT)] for place, byte in enumerate(mixed))
