"""`python -m bench.pinned CORE[,CORE…] PROGRAM [ARGUMENT…]` becomes the program, on those cores alone."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    os.sched_setaffinity(0, set(map(int, sys.argv[1].split(","))))
    os.execv(sys.argv[2], sys.argv[2:])
