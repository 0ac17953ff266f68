"""The data path of a run on a sample of a corpus, with a meter in place of the orchestrator: what the data benchmarks share.

The graph, the walk over it and the stages' code are those of a run (`flows/data_to_checkpoint.py`); only who runs the groups differs.
"""

from __future__ import annotations

import gzip
import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.raw_records import lines_of, warc_records
from flows.data_to_checkpoint import data_to_checkpoint
from flows.graph.runs import Run
from flows.graph.walk import Asked, Job, Sources, StageName, Walk
from flows.recipe.recipe import Recipe
from pipeline.documents import DOMAINS
from pipeline.snapshot import snapshot
from storage.artifact import Manifest
from storage.store import Store

PROJECT = Path(__file__).resolve().parents[1]
EXAMPLES = PROJECT / "examples" / "corpus"
SMALL = 0.1  # a WARC of less than this part of the largest is a test case, not a crawl
LABEL_LINES = 10  # documents of each domain, where they only teach the domain classifier

FILE_BYTES = 16 << 20

MakeJobs = Callable[[Sequence[Job]], list[Manifest]]


@dataclass(frozen=True)
class Sample:
    """How much of a corpus is taken: every `step`-th WARC record and line from `first` on, up to `records` and `lines` (None: all)."""

    seed: int
    step: int = 1
    records: int | None = None
    lines: int | None = None


def warcs_of(corpus: Path, seed: int) -> list[Path]:
    """The crawl's WARC files in an order that the seed gives. Exits when there are none."""
    found = sorted(corpus.rglob("*.warc.gz"))
    if not found:
        raise SystemExit(f"{corpus} holds no .warc.gz")
    least = SMALL * max(path.stat().st_size for path in found)
    chosen = [path for path in found if path.stat().st_size >= least]
    random.Random(seed).shuffle(chosen)
    return chosen


def texts_of(corpus: Path, domain: str) -> Iterator[bytes]:
    """Lines of the JSONL files of a domain's folder that hold a `text`; of the sample corpus where `corpus` has no such folder."""
    folder = corpus / domain if any((corpus / domain).rglob("*.jsonl*")) else EXAMPLES / domain
    for path in sorted(folder.rglob("*.jsonl*")):
        for line in lines_of(path):
            text = json.loads(line).get("text")
            if isinstance(text, str) and text.strip():
                yield line


def write_raw(corpus: Path, folder: Path, sample: Sample, file_bytes: int = FILE_BYTES) -> int:
    """Write the sample as `web/*.warc.gz` and `<domain>/*.jsonl.gz` of about `file_bytes` before compression under `folder`; returns
    the number of WARC records."""
    every = (record for path in warcs_of(corpus, sample.seed) for record in warc_records(path))
    records = _write_files(_some(every, sample.step, sample.records), folder / "web", "warc.gz", file_bytes)
    for domain in DOMAINS:
        lines = _some(texts_of(corpus, domain), sample.step, sample.lines)
        _write_files((line + b"\n" for line in lines), folder / domain, "jsonl.gz", file_bytes)
    return records


def _some(items: Iterator[bytes], step: int, limit: int | None) -> Iterator[bytes]:
    return itertools.islice(itertools.islice(items, 0, None, step), limit)


def _write_files(items: Iterator[bytes], folder: Path, suffix: str, file_bytes: int) -> int:
    """Write a gzip member for each item, in files of about `file_bytes` before compression; returns the number of items."""
    folder.mkdir(parents=True)
    items, written = iter(items), 0
    for n, first in enumerate(items):
        with (folder / f"{n:05d}.{suffix}").open("wb") as file:
            size_bytes = 0
            for item in itertools.chain([first], items):
                file.write(gzip.compress(item, 1, mtime=0))
                size_bytes += len(item)
                written += 1
                if size_bytes >= file_bytes:
                    break
    return written


def recipe_of(partitions: int, web: Mapping[str, Any], thresholds: Mapping[str, Any]) -> Recipe:
    """The test recipe on the files of `write_raw`: the fields `web` for its web source, `thresholds` for every text class."""
    raw: dict[str, Any] = yaml.safe_load((PROJECT / "flows" / "recipes" / "test.yaml").read_text())
    domains = [
        {"name": domain, "format": "jsonl", "path": f"{domain}/*.jsonl.gz", "domain": domain, "max_bad_fraction": 1} for domain in DOMAINS
    ]
    shares = dict.fromkeys(DOMAINS, 1 / len(DOMAINS))
    raw |= {
        "name": "bench",
        "partitions": partitions,
        "sources": [{"name": "web", "format": "warc", "path": "web/*.warc.gz", "max_bad_fraction": 1, **web}, *domains],
        "dedup": {"held_out_fraction": 0.02},
        "quality": {},
        "domains": {"labels": {domain: domain for domain in DOMAINS}},
        "select": {"thresholds": {name: dict(thresholds) for name in ("web", *DOMAINS)}},
        "tokenizer": {"vocab_size": 4096, "sample_bytes": 4_000_000, "shares": shares},
        "model": {**raw["model"], "vocab_size": 4096},
        "pretrain": {**raw["pretrain"], "shares": shares},
        "anneal": {**raw["anneal"], "shares": shares},
    }
    return Recipe.model_validate(raw)


def run_path(recipe: Recipe, raw_root: Path, store: Store, last: StageName, make_jobs: MakeJobs) -> Run:
    """Walk the path up to `last`; `make_jobs` makes the artifacts of each stage but the snapshot."""
    raw = Store(str(raw_root))

    def perform(jobs: Sequence[Job]) -> list[Manifest]:
        if isinstance(jobs[0].config, Sources):
            return [snapshot(raw, store, jobs[0].config.sources)]
        return make_jobs(jobs)

    run = Run(store, recipe.name)
    data_to_checkpoint(recipe, Walk(store, raw, run, Asked(last=last), perform))
    return run
