"""Stage `coverage`: which held-out documents training covers, so that nothing is evaluated that was trained on. RULE 32.

Words and hashes are those of pipeline/words.py, of edited texts on both sides. A word counts as covered where it lies in an n-gram that
some selected training document has; n is 13 (GPT-3, arXiv 2005.14165, appendix C) and 50 (Lee et al., arXiv 2107.06499: a run that long
is a copy). A text of fewer than 13 words has one gram, all its words: a document that is those words covers it. The verdicts:

    evaluated   it is judged on
    covered     more than `max_coverage` of its words lie in covered 13-grams, or a run of more than `max_run_words` in covered 50-grams
    over_cap    its domain has `max_held_out_bytes` without it: not looked at

Files: `held_out/part-*.parquet` (schema `HELD_OUT`: the rows of `survivors(..., "held_out")`, in that order), and `coverage.json`: by
domain documents, size_bytes and words that came in, are covered, over the cap, and left; mean, quantiles and tenths of the coverage of
those that are not over the cap; and the words of what is left that lie in 50-grams. Steps, with files between them:

    words     per partition: the held-out documents and the hashes of their words
    index     what the cap leaves, over all partitions; its 13-grams and 50-grams, sorted, each once
    overlap   per partition of training documents: which of those occur
    merge     the grams that occur
    table     per partition: the verdicts
    sum       coverage.json

Memory: the words of a partition's held-out documents, and the index, whatever the size of the corpus. With the default cap it is of 80 MB
of text in four domains: some 13 million words of prose or code, so 210 MB of grams and filters of 128 MB; 640 MB of grams if every word
were one letter.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from pipeline.documents import DOMAINS, Survivor, batched, keyed_fraction, part_name, parts_of, sources_of, survivors
from pipeline.domains.config import Domain
from pipeline.partitions import GroupResult, Output, Results, RunGroups, Step, map_groups, run_stage
from pipeline.words import I64, U64, ngram_hashes, word_hashes
from storage.artifact import Manifest, read_entry
from storage.errors import ConfigError, IntegrityError
from storage.store import Store
from storage.strict import Strict
from storage.tables import ID, parse_table, read_table

NAME = "coverage"
VERSION = 1

SHORT, LONG = 13, 50  # words of an n-gram
EVALUATED, COVERED, OVER_CAP = "evaluated", "covered", "over_cap"
CAP_KEY = "coverage cap"
BATCH_CHARACTERS = 1 << 20
MAX_FILTER_BITS = 26  # of a hash: a table of 64 MB that says of most grams that they are not in the index
NO_LIMITS = dict.fromkeys(DOMAINS, math.inf)
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)

Mask = npt.NDArray[np.bool_]

FOUND = pa.schema(
    [
        pa.field("id", ID, nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("rank", pa.float64(), nullable=False),  # keyed hash of the id: the cap takes the smallest
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("words", pa.int64(), nullable=False),
        pa.field("within", pa.bool_(), nullable=False),  # within the cap, as far as its partition tells; the hashes of its words are kept
    ]
)
HELD_OUT = pa.schema(
    [
        pa.field("id", ID, nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),  # UTF-8, of the edited text
        pa.field("words", pa.int64(), nullable=False),
        pa.field("words_in_13_grams", pa.int64()),  # of selected training documents; null: over the cap
        pa.field("words_in_50_grams", pa.int64()),
        pa.field("longest_run_words", pa.int64()),  # in a row in 50-grams
        pa.field("coverage", pa.float64()),  # words_in_13_grams / words; 0 where there are no words
        pa.field("verdict", pa.string(), nullable=False),
    ]
)


class Config(Strict):
    """Which held-out documents are left out of evaluation. Nothing here bears on training."""

    max_coverage: float = Field(0.5, ge=0, le=1, description="share of words in 13-grams of training documents above which it is covered")
    max_run_words: int = Field(50, ge=50, description="words in a row in 50-grams of training documents above which it is covered")
    max_held_out_bytes: int = Field(20_000_000, ge=1, description="bytes of a domain that are looked at, chosen by a keyed hash of the id")
    min_left_size_bytes: dict[Domain, int] = Field({}, description="bytes that must be left to evaluate a domain on")


def run(
    *,
    store: Store,
    config: Config,
    inputs: Mapping[str, Manifest],
    run_groups: RunGroups = map_groups,
    info: Mapping[str, Any] | None = None,
) -> Manifest:
    """Measure every kept held-out document. `inputs`: `documents.<source>`, `selection`.

    Raises ConfigError when a domain has less left than `min_left_size_bytes`, or nothing at all is left; IntegrityError.
    """
    parts = parts_of(next(iter(sources_of(inputs).values())))
    manifests = dict(inputs)
    steps = [
        Step("words", lambda _: range(parts), partial(_find, store=store, inputs=manifests, config=config), final=False),
        Step("index", lambda results: [results["words"]], partial(_index, store=store, config=config), final=False),
        Step("overlap", partial(_plan_overlap, parts=parts), partial(_overlap, store=store, inputs=manifests), final=False),
        Step("merge", lambda results: [(results["index"][0], results["overlap"])], partial(_merge, store=store), final=False),
        Step("table", _plan_table, partial(_judge, store=store, config=config)),
        Step("sum", lambda results: [results["table"]], partial(_sum, store=store)),
    ]
    return run_stage(
        store=store,
        stage=NAME,
        version=VERSION,
        config=config,
        inputs=inputs,
        steps=steps,
        run_groups=run_groups,
        info=info,
        check=partial(_check_left, config),
    )


def verdicts(store: Store, coverage: Manifest, part: int) -> pa.Table:
    """Partition `part` of the verdicts, schema `HELD_OUT`. Raises IntegrityError."""
    return read_table(store, coverage, f"held_out/{part_name(part)}")


def evaluated(store: Store, inputs: Mapping[str, Manifest], selection: Manifest, coverage: Manifest, part: int) -> Iterator[Survivor]:
    """The held-out documents of partition `part` that are judged on, in id order, edits applied.

    Raises IntegrityError when the verdicts are of other documents than the selection's.
    """
    table = verdicts(store, coverage, part).select(["id", "verdict"])
    where = f"{coverage.root}/held_out/{part_name(part)}"
    ids, found, n = table["id"].to_pylist(), table["verdict"].to_pylist(), 0
    for n, row in enumerate(survivors(store, inputs, selection, part, "held_out"), start=1):
        if n > len(ids) or ids[n - 1] != row.id:
            raise IntegrityError(where, expected=f"{row.id.hex()} in row {n - 1}", actual=ids[n - 1].hex() if n <= len(ids) else "no row")
        if found[n - 1] == EVALUATED:
            yield row
    if n != len(ids):
        raise IntegrityError(where, expected=f"{n} rows", actual=f"{len(ids)} rows")


# --- grams -------------------------------------------------------------------------------------------------------------------------------


class Index(NamedTuple):
    """Hashes of n-grams, ascending, each once; and which of their leading bits occur."""

    hashes: U64
    occupied: Mask


def index_of(hashes: U64) -> Index:
    """The index of ascending different hashes."""
    bits = min(MAX_FILTER_BITS, len(hashes).bit_length() + 2)
    occupied = np.zeros(1 << bits, bool)
    occupied[hashes >> np.uint64(64 - bits)] = True
    return Index(hashes, occupied)


def lookup(index: Index, grams: U64) -> tuple[Mask, I64]:
    """Which of `grams` are in the index (bool, one each), and the places of those in it."""
    bits = len(index.occupied).bit_length() - 1
    likely = np.flatnonzero(index.occupied[grams >> np.uint64(64 - bits)])
    places = np.searchsorted(index.hashes, grams[likely])
    found = index.hashes[np.minimum(places, len(index.hashes) - 1)] == grams[likely]
    hits = np.zeros(len(grams), bool)
    hits[likely[found]] = True
    return hits, places[found]


def take_texts(hashes: U64, offsets: I64, chosen: Mask) -> tuple[U64, I64]:
    """Word hashes and offsets of the chosen texts alone."""
    counts = np.diff(offsets)
    return hashes[np.repeat(chosen, counts)], np.concatenate(([0], np.cumsum(counts[chosen]))).astype(np.int64)


def sums_by_text(values: Mask, bounds: I64) -> I64:
    """How many are true in each text: values [all], bounds [texts + 1] → [texts]."""
    totals = np.concatenate(([0], np.cumsum(values))).astype(np.int64)
    sums: I64 = totals[bounds[1:]] - totals[bounds[:-1]]
    return sums


def words_inside(hits: Mask, bounds: I64, offsets: I64, n: int) -> Mask:
    """Which words lie in an n-gram that is a hit: hits [grams] with bounds [texts + 1] → bool [words] with offsets [texts + 1]."""
    grams = np.flatnonzero(hits)
    texts = np.searchsorted(bounds, grams, side="right") - 1
    starts = grams + (offsets[:-1] - bounds[:-1])[texts]
    edges = np.zeros(int(offsets[-1]) + 1, np.int64)
    edges[starts] += 1
    edges[starts + np.minimum(n, np.diff(offsets)[texts])] -= 1  # no two grams of one length end at one word
    return np.cumsum(edges)[:-1] > 0


def longest_runs(inside: Mask, offsets: I64) -> I64:
    """The longest run of true words in each text: inside [words], offsets [texts + 1] → [texts]."""
    some = np.diff(offsets) > 0
    before, after = np.concatenate(([False], inside[:-1])), np.concatenate((inside[1:], [False]))
    before[offsets[:-1][some]] = False
    after[offsets[1:][some] - 1] = False
    starts, ends = np.flatnonzero(inside & ~before), np.flatnonzero(inside & ~after) + 1
    longest = np.zeros(len(some), np.int64)
    np.maximum.at(longest, np.searchsorted(offsets, starts, side="right") - 1, ends - starts)
    return longest


def measure(hashes: U64, offsets: I64, short: Index, long: Index) -> tuple[I64, I64, I64]:
    """Of each text: its words in 13-grams, its words in 50-grams, the longest run in 50-grams; `short` and `long` are training's grams."""
    grams, bounds = ngram_hashes(hashes, offsets, SHORT)
    in_short = words_inside(lookup(short, grams)[0], bounds, offsets, SHORT)
    is_long = np.diff(offsets) >= LONG
    some, limits = take_texts(hashes, offsets, is_long)
    grams, bounds = ngram_hashes(some, limits, LONG)
    in_long = words_inside(lookup(long, grams)[0], bounds, limits, LONG)
    n_long, runs = np.zeros(len(is_long), np.int64), np.zeros(len(is_long), np.int64)
    n_long[is_long], runs[is_long] = sums_by_text(in_long, limits), longest_runs(in_long, limits)
    return sums_by_text(in_short, offsets), n_long, runs


