"""The language that a request asks for."""

import time

import pytest

from mailerd.locale import accepted_language, from_environment
from tests.support.own_time import at_this_speed


@pytest.mark.parametrize(
    "header, language",
    [
        ("", "en"),
        ("zh-CN", "zh"),
        ("zh", "zh"),
        ("ZH-Hant-TW", "zh"),
        ("en-US,en;q=0.9,zh;q=0.8", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("de, zh;q=0.5", "zh"),
        ("fr;q=1, en;q=0.3, zh;q=0.4", "zh"),
        ("zh;q=0", "en"),
        ("zh;q=nonsense", "en"),
        ("*", "en"),
        (";;;,,,", "en"),
        ("zh;Q=0.9", "zh"),
        ("en;q=0.5,zh ; q=0.9", "zh"),
        ("zh;q=1.9,en", "en"),
        ("zh;q=1.9", "en"),
        ("zh;q=0.1234,en;q=0.001", "en"),
        ("zh_CN", "en"),
        ("z h", "en"),
        ("," * 19 + "zh", "zh"),
        ("," * 20 + "zh", "en"),
    ],
)
def test_the_language_of_a_request(header: str, language: str) -> None:
    assert accepted_language(header) == language


def test_a_header_as_long_as_one_may_be_takes_no_time() -> None:
    started = time.process_time()
    for header in ("," * 8_000, "zh;q=0.1," * 900, "a-" * 4_000, "zh" + " " * 8_000, "zh;" * 2_600):
        for _ in range(100):
            accepted_language(header)
    assert (time.process_time() - started) / 500 < at_this_speed(0.000_3)


@pytest.mark.parametrize(
    "environment, language",
    [
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "zh_CN"}, "zh"),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "de:zh_CN:en"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LANGUAGE": "en"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LANGUAGE": ""}, "zh"),
        ({"LC_ALL": "C", "LANGUAGE": "zh_CN"}, "en"),
        ({"LANGUAGE": "zh_CN"}, "en"),
        ({"LC_ALL": "zh_TW.UTF-8", "LANG": "en_US.UTF-8"}, "zh"),
        ({"LANG": "C", "LANGUAGE": "zh_CN", "MAILERD_LOG__LANGUAGE": "zh"}, "zh"),
    ],
)
def test_a_command_speaks_the_language_of_its_environment_as_gettext_documents(
    environment: dict[str, str], language: str
) -> None:
    assert from_environment(environment) == language
