"""Tokenize and write shards, in bytes of text per second and core, against datatrove's DocumentTokenizer: same texts, same tokenizer.json.

Ours is the stage `tokenize` as a worker runs it: it reads documents and selection from their Parquet files and checks them, applies edits,
encodes, and writes shards with their checksums and tables of ids. datatrove gets the texts in memory and writes with its defaults
(documents shuffled; ours are in the order of their ids, which is a shuffle too). Both with one thread; time is the processor's; the sides
take turns, and the best of each counts: most of both is the same encoder, so a ratio near 1 needs more than a pair of turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.data_path import PROJECT, texts_of
from benchmarks.figure import Figure
from pipeline import tokenize_documents, train_tokenizer
from pipeline.documents import DOMAINS
from storage.artifact import Manifest, read_verified
from storage.store import Store
from tests.pipeline.small_artifacts import Row, write_inputs

TEXT_BYTES_PER_DOMAIN = 3_000_000
VOCAB_SIZE, SAMPLE_BYTES = 8192, 4_000_000
ASKED_RATIO = 1.0
TURNS = 6


def rows_of(corpus: Path, seed: int) -> list[Row]:
    """About as many bytes of each domain; the seed gives which."""
    rows = []
    for domain in DOMAINS:
        lines, size_bytes = list(texts_of(corpus, domain)), 0
        for n in range(len(lines)):
            text = json.loads(lines[(n + seed * 7919) % len(lines)])["text"].encode("utf-8", "replace").decode()
            rows.append(Row(f"{domain} {n}", text, source=domain, domain=domain))
            size_bytes += len(text.encode())
            if size_bytes >= TEXT_BYTES_PER_DOMAIN:
                break
    return rows


def measure(corpus: Path, seed: int, folder: Path) -> dict[str, Any]:
    """Bytes of text, and for each side its CPU seconds and tokens."""
    from datatrove.data import Document
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.utils.logging import logger

    logger.remove()
    rows, prepared = rows_of(corpus, seed), Store(str(folder / "prepared"))
    inputs = write_inputs(prepared, rows, partitions=1)
    shares = dict.fromkeys(DOMAINS, 1 / len(DOMAINS))
    learnt = train_tokenizer.Config(vocab_size=VOCAB_SIZE, shares=shares, sample_bytes=SAMPLE_BYTES)
    inputs["tokenizer"] = train_tokenizer.run(store=prepared, config=learnt, inputs=inputs)
    (folder / "tokenizer.json").write_bytes(read_verified(prepared, inputs["tokenizer"], "tokenizer.json"))
    attempts, documents = count(), [Document(text=row.text, id=row.id.hex()) for row in rows]

    def ours() -> int:
        made: Manifest = tokenize_documents.run(store=prepared, config=tokenize_documents.Config(), inputs=inputs)
        prepared.remove_tree(made.root)
        return made.counts["tokens"]

    def theirs() -> int:
        output = str(folder / f"datatrove-{next(attempts)}")
        step = DocumentTokenizer(output, str(folder / "tokenizer.json"), eos_token=train_tokenizer.EOS)
        step.run(iter(documents), 0, 1)
        return int(step.stats["tokens"].total)

    sides: dict[str, Callable[[], int]] = {"ours": ours, "theirs": theirs}
    seconds, tokens = dict.fromkeys(sides, float("inf")), dict[str, int]()
    for turn in range(TURNS):
        for name in sorted(sides, reverse=turn % 2 == 1):
            started = time.process_time()
            tokens[name] = sides[name]()
            seconds[name] = min(seconds[name], time.process_time() - started)
    size_bytes = sum(len(row.text.encode()) for row in rows)
    return {"documents": len(rows), "size_bytes": size_bytes, "seconds": seconds, "tokens": tokens}


def figures(corpus: Path, seed: int) -> list[Figure]:
    """Megabytes of text per CPU second."""
    with tempfile.TemporaryDirectory(prefix="caravan-bench-") as folder:
        command = [sys.executable, "-m", "benchmarks.bench_tokenize", str(corpus), str(seed), folder]
        environment = {**os.environ, "RAYON_NUM_THREADS": "1"}  # counts when the tokenizer is imported
        done = subprocess.run(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    seconds, tokens, megabytes = found["seconds"], found["tokens"], found["size_bytes"] / 1e6
    figure = Figure(
        name="tokenize and write shards",
        unit="MB/s/core",
        ours=megabytes / seconds["ours"],
        peer=megabytes / seconds["theirs"],
        peer_name="DocumentTokenizer",
        asked=ASKED_RATIO,
        note=(
            f"{found['documents']} documents, {megabytes:.1f} MB; ours {seconds['ours']:.2f} s CPU, {tokens['ours']:,} tokens with a BOS "
            f"each; datatrove {seconds['theirs']:.2f} s, {tokens['theirs']:,}"
        ),
    )
    return [figure]


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))))
