"""The process that runs clients' templates: `python -I -m mailerd.mail.render_child CPU_SECONDS
MEMORY_BYTES PARENT`.

`renderer` starts it by exec with an empty environment and three pipes. It answers one frame on
standard output for each frame on standard input; a frame is four bytes of length, big-endian, and
JSON. It bounds itself before it reads anything, and the system ends it where a template passes a
bound: the parent sees that and starts another.
"""

import contextlib
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any, BinaryIO, Final

from mailerd.core.reasons import to_json
from mailerd.mail.cage import BLOB, bound, bound_cpu, encode_frame, end_with, read_message
from mailerd.mail.markdown import markdown_to_html
from mailerd.mail.render import CompiledPart, CompiledTemplate, OutOfMemoryError, PartKey
from mailerd.mail.renderer import template_from_json
from mailerd.mail.templates import (
    Content,
    RecipientData,
    RenderError,
    Source,
    Template,
    TemplateError,
    TemplateErrors,
)

TURN_SECONDS: Final = 0.05
"""Seconds after which a frame is answered with the messages that are done, so that others get their
turn.
"""
_BOUND_FOR: Final = 0.005
"""Seconds for which the messages that follow share one message's CPU: to bound each costs as much
as a small one.
"""
LARGE_MESSAGE: Final = 100_000
"""A message with more characters than this is large."""
_MAX_REASONS: Final = 100
"""Reasons that are reported for one recipient; the intake shows ten of them and counts the rest."""


def warm_up() -> None:
    """Let Python load what it loads late (codecs, Jinja's debugging), as long as files can be
    opened.
    """
    sources = (
        "{{ 'ä\\x41'|e }}<style>p{color:red}</style><p>{{ a.b }}{% if %}",
        "{{ 'ä'|urlencode ~ name|uper }}",
    )
    for html in (*sources, sources[0].removesuffix("{% if %}")):
        with contextlib.suppress(TemplateErrors):
            compiled = CompiledTemplate(
                Template(Source("{{ name }}", html, None), inline_css=True), at=lambda _: None
            )
            markdown_to_html("[*ä*](https://example.com)")
            for variables in (None, '{"a": {"b": 1}, "name": "Ada"}'):
                compiled.render(RecipientData("reader@example.com", None, variables))


class Child:
    """The loop of the child process: a frame is read, a frame is written."""

    def __init__(self, source: BinaryIO, sink: BinaryIO, *, cpu: float) -> None:
        self._source = source
        self._sink = sink
        self._cpu = cpu
        self._compiled: dict[int, CompiledTemplate] = {}
        self._parts: dict[PartKey, CompiledPart] = {}
        """The parts of these templates: most jobs of an application have the template of the job
        before.
        """
        self._tells = False
        self.slowest = 0.0
        """Seconds of CPU that the slowest message of the frame took, or the compilation."""
        self._bound_at, self._used_at_bound = 0.0, 0.0
        """When a message was last given its CPU, in monotonic seconds, and what the process had
        used then.
        """

    def serve(self) -> None:
        """Answer until the parent closes the pipe, or memory runs out."""
        self.write({"ready": True})
        while asked := read_message(self._source):
            began = time.process_time()
            try:
                answer = self.answer(asked)
                self.write({**answer, "slowest": self.slowest, "cpu": time.process_time() - began})
                # freeing memory between two frames is not a message's time
                signal.setitimer(signal.ITIMER_PROF, 0)
            except OutOfMemoryError as error:
                self.write({"out_of_memory": [error.part, error.line]})
                return
            except MemoryError:
                self.write({"out_of_memory": ["message", None]})
                return
            except Exception as error:  # noqa: BLE001 - the parent logs it and starts another process
                self.write({"broke": f"{type(error).__name__}: {error}"[:300]})
                return

    def compile(self, template: Template) -> CompiledTemplate:
        """Compile what is not known; the parts of a template that is refused are not kept, since no
        one counts them.

        Raises:
            TemplateErrors: it cannot be used.
        """
        compiled = CompiledTemplate(template, at=self._at, known=self._parts)
        self._parts |= compiled.parts()
        return compiled

    def write(self, answer: Mapping[str, Any]) -> None:
        """Send one frame."""
        blob = answer.get(BLOB, b"")
        self._sink.write(
            encode_frame({**answer, BLOB: len(blob)} if BLOB in answer else answer) + blob
        )
        self._sink.flush()

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The answer to a message."""
        if asked["forget"]:
            self._compiled.clear()
            self._parts.clear()
        self._tells, self.slowest = asked["tell"], 0.0
        self.bound()
        number, given = asked["template"], asked["load"]
        try:
            if given is not None:
                self._compiled[number] = self.compile(template_from_json(given))
            compiled = self._compiled[number]
        except TemplateErrors as errors:
            return {"errors": [_as_list(each) for each in errors.errors]}
        finally:
            self.note_slowest()
        if not asked["recipients"]:
            return {"names": compiled.names(), "html": compiled.html()}
        until, results = time.monotonic() + TURN_SECONDS, list[Any]()
        for each in asked["recipients"]:
            if (now := time.monotonic()) > until and results:
                break
            self.bound_soon(now)
            results.append(self._one(compiled, RecipientData(*each), content=asked["content"]))
        self.note_slowest()
        return {"results": results}

    def bound_soon(self, now: float) -> None:
        """Give the next message its CPU, unless those before it have used very little of theirs."""
        if now - self._bound_at > _BOUND_FOR:
            self.note_slowest()
            self.bound()

    def bound(self) -> None:
        """Give the next message its CPU."""
        bound_cpu(self._cpu)
        self._bound_at, self._used_at_bound = time.monotonic(), time.process_time()

    def note_slowest(self) -> None:
        """Note what the messages have taken that shared one message's CPU."""
        self.slowest = max(self.slowest, time.process_time() - self._used_at_bound)

    def _at(self, what: str) -> None:
        """Write which part comes next, where the parent asks for it to learn what ends the
        process.
        """
        if self._tells:
            self.write({"at": what})

    def _one(
        self, compiled: CompiledTemplate, reader: RecipientData, *, content: bool
    ) -> dict[str, Any]:
        if not content:
            errors = [[*_as_list(each), each.variable] for each in self.check(compiled, reader)]
            return {"errors": errors} if errors else {}
        made = compiled.render(reader)
        if isinstance(made, Content):
            return {"content": [made.subject, made.html, made.text]}
        return {"errors": [[*_as_list(each), each.variable] for each in made[:_MAX_REASONS]]}

    def check(self, compiled: CompiledTemplate, reader: RecipientData) -> list[RenderError]:
        """Why a message cannot be made; empty: it can.

        The caller has given it its CPU, by `bound_soon`.
        """
        made = compiled.render(reader)
        if not isinstance(made, Content):
            return made[:_MAX_REASONS]
        if len(made.html or "") + len(made.text) > LARGE_MESSAGE:
            # The sending will need this memory as well, so the check must.
            encode_frame({"content": [made.subject, made.html, made.text]})
        return []


def _as_list(error: TemplateError) -> list[Any]:
    return [to_json(error.reason), error.part, error.line]


def main() -> None:
    """Bound this process, then serve."""
    cpu, memory, parent = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    end_with(parent)
    warm_up()
    bound(memory=memory)
    Child(sys.stdin.buffer, sys.stdout.buffer, cpu=cpu).serve()


if __name__ == "__main__":
    main()