# --- the cap and the index ---------------------------------------------------------------------------------------------------------------


def rank_limit(ranks: npt.NDArray[np.float64], sizes: I64, cap: int) -> float:
    """Documents of a smaller rank are within `cap` bytes together; a document larger than the cap counts for none."""
    fits = sizes <= cap
    order = np.argsort(ranks[fits])
    over = int(np.searchsorted(np.cumsum(sizes[fits][order]), cap, side="right"))
    return math.inf if over == len(order) else float(ranks[fits][order][over])


def within_cap(table: pa.Table, limits: Mapping[str, float], cap: int) -> Mask:
    """Which rows of a table like `FOUND` are within the cap, given the limit of each domain."""
    ranks, sizes = table["rank"].to_numpy(), table["size_bytes"].to_numpy()
    allowed = np.array([limits.get(domain, math.inf) for domain in table["domain"].to_pylist()], np.float64)
    result: Mask = (ranks < allowed) & (sizes <= cap)
    return result


def _lower(limits: Mapping[str, float], table: pa.Table, cap: int) -> dict[str, float]:
    """The limit of each domain when the documents of `table` count, too."""
    ranks, sizes, domains = table["rank"].to_numpy(), table["size_bytes"].to_numpy(), np.array(table["domain"].to_pylist(), object)
    return {name: min(limit, rank_limit(ranks[domains == name], sizes[domains == name], cap)) for name, limit in limits.items()}


