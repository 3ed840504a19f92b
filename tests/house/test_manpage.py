"""The manual page is written from the commands' help, and is current."""

from mailerd import __version__
from tools.manpage import PAGE, page


def test_the_manual_page_is_current() -> None:
    assert PAGE.read_text("utf-8") == page(), "type: make man"


def test_the_manual_page_names_the_version() -> None:
    assert f"mailerd {__version__}" in PAGE.read_text("utf-8")
