"""Overlap with evaluation tasks: which items of a task a document holds, and what share of each. RULE 33.

The coverage of an item by a document is the share of the item's words that lie in n-grams which the document has, too: n = 13, or 8 for an
item of fewer than 26 words. Words and hashes are those of pipeline/words.py (lower case, no punctuation, 64 bits), so an item whose
words are mostly characters of scripts written without spaces is measured in characters: n = 26, or 16 for fewer than 52 of them. One
n-gram alone says little, since quotations, formulas and lists stand in many texts. Three kinds of n-grams never count:

- those that occur in more than three items of their task: its instructions. Items are counted within a task file, as the same task often
  lies in several files;
- those of fewer than four different words: `[0, 0, 0, …]`;
- counting, up or down: `1 2 3 … 13` stands in some task and in every calendar.

Memory is some 40 bytes for each word of the tasks; nothing grows with the corpus. Source: Llama 3, arXiv 2407.21783, section 5.1.4, which
calls an item contaminated by the share of its tokens that lie in 8-grams of the corpus; 13 words are those of GPT-3, arXiv 2005.14165,
appendix C. Deviation: the share is that of one document, so that it can say which documents go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.quality.config import EvalTasks
from pipeline.quality.eval_items import task_items
from pipeline.quality.raw_files import read_raw
from pipeline.words import CONTINUOUS, I64, U64, ngram_hashes, normalized_words, word_hashes
from storage.store import Store

NGRAM_WORDS = 13
LENGTHS = {False: (8, NGRAM_WORDS), True: (16, 26)}  # of n-grams, for short and long items, by whether scripts without spaces prevail
MAX_ITEMS_OF_NGRAM = 3
MIN_DIFFERENT_WORDS = 4
BATCH_CHARACTERS = 1 << 20
BATCH_NGRAMS = 1 << 16
COUNTED = 10_000  # numbers from 0 that count as counting
CELLS_PER_NGRAM = 8  # of the table that answers for most n-grams of a document that no task has them
Number = TypeVar("Number", np.uint64, np.int64)

ITEMS = pa.schema(
    [
        pa.field("task", pa.string(), nullable=False),  # path of the file below raw_root
        pa.field("item", pa.int32(), nullable=False),  # number of the record in it, from 0
        pa.field("n_words", pa.int32(), nullable=False),
        pa.field("ngram_words", pa.int8(), nullable=False),
    ]
)
NGRAMS = pa.schema(  # those that count, wherever they occur, ascending
    [
        pa.field("ngram_words", pa.int8(), nullable=False),
        pa.field("ngram", pa.uint64(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),  # of the table of items
        pa.field("position", pa.int32(), nullable=False),  # of its first word in the item
    ]
)
OVERLAPS = pa.list_(pa.struct([pa.field("task", pa.string()), pa.field("item", pa.int32()), pa.field("coverage", pa.float32())]))


def ngrams_of(texts: Sequence[str], n: int = NGRAM_WORDS) -> tuple[U64, I64]:
    """Hashes of the n-grams of each text and where each text's begin: (uint64 [grams], int64 [texts + 1])."""
    hashes, offsets = word_hashes(texts)
    grams, bounds = ngram_hashes(hashes, offsets, n)
    whole = np.repeat(np.diff(offsets) >= n, np.diff(bounds))  # a shorter text has one gram of all its words: not counted
    return grams[whole], np.concatenate(([0], np.cumsum(np.where(np.diff(offsets) >= n, np.diff(bounds), 0)))).astype(np.int64)


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


# --- what the tasks have ------------------------------------------------------------------------------------------------------------------


def task_tables(raw: Store, tasks: tuple[EvalTasks, ...]) -> tuple[pa.Table, pa.Table, dict[str, dict[str, Any]]]:
    """The items of all task files (schema ITEMS), their n-grams that count (NGRAMS), and the totals of each task by path (`totals_of`).

    Raises ConfigError for a file that cannot be read, IntegrityError for one that has changed.
    """
    items, ngrams, totals = [ITEMS.empty_table()], [NGRAMS.empty_table()], dict[str, dict[str, Any]]()
    n_items = 0
    for i, files in enumerate(tasks):
        where = f"quality.eval_tasks[{i}]"
        for path, data in read_raw(raw, files, where):
            own_items, own_ngrams = file_tables(path, task_items(path, data, files.fields, where))
            totals[path] = totals_of(own_items, own_ngrams)
            items.append(own_items)
            ngrams.append(own_ngrams.set_column(2, NGRAMS.field("row"), pc.add(own_ngrams["row"], pa.scalar(n_items, pa.int32()))))
            n_items += own_items.num_rows
    return pa.concat_tables(items), in_order(pa.concat_tables(ngrams)), totals


