"""Which machine this is and which of its processes live, as files that outlive a process can say it."""

from __future__ import annotations

import functools
import hashlib
import os
import socket
from pathlib import Path


@functools.cache
def this_host() -> str:
    """This machine as seen from here: its name, and hashes that tell the machine, its boot, and the pid namespace; a pid means something
    within all three alone."""
    name = socket.gethostname()
    machine, boot = (_said(path) for path in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"))
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return f"{name} {_short(name + machine)} {_short(boot)} {_short(namespace)}"


def _said(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def parent_and_start(pid: int) -> tuple[int, int] | None:
    """(parent, start time in clock ticks since boot) of a process that runs, from /proc; None when it is gone, a zombie, or not ours to
    see."""
    found = _stat(pid)
    return None if found is None or found[0] == "Z" else (int(found[1]), int(found[19]))


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat behind the name: state, parent, … start; None where they cannot be read. Linux only."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None


def start_of(pid: int) -> int | None:
    """When a process that runs was started, in clock ticks since boot: tells it from a later one of the same number."""
    found = parent_and_start(pid)
    return found[1] if found else None


def is_gone(host: str, pid: int, start: int) -> bool:
    """Whether that process of `host` (as `this_host` said it) has ended: also one of this machine before it was started anew.

    Of another machine, or of another pid namespace of this one, nobody can say: False. `start` 0: not known.
    """
    theirs, ours = host.split(" ")[1:], this_host().split(" ")[1:]
    if len(theirs) != len(ours) or theirs[0] != ours[0] or pid <= 0:
        return False
    if theirs[1] != ours[1]:
        return True
    if theirs[2] != ours[2]:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it is somebody else's, and alive
        return False
    found = _stat(pid)
    return found is not None and (found[0] == "Z" or start not in (int(found[19]), 0))
