"""A stranger's template reaches nothing and ends soon, and nobody else's message is the worse for it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mailerd.mail import cage, renderer
from mailerd.mail.cage import Limits
from mailerd.mail.renderer import CHECK_LIMITS, Rendered
from mailerd.mail.templates import Content, RecipientData, RendererError, RenderError, Source, Template, TemplateErrors
from tests.mail.in_process import InProcess
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.rendering import rendering

ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ ''['\\x5f\\x5fclass\\x5f\\x5f'] }}",
    "{{ ''['__cla' ~ 'ss__'] }}",
    "{{ ''|attr('__class__') }}",
    "{{ []|map(attribute='__class__') }}",
    "{{ [x]|map(attribute='a.' ~ '__class__')|list }}",
    "{{ [x]|sort(attribute='_' ~ '_class__') }}",
    "{{ self.__init__.__globals__.__builtins__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ lipsum() }}",
    "{{ joiner }}",
    "{{ namespace(a=1) }}",
    "{{ dict(a=1) }}",
    "{{ config.items() }}",
    "{{ request.application.__globals__ }}",
    "{{ get_flashed_messages.__globals__ }}",
    "{{ url_for }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ '{0.__class__}'.format_map(x) }}",
    "{{ ('{0.__class__}'|safe).format(1) }}",
    "{{ ['{0.__class__}']|map('format', 1)|list }}",
    "{{ x.upper }}",
    "{{ x.get }}",
    "{{ x.get('__class__') }}",
    "{{ (1).real }}",
    "{{ x.mro() }}",
    "{{ range.__init__ }}",
    "{{ range }}",
    "{{ x.clear() }}",
    "{% for a in [1] %}{{ loop._iterator }}{% endfor %}",
    "{% for a in [1] %}{{ loop.__init__ }}{% endfor %}",
    "{% for a in [1] %}{{ loop }}{% endfor %}",
    "{% for a in [1] %}{{ loop(a) }}{% endfor %}",
    "{% for a in [1] recursive %}{{ a }}{% endfor %}",
    "{% for a in [].__class__.__base__.__subclasses__() %}{% endfor %}",
    "{% set x = x.__class__ %}",
    "{% set x.y = 1 %}",
    "{% set x %}a{% endset %}",
    "{% import 'os' as os %}",
    "{% from 'a' import b %}",
    "{% include '/etc/passwd' %}",
    "{% extends '/etc/passwd' %}",
    "{% block a %}{% endblock %}",
    "{% macro a() %}{% endmacro %}",
    "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "{% call x() %}{% endcall %}",
    "{% filter upper %}a{% endfilter %}",
    "{% with a = 1 %}{% endwith %}",
    "{% autoescape false %}{{ x }}{% endautoescape %}",
    "{{ context }}",
    "{{ environment }}",
    "{{ missing }}",
    "{{ x|_out('a') }}",
    "{{ x['_' ~ 'id'] }}",
    "{{ x.get('_id') }}",
    "{% for a in [1] %}{% if loop.depth %}{% endif %}{% endfor %}",
    "{{ x|_called('upper') }}",
    "{{ [x]|map('_called', '__class__')|list }}",
    "{{ [x]|map('attr', '__class__')|list }}",
    "{{ x|map('_each')|first }}",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_no_known_way_out_of_the_sandbox_works(source: str) -> None:
    with pytest.raises((TemplateErrors, RenderError)):
        InProcess(subject="s", html=source, text=None).render({"x": {"a": "b", "_id": 1}})


LONG = "{% set x = 'a' * 900000 %}{% for i in range(10000) %}"

BOMBS = [
    "{{ 'a' * 10**9 }}",
    "{{ 9**9**9 }}",
    "{{ 9**(9**9) }}",
    "{{ 2**257 }}",
    "{{ ('a' * 1000001)|length }}",
    "{{ range(100001)|first }}",
    "{% set t = (1, 1) %}" + "{% set t = (t, t) %}" * 40 + "{{ {}[t] is defined }}",
    "{% set m = 'a' * 10 ** 6 %}{% set l = [m] %}" + "{% set l = l + l %}" * 25 + "{{ l|join|length }}",
    "{{ 2 ** 255 * 2 ** 255 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%1000000000d'|format(1) }}",
    "{{ '%.1000000000f'|format(1.5) }}",
    "{{ '%1000000000d' is even }}",
    "{{ '%1000000000d' is divisibleby(1) }}",
    "{{ 'a'|center(1000000000) }}",
    "{{ 5|round(-1000000000) }}",
    "{{ range(10**9)|list }}",
    "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "{% for a in range(100000) %}{{ a }}{{ a }}{{ a }}{{ a }}{% endfor %}",
    "{% for a in range(60000) %}" + "x" * 100 + "{% endfor %}",
    "{% set x = 'aaaaaaaaaaaaaaaa' %}" + "{% set x = x ~ x %}" * 30,
    "{% set x = 'aaaaaaaaaaaaaaaa' %}" + "{% set x = x + x %}" * 30,
    "{% set x = 'a' * 100000 %}" + "{% set x = x|replace('a', 'aaaaaaaaaaaa') %}" * 5,
    "{% set x = [1] %}" + "{% set x = x + x %}" * 30,
    "{% set x = [1] %}" + "{% set x = [x, x] %}" * 30 + "{{ x }}",
    "{% set x = [1] %}" + "{% set x = [x, x] %}" * 30 + "{{ x|join }}",
    "{% set x = [1] %}{% set y = [1.0] %}" + "{% set x = [x, x] %}{% set y = [y, y] %}" * 30 + "{{ x == y }}",
    "{% set x = [1] %}{% set y = [1.0] %}" + "{% set x = [x, x] %}{% set y = [y, y] %}" * 30 + "{{ [x, y]|max }}",
    LONG + "{% if 'b' in x %}{% endif %}{% endfor %}",
    LONG + "{% if x == x ~ 'b' %}{% endif %}{% endfor %}",
    LONG + "{% if x[1:] %}{% endif %}{% endfor %}",
    LONG + "{% if x|upper %}{% endif %}{% endfor %}",
    LONG + "{% if x.upper() %}{% endif %}{% endfor %}",
    LONG + "{% if x|replace('b', 'c') %}{% endif %}{% endfor %}",
    LONG + "{{ x }}{% endfor %}",
    "{% set x = range(90000)|list %}{% for i in range(10000) %}{% if x|sort %}{% endif %}{% endfor %}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ " + "-" * 5000 + "1 }}",
    "{{ 1" + " + 1" * 5000 + " }}",
    "{{ " + "[" * 100 + "]" * 100 + " }}",
    "{% if x %}" * 60 + "{% endif %}" * 60,
    "{% for a in [1] %}" * 15 + "{% endfor %}" * 15,
    "{{ a.b }}" * 20_000,
    "{{ " + "9" * 10_000 + " }}",
]


READER = RecipientData("reader@example.com", "Ada", '{"x": 1}')
GOOD = Template(Source("Hello {{ name }}", "<p>{{ x }}</p>", None))


def a_template(html: str, *, inline_css: bool = False) -> Template:
    return Template(Source("s", html, None), inline_css=inline_css)


def reason(made: Rendered) -> str:
    assert isinstance(made, list), "it rendered"
    return str(made[0])


@pytest.mark.parametrize("source", BOMBS)
async def test_a_bomb_ends_soon_and_the_next_message_is_made(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cage, "ANSWER_TIMEOUT", 120.0)  # a busy machine gives it half a second of CPU in many seconds
    heard = Heard()
    async with rendering(heard) as it, asyncio.timeout(300):
        try:
            (made,) = await it.render(a_template(source), [READER], origin="a stranger")
            said = "" if isinstance(made, Content) else str(made[0])
        except TemplateErrors as errors:
            said = str(errors)
        assert said == "" or (said.startswith("html") and len(said) < 400)
        assert not [each for each in heard.of("renderer_ended") if "did not respond" in each["cause"]], (
            "its CPU ends it"
        )
        (good,) = await it.render(GOOD, [READER], origin="somebody else")
        assert good == Content("Hello Ada", "<p>1</p>", "1")


async def test_the_messages_beside_one_that_ends_the_renderer_are_made_without_it() -> None:
    source = (
        "{% if bad %}{% set t = (1, 1) %}" + "{% set t = (t, t) %}" * 40 + "{{ {}[t] is defined }}{% endif %}{{ n }}"
    )
    recipients = [
        RecipientData("r@example.com", None, f'{{"n": {n}, "bad": {"true" if n in (7, 30) else "false"}}}')
        for n in range(60)
    ]
    heard = Heard()
    async with rendering(heard) as it:
        for _ in range(2):  # among the quick ones, and among the slow ones
            made = await it.render(a_template(source), recipients, origin="a stranger")
            assert [n for n, each in enumerate(made) if not isinstance(each, Content)] == [7, 30]
            assert {reason(made[7]), reason(made[30])} == {"html: the template takes too long"}
            good = [each.html for each in made if isinstance(each, Content)]
            assert good == [str(n) for n in range(60) if n not in (7, 30)]
    assert {each["cause"] for each in heard.of("renderer_ended")} == {"takes too long"}


async def test_origins_take_turns_so_a_slow_template_holds_up_its_own_messages_only() -> None:
    slow = a_template("{% for a in range(90000) %}{{ a }}{% endfor %}")
    async with rendering() as it:
        theirs = asyncio.create_task(it.render(slow, [READER] * 500, origin="a stranger"))
        await it.render(slow, [READER], origin="another stranger")
        started = time.monotonic()
        for _ in range(3):
            await it.render(GOOD, [READER], origin="somebody else")
        waited = time.monotonic() - started
        assert not theirs.done()
        theirs.cancel()
    assert waited < 15.0, "three turns of the stranger, and not all its messages, which take a minute"


FAILING = [
    ("{{ 'abc'|truncate(2) }}", "expected length >= 3, got 2"),
    ("{{ ['abc']|map('truncate', 2)|list }}", "expected length >= 3"),
    ("{{ missing|default('abcdef')|truncate(-5) }}", "expected length >= 3"),
    ("{{ (1e308*10)|int }}", "cannot convert float infinity to integer"),
    ("{{ (1e308*10)|round(0, 'floor') }}", "cannot convert float infinity to integer"),
    ("{{ 1e308 ** 2 }}", "out of range"),
    ("{{ 10 ** 400 / 3 }}", "too large"),
    ("{{ 1 / 0 }}", "division by zero"),
    ("{{ 5 is divisibleby 0 }}", "by zero"),
    ("{{ 'a' + 1 }}", "can only concatenate str"),
    ("{{ o[1:2] }}", "KeyError"),
    ("{{ {[]: 1} }}", "unhashable"),
    ("{{ x|dictsort }}", "AttributeError"),
    ("{{ [1, 'a']|sort }}", "not supported between"),
    ("{{ range(1, 5, 0) }}", "must not be zero"),
    ("{{ range(10 ** 30)|length }}", "too large"),
    ("{{ '%c'|format(99999999999) }}", "%c"),
    ("{{ '%(a)s'|format(1) }}", "mapping"),
    ("{% for a, b in [[1]] %}{% endfor %}", "not enough values"),
    ("{% for a in [1] %}{{ loop.previtem }}{% endfor %}", "there is no previous item"),
    ("{{ 'a'.split('') }}", "empty separator"),
    ("{{ '\\ud800'|urlencode }}", "surrogates not allowed"),
    ("{{ 'a' * 99999999999999999999 }}", "index-sized"),
]
"""Templates of which each raises something else, and what is said of it."""


@pytest.mark.parametrize("source, said", FAILING)
async def test_whatever_a_template_raises_is_an_error_with_its_line_and_ends_no_child(source: str, said: str) -> None:
    heard = Heard()
    reader = RecipientData("reader@example.com", "Ada", '{"x": "abc", "o": {"a": 1}}')
    async with rendering(heard) as it:
        (made,) = await it.render(a_template(f"\n{source}"), [reader], origin="a stranger")
    assert reason(made).startswith("html, line 2: ")
    assert said in reason(made)
    assert heard.names() == []


def test_a_compiler_that_fails_in_an_unforeseen_way_is_the_templates_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jinja2.meta.find_undeclared_variables", lambda _: {"a": 1}["x"])
    with pytest.raises(TemplateErrors, match='html: the template engine says: "KeyError'):
        InProcess(subject="s", html="x", text=None)


async def test_css_that_is_nested_too_deeply_ends_the_child_and_not_the_daemon() -> None:
    nested = a_template("<style>p{color:red}</style>" + "<div>" * 12_000, inline_css=True)
    async with rendering() as it:
        (made,) = await it.render(nested, [READER], origin="a stranger")
        assert "CSS: the template" in reason(made)


async def test_memory_is_bounded_and_the_line_is_named() -> None:
    async with rendering() as it:
        (made,) = await it.render(a_template("\n\n{{ ('a' * 10 ** 9)|length }}"), [READER], origin="a stranger")
    assert reason(made) == "html, line 3: the template takes too much memory"


async def test_a_compilation_is_bounded_too() -> None:
    source = "{% if 1 %}" + "{{ a.b.c.d.e.f.g(1) if [1,2,3] else {'a': [1, 2, (3, 4)]} }}" * 9_000 + "{% endif %}"
    async with rendering(limits=Limits(cpu=0.1, memory=CHECK_LIMITS.memory)) as it:
        with pytest.raises(TemplateErrors, match="html: the template takes too long"):
            await it.compile(a_template(source), origin="a stranger")


async def test_a_killed_child_is_nobodys_fault() -> None:
    async with rendering() as it:
        await it.render(GOOD, [READER], origin="o")
        for _ in range(3):
            assert it._worker.pid is not None
            os.kill(it._worker.pid, signal.SIGKILL)
            (made,) = await it.render(GOOD, [READER], origin="o")
            assert isinstance(made, Content)


async def test_a_child_that_hangs_is_killed_and_the_message_made_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cage, "ANSWER_TIMEOUT", 4.0)
    async with asyncio.timeout(60), rendering() as it:
        await it.render(GOOD, [READER], origin="o")
        assert it._worker.pid is not None
        os.kill(it._worker.pid, signal.SIGSTOP)
        (made,) = await it.render(GOOD, [READER], origin="o")
        assert isinstance(made, Content)


async def test_ends_that_come_often_are_an_event_of_their_own() -> None:
    heard = Heard()
    async with rendering(heard) as it:
        for _ in range(10):
            await it.render(GOOD, [READER], origin="o")
            assert it._worker.pid is not None
            os.kill(it._worker.pid, signal.SIGKILL)
        await it.render(GOOD, [READER], origin="o")
    (often,) = heard.of("renderer_ends_often")
    assert often["count"] == 10


async def test_the_child_has_nothing_of_its_parents_and_can_open_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://user:secret@db/mailerd")
    async with rendering() as it:
        await it.render(GOOD, [READER], origin="o")
        process = Path(f"/proc/{it._worker.pid}")
        assert (process / "environ").read_bytes() == b""
        descriptors = {each.name: str(each.readlink()).partition(":")[0] for each in (process / "fd").iterdir()}
        assert (process / "cwd").readlink() == Path("/")
        limits = (process / "limits").read_text()
    assert descriptors == {"0": "pipe", "1": "pipe", "2": "/dev/null"}
    for what, most in (
        ("Max address space", str(CHECK_LIMITS.memory)), ("Max open files", "0"), ("Max processes", "0"),
        ("Max core file size", "0"), ("Max file size", "0"),
    ):  # fmt: skip
        (line,) = (each for each in limits.splitlines() if each.startswith(what))
        assert line.removeprefix(what).split()[:2] == [most, most]


ATTACK = """
import errno, json, os, socket, sys
from mailerd.mail import render_child

