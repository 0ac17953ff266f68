"""Overlap with evaluation tasks: how many of a document's 13-grams of normalised words occur in the task files. RULE 21.

Words and hashes are those of pipeline/words.py (lower case, no punctuation, 64 bits), so memory is 8 bytes for each different 13-gram
of the tasks and nothing grows with the corpus. Texts of fewer than 13 words have none: they are too common to tell anything. So is
counting: "1 2 3 … 13" stands in some task and in every calendar, and 13 numbers in a row, up or down, are no task's. Source of the
length: GPT-3, arXiv 2005.14165, appendix C.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.quality.config import EvalTasks
from pipeline.quality.raw_files import read_raw
from pipeline.words import ngram_hashes, word_hashes
from storage.errors import ConfigError
from storage.store import Store

NGRAM_WORDS = 13
BATCH_CHARACTERS = 1 << 20
COUNTED = 10_000  # numbers from 0 that count as counting


def ngrams_of(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of the 13-grams of each text and where each text's begin: (uint64 [grams], int64 [texts + 1])."""
    hashes, offsets = word_hashes(texts)
    grams, bounds = ngram_hashes(hashes, offsets, NGRAM_WORDS)
    whole = np.repeat(np.diff(offsets) >= NGRAM_WORDS, np.diff(bounds))  # a shorter text has one gram of all its words: not counted
    return grams[whole], np.concatenate(([0], np.cumsum(np.where(np.diff(offsets) >= NGRAM_WORDS, np.diff(bounds), 0)))).astype(np.int64)


def task_ngrams(raw: Store, tasks: tuple[EvalTasks, ...]) -> NDArray[np.uint64]:
    """The different 13-grams of all task files, ascending, without those that only count."""
    found = np.empty(0, np.uint64)
    for i, files in enumerate(tasks):
        where = f"quality.eval_tasks[{i}]"
        for path, data in read_raw(raw, files, where):
            for batch in batches(task_texts(path, data, files.fields, where)):
                found = np.union1d(found, ngrams_of(batch)[0])
    counting = [" ".join(map(str, numbers)) for numbers in (range(COUNTED), range(COUNTED - 1, -1, -1))]
    return np.setdiff1d(found, ngrams_of(counting)[0])


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Lists of texts of about a million characters."""
    batch, characters = list[str](), 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def task_texts(path: str, data: bytes, fields: tuple[str, ...] | None, where: str) -> Iterator[str]:
    """The texts of a task file: of JSON (lines) the named fields and their join, else every string; any other file is one text.

    Raises ConfigError for what cannot be read, and for a field that no record has.
    """
    stem = path.removesuffix(".gz").removesuffix(".zst")
    try:
        text = data.decode()
        if not stem.endswith((".jsonl", ".json")):
            yield text
            return
        records = [json.loads(line) for line in text.split("\n") if line.strip()] if stem.endswith(".jsonl") else [json.loads(text)]
    except ValueError as error:
        raise ConfigError(f"{where}: {path} cannot be read: {error}") from error
    if stem.endswith(".json") and isinstance(records[0], list):
        records = records[0]
    if fields is None:
        yield from (string for record in records for string in _strings(record))
        return
    for name in fields:
        if not any(isinstance(record, dict) and name in record for record in records):
            raise ConfigError(f"{where}.fields: no record of {path} has {name!r}")
    for record in records:
        parts = [list(_strings(record.get(name))) for name in fields]
        yield from (string for strings in parts for string in strings)
        yield " ".join(string for strings in parts for string in strings)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def overlaps(texts: Sequence[str], tasks: NDArray[np.uint64]) -> NDArray[np.int32]:
    """For each text how many of its 13-grams are in `tasks` (ascending), int32 [texts]."""
    grams, bounds = ngrams_of(texts)
    if len(tasks) == 0 or len(grams) == 0:
        return np.zeros(len(texts), np.int32)
    places = np.minimum(np.searchsorted(tasks, grams), len(tasks) - 1)
    hits = np.concatenate(([0], np.cumsum(tasks[places] == grams)))
    return (hits[bounds[1:]] - hits[bounds[:-1]]).astype(np.int32)
