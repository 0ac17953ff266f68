"""Documents, the schemas of the tables beside them, and `survivors()`, the only place that applies edits. RULES 1 to 5, 19.

A source's documents are one artifact of `part-%05d.parquet` files: partition p holds the documents whose id starts with the
bits of p, sorted by id. A table beside the documents of several sources has the files `<source>/part-%05d.parquet`, with the same rows.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from storage.artifact import Manifest, read_verified
from storage.errors import IntegrityError
from storage.store import Store
from storage.tables import ID, read_table, table_pieces

ID_BYTES = 16
DOMAINS = ("general", "math", "code", "multilingual")
TEXT_CLASSES = ("web", *DOMAINS)

DOCUMENTS = pa.schema(
    [
        pa.field("id", ID, nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("date", pa.string()),  # ISO 8601, UTC, to the second: 2024-03-01T12:00:00Z
        pa.field("source", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),  # BCP 47 tag (pipeline/language_tags.py), "und" where none is known
        pa.field("language_probability", pa.float32(), nullable=False),
        pa.field("license", pa.string()),
    ]
)
ORIGINS = pa.schema(
    [
        pa.field("id", ID, nullable=False),
        pa.field("file", pa.string(), nullable=False),  # relative to raw_root
        pa.field("offset", pa.int64(), nullable=False),  # bytes (compressed file: of the member or the uncompressed line); Parquet: row
        pa.field("row", pa.int64(), nullable=False),  # record number in its file, from 0
    ]
)
DROPPED = pa.schema(
    [
        pa.field("id", ID, nullable=False),
        pa.field("text", pa.large_string(), nullable=False),  # the blocks that extraction left out, apart by empty lines
    ]
)
QUARANTINE = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("offset", pa.int64()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("id", ID),
    ]
)
CLUSTERS = pa.schema(
    [
        pa.field("id", ID, nullable=False),
        pa.field("cluster_id", ID, nullable=False),  # smallest id of the component over url, exact and verified near edges
        pa.field("exact_id", ID, nullable=False),  # smallest id of the exact group
        pa.field("url_id", ID),  # smallest id of the group of one normalised URL; null: no URL, or URL deduplication is off
        pa.field("near_id", ID, nullable=False),  # smallest id of the component over exact and verified near edges
        pa.field("split", pa.string(), nullable=False),  # "train" or "held_out": whether split_hash is below held_out_fraction
        pa.field("split_hash", pa.float64(), nullable=False),  # keyed hash of the text, in [0, 1)
        pa.field("twin", pa.string()),  # held out, and shares its URL ("url") or nearly its text ("near") with one that is not
    ]
)
LINE_SPANS = pa.schema(
    [
        pa.field("id", ID, nullable=False),
        pa.field("lines", pa.list_(pa.struct([pa.field("start", pa.int32()), pa.field("end", pa.int32())]))),  # UTF-8 byte offsets
    ]
)
DOMAIN_SCORES = pa.schema(
    [pa.field("id", ID, nullable=False)] + [pa.field(f"p_{domain}", pa.float32()) for domain in DOMAINS]  # null: no word is known
)
EDIT = pa.struct([pa.field("start", pa.int32()), pa.field("end", pa.int32()), pa.field("replacement", pa.string())])
SELECTION = pa.schema(
    [
        pa.field("id", ID, nullable=False),
        pa.field("keep", pa.bool_(), nullable=False),
        pa.field("reason", pa.string()),  # the first reason to drop it
        pa.field("domain", pa.string(), nullable=False),
        pa.field("text_class", pa.string(), nullable=False),  # which thresholds held
        pa.field("component", pa.string()),  # null when dropped or held out
        pa.field("split", pa.string(), nullable=False),
        pa.field("edits", pa.list_(EDIT), nullable=False),  # merged, disjoint, ascending; UTF-8 byte offsets into the unedited text
        pa.field("duplicate_of", ID),  # dropped as url, exact or near: the document it lost to
        pa.field("similarity", pa.float32()),  # dropped as near: their Jaccard similarity; null where a verified edge alone decided
    ]
)


def document_id(source: str, key: str | bytes) -> bytes:
    """The 16-byte name of a document for ever: sha256 over (source name, record key), cut. RULE 1."""
    name, record = source.encode(), key.encode() if isinstance(key, str) else key
    return hashlib.sha256(len(name).to_bytes(4, "big") + name + record).digest()[:ID_BYTES]


def keyed_fraction(key: str, value: bytes) -> float:
    """A number in [0, 1) that depends on (key, value) alone: for splits and samples that nobody's order can change."""
    digest = hashlib.blake2b(value, digest_size=8, key=key.encode()[:64]).digest()
    return int.from_bytes(digest, "big") / 2.0**64


def partition_of(document: bytes, partitions: int) -> int:
    """The partition of an id: its leading log2(partitions) bits. `partitions` is a power of two up to 65,536."""
    return int.from_bytes(document[:2], "big") * partitions >> 16