def _find(part: int, output: Output, *, store: Store, inputs: Mapping[str, Manifest], config: Config) -> None:
    rows, hashes, counts = list[dict[str, Any]](), list[U64](), list[I64]()
    for batch in batched(survivors(store, inputs, inputs["selection"], part, "held_out"), BATCH_CHARACTERS):
        found, offsets = word_hashes([row.text for row in batch])
        hashes.append(found)
        counts.append(np.diff(offsets))
        for row, n_words in zip(batch, counts[-1].tolist(), strict=True):
            size, rank = len(row.text.encode()), keyed_fraction(CAP_KEY, row.id)
            rows.append({"id": row.id, "source": row.source, "domain": row.domain, "rank": rank, "size_bytes": size, "words": n_words})
    table = pa.Table.from_pylist([{**row, "within": True} for row in rows], schema=FOUND)
    # What is over the cap in its partition alone is over it: its words are not kept.
    within = within_cap(table, _lower(NO_LIMITS, table, config.max_held_out_bytes), config.max_held_out_bytes)
    output.table(f"found/{part_name(part)}", table.set_column(FOUND.get_field_index("within"), FOUND.field("within"), pa.array(within)))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(table["words"].to_numpy())]).astype(np.int64)
    kept = take_texts(np.concatenate([np.empty(0, np.uint64), *hashes]), offsets, within)[0]
    _write_hashes(output, f"words/part-{part:05d}.u64", kept)


