"""Documents, clusters and the tables beside them, written by hand, for tests of quality, domains and select."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pyarrow as pa

from pipeline.dedup.exact import split_hash, text_key
from pipeline.dedup.near_sets import EDGES, SETS
from pipeline.documents import CLUSTERS, DOCUMENTS, DOMAIN_SCORES, DOMAINS, DROPPED, LINE_SPANS, document_id, part_name, partition_of
from pipeline.domains.thresholds import FILE as THRESHOLDS_FILE
from pipeline.quality.config import Config as QualityConfig
from pipeline.quality.score import Scorer, signals_schema
from storage.artifact import Attempt, FileEntry, Manifest, fingerprint_of
from storage.store import Store
from storage.tables import read_table, write_table

SPLIT_KEY = "held out"
MIN_JACCARD = 0.8


@dataclass(frozen=True)
class Doc:
    """One document and what the stages before select say of it. Equal texts are one exact group; `url` and `near` name groups.

    `shingles`: where near duplicates differ; without them those of one `near` are alike in all. `twin`: as dedup says of a held-out one.
    """

    key: str
    text: str
    source: str = "web"
    url: str | None = None
    near: str | None = None
    shingles: Sequence[int] = (1,)
    twin: str | None = None
    date: str | None = None
    language: str = "en"
    language_probability: float = 1.0
    lines: Sequence[tuple[int, int]] = ()
    domains: Mapping[str, float] | None = None  # None: no word is known
    quality_score: float | None = None
    left_out: str | None = None  # what extraction left out of the page; None: the page is not in the sample

    @property
    def id(self) -> bytes:
        """Its id."""
        return document_id(self.source, self.key)


def write_documents(store: Store, docs: Sequence[Doc], partitions: int) -> dict[str, Manifest]:
    """`documents.<source>` of every source, as ingest leaves them."""

    def row(doc: Doc) -> dict[str, Any]:
        names = ("id", "text", "url", "date", "source", "language", "language_probability")
        return {name: getattr(doc, name) for name in names}

    return {
        f"documents.{source}": _write(
            store, "documents", [doc for doc in docs if doc.source == source], partitions, DOCUMENTS, row, beside=False
        )
        for source in sorted({doc.source for doc in docs})
    }


def write_dropped(store: Store, docs: Sequence[Doc], partitions: int) -> dict[str, Manifest]:
    """`dropped.<source>` of every source that has pages whose left-out blocks are known, as ingest leaves them."""
    found = {}
    for source in sorted({doc.source for doc in docs if doc.left_out is not None}):
        rows = sorted((doc.id, doc.left_out) for doc in docs if doc.source == source and doc.left_out is not None)
        payload = {"name": _name("dropped", docs, source, partitions)}
        attempt, entries = Attempt(store, "dropped", fingerprint_of(payload)), list[FileEntry]()
        for part in range(partitions):
            mine = [{"id": name, "text": text} for name, text in rows if partition_of(name, partitions) == part]
            write_table(attempt, part_name(part), pa.Table.from_pylist(mine, schema=DROPPED), entries)
        found[f"dropped.{source}"] = attempt.publish(payload, entries, counts={}, info={})
    return found


def write_clusters(store: Store, docs: Sequence[Doc], partitions: int, held_out_fraction: float = 0.0) -> Manifest:
    """The tables of dedup: clusters over equal URLs, texts and `near` names, and line spans."""
    url = _groups(docs, lambda doc: doc.url)
    exact = _groups(docs, lambda doc: doc.text)
    near = _join(docs, [exact, _groups(docs, lambda doc: doc.near)])
    cluster = _join(docs, [exact, near, url])

    def row(doc: Doc) -> dict[str, Any]:
        place = split_hash(text_key(doc.text), SPLIT_KEY)
        side = {"split": "held_out" if place < held_out_fraction else "train", "split_hash": place, "twin": doc.twin}
        ids = {"cluster_id": cluster, "exact_id": exact, "near_id": near}
        found = {name: groups[doc.id] for name, groups in ids.items()}
        return {"id": doc.id, "url_id": url[doc.id] if doc.url else None, **side, **found}

    def spans(doc: Doc) -> dict[str, Any]:
        return {"id": doc.id, "lines": [{"start": start, "end": end} for start, end in doc.lines]}

    said = {"split_key": SPLIT_KEY, "held_out_fraction": held_out_fraction, "minhash": {"min_jaccard": MIN_JACCARD}}
    payload = {"name": _name("dedup", docs, held_out_fraction, partitions), "config": said}
    attempt, entries = Attempt(store, "dedup", fingerprint_of(payload)), list[FileEntry]()
    _parts(attempt, docs, partitions, CLUSTERS, row, entries, "")
    _parts(attempt, docs, partitions, LINE_SPANS, spans, entries, "spans/")
    _near_tables(attempt, docs, partitions, exact, near, entries)
    return attempt.publish(payload, entries, counts={}, info={})


def _near_tables(
    attempt: Attempt,
    docs: Sequence[Doc],
    partitions: int,
    exact: Mapping[bytes, bytes],
    near: Mapping[bytes, bytes],
    entries: list[FileEntry],
) -> None:
    """Shingles of the documents with a `near`, and an edge between all of them that are as like as MIN_JACCARD."""
    ends = sorted((doc for doc in docs if doc.near is not None and exact[doc.id] == doc.id), key=lambda doc: (near[doc.id], doc.id))
    sets: list[dict[str, Any]] = [{"near_id": near[doc.id], "id": doc.id, "shingles": sorted(doc.shingles)} for doc in ends]
    edges: list[dict[str, Any]] = [
        {"near_id": near[a.id], "id": a.id, "other_id": b.id}
        for a, b in combinations(ends, 2)
        if a.near == b.near and len({*a.shingles} & {*b.shingles}) / len({*a.shingles} | {*b.shingles}) >= MIN_JACCARD
    ]
    for part in range(partitions):
        for kind, rows, schema in (("sets", sets, SETS), ("edges", edges, EDGES)):
            mine = [row for row in rows if partition_of(row["near_id"], partitions) == part]
            write_table(attempt, f"near/{kind}/{part_name(part)}", pa.Table.from_pylist(mine, schema=schema), entries)


def write_quality(store: Store, docs: Sequence[Doc], partitions: int, config: QualityConfig | None = None) -> Manifest:
    """A quality artifact with real signals, but quality scores as the documents name them."""
    config = config or QualityConfig()

    def row(doc: Doc) -> dict[str, Any]:
        columns = {name: [getattr(doc, name)] for name in ("id", "text", "url", "language", "language_probability")}
        found: dict[str, Any] = (
            Scorer(config).table(pa.table(columns, schema=pa.schema([DOCUMENTS.field(name) for name in columns]))).to_pylist()[0]
        )
        return {**found, "quality_score": doc.quality_score}

    return _write(
        store, "quality", docs, partitions, signals_schema(config), row, beside=True, payload={"config": config.model_dump(mode="json")}
    )


def write_domains(store: Store, docs: Sequence[Doc], partitions: int, thresholds: Mapping[str, float] | None = None) -> Manifest:
    """A domains artifact with the probabilities that the documents name, and proposed thresholds."""

    def row(doc: Doc) -> dict[str, Any]:
        return {"id": doc.id} | {f"p_{domain}": None if doc.domains is None else doc.domains.get(domain, 0.0) for domain in DOMAINS}

    files = {} if thresholds is None else {THRESHOLDS_FILE: {domain: {"threshold": value} for domain, value in thresholds.items()}}
    return _write(store, "domains", docs, partitions, DOMAIN_SCORES, row, beside=True, files=files)


def write_inputs(
    store: Store,
    docs: Sequence[Doc],
    partitions: int = 4,
    held_out_fraction: float = 0.0,
    thresholds: Mapping[str, float] | None = None,
    quality: QualityConfig | None = None,
) -> dict[str, Manifest]:
    """All inputs of select."""
    return {
        **write_documents(store, docs, partitions),
        "clusters": write_clusters(store, docs, partitions, held_out_fraction),
        "quality": write_quality(store, docs, partitions, quality),
        "domains": write_domains(store, docs, partitions, thresholds),
    }


def rows_by_key(store: Store, manifest: Manifest, docs: Sequence[Doc]) -> dict[str, dict[str, Any]]:
    """Rows of a table beside the documents, by the documents' keys."""
    names = [name for name in manifest.names() if name.endswith(".parquet") and not name.startswith(("spans/", "near/"))]
    rows = {row["id"]: row for name in names for row in read_table(store, manifest, name).to_pylist()}
    assert len(rows) == len(docs)
    return {doc.key: rows[doc.id] for doc in docs}


