"""What the sandbox says to people, on a terminal or into a file. Nothing else in the demonstration prints."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mailerd.sandbox.demo_api import Job
from mailerd.sandbox.sandbox_dir import SandboxDir
from mailerd.texts import heading, in_chinese, language, tr

_STEP_PERCENT = 5
# Google gives a Cloud project made since May 2026 6,000 quota units per user and minute, and drafts.create and
# drafts.send together cost 110 of them (developers.google.com/workspace/gmail/api/reference/quota).
_GOOGLES_PACE_PER_MINUTE = 54


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What there is to say when the job has ended."""

    job: Job
    received: int
    """Letters that the stand-in has."""
    twice: int
    """Letters that it was given more than once."""
    outbox: str
    sandbox_dir: SandboxDir
    program: Sequence[str]
    key: str
    post_to: str
    next_job: Path
    """A file to post for the next job."""

    @property
    def as_promised(self) -> bool:
        """Every letter was sent but those to people who have opted out, and none twice."""
        return self.job.sent == self.job.total - self.job.opted_out <= self.received and not self.twice


class Screen:
    """Lines and a progress bar. Long lines are never broken: people copy them."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, soft_wrap=True)

    def say(self, line: str, *, style: str = "") -> None:
        """One line."""
        self._console.print(line, style=style or None)

    def banner(self) -> None:
        """What must be known before anything else."""
        english = "SANDBOX: nothing leaves this machine, and no letter is delivered."
        for line in (in_chinese(english),) if language() == "zh" else (english, in_chinese(english)):
            self.say(line, style="bold yellow")

    def step(self, what: str, where: str) -> None:
        """Something is up."""
        what = heading(tr(what))
        self.say(f"  {what}{' ' * max(1, 21 - cell_len(what))}{where}")

    def trouble(self, text: str) -> None:
        """Something failed."""
        self.say(tr(f"sandbox: {tr(text)}"), style="red")

    @contextmanager
    def progress(self, total: int) -> Iterator[Callable[[Job], None]]:
        """A bar on a terminal; elsewhere a line for every few percent. What holds the letters up is said beside it."""
        said, shown, bars = "", -1, self._console.is_terminal
        columns = (
            TextColumn("  " + heading("sending")),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.0f} " + heading("letters/s")),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console, disable=not bars) as bar:
            task = bar.add_task("", total=total, rate=0.0)

            def show(job: Job) -> None:
                nonlocal said, shown
                if job.cause_of_wait != said:
                    said = job.cause_of_wait
                    if said:
                        self.say(tr(f"  it waits: {said}"), style="yellow")
                bar.update(task, completed=job.done, rate=job.rate)
                share = job.done * 100 // max(job.total, 1)
                if not bars and share // _STEP_PERCENT > shown:
                    shown = share // _STEP_PERCENT
                    self.say(tr(f"  {share:3d} %  {job.done} of {job.total}  {job.rate:.0f} letters/s"))

            yield show

    def summary(self, summary: Summary) -> None:
        """How the job went, where to look, and what to do next."""
        job, sandbox_dir = summary.job, summary.sandbox_dir
        others = ", ".join(f"{count} {state}" for state, count in job.counts.items() if state != "sent" and count)
        took = tr(f"in {job.elapsed_s:.1f} s, {job.rate:.0f} letters/s")
        self.say("")
        earlier = tr(f" ({summary.received - job.total} of earlier jobs)") if summary.received > job.total else ""
        self.say(
            tr(
                f"Sent {job.sent} of {job.total} letters {took}; {others or tr('none failed')}. "
                f"The stand-in has {summary.received}{earlier}, {summary.twice or tr('none')} of them twice."
            ),
            style="bold green" if summary.as_promised else "bold red",
        )
        minutes, seconds = divmod(round(job.total * 60 / _GOOGLES_PACE_PER_MINUTE), 60)
        self.say(
            tr(
                f"With Google itself that takes {minutes} min {seconds:02d} s: a new Cloud project may send "
                f"{_GOOGLES_PACE_PER_MINUTE} letters a minute from one mailbox. Here pace and quota are switched off."
            )
        )
        self.step("read the letters", summary.outbox)
        self.step("the same as files", f"{sandbox_dir.outbox}/*.eml")
        self.step("the daemon's log", str(sandbox_dir.log))
        self.step("what came back", _command(summary.program, sandbox_dir, "bounces"))
        self.step("do the counts agree", _command(summary.program, sandbox_dir, "audit"))
        self.say(tr("Post the next job (this line works as it stands):"))
        # --noproxy: a proxy in the environment would be asked for 127.0.0.1 and not find it.
        words = [
            "curl",
            "-sS",
            "--noproxy",
            "*",
            "-H",
            f"X-API-Key: {summary.key}",
            "-H",
            "Content-Type: application/json",
        ]
        self.say("  " + shlex.join([*words, "--data-binary", f"@{summary.next_job}", summary.post_to]))

    def how_to(self, sandbox_dir: SandboxDir, program: Sequence[str], *, outbox: str) -> None:
        """How to point a daemon at the sandbox."""
        self.step("configuration", str(sandbox_dir.configuration))
        self.step("credentials", tr(f"{sandbox_dir.credentials}/ (one file per mailbox)"))
        self.step("sent letters", outbox)
        self.say(tr("Point a daemon at it, in another terminal:"))
        for words in (["migrate"], ["keys", "create", "me"], ["run"]):
            self.say("  " + _command(program, sandbox_dir, *words))
        self.say(tr("Ctrl-C ends the sandbox."))


def _command(program: Sequence[str], sandbox_dir: SandboxDir, *words: str) -> str:
    return shlex.join([*program, *words, "--config", str(sandbox_dir.configuration)])
