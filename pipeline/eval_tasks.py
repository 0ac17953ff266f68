"""Two lm-evaluation-harness tasks from held-out documents: last-word cloze and four-way continuation. RULE 21.

    caravan_cloze          the last word of a sentence or line, which occurs in the passage before (LAMBADA's shape, arXiv 1606.06031,
                           without its human filter): the answer's log-likelihood, and whether greedy decoding gives it
    caravan_continuation   which of four texts of `continuation_words` words follows (HellaSwag's shape, arXiv 1905.07830); the other three
                           follow passages of other documents of the domain, of the same language where there are enough

A word is what stands between white space; where the script is written without spaces, a character, and two letters for the last word.

Items come from the held-out documents that `coverage` leaves. One that shares a 13-gram with a selected training document is discarded, and
one too short to have a 13-gram is not made. Which items remain is chosen by a keyed hash of document id and offset: `n_items_per_domain`
of each domain and task, fewer where there are fewer.

Writes `cloze.jsonl` (id, offset, domain, language, context, target), `continuation.jsonl` (id, offset, domain, language, context, choices,
gold) and a YAML per task whose data path begins with `{folder}`: who runs it puts the folder of the files there. Offsets are characters of
the edited text.
"""

# ruff: noqa: RUF001 - the ends of sentences in several scripts
from __future__ import annotations

import heapq
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from pipeline.coverage import evaluated
from pipeline.documents import Survivor, keyed_fraction, parts_of, sources_of, survivors
from pipeline.partitions import GroupResult, Output, Results, RunGroups, Step, map_groups, run_stage
from pipeline.quality.eval_overlap import NGRAM_WORDS, batches, ngrams_of
from pipeline.words import CONTINUOUS
from storage.artifact import FileEntry, Manifest, canonical_json, read_entry
from storage.errors import ConfigError
from storage.store import Store
from storage.strict import Strict

NAME = "build_tasks"
VERSION = 4

CLOZE, CONTINUATION = "cloze", "continuation"
TASKS = (CLOZE, CONTINUATION)
N_CHOICES = 4
SPARE = 4  # candidates kept for each item asked, since some overlap with training documents
WORD_CHARACTERS = 16  # of the window that is searched for a word of context
WORD = re.compile(rf"[{CONTINUOUS}]|[^\s{CONTINUOUS}]+")
LAST_WORD = re.compile(
    r"""(?<=\S)\s(?P<word>[^\W\d_]\w{2,})(?=[.!?…]["'\u201d\u2019)\]]*(?:\s|\Z)|[ \t]*(?:\n|\Z))"""
    rf"""|(?<=[{CONTINUOUS}])(?P<letters>(?:(?=[^\W\d_])[{CONTINUOUS}]){{2}})(?=[。．！？…]|[ \t]*(?:\n|\Z))"""
)
BREAK = re.compile(
    r"""(?<=[.!?…])\s+(?=\S)|(?<=[.!?…]["'\u201d\u2019)\]])\s+(?=\S)|\n\s*(?=\S)"""
    r"""|(?<=[。．！？])\s*(?=[^\s。．！？…”’」』）])|(?<=[。．！？][”’」』）])\s*(?=\S)"""
)

TASK_YAML = """\
task: caravan_{task}
dataset_path: json
dataset_kwargs:
  data_files:
    test: "{{folder}}/{task}.jsonl"
test_split: test
{shape}target_delimiter: ""
metadata:
  version: {version}
"""
SHAPES = {
    CLOZE: """\
output_type: loglikelihood
doc_to_text: context
doc_to_target: target
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
""",
    CONTINUATION: """\
output_type: multiple_choice
doc_to_text: context
doc_to_choice: choices
doc_to_target: gold
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
""",
}