def _write(
    store: Store,
    stage: str,
    docs: Sequence[Doc],
    partitions: int,
    schema: pa.Schema,
    row: Callable[[Doc], dict[str, Any]],
    *,
    beside: bool,
    payload: dict[str, Any] | None = None,
    files: Mapping[str, Any] | None = None,
) -> Manifest:
    payload = {"name": _name(stage, docs, partitions), **(payload or {})}
    attempt, entries = Attempt(store, stage, fingerprint_of(payload)), list[FileEntry]()
    _parts(attempt, docs, partitions, schema, row, entries, "" if beside else None)
    for name, value in (files or {}).items():
        with attempt.create(name, entries) as file:
            file.write(json.dumps(value).encode())
    return attempt.publish(payload, entries, counts={}, info={})


def _parts(
    attempt: Attempt,
    docs: Sequence[Doc],
    partitions: int,
    schema: pa.Schema,
    row: Callable[[Doc], dict[str, Any]],
    entries: list[FileEntry],
    prefix: str | None,
) -> None:
    """A file per partition, or per source and partition where there is a prefix."""
    ordered = sorted(docs, key=lambda doc: doc.id)
    for source in sorted({doc.source for doc in docs}) if prefix is not None else [None]:
        for part in range(partitions):
            mine = [row(doc) for doc in ordered if source in (None, doc.source) and partition_of(doc.id, partitions) == part]
            write_table(attempt, (prefix or "") + part_name(part, source), pa.Table.from_pylist(mine, schema=schema), entries)


def _name(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _groups(docs: Sequence[Doc], name: Callable[[Doc], str | None]) -> dict[bytes, bytes]:
    """For each id the smallest id with the same name; itself without one."""
    smallest = dict[str, bytes]()
    for doc in docs:
        if (found := name(doc)) is not None:
            smallest[found] = min(smallest.get(found, doc.id), doc.id)
    return {doc.id: smallest[found] if (found := name(doc)) is not None else doc.id for doc in docs}


def _join(docs: Sequence[Doc], groupings: Sequence[Mapping[bytes, bytes]]) -> dict[bytes, bytes]:
    """The smallest id of each connected component over several groupings."""
    found = {doc.id: doc.id for doc in docs}
    changed = True
    while changed:
        changed = False
        for grouping in groupings:
            smallest = dict[bytes, bytes]()
            for name, group in grouping.items():
                smallest[group] = min(smallest.get(group, found[name]), found[name])
            for name, group in grouping.items():
                if smallest[group] < found[name]:
                    found[name], changed = smallest[group], True
    return found
