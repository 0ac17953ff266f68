"""Files under raw_root that a recipe names beside its sources: looked at before any work.

The sha256 of word lists and task files is filled in, so that their bytes count; a given tokenizer must fit the model.
"""

from __future__ import annotations

import functools

from pipeline.quality.config import Config as QualityConfig
from pipeline.quality.config import resolve_files
from pipeline.snapshot import sha256_of
from pipeline.train_tokenizer import Given, read_given, vocab_size_of
from storage.errors import ConfigError
from storage.store import FileInfo, Store
from training.config import EvaluateConfig, ModelConfig
from training.task_files import check_task_files


def matching(raw: Store, pattern: str) -> list[tuple[str, str]]:
    """(path, sha256 in hex) of every file that `pattern` matches."""
    return [(file.path, _sha256(raw, file)) for file in raw.glob(pattern)]


@functools.lru_cache(4096)
def _sha256(raw: Store, file: FileInfo) -> str:
    return sha256_of(raw, file)


def resolve_quality(config: QualityConfig, raw: Store) -> QualityConfig:
    """The config with the sha256 of the files it names. Raises ConfigError when a pattern matches none."""
    return resolve_files(config, functools.partial(matching, raw))


def resolve_evaluation(config: EvaluateConfig, raw: Store, max_tokens: int) -> EvaluateConfig:
    """The config with the sha256 of its local task files, which are looked at. `max_tokens`: the longest text that the export takes.

    Raises ConfigError when a pattern matches none, or a task cannot be asked.
    """
    tasks = []
    for number, local in enumerate(config.local_tasks):
        found = dict(sorted(matching(raw, local.path)))
        if not found:
            raise ConfigError(f"evaluate.local_tasks[{number}].path: {local.path!r} matches no file of {raw.uri}")
        _check_tasks(raw, tuple(found.items()), local.names, max_tokens, number)
        tasks.append(local.model_copy(update={"sha256": found}))
    return config.model_copy(update={"local_tasks": tuple(tasks)})


@functools.lru_cache(64)
def _check_tasks(raw: Store, files: tuple[tuple[str, str], ...], names: tuple[str, ...], max_tokens: int, number: int) -> None:
    try:
        check_task_files(raw.read, [path for path, _ in files], names, max_tokens)
    except ConfigError as error:
        raise ConfigError(f"evaluate.local_tasks[{number}]: {error}") from error


def check_given_tokenizer(given: Given | None, model: ModelConfig, raw: Store) -> None:
    """Raises ConfigError when a given tokenizer is not there, is none, or has more tokens than the model has rows; IntegrityError."""
    if given is not None and (found := _given_vocab_size(raw, given)) > model.vocab_size:
        raise ConfigError(f"model.vocab_size: {model.vocab_size:,} is less than the {found:,} of the given tokenizer {given.path}")


@functools.lru_cache(8)
def _given_vocab_size(raw: Store, given: Given) -> int:
    return vocab_size_of(read_given(raw, given)[1])
