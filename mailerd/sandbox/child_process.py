"""Start processes that cannot outlive this one. Nothing else in the sandbox starts a process that stays.

Linux keeps the promise (PR_SET_PDEATHSIG, prctl(2)): however this process ends, kill -9 included, the kernel kills the
child.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

# Runs in the child and then becomes the program. It replaces `preexec_fn`, which may deadlock in a process with
# threads. The parent may die before the request is made, so the child looks who its parent is afterwards. Python
# ignores SIGPIPE and a program inherits that, hence the reset.
_BECOME = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that started this one has gone")
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
os.execv(sys.argv[2], sys.argv[2:])
"""

# The kernel counts the *thread* that forked as the parent. This one lives as long as the process, so a server started
# from a passing worker thread does not die with that thread.
_LAUNCHER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tied")


def child_process(command: Sequence[str]) -> list[str]:
    """`command` (its first word an absolute path), wrapped so that it dies with the thread that starts it."""
    return [sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), *command]


def spawn(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start `command` silently, in a session of its own (Ctrl-C is for us, not for it), tied to this process."""

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            child_process(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    return _LAUNCHER.submit(start).result()
