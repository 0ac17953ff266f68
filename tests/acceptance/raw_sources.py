"""A recipe for any folder of raw text: what the acceptances of text and of the held-out set run on.

`code/*.jsonl.gz` (text), `crawl/*.warc.gz` and `documents/*.jsonl.gz` (text, url, date), any of them; or the layout of ../shared/corpus.
"""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import yaml

from tests.acceptance.common import TEST_RECIPE

DOMAIN_OF_FOLDER = {"general": "general", "math": "math", "code": "code", "multilingual": "multilingual", "documents": "general"}


def sources_of_corpus(corpus: Path) -> list[dict[str, Any]]:
    """The sources of a folder, of either layout. Exits when there is none."""
    found: list[dict[str, Any]] = []
    for folder, domain in DOMAIN_OF_FOLDER.items():
        for path in sorted(corpus.glob(f"{folder}/*.jsonl.gz")):
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                fields = json.loads(next(lines, "{}"))
            plain = re.sub(r"[^a-z0-9_-]+", "-", path.name.removesuffix(".jsonl.gz").lower())
            name = f"{folder}-{len(found)}-{plain}"[:60]
            source = {"name": name, "format": "jsonl", "path": f"{folder}/{path.name}", "domain": domain}
            found.append(source | {f"{field}_field": field for field in ("id", "url", "date") if field in fields})
    for folder in ("crawl", "web-crawl"):
        if any(corpus.glob(f"{folder}/*.warc.gz")):
            found.append({"name": folder, "format": "warc", "path": f"{folder}/*.warc.gz"})
    if not found:
        raise SystemExit(f"{corpus}: no code/*.jsonl.gz, documents/*.jsonl.gz or crawl/*.warc.gz")
    return found


def recipe_of(corpus: Path, name: str, seed: int) -> dict[str, Any]:
    """The test recipe's small training on the sources of `corpus`, with a moderate selection."""
    raw: dict[str, Any] = yaml.safe_load(TEST_RECIPE.read_text())
    sources = sources_of_corpus(corpus)
    declared = {source["name"]: source["domain"] for source in sources if "domain" in source}
    if len(set(declared.values())) < 2:
        for source in sources:
            source.setdefault("domain", "general")  # nothing to learn the difference from
        declared = {}
    there = {source["domain"] for source in sources if "domain" in source}
    shares = {domain: 1 / len(there) for domain in sorted(there)}
    raw |= {"name": name, "seed": seed, "partitions": 4, "sources": sources}
    raw["dedup"] = {"held_out_fraction": 0.05, "split_key": f"held out {seed}"}
    raw |= {"quality": {}, "coverage": {}, "domains": {"labels": declared} if declared else {}}
    text_class = {"min_gopher_word_count": 30}
    raw["select"] = {"thresholds": {"web": {"min_gopher_word_count": 50, "min_gopher_stop_words": 2}, "general": text_class}}
    raw["tokenizer"] = {"vocab_size": 600, "sample_bytes": 1_000_000, "shares": shares}
    raw["pretrain"] |= {"shares": shares}
    raw["pretrain"]["schedule"]["phases"] = [{"seq_len": 32, "global_batch_size": 8}]
    del raw["extend_context"], raw["anneal"]
    return raw


def link_corpus(corpus: Path, raw_root: Path) -> Path:
    """A folder of links to what is in `corpus`, to which other raw files may be added."""
    raw_root.mkdir(parents=True, exist_ok=True)
    for inside in sorted(corpus.resolve().iterdir()):
        if not (raw_root / inside.name).exists():
            (raw_root / inside.name).symlink_to(inside)
    return raw_root
