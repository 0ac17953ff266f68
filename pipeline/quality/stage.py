"""Stage `quality`: signals beside the documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.partitions import RunGroups, map_groups
from pipeline.quality.config import Config, resolve_files
from storage.artifact import Manifest
from storage.store import Store

NAME = "quality"
VERSION = 1
__all__ = ["NAME", "VERSION", "Config", "resolve_files", "run"]


def run(
    *,
    store: Store,
    raw: Store,
    config: Config,
    inputs: Mapping[str, Manifest],
    run_groups: RunGroups = map_groups,
    info: Mapping[str, Any] | None = None,
) -> Manifest:
    """Score every document. `inputs`: `documents.<source>`, `clusters`. `raw` is raw_root; `config` comes from `resolve_files`."""
    raise NotImplementedError("being written")
