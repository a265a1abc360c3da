"""Run as a script between the dispatcher and PostgreSQL: drops root, ties lives together, becomes it.

`child.py PARENT_PID SIGNAL UID GID PROGRAM [ARGUMENT…]`; UID -1 keeps the user. The kernel then sends
SIGNAL when the thread that started this process ends, however it ends: kill -9 of the dispatcher leaves
no server behind. A change of user clears that wish, so it comes after. A program and not a `preexec_fn`,
which is unsafe beside threads. Imports nothing but the standard library: it runs isolated, without sites.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def become(parent_pid: int, death_signal: int, uid: int, gid: int, command: list[str]) -> None:
    """Replace this process by `command`; returns only by an exception or by ending."""
    if uid >= 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    os.umask(0o077)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:  # it ended before the line above
        sys.exit("the dispatcher has ended")
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and that would be inherited
    os.execv(command[0], command)  # noqa: S606, no shell is the point


if __name__ == "__main__":
    parent, number, user, group = map(int, sys.argv[1:5])
    become(parent, number, user, group, sys.argv[5:])
