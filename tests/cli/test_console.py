"""`mailerd console login`: the link leads to a daemon, or there is none."""

from tests.cli.conftest import Shop
from tests.support.daemon import running
from tests.support.heard import Heard
from tests.support.ports import free_port
from tests.support.rows import query


async def test_a_link_is_printed_only_where_a_daemon_answers(shop: Shop) -> None:
    port = free_port()
    shop.config.write_text(shop.config.read_text().replace("[intake]\nport = 0", f"[intake]\nport = {port}"))
    said = await shop.say("console", "login", code=1)
    assert f"no daemon is responding at http://127.0.0.1:{port}" in said
    assert "start `mailerd run`" in said
    assert "/login/" not in said
    assert await query(shop.database, "SELECT COUNT(*) FROM api_keys") == [(0,)]
    async with running(shop.settings, Heard()):
        assert f"http://127.0.0.1:{port}/login/" in await shop.say("console", "login")


async def test_where_the_intake_has_a_socket_file_the_proxy_must_be_named(shop: Shop) -> None:
    before = shop.config.read_text()
    shop.config.write_text(before.replace("[intake]\n", f'[intake]\nunix_socket = "{shop.folder}/s"\n'))
    said = await shop.say("console", "login", code=1)
    assert "which a browser cannot open: add the host name of its proxy to web.hosts" in said
    shop.config.write_text(shop.config.read_text() + '[web]\nhosts = "mail.example.com"\n')
    assert "https://mail.example.com/login/" in await shop.say("console", "login")
