"""Measures the near-duplicate search on labelled pairs: recall by decile of Jaccard, precision, and documents per second and core.

    python -m benchmarks.measure_minhash --corpus ../shared/corpus [--min-jaccard 0.8] [--bands 14] [--rows 8]

Reads `dedup/docs.jsonl.gz` (id, text) and `dedup/pairs.jsonl.gz` (a, b, jaccard_w5: exact Jaccard of word 5-grams; every pair of at
least 0.1 is listed). Prints one JSON line per decile and one for all:

    candidates  pairs of the decile that agree on a band, beside what 1 - (1 - s^rows)^bands expects at their labels
    verified    pairs whose exact Jaccard, computed here, is at least the threshold
    clusters    pairs that the whole stage, run on these documents, puts under one near_id (chains of edges included)

Precision of candidates and of verified pairs counts a pair as right when its label is at least the threshold, over all pairs of documents.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.shared_corpus import DUPLICATES, files, rows
from pipeline.dedup import stage
from pipeline.dedup.minhash import MinHashConfig, band_keys, jaccard, shingle_sets, signatures
from pipeline.documents import DOCUMENTS, document_id, part_name
from storage.artifact import Attempt, FileEntry, Manifest, fingerprint_of
from storage.store import Store
from storage.tables import read_table, write_table

SOURCE = "pairs"
Pair = tuple[int, int]


def load(corpus: Path) -> tuple[list[str], list[str], dict[Pair, float]]:
    """(ids, texts, label of each pair of row numbers, the smaller first) of the labelled corpus."""
    documents, pairs = ([row for path in files(corpus, name) for row in rows(path)] for name in DUPLICATES)
    number = {row["id"]: i for i, row in enumerate(documents)}
    labels = {(min(a, b), max(a, b)): float(p["jaccard_w5"]) for p in pairs for a, b in [(number[p["a"]], number[p["b"]])]}
    return [row["id"] for row in documents], [row["text"] for row in documents], labels


def measure(ids: Sequence[str], texts: Sequence[str], labels: dict[Pair, float], config: MinHashConfig) -> list[dict[str, Any]]:
    """One row per decile of the label, and one for all pairs."""
    started = time.process_time()
    signature, _ = signatures(texts, config)
    seconds = time.process_time() - started
    keys = band_keys(signature, config)
    candidates = {pair for pair in combinations(range(len(texts)), 2) if (keys[pair[0]] == keys[pair[1]]).any()}
    sets = shingle_sets(texts, config.ngram_words)
    exact = {pair: jaccard(sets[pair[0]], sets[pair[1]]) for pair in candidates | set(labels)}
    verified = {pair for pair in candidates if exact[pair] >= config.min_jaccard}
    near, counts = _clusters(ids, texts, config)
    deciles = [_decile(n, labels, candidates, verified, near, config) for n in range(10)]
    true = {pair for pair, label in labels.items() if label >= config.min_jaccard}
    together = {pair for pair in combinations(range(len(texts)), 2) if near[pair[0]] == near[pair[1]]}
    total = {
        "documents": len(texts),
        "labelled_pairs": len(labels),
        "min_jaccard": config.min_jaccard,
        "true_pairs": len(true),
        "recall_candidates": _ratio(len(true & candidates), len(true)),
        "recall_verified": _ratio(len(true & verified), len(true)),
        "recall_clusters": _ratio(len(true & together), len(true)),
        "precision_candidates": _ratio(len(true & candidates), len(candidates)),
        "precision_verified": _ratio(len(true & verified), len(verified)),
        "precision_clusters": _ratio(len(true & together), len(together)),
        "largest_difference_from_label": round(max(abs(exact[pair] - label) for pair, label in labels.items()), 4),
        "stage_candidates_compared": counts["near_candidates"],
        "stage_candidates_verified": counts["near_verified"],
        "signatures_per_core_s": round(len(texts) / seconds, 1),
        "signature_words_per_core_s": round(sum(len(text.split()) for text in texts) / seconds),
    }
    return [*deciles, total]


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _decile(
    n: int, labels: dict[Pair, float], candidates: set[Pair], verified: set[Pair], near: Sequence[bytes], config: MinHashConfig
) -> dict[str, Any]:
    pairs = [pair for pair, label in labels.items() if min(int(label * 10), 9) == n]
    expected = [1 - (1 - labels[pair] ** config.rows) ** config.bands for pair in pairs]
    return {
        "jaccard": f"{n / 10:.1f}-{(n + 1) / 10:.1f}",
        "pairs": len(pairs),
        "candidates": _ratio(sum(pair in candidates for pair in pairs), len(pairs)),
        "candidates_expected": round(float(np.mean(expected)), 4) if pairs else None,
        "verified": _ratio(sum(pair in verified for pair in pairs), len(pairs)),
        "clusters": _ratio(sum(near[a] == near[b] for a, b in pairs), len(pairs)),
    }


def _clusters(ids: Sequence[str], texts: Sequence[str], config: MinHashConfig) -> tuple[list[bytes], dict[str, int]]:
    """near_id of each document by the stage itself, on a store in a temporary folder, and the stage's counts."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        asked = stage.Config(url_dedup={SOURCE: False}, line_dedup={SOURCE: False}, minhash=config, held_out_fraction=0)
        made = stage.run(store=store, config=asked, inputs={f"documents.{SOURCE}": _documents(store, ids, texts)})
        found = read_table(store, made, part_name(0, SOURCE)).to_pylist()
    near = {row["id"]: row["near_id"] for row in found}
    return [near[document_id(SOURCE, i)] for i in ids], made.counts


def _documents(store: Store, ids: Sequence[str], texts: Sequence[str]) -> Manifest:
    payload = {"name": "labelled"}
    attempt, entries = Attempt(store, "documents", fingerprint_of(payload)), list[FileEntry]()
    named = sorted((document_id(SOURCE, i), text) for i, text in zip(ids, texts, strict=True))
    fixed = {"source": SOURCE, "language": "und", "language_probability": 0.0}
    table = pa.Table.from_pylist([{"id": i, "text": text, **fixed} for i, text in named], DOCUMENTS)
    write_table(attempt, part_name(0), table, entries)
    return attempt.publish(payload, entries, counts={}, info={})


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one JSON line per decile and one for all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="the folder that holds dedup/")
    parser.add_argument("--min-jaccard", type=float, default=0.8)
    parser.add_argument("--bands", type=int, default=14)
    parser.add_argument("--rows", type=int, default=8)
    options = parser.parse_args(arguments)
    config = MinHashConfig(min_jaccard=options.min_jaccard, bands=options.bands, rows=options.rows)
    for row in measure(*load(options.corpus), config):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
