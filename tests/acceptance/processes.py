"""Processes told apart by a variable in their environment, which every child inherits: found however they were left behind. Linux only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

MARK = "CARAVAN_ACCEPTANCE_MARK"


def processes_of(mark: str) -> list[int]:
    """Processes that carry the mark in their environment, zombies left out."""
    return [pid for pid in _pids() if f"{MARK}={mark}".encode() in _read(pid, "environ").split(b"\0") and b") Z" not in _read(pid, "stat")]


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