def attack(child):
    files = [f"/proc/{process}/{file}" for process in ("self", os.getppid()) for file in ("environ", "maps", "mem")]
    tries = {f"open {file}": lambda file=file: os.open(file, os.O_RDONLY) for file in (*files, "/etc/passwd")}
    tries |= {
        "list": lambda: os.listdir("/proc/self/fd"), "socket": socket.socket, "pipe": os.pipe,
        "copy": lambda: os.dup(1),
        "copy to": lambda: os.dup2(1, 0), "pidfd": lambda: os.pidfd_open(os.getppid()),
        "memory": lambda: os.memfd_create("x"),
    }
    done = {}
    for closed in ("", 2, 0):
        if closed != "":
            os.close(closed)
        for name, act in tries.items():
            try:
                act()
            except OSError as error:
                done[f"{closed} {name}"] = errno.errorcode[error.errno]
            else:
                done[f"{closed} {name}"] = "done"
    sys.stdout.write(json.dumps(done))

render_child.Child.serve = attack
render_child.main()
"""
"""What is run in the place of the loop of a child that has bounded itself."""


def test_nothing_can_be_opened_in_the_child_whatever_it_closes() -> None:
    """With a limit of three, what had closed its standard error could read /proc."""
    command = [sys.executable, "-I", "-c", ATTACK, "1", str(CHECK_LIMITS.memory), str(os.getpid())]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=60, env={})
    done = json.loads(ran.stdout)
    assert len(done) == 42
    assert "done" not in done.values(), done
    assert {end for name, end in done.items() if " open" in name} == {"EMFILE"}


@pytest.mark.parametrize("before", ["pass", "os.kill(child.pid, signal.SIGSTOP)"], ids=["running", "stopped"])
async def test_the_child_ends_with_its_parent(tmp_path: Path, before: str) -> None:
    program = (
        "import asyncio, os, signal\n"
        "from mailerd.mail.cage import ChildProcess\n"
        "from mailerd.mail.renderer import CHECK_LIMITS\n"
        "async def main():\n"
        "    child = await ChildProcess.start(CHECK_LIMITS)\n"
        "    print(child.pid, flush=True)\n"
        f"    {before}\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    ran = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], capture_output=True, cwd=tmp_path)
    child = Path(f"/proc/{int(ran.stdout)}")

    async def has_ended() -> bool:
        return await asyncio.to_thread(lambda: not child.exists() or "Z (zombie)" in (child / "status").read_text())

    await eventually(has_ended)


def test_a_child_whose_parent_has_ended_before_it_could_say_so_ends() -> None:
    command = [sys.executable, "-I", "-m", "mailerd.mail.render_child", "1", str(CHECK_LIMITS.memory), "1"]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=20)
    assert (ran.returncode, ran.stdout) == (1, b"")


async def test_a_child_that_cannot_start_is_said_and_is_no_messages_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    heard = Heard()
    async with rendering(heard) as it:
        with pytest.raises(RendererError, match="/nowhere/python"):
            await it.render(GOOD, [READER], origin="o")
        monkeypatch.undo()
        (made,) = await it.render(GOOD, [READER], origin="o")
        assert isinstance(made, Content)
    assert heard.of("renderer_not_started")


async def test_a_closed_renderer_refuses_what_waits() -> None:
    heard = Heard()
    slow = a_template("{% for a in range(90000) %}{{ a }}{% endfor %}")
    async with rendering(heard) as it:
        waiting = [asyncio.create_task(it.render(slow, [READER] * 100, origin=str(n))) for n in range(3)]
        await it.render(GOOD, [READER], origin="o")
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(each) for each in ended} == {RendererError}
    with pytest.raises(RendererError, match="closed"):  # also what comes later: nobody would ever answer it
        await it.render(GOOD, [READER], origin="o")


async def test_more_templates_than_a_child_keeps_are_all_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderer, "_MAX_TEMPLATES", 3)
    templates = [a_template(f"{n} {{{{ x }}}}") for n in range(8)]
    async with rendering() as it:
        for _ in range(2):
            made = await asyncio.gather(
                *(it.render(each, [READER], origin=str(n % 3)) for n, each in enumerate(templates))
            )
            assert [each.html for (each,) in made if isinstance(each, Content)] == [f"{n} 1" for n in range(8)]


async def test_a_reader_that_goes_away_leaves_the_others_theirs() -> None:
    async with rendering() as it:
        messages = [asyncio.create_task(it.render(GOOD, [READER], origin="o")) for _ in range(50)]
        for gone in messages[::2]:
            gone.cancel()
        assert all(isinstance(made, Content) for (made,) in await asyncio.gather(*messages[1::2]))


def test_a_long_table_is_not_a_bomb() -> None:
    row = "<tr><td>{{ r.a }}</td><td>{{ r.b|upper }}</td><td>{{ '%.2f'|format(r.c) }}</td></tr>"
    source = "{% for r in rows %}" + row + "{% endfor %}"
    rows = [{"a": "a", "b": "b", "c": 1}] * 5000
    made = InProcess(subject="s", html=source, text=None).render({"rows": rows}).html
    assert made is not None
    assert made.count("<tr>") == 5000


def test_a_reason_is_short_however_long_the_value_is_that_it_is_about() -> None:
    with pytest.raises(RenderError) as caught:
        InProcess(subject="s", html="{{ x['_' ~ y] }}", text=None).render({"x": {}, "y": "a" * 900_000})
    assert len(str(caught.value)) < 400


async def test_a_message_has_its_seconds_of_cpu_and_the_parent_need_not_wait_for_its_own_clock() -> None:
    heard = Heard()
    async with rendering(heard, limits=Limits(cpu=0.2, memory=CHECK_LIMITS.memory)) as it:
        began = os.times()
        (made,) = await it.render(
            a_template("{% set t = (1, 1) %}" + "{% set t = (t, t) %}" * 40 + "{{ {}[t] is defined }}"), [READER],
            origin="o",
        )  # fmt: skip
        used = os.times().children_user - began.children_user
    assert reason(made) == "html: the template takes too long"
    ends = len(heard.of("renderer_ended"))
    assert used < 1.0 * ends, "0.2 s and the start of each child; the wall behind the timer stands 2 s further on"


async def test_the_kernels_own_limit_of_cpu_time_stands_behind_the_timer() -> None:
    async with rendering() as it:
        await it.render(GOOD, [READER], origin="o")
        limits = await asyncio.to_thread(Path(f"/proc/{it._worker.pid}/limits").read_text)
    (line,) = (each for each in limits.splitlines() if each.startswith("Max cpu time"))
    assert 2 <= int(line.split()[3]) <= 4


async def test_a_message_is_blamed_only_for_the_end_of_a_child_that_had_done_nothing_else() -> None:
    heard = Heard()
    bomb = a_template("{% if bad %}{{ ('a' * 10 ** 9)|length }}{% endif %}x")
    recipients = [
        RecipientData("r@example.com", None, '{"bad": 0}'),
        RecipientData("r@example.com", None, '{"bad": 1}'),
    ]
    async with rendering(heard) as it:
        good, bad = await it.render(bomb, recipients, origin="o")
    assert isinstance(good, Content)
    assert "takes too much memory" in reason(bad)
    assert len(heard.of("renderer_ended")) == 3, "with another message, after another message, and alone"
