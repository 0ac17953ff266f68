"""The peak memory of a process, from the kernel. It imports nothing of the project: workers import it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any


def peak_mb() -> float:
    """Largest resident set of this process since the last `reset_peak`, in 10^6 bytes."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024 / 1e6


def reset_peak() -> None:
    """Forget the peak so far; where the kernel refuses, the peak is that of the process's life."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def watched(function: Callable[[Any], Any], group: Any) -> tuple[float, Any]:
    """Peak and result of a group of work, in the worker."""
    reset_peak()
    result = function(group)
    return peak_mb(), result