class Config(Strict):
    """How many items, and their shape."""

    n_items_per_domain: int = Field(250, ge=1, description="items of each task and domain, at most")
    n_items_per_document: int = Field(4, ge=1, description="items of each task from one document, at most")
    min_context_words: int = Field(20, ge=NGRAM_WORDS, description="words of the passage, at least")
    max_context_words: int = Field(80, ge=NGRAM_WORDS, description="words of the passage, at most")
    continuation_words: int = Field(12, ge=1, description="words of each of the four continuations")
    seed: int = Field(0, ge=0, description="keys which items are chosen")

    @model_validator(mode="after")
    def _check_words(self) -> Config:
        if self.max_context_words < self.min_context_words:
            raise ValueError(f"max_context_words {self.max_context_words} is below min_context_words {self.min_context_words}")
        return self


class Item(NamedTuple):
    """A candidate. `rank` in [0, 1) orders candidates; `answer` is the last word or the continuation, with the white space before it."""

    rank: float
    id: str
    offset: int
    task: str
    domain: str
    language: str
    context: str
    answer: str


def run(
    *,
    store: Store,
    config: Config,
    inputs: Mapping[str, Manifest],
    run_groups: RunGroups = map_groups,
    info: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write the tasks. `inputs`: `documents.<source>`, `selection`, `coverage`.

    Raises ConfigError when a task would have no item, IntegrityError.
    """
    parts = parts_of(next(iter(sources_of(inputs).values())))
    manifests = dict(inputs)
    steps = [
        Step("candidates", lambda _: range(parts), partial(_find_candidates, store=store, inputs=manifests, config=config), final=False),
        Step("pool", lambda results: [results["candidates"]], partial(_pool, store=store, config=config), final=False),
        Step("overlap", partial(_plan_overlap, parts=parts), partial(_find_overlap, store=store, inputs=manifests), final=False),
        Step("write", lambda results: [(results["pool"][0], results["overlap"])], partial(_write, store=store, config=config)),
    ]
    return run_stage(store=store, stage=NAME, version=VERSION, config=config, inputs=inputs, steps=steps, run_groups=run_groups, info=info)


# --- candidates ----------------------------------------------------------------------------------------------------------------------


def candidates(row: Survivor, config: Config) -> Iterator[Item]:
    """Items that a document could give, at most `n_items_per_document` of each task: those with the smallest keyed hash."""
    for task, pattern, cut in ((CLOZE, LAST_WORD, _cut_cloze), (CONTINUATION, BREAK, _cut_continuation)):
        key = f"{NAME} {task} {config.seed}"
        ranked = sorted((keyed_fraction(key, row.id + m.start().to_bytes(8, "big")), m.start(), m) for m in pattern.finditer(row.text))
        made = 0
        for rank, offset, match in ranked:
            if made == config.n_items_per_document:
                break
            cutting = cut(row.text, match, config)
            if cutting is not None and len(ngrams_of(["".join(cutting)])[0]):
                made += 1
                yield Item(rank, row.id.hex(), offset, task, row.domain, row.language, *cutting)


def _cut_cloze(text: str, match: re.Match[str], config: Config) -> tuple[str, str] | None:
    context = _context_before(text, match.start(), config)
    if context is None:
        return None
    word = match["word"]
    known = match["letters"] in context if word is None else re.search(rf"\b{re.escape(word)}\b", context) is not None
    return (context, match[0]) if known else None


def _cut_continuation(text: str, match: re.Match[str], config: Config) -> tuple[str, str] | None:
    context = _context_before(text, match.start(), config)
    if context is None:
        return None
    window = text[match.end() : match.end() + 2 * WORD_CHARACTERS * config.continuation_words]
    ends = [word.end() for word, _ in zip(WORD.finditer(window), range(config.continuation_words), strict=False)]
    if len(ends) < config.continuation_words or (ends[-1] == len(window) and match.end() + len(window) < len(text)):
        return None
    return context, match[0] + window[: ends[-1]]


def _context_before(text: str, end: int, config: Config) -> str | None:
    """The last `max_context_words` whole words before `end` as they stand, or None when there are fewer than `min_context_words`."""
    start = max(0, end - WORD_CHARACTERS * config.max_context_words)
    words = [word.start() for word in WORD.finditer(text[start:end])]
    if start > 0 and words and words[0] == 0 and not text[start - 1].isspace():
        words = words[1:]  # the window cuts it
    if len(words) < config.min_context_words:
        return None
    return text[start + words[-config.max_context_words :][0] : end]


class _Best:
    """The `limit` items of smallest rank of each task and domain, among those added."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._heaps: dict[tuple[str, str], list[tuple[float, Item]]] = {}

    def add(self, item: Item) -> None:
        heap = self._heaps.setdefault((item.task, item.domain), [])
        entry = (-item.rank, item)
        if len(heap) < self._limit:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)

    def items(self) -> list[Item]:
        return sorted(item for heap in self._heaps.values() for _, item in heap)


