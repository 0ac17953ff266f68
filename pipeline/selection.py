"""Stage `select`: keep or the first reason, domain, component, edits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.partitions import RunGroups, map_groups
from pipeline.select.config import Config
from storage.artifact import Manifest
from storage.store import Store

NAME = "select"
VERSION = 1
__all__ = ["NAME", "VERSION", "Config", "run"]


def run(
    *,
    store: Store,
    config: Config,
    inputs: Mapping[str, Manifest],
    run_groups: RunGroups = map_groups,
    info: Mapping[str, Any] | None = None,
) -> Manifest:
    """`inputs`: `documents.<source>`, `clusters`, `quality`, `domains`."""
    raise NotImplementedError("being written")
