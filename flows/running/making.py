"""Runs the module of a stage. Apart from `perform.py`, because workers import it too, and they need no Prefect: 2 s and 55 MB each."""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.graph.walk import Job
from pipeline.partitions import RunGroups
from storage.artifact import Manifest
from storage.store import Store

REPORT_INTERVAL_S = 0.5


@dataclass
class ReportFile:
    """How far a stage in another process is: that one calls it, and ours reads it."""

    path: Path
    _reported_at: float = field(default=0.0, init=False)

    def __call__(self, done: int, total: int, beside: str) -> None:
        """Write it down, at most every REPORT_INTERVAL_S."""
        if time.monotonic() - self._reported_at >= REPORT_INTERVAL_S:
            self._reported_at = time.monotonic()
            temporary = self.path.with_suffix(".new")
            temporary.write_text(json.dumps([done, total, beside]))
            os.replace(temporary, self.path)

    def read(self) -> tuple[int, int, str] | None:
        """The newest report; None before the first."""
        try:
            done, total, beside = json.loads(self.path.read_text())
        except FileNotFoundError:
            return None
        return done, total, beside


def make(
    store: Store, raw: Store, info: Mapping[str, Any], job: Job, run_groups: RunGroups | None = None, report: ReportFile | None = None
) -> Manifest:
    """Run a stage's module. Without `run_groups` its groups run here, one after the other."""
    run = getattr(importlib.import_module(job.stage.module), job.stage.run)
    extra: dict[str, Any] = {
        **({"inputs": dict(job.inputs)} if job.stage.takes_inputs else {}),
        **({"raw": raw} if job.stage.takes_raw else {}),
        **({"run_groups": run_groups} if run_groups else {}),
        **({"report": report} if report else {}),
    }
    manifest: Manifest = run(store=store, config=job.config, info=dict(info), **extra)
    return manifest
