"""The steps of the near-duplicate search, as work on groups: bands, candidates, shingles of candidates, verification.

    bands       per document partition: signatures of the smallest id of every exact group, their band keys sent to partitions of keys
    candidates  per partition of band keys: pairs to compare, sent to the partition of the smaller id (the pair's home)
    shingles    per document partition: the shingle sets of documents in any pair, sent to the homes of their pairs
    verify      per home: exact Jaccard of each distinct pair; edges of those at or above the threshold

Memory of `verify`: the shingle sets of one partition's smaller ids and of what one partition sends it, never all partners at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.dedup.candidates import BAND, bucket_pairs
from pipeline.dedup.clusters import EDGE, NEAR_EDGE, lookup
from pipeline.dedup.exact import split_hash, text_key
from pipeline.dedup.minhash import U32, MinHashConfig, band_keys, shingle_sets, signatures, similarities
from pipeline.dedup.shuffle import (
    U64,
    Records,
    Sections,
    key_section,
    read_records,
    read_section,
    records,
    sort_records,
    split_ids,
    starts_of,
    unique_records,
    write_records,
    write_sections,
)
from pipeline.documents import document_pieces, read_documents
from pipeline.partitions import Output
from storage.artifact import Manifest
from storage.store import Store

REQUEST = np.dtype([("hi", "<u8"), ("lo", "<u8"), ("home", "<u8")])  # a document and the partition that needs its shingles


@dataclass(frozen=True)
class Near:
    """What every group of the search is bound to. `partitions` is the number of document partitions, and of key partitions."""

    store: Store
    sources: Mapping[str, Manifest]
    config: MinHashConfig
    partitions: int
    split_key: str
    held_out_fraction: float


def bands(near: Near, group: tuple[int, tuple[Sections, ...]], output: Output) -> None:
    """Band keys of the documents of partition `group[0]` that are the smallest of their exact group (`group[1]`: the other members)."""
    part, exact = group
    members = sort_records(read_records(near.store, exact, part, EDGE), "hi", "lo")
    found = [np.empty(0, BAND)]
    for documents in near.sources.values():
        high, low = split_ids(read_documents(near.store, documents, part, ["id"]).column("id"))
        is_first = lookup(members["hi"], members["lo"], high, low) < 0
        first, texts = np.flatnonzero(is_first), _texts(near, documents, part, is_first)
        signature, filled, held_out = map(np.concatenate, zip(*(_sketches(near, some) for some in texts), strict=True))
        keys = band_keys(signature[filled], near.config)
        documents_of = np.repeat(first[filled], near.config.bands)
        follows = np.roll(keys, -1, axis=1)
        sides = np.repeat(held_out[filled], near.config.bands)
        found.append(records(BAND, key=keys.ravel(), next=follows.ravel(), hi=high[documents_of], lo=low[documents_of], held_out=sides))
        output.counts["minhash_documents"] += int(filled.sum())
        output.counts["minhash_without_words"] += int(len(first) - filled.sum())
    table_of_bands = np.concatenate(found)
    write_records(output, "bands", part, table_of_bands, key_section(table_of_bands["key"], near.partitions), near.partitions)


def _sketches(near: Near, texts: list[str]) -> tuple[U32, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Signatures of texts, which of them have one, and which are held out."""
    sides = [split_hash(text_key(text), near.split_key) < near.held_out_fraction for text in texts]
    return *signatures(texts, near.config), np.array(sides, np.bool_)


def candidates(near: Near, group: tuple[int, tuple[Sections, ...]], output: Output) -> None:
    """Pairs of documents that share a bucket of key partition `group[0]`, and who has to send shingles where."""
    part, files = group
    first, second, too_large = bucket_pairs(read_records(near.store, files, part, BAND), near.config.full_bucket)
    sides = {"held_out": first["held_out"], "to_held_out": second["held_out"]}
    pairs = records(NEAR_EDGE, hi=first["hi"], lo=first["lo"], to_hi=second["hi"], to_lo=second["lo"], **sides)
    pairs = unique_records(pairs, "hi", "lo", "to_hi", "to_lo")
    home = key_section(pairs["hi"], near.partitions)
    requests = np.concatenate(
        (records(REQUEST, hi=pairs["hi"], lo=pairs["lo"], home=home), records(REQUEST, hi=pairs["to_hi"], lo=pairs["to_lo"], home=home))
    )
    requests = unique_records(requests, "hi", "lo", "home")
    write_records(output, "pairs", part, pairs, home, near.partitions)
    write_records(output, "requests", part, requests, key_section(requests["hi"], near.partitions), near.partitions)
    output.counts["near_buckets_too_large"] += too_large


