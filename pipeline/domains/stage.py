"""Stage `domains`: probabilities of the four domains beside the documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.domains.config import Config
from pipeline.partitions import RunGroups, map_groups
from storage.artifact import Manifest
from storage.store import Store

NAME = "domains"
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
    """`inputs`: `documents.<source>`, `clusters`."""
    raise NotImplementedError("being written")