def _write_hashes(output: Output, name: str, hashes: npt.NDArray[np.unsignedinteger[Any]]) -> None:
    with output.create(name) as file:
        file.write(hashes.astype(hashes.dtype.newbyteorder("<"), copy=False).tobytes())


def _read_hashes(store: Store, result: GroupResult, name: str) -> U64:
    return np.frombuffer(read_entry(store, result.root, result.entry(name)), "<u8")


def _read_found(store: Store, result: GroupResult) -> pa.Table:
    name = f"found/{part_name(result.n)}"
    return parse_table(read_entry(store, result.root, result.entry(name)), name)


def _read_words(store: Store, result: GroupResult, limits: Mapping[str, float], cap: int) -> tuple[pa.Table, Mask, U64, I64]:
    """A partition's held-out documents, which of them are within the cap, and the hashes and offsets of the words of those."""
    table = _read_found(store, result)
    kept, within = table["within"].to_numpy(), within_cap(table, limits, cap)
    offsets = np.concatenate(([0], np.cumsum(table["words"].to_numpy()[kept]))).astype(np.int64)
    return table, within, *take_texts(_read_hashes(store, result, f"words/part-{result.n:05d}.u64"), offsets, within[kept])


def _cap_limits(store: Store, results: Sequence[GroupResult], cap: int) -> dict[str, float]:
    """The limit of each domain over all partitions; memory holds what the cap leaves of those that were read, and one more."""
    limits, kept = NO_LIMITS, FOUND.empty_table().select(["domain", "rank", "size_bytes"])
    for result in results:
        table = _read_found(store, result).select(kept.column_names)
        limits = _lower(limits, table, cap)
        kept = pa.concat_tables([kept, table])
        kept = kept.filter(pa.array(within_cap(kept, limits, cap)))
        limits = _lower(limits, kept, cap)
    return limits


def _index(group: Sequence[GroupResult], output: Output, *, store: Store, config: Config) -> None:
    """Grams of the held-out documents within the cap; the note holds the limit of each domain that has one."""
    limits = _cap_limits(store, group, config.max_held_out_bytes)
    short, long = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    for result in group:
        _, _, hashes, offsets = _read_words(store, result, limits, config.max_held_out_bytes)
        short.append(np.unique(ngram_hashes(hashes, offsets, SHORT)[0]))
        long.append(np.unique(ngram_hashes(*take_texts(hashes, offsets, np.diff(offsets) >= LONG), LONG)[0]))
    _write_hashes(output, "index/short.u64", np.unique(np.concatenate(short)))
    del short
    _write_hashes(output, "index/long.u64", np.unique(np.concatenate(long)))
    output.note = {name: limit for name, limit in limits.items() if limit < math.inf}


