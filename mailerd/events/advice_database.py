"""What to do about the events of a database that has been replaced, or of connections to it that were cut."""

from collections.abc import Mapping
from typing import Final

from mailerd.events.advice import Advice, Cause

DATABASE_ADVICE: Final[Mapping[str, Advice]] = {
    "connection_cut": Advice(
        "A connection to the database ended in the midst of its use; a new one was made and works, so nothing waits.",
        "与数据库的一个连接在使用中断开；已建立新连接且可用，无需等待。",
        (
            Cause(
                "the server was restarted or replaced, or somebody killed its connections",
                "服务器被重启或替换，或有人终止了连接",
                "journalctl -u mariadb -u mysql -n 50",
            ),
            Cause(
                "a firewall or a router between here and the server drops connections",
                "中间的防火墙或路由设备断开了连接",
                "journalctl -u mailerd --grep 'was cut'",
            ),
        ),
    ),
}
