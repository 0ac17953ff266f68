"""Entry point of a rank: `torchrun … -m training.run --spec FILE`. What it does is in `training.worker`.

This file is small because its first act must come before torch is imported, which takes seconds: torchrun puts ranks in sessions of their
own, and a rank whose agent is killed would stay behind.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel kill this process when torchrun's agent dies, however it dies. Raises OSError."""
    parent = os.getppid()
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before the call
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    """Run this rank; its exit code."""
    die_with_parent()
    from training.worker import main as work

    return work()


if __name__ == "__main__":
    sys.exit(main())