# --- what training documents have --------------------------------------------------------------------------------------------------------


def _plan_overlap(results: Results, *, parts: int) -> list[tuple[int, GroupResult]]:
    return [(part, results["index"][0]) for part in range(parts)]


def _overlap(group: tuple[int, GroupResult], output: Output, *, store: Store, inputs: Mapping[str, Manifest]) -> None:
    """The places in the index of the grams that selected training documents of this partition have."""
    part, index = group
    short, long = (index_of(_read_hashes(store, index, f"index/{name}.u64")) for name in ("short", "long"))
    seen_short, seen_long = np.zeros(len(short.hashes), bool), np.zeros(len(long.hashes), bool)
    for batch in batched(survivors(store, inputs, inputs["selection"], part, "train"), BATCH_CHARACTERS):
        hashes, offsets = word_hashes([row.text for row in batch])
        grams, bounds = ngram_hashes(hashes, offsets, SHORT)
        hits, places = lookup(short, grams)
        seen_short[places] = True
        # All 13-grams of a 50-gram that the index has are in the index: a text with fewer of them has none.
        likely = (sums_by_text(hits, bounds) > LONG - SHORT) & (np.diff(offsets) >= LONG)
        seen_long[lookup(long, ngram_hashes(*take_texts(hashes, offsets, likely), LONG)[0])[1]] = True
        output.counts["training_words"] += len(hashes)
    for name, seen in (("short", seen_short), ("long", seen_long)):
        _write_hashes(output, f"overlap/{name}-{part:05d}.u32", np.flatnonzero(seen).astype(np.uint32))


def _merge(group: tuple[GroupResult, Sequence[GroupResult]], output: Output, *, store: Store) -> None:
    index, overlap = group
    for name in ("short", "long"):
        hashes = _read_hashes(store, index, f"index/{name}.u64")
        seen = np.zeros(len(hashes), bool)
        for result in overlap:
            seen[np.frombuffer(read_entry(store, result.root, result.entry(f"overlap/{name}-{result.n:05d}.u32")), "<u4")] = True
        _write_hashes(output, f"merged/{name}.u64", hashes[seen])


# --- verdicts ----------------------------------------------------------------------------------------------------------------------------


def _plan_table(results: Results) -> list[tuple[GroupResult, dict[str, float], GroupResult]]:
    return [(words, results["index"][0].note, results["merge"][0]) for words in results["words"]]


def _judge(group: tuple[GroupResult, dict[str, float], GroupResult], output: Output, *, store: Store, config: Config) -> None:
    words, limits, merged = group
    table, within, hashes, offsets = _read_words(store, words, limits, config.max_held_out_bytes)
    short, long = (index_of(_read_hashes(store, merged, f"merged/{name}.u64")) for name in ("short", "long"))
    columns = {name: np.zeros(len(within), np.int64) for name in ("words_in_13_grams", "words_in_50_grams", "longest_run_words")}
    for column, values in zip(columns.values(), measure(hashes, offsets, short, long), strict=True):
        column[within] = values
    share = columns["words_in_13_grams"] / np.maximum(table["words"].to_numpy(), 1)
    is_covered = (share > config.max_coverage) | (columns["longest_run_words"] > config.max_run_words)
    verdict = np.where(within, np.where(is_covered, COVERED, EVALUATED), OVER_CAP)
    made = {
        **{name: table[name] for name in ("id", "source", "domain", "size_bytes", "words")},
        **{name: pa.array(values, mask=~within) for name, values in columns.items()},
        "coverage": pa.array(share, mask=~within),
        "verdict": verdict.tolist(),
    }
    output.table(f"held_out/{part_name(words.n)}", pa.table(made, schema=HELD_OUT))


