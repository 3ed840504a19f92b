"""Runs the sandbox Google as a process of its own; prints its address when it is ready and ends at
once on SIGTERM.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import uvloop

from mailerd.locale import from_environment, speak
from mailerd.sandbox.google.fake_google import FakeGoogle
from mailerd.sandbox.google.fake_limits import COMPOSE, FakeLimits
from mailerd.sandbox.google.faults import Fault
from mailerd.sandbox.google.server import serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. 0 after a clean end."""
    options = _parser().parse_args(arguments)
    speak(from_environment(os.environ))
    try:
        rules = FakeLimits(
            **{field.name: getattr(options, field.name) for field in fields(FakeLimits)}
        )
        faults = [Fault(**json.loads(text)) for text in options.fault]
        google = FakeGoogle(rules, outbox_dir=options.outbox_dir, faults=faults)
        blobs = {
            email: google.add_mailbox(email, scopes=options.scope or [COMPOSE])
            for email in options.mailbox
        }
    except (ValueError, TypeError) as error:
        sys.stderr.write(f"mailerd sandbox: {error}\n")
        return 2
    uvloop.run(_serve(google, options=options, blobs=blobs))
    return 0


async def _serve(
    google: FakeGoogle, *, options: argparse.Namespace, blobs: dict[str, dict[str, str]]
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serve(google, host=options.host, port=options.port) as running:
        _write_credentials(options.credentials_dir, blobs)
        sys.stdout.write(f"{running.url}\n")
        sys.stdout.flush()
        await stop.wait()


def _write_credentials(folder: Path | None, blobs: dict[str, dict[str, str]]) -> None:
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for email, blob in blobs.items():
        target = folder / f"{email}.json"
        target.touch(mode=0o600)
        target.write_text(json.dumps(blob, indent=2))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mailerd.sandbox.google", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument(
        "--outbox-dir", type=Path, help="write every sent message here as an .eml file"
    )
    parser.add_argument(
        "--mailbox", action="append", default=[], metavar="EMAIL", help="open a mailbox"
    )
    parser.add_argument(
        "--scope", action="append", help="what the mailboxes' credentials allow; gmail.compose"
    )
    parser.add_argument(
        "--credentials-dir", type=Path, help="write each mailbox's credential file here"
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="JSON",
        help="a fault in force from the start",
    )
    for field in fields(FakeLimits):
        # A duration is a duration on the command line too, but the unit need not be typed.
        name = field.name.removesuffix("_s").replace("_", "-")
        kind = float if isinstance(field.default, float) else int
        parser.add_argument(
            f"--{name}",
            dest=field.name,
            type=kind,
            default=field.default,
            help=f"default {field.default}",
        )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