def _find_candidates(part: int, output: Output, *, store: Store, inputs: Mapping[str, Manifest], config: Config) -> None:
    best = _Best(SPARE * config.n_items_per_domain)
    for row in evaluated(store, inputs, inputs["selection"], inputs["coverage"], part):
        for item in candidates(row, config):
            best.add(item)
    _write_items(output, f"candidates/part-{part:05d}.jsonl", best.items())


def _pool(group: Sequence[GroupResult], output: Output, *, store: Store, config: Config) -> None:
    """The candidates of all partitions together, and the different 13-grams of each with its number in the pool."""
    best = _Best(SPARE * config.n_items_per_domain)
    for result in group:
        for item in _read_items(store, result.root, result.files[0]):
            best.add(item)
    items = best.items()
    _write_items(output, "pool.jsonl", items)
    grams, bounds = ngrams_of([item.context + item.answer for item in items])
    owners = np.repeat(np.arange(len(items), dtype=np.uint64), np.diff(bounds))
    pairs = np.unique(np.stack([grams, owners], axis=1), axis=0) if len(grams) else np.empty((0, 2), np.uint64)
    with output.create("pool.grams") as file:
        file.write(pairs.astype("<u8").tobytes())


# --- overlap with training -----------------------------------------------------------------------------------------------------------


def _plan_overlap(results: Results, *, parts: int) -> list[tuple[int, GroupResult]]:
    return [(part, results["pool"][0]) for part in range(parts)]


def _find_overlap(group: tuple[int, GroupResult], output: Output, *, store: Store, inputs: Mapping[str, Manifest]) -> None:
    """Numbers of the pool's items that share a 13-gram with a selected training document of this partition."""
    part, pool = group
    pairs = np.frombuffer(read_entry(store, pool.root, pool.entry("pool.grams")), "<u8").reshape(-1, 2)
    wanted, gram_of_pair = np.unique(pairs[:, 0], return_inverse=True)
    shared = np.zeros(len(wanted), bool)
    for texts in batches(row.text for row in survivors(store, inputs, inputs["selection"], part, "train")):
        grams, _ = ngrams_of(texts)
        shared[np.searchsorted(wanted, np.intersect1d(grams, wanted))] = True
    with output.create(f"overlap/part-{part:05d}.u64") as file:
        file.write(np.unique(pairs[shared[gram_of_pair], 1]).astype("<u8").tobytes())


def _overlapping(store: Store, results: Iterable[GroupResult]) -> npt.NDArray[np.uint64]:
    found = np.empty(0, np.uint64)
    for result in results:
        found = np.union1d(found, np.frombuffer(read_entry(store, result.root, result.files[0]), "<u8"))
    return found


# --- writing -------------------------------------------------------------------------------------------------------------------------