def _sum(results: Sequence[GroupResult], output: Output, *, store: Store) -> None:
    cells: dict[str, dict[str, dict[str, int]]] = {}
    shares: dict[str, list[npt.NDArray[np.float64]]] = {}
    copied: dict[str, int] = {}
    for result in results:
        table = parse_table(read_entry(store, result.root, result.files[0]), result.files[0].name, HELD_OUT.names[2:])
        domains, verdict = (np.array(table[name].to_pylist(), object) for name in ("domain", "verdict"))
        sizes, words = table["size_bytes"].to_numpy(), table["words"].to_numpy()
        for domain in sorted(set(domains)):
            row = cells.setdefault(domain, {name: {"documents": 0, "size_bytes": 0, "words": 0} for name in ("in", *CELLS)})
            for name, value in (("in", None), *CELLS.items()):
                chosen = (domains == domain) if value is None else (domains == domain) & (verdict == value)
                for key, amount in (("documents", chosen.sum()), ("size_bytes", sizes[chosen].sum()), ("words", words[chosen].sum())):
                    row[name][key] += int(amount)
            judged, left = (domains == domain) & (verdict != OVER_CAP), (domains == domain) & (verdict == EVALUATED)
            shares.setdefault(domain, []).append(table["coverage"].fill_null(0).to_numpy()[judged])
            copied[domain] = copied.get(domain, 0) + int(table["words_in_50_grams"].fill_null(0).to_numpy()[left].sum())
    made: dict[str, Any] = {}
    for domain, row in sorted(cells.items()):
        all_shares = np.concatenate(shares[domain])
        made[domain] = {**row, "coverage": _distribution(all_shares), "left_words_in_50_grams": copied[domain]}
        output.counts.update({name: row[cell]["documents"] for cell, name in CELLS.items()})
    with output.create("coverage.json") as file:
        file.write(json.dumps({"domains": made}, indent=1, sort_keys=True).encode())
    output.note = cells


CELLS = {"covered": COVERED, "over_cap": OVER_CAP, "left": EVALUATED}  # of coverage.json, by verdict


def _distribution(shares: npt.NDArray[np.float64]) -> dict[str, Any] | None:
    """Mean, quantiles, and how many documents lie in each tenth (1 in the last); None of no document."""
    if not len(shares):
        return None
    tenths = np.histogram(shares, bins=10, range=(0.0, 1.0))[0]
    values = np.quantile(shares, QUANTILES)
    return {
        "mean": float(shares.mean()),
        "quantiles": {f"{q:g}": float(value) for q, value in zip(QUANTILES, values, strict=True)},
        "documents_by_tenth": tenths.tolist(),
    }


def _check_left(config: Config, results: Results) -> None:
    """Too little left to evaluate on is an error, as in RULE 13."""
    cells = results["sum"][0].note
    knobs = (
        f"coverage.max_coverage ({config.max_coverage:g}) or, for licences and the like, coverage.max_run_words ({config.max_run_words})"
    )
    advice = f"raise dedup.held_out_fraction, {knobs}"
    problems = []
    for domain, asked in sorted(config.min_left_size_bytes.items()):
        row = cells.get(domain, {name: {"documents": 0, "size_bytes": 0} for name in ("in", *CELLS)})
        if row["left"]["size_bytes"] < asked:
            problems.append(f"coverage.min_left_size_bytes.{domain}: {asked:,} bytes are asked, {_amounts(row)}; {advice}")
    if not problems and not any(row["left"]["documents"] for row in cells.values()):
        found = "; ".join(f"{domain}: {_amounts(row)}" for domain, row in sorted(cells.items())) or "no document is held out"
        problems = [f"coverage: nothing is left to evaluate on ({found}); {advice}"]
    if problems:
        raise ConfigError("\n".join(problems))


def _amounts(row: Mapping[str, Mapping[str, int]]) -> str:
    """What came of a domain's held-out documents, in words."""
    left, covered, over_cap, total = (row[name] for name in ("left", "covered", "over_cap", "in"))
    return (
        f"{left['size_bytes']:,} bytes of {left['documents']:,} documents are left: of {total['size_bytes']:,} held-out bytes"
        f" training covers {covered['size_bytes']:,} ({covered['documents']:,} documents), and {over_cap['size_bytes']:,} are over the cap"
    )