def in_order(ngrams: pa.Table) -> pa.Table:
    """The rows of NGRAMS, ascending."""
    return ngrams.sort_by([(name, "ascending") for name in NGRAMS.names])


def file_tables(path: str, texts: Sequence[str]) -> tuple[pa.Table, pa.Table]:
    """The items of one task file (ITEMS), and their n-grams that count (NGRAMS), in no order."""
    parts = [word_hashes(batch) for batch in batches(texts)]
    hashes = np.concatenate([np.empty(0, np.uint64), *(part for part, _ in parts)])
    n_words = np.concatenate([np.empty(0, np.int64), *(np.diff(offsets) for _, offsets in parts)])
    offsets = np.concatenate(([0], np.cumsum(n_words)))
    lengths = np.array([ngram_words(int(n), is_continuous(text)) for n, text in zip(n_words, texts, strict=True)], np.int8)
    items = {"task": [path] * len(texts), "item": np.arange(len(texts)), "n_words": n_words, "ngram_words": lengths}
    ngrams = [NGRAMS.empty_table()]
    for n in np.unique(lengths).tolist():
        grams, rows, positions = _that_count(hashes, offsets, lengths, n)
        columns = {"ngram_words": np.full(len(grams), n), "ngram": grams, "row": rows, "position": positions}
        ngrams.append(pa.table(columns).cast(NGRAMS))
    return pa.table(items).cast(ITEMS), pa.concat_tables(ngrams)


