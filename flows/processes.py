"""Processes that end with us: death signals, process trees, and how an exit code reads."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable

from storage.hosts import parent_and_start

PR_SET_PDEATHSIG = 1
POLL_S = 0.05


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(death_signal: int = signal.SIGKILL) -> None:
    """Ask the kernel to send `death_signal` to this process when its parent's thread that made it ends, even by kill -9. Linux only."""
    if libc := _libc():
        libc.prctl(PR_SET_PDEATHSIG, int(death_signal))


def death_signal_setter(death_signal: int) -> Callable[[], None]:
    """What a child runs between fork and exec: die with the parent. The C library is loaded here, before the fork."""
    libc, parent = _libc(), os.getpid()

    def set_signal() -> None:
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, int(death_signal))
            if os.getppid() != parent:  # the parent was gone before the request
                os._exit(1)

    return set_signal


def exit_text(code: int) -> str:
    """An exit code in words; negative is a signal."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name} (out of memory, or somebody killed it)" if -code == signal.SIGKILL else name


def descendants(pid: int) -> dict[int, int]:
    """Every process below `pid`, as pid → start time, so that a pid used again is not taken for it. Linux only, else empty."""
    if sys.platform != "linux":
        return {}
    children: dict[int, list[tuple[int, int]]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (found := parent_and_start(int(name))):
            children.setdefault(found[0], []).append((int(name), found[1]))
    tree: dict[int, int] = {}
    waiting = [pid]
    while waiting:
        for child, start in children.get(waiting.pop(), []):
            tree[child] = start
            waiting.append(child)
    return tree


def still_running(tree: dict[int, int]) -> list[int]:
    """Which processes of `tree` (pid → start time) are alive."""
    return [pid for pid, start in tree.items() if (found := parent_and_start(pid)) and found[1] == start]


def kill_all(pids: Iterable[int]) -> None:
    """kill -9; one that is gone is no error."""
    for pid in pids:
        send_signal(pid, signal.SIGKILL)


def send_signal(pid: int, number: int) -> bool:
    """Send a signal; False when the process is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def wait_gone(tree: dict[int, int], timeout_s: float) -> list[int]:
    """Wait until nothing of `tree` runs; returns what still does after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while alive := still_running(tree):
        if time.monotonic() > deadline:
            return alive
        time.sleep(POLL_S)
    return []
