"""Runs the module of a stage. Apart from `perform.py`, because workers import it too, and they need no Prefect: 2 s and 55 MB each."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from flows.graph.walk import Job
from pipeline.partitions import RunGroups
from storage.artifact import Manifest
from storage.store import Store


def make(store: Store, raw: Store, info: Mapping[str, Any], job: Job, run_groups: RunGroups | None = None) -> Manifest:
    """Run a stage's module. Without `run_groups` its groups run here, one after the other."""
    run = getattr(importlib.import_module(job.stage.module), job.stage.run)
    extra: dict[str, Any] = {
        **({"inputs": dict(job.inputs)} if job.stage.takes_inputs else {}),
        **({"raw": raw} if job.stage.takes_raw else {}),
        **({"run_groups": run_groups} if run_groups else {}),
    }
    manifest: Manifest = run(store=store, config=job.config, info=dict(info), **extra)
    return manifest