def _write(group: tuple[GroupResult, Sequence[GroupResult]], output: Output, *, store: Store, config: Config) -> None:
    pool, overlap = group
    items, shared = list(_read_items(store, pool.root, pool.entry("pool.jsonl"))), set(_overlapping(store, overlap).tolist())
    clean = [item for number, item in enumerate(items) if number not in shared]
    output.counts.update(Counter(f"overlapping:{items[number].task}" for number in shared))
    make: dict[str, Callable[[Sequence[Item], Config], Iterator[dict[str, Any]]]] = {CLOZE: cloze_rows, CONTINUATION: continuation_rows}
    for task in TASKS:
        rows = []
        for domain in sorted({item.domain for item in clean}):
            found = make[task]([item for item in clean if (item.task, item.domain) == (task, domain)], config)
            rows += [row for row, _ in zip(found, range(config.n_items_per_domain), strict=False)]
        if not rows:
            raise ConfigError(
                f"build_tasks: the held-out documents give no {task} item that training does not overlap ({len(shared):,} of {len(items):,}"
                " candidates do); raise held_out_fraction or lower min_context_words"
            )
        output.counts.update(Counter(f"items:{task}:{row['domain']}" for row in rows))
        with output.create(f"{task}.jsonl") as file:
            file.write(b"".join(canonical_json(row) + b"\n" for row in rows))
        with output.create(f"caravan_{task}.yaml") as file:
            file.write(TASK_YAML.format(task=task, shape=SHAPES[task], version=VERSION).encode())


def cloze_rows(items: Sequence[Item], config: Config) -> Iterator[dict[str, Any]]:
    """Rows of cloze.jsonl, in order of rank."""
    for item in items:
        yield {**_place(item), "context": item.context, "target": item.answer}


def continuation_rows(items: Sequence[Item], config: Config) -> Iterator[dict[str, Any]]:
    """Rows of continuation.jsonl of one domain, in order of rank.

    An item for which other documents give fewer than three texts is left out. All four choices begin with the white space that goes on from
    the context, or a line's end against a space would give the answer away.
    """
    by_language: dict[str, list[Item]] = {}
    for item in items:
        by_language.setdefault(item.language, []).append(item)
    places = {id(item): n for same in by_language.values() for n, item in enumerate(same)}
    for n, item in enumerate(items):
        others = _first_distinct(item, [(by_language[item.language], places[id(item)]), (items, n)])
        if len(others) == N_CHOICES - 1:
            key = f"{NAME} gold {config.seed}"
            gold = int(keyed_fraction(key, bytes.fromhex(item.id) + item.offset.to_bytes(8, "big")) * N_CHOICES)
            space = item.answer[: len(item.answer) - len(item.answer.lstrip())]
            choices = [*(space + text for text in others[:gold]), item.answer, *(space + text for text in others[gold:])]
            yield {**_place(item), "context": item.context, "choices": choices, "gold": gold}


def _first_distinct(item: Item, lists: Sequence[tuple[Sequence[Item], int]]) -> list[str]:
    """Three answers of other documents, each another text: those that follow `item` in the lists, which wrap around."""
    found: dict[str, str] = {}
    for others, place in lists:
        for step in range(1, len(others)):
            other = others[(place + step) % len(others)]
            text = other.answer.strip()
            if other.id != item.id and other.id not in found and text != item.answer.strip() and text not in found.values():
                found[other.id] = text
                if len(found) == N_CHOICES - 1:
                    return list(found.values())
    return list(found.values())


def _place(item: Item) -> dict[str, Any]:
    return {"id": item.id, "offset": item.offset, "domain": item.domain, "language": item.language}


def _write_items(output: Output, name: str, items: Sequence[Item]) -> None:
    with output.create(name) as file:
        file.write(b"".join(json.dumps(item, ensure_ascii=False).encode() + b"\n" for item in items))


def _read_items(store: Store, root: str, entry: FileEntry) -> Iterator[Item]:
    for line in read_entry(store, root, entry).split(b"\n"):
        if line:
            yield Item(*json.loads(line))