def totals_of(items: pa.Table, ngrams: pa.Table) -> dict[str, Any]:
    """Of one task: its `items`, how many are `unreachable` (no n-gram of theirs counts), and `reach`: by whole percent, how many items have
    so large a share of their words in n-grams that count, which is the most that a document can cover."""
    lengths, _, rows, positions = (ngrams[name].to_numpy().astype(np.int64) for name in NGRAMS.names)
    order = np.lexsort((positions, rows))
    starts, covered = _covered_words(np.diff(rows[order]) != 0, positions[order], lengths[order])
    reachable_words = np.zeros(items.num_rows, np.int64)
    reachable_words[rows[order][starts]] = covered
    percents, counts = np.unique(100 * reachable_words // np.maximum(items["n_words"].to_numpy(), 1), return_counts=True)
    reach = {str(percent): count for percent, count in zip(percents.tolist(), counts.tolist(), strict=True)}
    return {"items": items.num_rows, "unreachable": items.num_rows - len(starts), "reach": reach}


def is_continuous(text: str) -> bool:
    """Whether most words of the text are characters of scripts written without spaces."""
    if not re.search(f"[{CONTINUOUS}]", text):
        return False
    found = normalized_words(text)
    return 2 * sum(re.match(f"[{CONTINUOUS}]", word) is not None for word in found) > len(found)


def ngram_words(n_words: int, continuous: bool) -> int:
    """Length of the n-grams of an item, in words, or in characters where they are words: the longer one from twice its length."""
    short, long = LENGTHS[continuous]
    return long if n_words >= 2 * long else short


def _that_count(hashes: U64, offsets: I64, lengths: NDArray[np.int8], n: int) -> tuple[U64, I64, I64]:
    """The n-grams that count of the items of this length: (hash, item, position of the first word). `lengths` by item."""
    grams, bounds = ngram_hashes(hashes, offsets, n)
    items = np.repeat(np.arange(len(lengths)), np.diff(bounds))
    positions = np.arange(len(grams)) - bounds[items]
    whole = np.diff(offsets)[items] >= n
    grams, items, positions = grams[whole], items[whole], positions[whole]
    wanted = _different(grams[lengths[items] == n])
    wanted = np.delete(wanted, _find(_counting(n), wanted)[0])
    found, places = _find(wanted, grams)
    grams, items, positions = grams[found], items[found], positions[found]
    pairs = _different(places * len(lengths) + items)  # the items of other lengths have them, too
    rare = np.bincount(pairs // len(lengths), minlength=len(wanted)) <= MAX_ITEMS_OF_NGRAM
    kept = np.flatnonzero(rare[places] & (lengths[items] == n))
    kept = kept[_different_words(hashes, offsets[items[kept]] + positions[kept], n) >= MIN_DIFFERENT_WORDS]
    return grams[kept], items[kept], positions[kept]


@lru_cache
def _counting(n: int) -> U64:
    """The n-grams of numbers in a row, up and down."""
    return _different(ngrams_of([" ".join(map(str, numbers)) for numbers in (range(COUNTED), range(COUNTED - 1, -1, -1))], n)[0])


def _different(values: NDArray[Number]) -> NDArray[Number]:
    """The different values, ascending: np.unique, which hashes first, takes several times as long."""
    ordered = np.sort(values)
    different: NDArray[Number] = ordered[np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]]
    return different


def _find(ascending: U64, values: U64) -> tuple[I64, I64]:
    """(places of those `values` that are in `ascending`, and where they are in it)."""
    if len(ascending) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    places = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    found = np.flatnonzero(ascending[places] == values)
    return found, places[found]


def _different_words(hashes: U64, starts: I64, n: int) -> I64:
    """How many different words the n words from each start are."""
    counts = [np.empty(0, np.int64)]
    for i in range(0, len(starts), BATCH_NGRAMS):
        ordered = np.sort(hashes[starts[i : i + BATCH_NGRAMS, None] + np.arange(n)], axis=1)
        counts.append(1 + np.count_nonzero(np.diff(ordered, axis=1), axis=1))
    return np.concatenate(counts)


# --- what a document has of them ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Postings:
    """The different n-grams of one length that count, ascending, and where they occur: that of number g in rows bounds[g] to
    bounds[g + 1] of `items` and `positions`. `cells` says of the first bits of a hash whether any n-gram has them."""

    n: int
    grams: U64
    bounds: I64
    items: NDArray[np.int32]
    positions: NDArray[np.int32]
    cells: NDArray[np.bool_]

    def find(self, hashes: U64, offsets: I64) -> tuple[I64, NDArray[np.int32], NDArray[np.int32]]:
        """Where texts, given as words, have n-grams of items: (text, item, position in the item), each once."""
        grams, bounds = ngram_hashes(hashes, offsets, self.n)
        likely = np.flatnonzero(self.cells[_cell(grams, len(self.cells))])
        found, places = _find(self.grams, grams[likely])
        texts = np.searchsorted(bounds, likely[found], side="right") - 1
        texts, places = np.divmod(_different(texts * len(self.grams) + places), len(self.grams))
        counts = np.diff(self.bounds)[places]
        before = np.cumsum(counts) - counts
        rows = np.arange(counts.sum()) + np.repeat(self.bounds[places] - before, counts)
        return np.repeat(texts, counts), self.items[rows], self.positions[rows]


def _cell(grams: U64, n_cells: int) -> U64:
    return grams >> np.uint64(65 - n_cells.bit_length())


@dataclass(frozen=True)
class TaskIndex:
    """The items of the tasks and their n-grams, for `overlaps`."""

    tasks: list[str]
    numbers: list[int]
    n_words: I64
    lengths: I64
    postings: tuple[Postings, ...]


def task_index(items: pa.Table, ngrams: pa.Table) -> TaskIndex:
    """The tables of `task_tables`, opened."""
    lengths, grams, rows, positions = (ngrams[name].to_numpy() for name in NGRAMS.names)
    postings = []
    for n in np.unique(lengths).tolist():
        own = lengths == n
        different, first = np.unique(grams[own], return_index=True)
        bounds = np.append(first, np.count_nonzero(own))
        cells = np.zeros(1 << (CELLS_PER_NGRAM * len(different)).bit_length(), bool)
        cells[_cell(different, len(cells))] = True
        postings.append(Postings(n, different, bounds, rows[own], positions[own], cells))
    n_words, item_lengths = (items[name].to_numpy().astype(np.int64) for name in ("n_words", "ngram_words"))
    return TaskIndex(items["task"].to_pylist(), items["item"].to_pylist(), n_words, item_lengths, tuple(postings))


def overlaps(texts: Sequence[str], index: TaskIndex) -> list[list[dict[str, Any]]]:
    """For each text the items with which it shares an n-gram, in order: {task, item, coverage}, coverage in (0, 1]."""
    hashes, offsets = word_hashes(texts)
    found = [postings.find(hashes, offsets) for postings in index.postings]
    rows: list[list[dict[str, Any]]] = [[] for _ in texts]
    if not any(len(owners) for owners, _, _ in found):
        return rows
    owners, items, positions = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((positions, items, owners))
    owners, items, positions = owners[order], items[order], positions[order]
    starts, covered = _covered_words((np.diff(owners) != 0) | (np.diff(items) != 0), positions, index.lengths[items])
    coverages = covered / index.n_words[items[starts]]
    for text, item, coverage in zip(owners[starts].tolist(), items[starts].tolist(), coverages.tolist(), strict=True):
        rows[text].append({"task": index.tasks[item], "item": index.numbers[item], "coverage": coverage})
    return rows


def _covered_words(is_next: NDArray[np.bool_], positions: NDArray[Any], lengths: I64) -> tuple[I64, I64]:
    """(first row of each group, words that its n-grams cover). A row is an n-gram: its position in its item and its length, ascending by
    position in each group; `is_next` says of each row but the first whether it begins a group."""
    if len(positions) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    until_next = np.append(np.where(is_next, lengths[:-1], np.minimum(lengths[:-1], np.diff(positions))), lengths[-1:])
    starts = np.flatnonzero(np.append(True, is_next))
    return starts, np.add.reduceat(until_next, starts)
