"""Documents written by hand or drawn at random, and what deduplication must say of them, computed the slow and obvious way."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.dedup.exact import text_key
from pipeline.dedup.minhash import band_keys, signatures
from pipeline.dedup.stage import Config
from pipeline.dedup.url import normalize_url
from pipeline.documents import DOCUMENTS, document_id, keyed_fraction, part_name, partition_of
from pipeline.words import normalized_words
from storage.artifact import Attempt, FileEntry, Manifest, fingerprint_of
from storage.store import Store
from storage.tables import read_table, write_table


@dataclass(frozen=True)
class Page:
    """One document."""

    key: str
    text: str
    url: str | None = None
    source: str = "web"
    language: str = "en"

    @property
    def id(self) -> bytes:
        """Its id."""
        return document_id(self.source, self.key)


def config(**changes: Any) -> Config:
    """A complete configuration for the sources `web` and `books`, changed as asked."""
    return Config(
        **{"url_dedup": {"web": True, "books": False}, "line_dedup": {"web": True, "books": False}, "held_out_fraction": 0.2, **changes}
    )


def write_documents(store: Store, pages: Sequence[Page], partitions: int) -> dict[str, Manifest]:
    """`documents.web` and `documents.books`, as ingest leaves them."""
    return {
        f"documents.{source}": _write(store, [p for p in pages if p.source == source], source, partitions) for source in ("web", "books")
    }


def _write(store: Store, pages: Sequence[Page], source: str, partitions: int) -> Manifest:
    payload = {"name": f"{source}-{random.getrandbits(64):x}"}
    attempt, entries = Attempt(store, "documents", fingerprint_of(payload)), list[FileEntry]()
    rows = sorted(pages, key=lambda page: page.id)
    for part in range(partitions):
        mine = [
            {"id": p.id, "text": p.text, "url": p.url, "source": source, "language": p.language, "language_probability": 1.0}
            for p in rows
            if partition_of(p.id, partitions) == part
        ]
        write_table(attempt, part_name(part), pa.Table.from_pylist(mine, DOCUMENTS), entries)
    return attempt.publish(payload, entries, counts={}, info={})


def read_rows(store: Store, dedup: Manifest, folder: str = "") -> dict[bytes, dict[str, Any]]:
    """All rows of the clusters tables (or, with "spans/", of the spans tables) by id."""
    names = [name for name in dedup.names(folder) if name.startswith("spans/") == (folder == "spans/") and not name.startswith("near/")]
    return {row["id"]: row for name in names for row in read_table(store, dedup, name).to_pylist()}


WORDS = [f"{first}{last}" for first in ("river", "stone", "light", "cloud", "paper", "garden") for last in ("", "s", "ing")]


def random_pages(seed: int, documents: int) -> list[Page]:
    """Random texts, near copies, exact copies and shared URLs, in both sources."""
    rng = random.Random(seed)
    pages: list[Page] = []
    for n in range(documents):
        old = rng.choice(pages) if pages else None
        kind = rng.random()
        text = " ".join(rng.choices(WORDS, k=rng.choice([0, 3, 6, 40, 120])))
        if old and kind < 0.2:
            text = old.text
        elif old and kind < 0.6:
            words = old.text.split()
            for _ in range(rng.choice([1, 2, 3, 8])):
                if words:
                    words[rng.randrange(len(words))] = rng.choice(WORDS)
            text = " ".join(words)
        url = f"http://example.org/{rng.randrange(documents)}" if rng.random() < 0.5 else None
        pages.append(Page(str(n), text, url, rng.choice(["web", "web", "books"])))
    return pages


def shingles(text: str, n: int) -> set[tuple[str, ...]]:
    """The set of word n-grams; all words where there are fewer."""
    words = normalized_words(text)
    return {tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))} if words else set()


def brute_force(pages: Sequence[Page], config: Config) -> dict[bytes, dict[str, Any]]:
    """The rows of the clusters tables, from all pairs of documents and sets of n-grams as tuples of strings."""
    by_id = {page.id: page for page in pages}
    ids = sorted(by_id)
    exact = _smallest(ids, [(a, b) for a, b in combinations(ids, 2) if by_id[a].text == by_id[b].text])
    urls = {i: normalize_url(by_id[i].url or "", config.url) for i in ids if config.url_dedup[by_id[i].source]}
    url_edges = [(a, b) for a, b in combinations(ids, 2) if urls.get(a) is not None and urls.get(a) == urls.get(b)]
    pairs = near_pairs([by_id[i] for i in ids if exact[i] == i], config)
    near_edges = pairs + [(i, exact[i]) for i in ids]
    places = {i: keyed_fraction(config.split_key, text_key(by_id[i].text)) for i in ids}
    held_out = {i for i in ids if places[i] < config.held_out_fraction}
    beside = {a for pair in pairs for a, b in (pair, pair[::-1]) if a in held_out and b not in held_out}
    urls_that_train = {urls[i] for i in urls if i not in held_out and urls[i] is not None}

    def twin(i: bytes) -> str | None:
        if i in held_out and urls.get(i) in urls_that_train:
            return "url"
        return "near" if exact[i] in beside else None

    near, cluster, url = _smallest(ids, near_edges), _smallest(ids, near_edges + url_edges), _smallest(ids, url_edges)
    return {
        i: {
            "id": i,
            "cluster_id": cluster[i],
            "exact_id": exact[i],
            "url_id": url[i] if urls.get(i) is not None else None,
            "near_id": near[i],
            "split": "held_out" if i in held_out else "train",
            "split_hash": places[i],
            "twin": twin(i),
        }
        for i in ids
    }


def near_pairs(pages: Sequence[Page], config: Config) -> list[tuple[bytes, bytes]]:
    """Pairs that agree on a band and whose exact Jaccard is at least the threshold."""
    signature, _ = signatures([page.text for page in pages], config.minhash)
    keys = band_keys(signature, config.minhash)
    sets = [shingles(page.text, config.minhash.ngram_words) for page in pages]
    pairs = combinations(range(len(pages)), 2)
    alike = [(a, b) for a, b in pairs if sets[a] and sets[b] and (keys[a] == keys[b]).any()]
    kept = [(a, b) for a, b in alike if len(sets[a] & sets[b]) / len(sets[a] | sets[b]) >= config.minhash.min_jaccard]
    return [(pages[a].id, pages[b].id) for a, b in kept]


def _smallest(ids: Sequence[bytes], edges: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The smallest id of each component, by painting until nothing changes."""
    found = {i: i for i in ids}
    changed = True
    while changed:
        changed = False
        for a, b in edges:
            low = min(found[a], found[b])
            changed |= found[a] != low or found[b] != low
            found[a] = found[b] = low
    return found


def recut(pages: Sequence[Page], seed: int) -> list[Page]:
    """The same pages in another order."""
    shuffled = [replace(page) for page in pages]
    random.Random(seed).shuffle(shuffled)
    return shuffled


def brute_signature(text: str, num_perm: int, seed: int, ngram_words: int) -> np.ndarray[Any, Any]:
    """datasketch's own signature of a text, from the hashes of `pipeline.words`."""
    from datasketch import MinHash  # type: ignore[import-untyped]  # it ships no types

    from pipeline.words import ngram_hash

    sketch = MinHash(num_perm=num_perm, seed=seed, hashfunc=lambda gram: ngram_hash(gram) >> 32, scheme="affine32")
    for gram in shingles(text, ngram_words):
        sketch.update(gram)
    values: np.ndarray[Any, Any] = sketch.hashvalues
    return values
