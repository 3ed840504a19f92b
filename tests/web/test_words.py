"""The words of the console: every one is there in both languages, and none is there for nothing."""

import ast
import re
import string
from pathlib import Path

import pytest

from mailerd.core.fates import Fate
from mailerd.core.notices import Kind
from mailerd.core.pauses import CAUSES, LABELS
from mailerd.core.states import JobChange, JobStatus, Proof, State
from mailerd.core.stats import WEBHOOK_STANDINGS
from mailerd.core.suppression import Channel, Reason
from mailerd.core.webhooks import DeliveryStatus
from mailerd.store.senders import LIMITS
from mailerd.texts import in_chinese
from mailerd.web.words import CHINESE
from tests.web.conftest import ConsoleSite

FOLDER = Path(__file__).parents[2] / "mailerd" / "web"
IN_PAGES = re.compile(r"""\bt\(\s*"((?:[^"\\]|\\.)*)\"""")
SAYING = {"t", "translate"}


def said_in_code(path: Path) -> set[str]:
    calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    named = [call for call in calls if getattr(call.func, "attr", getattr(call.func, "id", "")) in SAYING]
    texts = [arg.value for call in named for arg in call.args if isinstance(arg, ast.Constant)]
    return {text for text in texts if isinstance(text, str)}


def test_every_text_is_said_in_both_languages_and_every_pair_is_used() -> None:
    used = {found for path in FOLDER.glob("pages/*.html") for found in IN_PAGES.findall(path.read_text("utf-8"))}
    for path in FOLDER.glob("*.py"):
        used |= said_in_code(path)
    assert used - CHINESE.keys() == set()
    assert CHINESE.keys() - used == set()


def test_both_languages_fill_in_the_same_fields() -> None:
    def fields(text: str) -> set[str]:
        return {name for _, name, *_ in string.Formatter().parse(text) if name}

    assert [english for english, chinese in CHINESE.items() if fields(english) != fields(chinese)] == []


def test_every_status_action_cause_and_limit_has_a_name() -> None:
    needed = {
        *State,
        *JobStatus,
        *JobChange,
        *Proof,
        *CAUSES,
        *LIMITS,
        *Reason,
        *Channel,
        *Kind,
        *WEBHOOK_STANDINGS,
        *DeliveryStatus,
        *Fate,
    }
    assert {str(each) for each in needed} - LABELS.keys() == set()


@pytest.mark.parametrize(
    "headers, said",
    [({"Host": "evil.example"}, "此主机名不属于控制台"), ({"Sec-Fetch-Site": "cross-site"}, "此请求不是来自控制台")],
)
async def test_a_refusal_is_chinese_for_a_chinese_browser(
    site: ConsoleSite, headers: dict[str, str], said: str
) -> None:
    async with site.visitor().post("/logout", headers={**headers, "Accept-Language": "zh-CN"}) as answer:
        assert said in await answer.text()
    told = site.heard.of("console_refused")[-1]["reason"]
    assert not re.search("[a-z]", in_chinese(told)), "the log says it in Chinese too"
