"""What is shown of a body that is no JSON."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.core.excerpts import words_of

NGINX = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>"
GOOGLE = (
    "<!DOCTYPE html>\n<html lang=en>\n  <meta charset=utf-8>\n  <title>Error 502 (Server Error)!!1</title>\n"
    "  <style>\n    *{margin:0;padding:0}html,code{font:15px/22px arial,sans-serif}"
)


@pytest.mark.parametrize(
    "body, words",
    [
        (NGINX, "502 Bad Gateway"),
        (GOOGLE, "Error 502 (Server Error)!!1"),
        ("<?xml version='1.0'?><Error><Code>Slow&amp;Down</Code></Error>", "Slow&Down"),
        ("<html><title> </title><body><script>alert(1)</script><p>No   upstream</p></body>", "No upstream"),
        ("<body><style>p{color:red", ""),
        ("<html><body><p>" + "word " * 100, ("word " * 24).strip()),
        ("upstream connect error", "upstream connect error"),
        ("rate < 5 and > 3", "rate < 5 and > 3"),
        ("", ""),
    ],
    ids=["nginx", "google", "xml", "no title", "cut off", "long", "text", "not markup", "nothing"],
)
def test_of_a_page_its_title_or_its_first_words_are_shown(body: str, words: str) -> None:
    assert words_of(body).strip() == words


@given(st.text(st.sampled_from("<>/!- titlescryp"), max_size=60))
def test_no_page_is_shown_with_its_tags(text: str) -> None:
    body = f"<html>{text}"
    assert "<html" not in words_of(body)