def send_shingles(near: Near, group: tuple[int, tuple[Sections, ...]], output: Output) -> None:
    """Shingle sets of the requested documents of partition `group[0]`, a section for each home that asked."""
    part, files = group
    requests = unique_records(read_records(near.store, files, part, REQUEST), "home", "hi", "lo")
    high, low, sets = shingle_sets_of(near, part, requests)
    order = lookup(high, low, requests["hi"], requests["lo"])
    assert (order >= 0).all(), "a pair names a document that its partition does not hold"
    limits = np.searchsorted(requests["home"], np.arange(near.partitions + 1))
    sections = (_pack(high, low, sets, order[limits[k] : limits[k + 1]]) for k in range(near.partitions))
    write_sections(output, "shingles", part, sections)


def shingle_sets_of(near: Near, part: int, requests: Records) -> tuple[U64, U64, list[U64]]:
    """The ids (`hi`, `lo`) of `requests`, all of partition `part`, sorted, and their shingle sets."""
    wanted = unique_records(requests, "hi", "lo")
    found: list[tuple[int, int, U64]] = []
    for documents in near.sources.values():
        high, low = split_ids(read_documents(near.store, documents, part, ["id"]).column("id"))
        is_wanted = lookup(wanted["hi"], wanted["lo"], high, low) >= 0
        rows, texts = np.flatnonzero(is_wanted), _texts(near, documents, part, is_wanted)
        sets = [each for some in texts for each in shingle_sets(some, near.config.ngram_words)]
        found += zip(high[rows].tolist(), low[rows].tolist(), sets, strict=True)
    found.sort(key=lambda item: item[:2])
    highs, lows = (np.array([item[k] for item in found], np.uint64) for k in (0, 1))
    return highs, lows, [item[2] for item in found]


def _texts(near: Near, documents: Manifest, part: int, wanted: npt.NDArray[np.bool_]) -> Iterator[list[str]]:
    """The texts of the rows `wanted` of partition `part`, in pieces: one at least."""
    for piece in document_pieces(near.store, documents, part, ["text"], pa.chunked_array([pa.array(wanted)])):
        yield piece["text"].to_pylist()


def _pack(high: U64, low: U64, sets: Sequence[U64], chosen: Iterable[np.int64]) -> Iterable[bytes | memoryview]:
    """A section: the number of documents, (id, number of shingles) of each, their shingles."""
    rows = [int(i) for i in chosen]
    yield np.array([len(rows)], "<u8").tobytes()
    yield np.array([(high[i], low[i], len(sets[i])) for i in rows], "<u8").tobytes()
    for i in rows:
        yield sets[i].astype("<u8", copy=False).tobytes()


def _unpack(data: bytes) -> tuple[U64, U64, list[U64]]:
    values = np.frombuffer(data, "<u8")
    count = int(values[0])
    head = values[1 : 1 + 3 * count].reshape(count, 3)
    limits = np.cumsum(head[:, 2].astype(np.int64))[:-1]
    sets = np.split(values[1 + 3 * count :], limits) if count else []
    return head[:, 0].copy(), head[:, 1].copy(), sets


def verify(near: Near, group: tuple[int, tuple[Sections, ...], tuple[Sections, ...]], output: Output) -> None:
    """Edges between the pairs whose home is partition `group[0]`, of exact Jaccard >= `min_jaccard`; `group[1]` pairs, `group[2]`
    shingles."""
    home, pair_files, shingle_files = group
    pairs = unique_records(read_records(near.store, pair_files, home, NEAR_EDGE), "hi", "lo", "to_hi", "to_lo")
    kept = np.zeros(len(pairs), np.bool_)
    high, low, sets = _unpack(read_section(near.store, shingle_files[home], home))
    hub = lookup(high, low, pairs["hi"], pairs["lo"])
    partner_part = key_section(pairs["to_hi"], near.partitions)
    for part in np.unique(partner_part).tolist():
        to_high, to_low, to_sets = (high, low, sets) if part == home else _unpack(read_section(near.store, shingle_files[part], home))
        rows = np.flatnonzero(partner_part == part)
        partner = lookup(to_high, to_low, pairs["to_hi"][rows], pairs["to_lo"][rows])
        starts = np.flatnonzero(starts_of(pairs[rows], "hi", "lo"))
        for start, end in zip(starts.tolist(), [*starts.tolist()[1:], len(rows)], strict=True):
            others = [to_sets[i] for i in partner[start:end].tolist()]
            least = near.config.min_jaccard
            kept[rows[start:end]] = similarities(sets[int(hub[rows[start]])], others, least) >= least
    write_sections(output, "near_edges", home, [[pairs[kept].tobytes()]])
    output.counts["near_candidates"] += len(pairs)
    output.counts["near_verified"] += int(kept.sum())
