"""Files under raw_root that a recipe names by a pattern (word lists, task files): their sha256 is filled in, so that their bytes count."""

from __future__ import annotations

import functools

from pipeline.quality.config import Config as QualityConfig
from pipeline.quality.config import resolve_files
from pipeline.snapshot import sha256_of
from storage.errors import ConfigError
from storage.store import FileInfo, Store
from training.config import EvaluateConfig


def matching(raw: Store, pattern: str) -> list[tuple[str, str]]:
    """(path, sha256 in hex) of every file that `pattern` matches."""
    return [(file.path, _sha256(raw, file)) for file in raw.glob(pattern)]


@functools.lru_cache(4096)
def _sha256(raw: Store, file: FileInfo) -> str:
    return sha256_of(raw, file)


def resolve_quality(config: QualityConfig, raw: Store) -> QualityConfig:
    """The config with the sha256 of the files it names. Raises ConfigError when a pattern matches none."""
    return resolve_files(config, functools.partial(matching, raw))


def resolve_evaluation(config: EvaluateConfig, raw: Store) -> EvaluateConfig:
    """The config with the sha256 of its local task files. Raises ConfigError when a pattern matches none."""
    tasks = []
    for number, local in enumerate(config.local_tasks):
        found = dict(sorted(matching(raw, local.path)))
        if not found:
            raise ConfigError(f"evaluate.local_tasks[{number}].path: {local.path!r} matches no file of {raw.uri}")
        tasks.append(local.model_copy(update={"sha256": found}))
    return config.model_copy(update={"local_tasks": tuple(tasks)})
