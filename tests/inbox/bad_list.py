"""How soon a bad list stops: a list of dead addresses at Google's own pace, in real time.

`python -m tests.inbox.bad_list [SHARE] [MINUTES] [OWN]` posts 2,000 messages to addresses of which SHARE (1.0) do not
exist, each notice 2 to 40 s after its message, and prints what was sent until the job was paused, or in MINUTES (5).
The mailbox was never read, and its owner has sent OWN (100) messages by hand today.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from mailerd.sandbox.google import COMPOSE
from mailerd.sandbox.google.fake_limits import READONLY
from tests.chaos.place import SENDER, Setting, place

MESSAGES: Final = 2000


async def run(share: float, minutes: float, own: int, *, folder: Path) -> dict[str, object]:
    """Post the list, and look each second whether its job is paused."""
    sections: dict[str, dict[str, object]] = {"pace": {"units_per_minute": 6000, "per_minute": 53, "per_day": 0}}
    known = Setting(daemons=1, latency=0.05, senders={SENDER: (COMPOSE, READONLY)}, sections=sections)
    async with place(folder, known, seed=3) as it:
        await it.google.change_rules(units_per_minute=6000, dead_share=share, dead_delay_s=40.0)
        for _ in range(own):
            await it.google.send_manually(SENDER)
        it.daemons[0].start()
        people = [{"email": f"r{n}@dead.example", "name": "R", "variables": {"n": n}} for n in range(MESSAGES)]
        began, job = time.time(), await it.post(MESSAGES, fields={"recipients": people})
        status = cause = reason = None
        while time.time() < began + 60 * minutes:
            ((status, cause, reason),) = await it.rows("SELECT status, pause_cause, pause_reason FROM jobs")
            if status == "paused":
                break
            await asyncio.sleep(1)
        seconds = time.time() - began
        await asyncio.sleep(60)
        ((brakes,),) = await it.rows("SELECT brakes FROM jobs")
        events = await it.rows("SELECT data FROM events WHERE type = 'job.paused'")
        sent = [message for message in await it.google.accepted() if message["key"]]
        return {
            "job": job, "status": status, "cause": cause, "reason": reason, "brakes": brakes, "sent": len(sent),
            "seconds": round(seconds, 1), "events": [json.loads(data) for (data,) in events],
        }  # fmt: skip


async def main() -> None:
    """Run it and print what was seen."""
    share = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    minutes = float(sys.argv[2]) if len(sys.argv) > 2 else 5.0
    own = int(sys.argv[3]) if len(sys.argv) > 3 else 100
    seen = await run(share, minutes, own, folder=Path(tempfile.mkdtemp(prefix="mailerd-bad-list-")))
    sys.stdout.write(json.dumps(seen, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
