"""Items of evaluation tasks, read from the files that a recipe names. RULE 33.

An item is one record, its strings joined: a line of JSON lines; a record of a `.json` that is a list, or of the list of objects that it
holds (`{"examples": [...]}`), and of such a record of more than 500 words what the list in it holds (SQuAD's paragraphs, each with its
questions), or the object that it is; a paragraph of any other file, or a line of it where no blank line divides it. Paragraphs, because a
document quotes one of them: a file as one item would be covered by nothing. A file of questions, one a line (CSV, TSV), has no blank line.

Where the recipe names no fields, what labels a record is no part of the item, as JSON's numbers are none: no document that holds the item
holds its id and licence, and of short items these are half of the words. A label is a string with a digit and without white space
(`arc/17`, `CC-BY-4.0`), or a field's value of fewer than eight words that more than three records have (`MIT License`, `validation`, `et`;
not one choice of a list, as choices are text).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from typing import Any

from pipeline.words import CONTINUOUS, normalized_words
from storage.errors import ConfigError

MAX_RECORDS_OF_TEXT = 3  # a short string that more records have is a label
MAX_WORDS_OF_RECORD = 500  # of a `.json` that is an object: a longer one is looked into
MIN_WORDS_OF_TEXT = 8  # a string of as many is never one
NAME = re.compile(rf"(?=\D*\d)[^\s{CONTINUOUS}]+")
BLANK_LINE = re.compile(r"\n(?:[ \t\r]*\n)+")


def task_items(path: str, data: bytes, fields: tuple[str, ...] | None, where: str) -> list[str]:
    """The items of a task file in order: of each record the named fields, or else every string that is no label, joined by a space.

    Raises ConfigError for what cannot be read, and for a field that no record has.
    """
    stem = path.removesuffix(".gz").removesuffix(".zst")
    try:
        text = data.decode("utf-8-sig")
        if not stem.endswith((".jsonl", ".json")):
            return _paragraphs(text)
        records = _json_lines(text) if stem.endswith(".jsonl") else _json_records(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: {path} cannot be read: {error}") from error
    if fields is None:
        labels = _labels(records)
        return [" ".join(string for string in _strings(record, labels) if not NAME.fullmatch(string.strip())) for record in records]
    for name in fields:
        if not any(isinstance(record, dict) and name in record for record in records):
            raise ConfigError(f"{where}.fields: no record of {path} has {name!r}")
    rows = (record if isinstance(record, dict) else {} for record in records)
    return [" ".join(string for name in fields for string in _strings(row.get(name))) for row in rows]


def _json_lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _json_records(text: str) -> list[Any]:
    """The records of a `.json`, which may hold JSON lines under that name."""
    try:
        whole = json.loads(text)
    except ValueError:
        return _json_lines(text)
    if isinstance(whole, list):
        return whole
    return [part for record in _inside(whole) or [whole] for part in _parts(record)]


def _parts(record: Any) -> list[Any]:
    """A record, or what is inside it where it is too long to be one."""
    inside = _inside(record)
    if not inside or sum(len(normalized_words(string)) for string in _strings(record)) <= MAX_WORDS_OF_RECORD:
        return [record]
    return [part for other in inside for part in _parts(other)]


def _inside(value: Any) -> list[Any]:
    """The objects of the one list of objects that an object has; none where it has none, or several."""
    lists = (
        [item for item in value.values() if isinstance(item, list) and item and isinstance(item[0], dict)]
        if isinstance(value, dict)
        else []
    )
    return lists[0] if len(lists) == 1 else []


def _paragraphs(text: str) -> list[str]:
    parts = [part for part in BLANK_LINE.split(text) if part.strip()]
    return parts if len(parts) > 1 else [line for line in text.split("\n") if line.strip()]


def _labels(records: Sequence[Any]) -> set[str]:
    """Short values of fields that several records have."""
    values = (value for record in records if isinstance(record, dict) for value in record.values() if isinstance(value, str))
    repeated = (value for value, count in Counter(values).items() if count > MAX_RECORDS_OF_TEXT)
    return {value for value in repeated if len(normalized_words(value)) < MIN_WORDS_OF_TEXT}


def _strings(value: Any, labels: Set[str] = frozenset()) -> Iterator[str]:
    """The strings in a value, in order, without fields whose value is one of `labels`."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            if not isinstance(item, str) or item not in labels:
                yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