def part_name(part: int, source: str | None = None) -> str:
    """The logical file name of a partition, under a source's folder where a table covers several sources."""
    name = f"part-{part:05d}.parquet"
    return name if source is None else f"{source}/{name}"


def read_documents(store: Store, documents: Manifest, part: int, columns: Sequence[str] | None = None) -> pa.Table:
    """Partition `part` of a source's documents, schema `DOCUMENTS`. Raises IntegrityError."""
    return read_table(store, documents, part_name(part), columns)


def document_pieces(
    store: Store, documents: Manifest, part: int, columns: Sequence[str], wanted: pa.ChunkedArray | None = None
) -> Iterator[pa.Table]:
    """The rows of `read_documents`, of those that `wanted` (bool, a row each) marks, in order and in small pieces.

    Memory holds the compressed partition and one piece of its text. Raises IntegrityError.
    """
    name, position = part_name(part), 0
    for piece in table_pieces(read_verified(store, documents, name), f"{documents.root}/{name}", columns):
        yield piece if wanted is None else piece.filter(wanted.slice(position, piece.num_rows))
        position += piece.num_rows


def texts_of(store: Store, documents: Manifest, part: int) -> Iterator[str]:
    """The texts of a partition, in order, a piece in memory at a time. Raises IntegrityError."""
    for piece in document_pieces(store, documents, part, ["text"]):
        yield from piece["text"].to_pylist()


def read_beside(
    store: Store, table: Manifest, source: str, part: int, ids: pa.ChunkedArray, columns: Sequence[str] | None = None
) -> pa.Table:
    """Partition `part` of the table beside `source`'s documents, its ids checked against the documents' `ids`. RULE 5.

    Raises IntegrityError when the rows are not the same documents in the same order.
    """
    found = read_table(store, table, part_name(part, source), None if columns is None else ["id", *columns])
    if not found.column("id").equals(ids):
        raise IntegrityError(f"{table.root}/{part_name(part, source)}", expected="the ids of the documents, in order", actual="other ids")
    return found


def sources_of(inputs: Mapping[str, Manifest]) -> dict[str, Manifest]:
    """The `documents.<source>` entries of a stage's inputs by source name, sorted."""
    prefix = "documents."
    return {name.removeprefix(prefix): inputs[name] for name in sorted(inputs) if name.startswith(prefix)}


def parts_of(documents: Manifest) -> int:
    """How many partitions a source's documents have."""
    return len(documents.files)


class Edit(NamedTuple):
    """Replace the UTF-8 bytes `start` to `end` of a text by `replacement`."""

    start: int
    end: int
    replacement: str


def apply_edits(text: str, edits: Sequence[Edit]) -> str:
    """The text with disjoint ascending edits applied. Offsets are UTF-8 bytes of the unedited text."""
    if not edits:
        return text
    data, pieces, position = text.encode(), list[bytes](), 0
    for edit in edits:
        assert position <= edit.start <= edit.end <= len(data), "edits must be disjoint, ascending and inside the text"
        pieces += [data[position : edit.start], edit.replacement.encode()]
        position = edit.end
    return b"".join([*pieces, data[position:]]).decode()


@dataclass(frozen=True)
class Survivor:
    """A document that was kept, with its edits applied. `component` is None when it is held out."""

    id: bytes
    text: str
    source: str
    domain: str
    component: str | None
    language: str


def survivors(store: Store, inputs: Mapping[str, Manifest], selection: Manifest, part: int, split: str) -> Iterator[Survivor]:
    """The kept documents of one split in partition `part`, of all sources, in id order, edits applied.

    Memory holds the selection of one partition, its compressed documents and a piece of their text. `inputs` holds `documents.<source>`.
    `split` is "train" or "held_out". Raises IntegrityError.
    """
    rows = [_survivors(store, documents, name, selection, part, split) for name, documents in sources_of(inputs).items()]
    yield from heapq.merge(*rows, key=lambda row: row.id)


def batched(rows: Iterable[Survivor], n_characters: int) -> Iterator[list[Survivor]]:
    """Rows in lists whose texts have at least `n_characters` together, but the last."""
    batch, characters = list[Survivor](), 0
    for row in rows:
        batch.append(row)
        characters += len(row.text)
        if characters >= n_characters:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _survivors(store: Store, documents: Manifest, source: str, selection: Manifest, part: int, split: str) -> Iterator[Survivor]:
    ids = read_documents(store, documents, part, ["id"]).column("id")
    chosen = read_beside(store, selection, source, part, ids, ["keep", "split", "domain", "component", "edits"])
    wanted = pc.and_(chosen.column("keep"), pc.equal(chosen.column("split"), split))
    kept, position = chosen.filter(wanted), 0
    for piece in document_pieces(store, documents, part, ["text", "language"], wanted):
        rows = kept.slice(position, piece.num_rows).to_pylist()
        position += piece.num_rows
        for row, text, language in zip(rows, *(piece.column(name).to_pylist() for name in ("text", "language")), strict=True):
            edited = apply_edits(text, [Edit(**edit) for edit in row["edits"]])
            yield Survivor(row["id"], edited, source, row["domain"], row["component"], language)
