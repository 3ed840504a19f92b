"""aiomysql's connection, and what it may say at the log-in: a machine in the server's place gets no password."""

import os
import ssl
from typing import Final

from pymysql.constants import CLIENT
from pymysql.err import MySQLError, OperationalError
from yarl import URL

from mailerd.store.db import error_codes
from mailerd.store.db.url import address, encrypted, proves_itself

try:
    import aiomysql
except OSError:  # since Python 3.13 its import fails for a user without a name, as in many a container
    os.environ["LOGNAME"] = "without a name"
    import aiomysql

_NO_TLS: Final = "the server offers no TLS, which database.url asks for"
_NOT_PROVEN: Final = (
    "the server asks for the password itself, which goes only over TLS with a verified certificate, or a unix socket"
)
_HANDSHAKE, _TLS, _INSECURE = 2012, 2026, 2061
"""Numbers of MySQL's own client: SERVER_HANDSHAKE_ERR, SSL_CONNECTION_ERROR, AUTH_PLUGIN_ERR."""
_HEADER: Final = 32
"""Bytes before the user's name in HandshakeResponse41, and all of a request for TLS."""
_DIGESTS: Final = frozenset({0, 20, 32})
"""Lengths of answers that do not show the password: none, mysql_native_password's, caching_sha2_password's."""


class Driver(aiomysql.Connection):  # type: ignore[misc]  # it has no types
    """A connection that is opened by `log_in`.

    The driver does what the server asks for: it goes on in clear where TLS is not offered, and sends the password in
    clear, or encrypted with a key that the server has just sent. So each packet is looked at before it goes out.
    """

    def __init__(self, url: URL) -> None:
        super().__init__(**address(url))
        # The driver would let one text hold several statements; without this flag the server refuses the second one.
        self.client_flag &= ~CLIENT.MULTI_STATEMENTS
        self._url: Final = url
        self._password_sent: Final = (url.password or "").encode() + b"\0"
        """The password as a server would get it in clear."""
        self._introduced = self._logged_in = False

    async def log_in(self) -> None:
        """Connect and log in.

        Raises:
            MySQLError: there is no connection; its number is the server's, or of MySQL's own client.
        """
        try:
            await self.ping()  # connects
            self._logged_in = True
        except OSError:
            raise
        except MySQLError as error:
            if isinstance(error.__cause__, ssl.SSLError):
                raise OperationalError(_TLS, "no TLS with this server") from error.__cause__
            if error_codes.number(error):
                raise
            raise _not_understood(error) from error
        except RuntimeError as error:  # uvloop's answer to a write after the connection was reset; asyncio only warns
            raise OperationalError(2013, f"the connection was closed: {error}") from error
        except Exception as error:  # whatever a stranger's bytes have brought the driver to is no bug of ours
            raise _not_understood(error) from error
        finally:
            if not self._logged_in:  # the driver itself leaves it open where the first command after the log-in fails
                self.close()

    def write_packet(self, payload: bytes) -> None:
        """Send a packet, unless that would give the password away.

        Raises:
            OperationalError: it would, or it would go in clear though TLS was asked for.
        """
        if not self._logged_in:
            tls, offered = encrypted(self._url), self.server_capabilities & CLIENT.SSL
            if tls and not offered and "unix_socket" not in self._url.query:
                raise OperationalError(_TLS, _NO_TLS)
            if not proves_itself(self._url) and self._shows_password(payload):
                raise OperationalError(_INSECURE, _NOT_PROVEN)
        super().write_packet(payload)

    def _shows_password(self, payload: bytes) -> bool:
        """Whether the server, or who stands in its place, could read the password from this packet of the log-in."""
        secret = self._password_sent
        if secret == b"\0":  # there is none
            return False
        if self._introduced:  # the packet is an answer, and nothing else
            return payload == secret or len(payload) not in _DIGESTS
        if len(payload) == _HEADER:  # the request for TLS
            return False
        self._introduced = True
        answer = payload[_HEADER:].partition(b"\0")[2]  # behind the user's name
        size = len(secret)  # as its length was agreed on: in a byte, in three, or not at all
        return answer.startswith(
            (secret, bytes([min(size, 255)]) + secret, b"\xfc" + size.to_bytes(2, "little") + secret)
        )


def _not_understood(error: Exception) -> OperationalError:
    said = str(error) or type(error).__name__
    return OperationalError(
        _HANDSHAKE, f"the log-in failed, since what answers is no MySQL or MariaDB, or a proxy: {said}"
    )
