"""`python -m bench.pinned CORE PROGRAM [ARGUMENT…]` becomes the program, on that core alone."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[1])})
    os.execv(sys.argv[2], sys.argv[2:])
