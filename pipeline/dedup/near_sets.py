"""What select needs to decide near duplicates exactly: shingle sets and verified edges, grouped by near_id. RULES 13, 30.

Writes, in partitions of the near_id:
    near/sets/part-%05d.parquet    schema SETS: of every exact group with a near edge the distinct shingles, by its smallest id
    near/edges/part-%05d.parquet   schema EDGES: the verified edges between them

Both are sorted, so that a reader streams one near group after the other. A shingle is a 64-bit hash (minhash.py), 8 bytes a word of text.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from pipeline.dedup.clusters import COMPONENT, lookup, plain_edges
from pipeline.dedup.near import Near, shingle_sets_of
from pipeline.dedup.shuffle import (
    U64,
    Records,
    Sections,
    join_ids,
    key_section,
    read_records,
    read_section,
    records,
    sort_records,
    write_records,
    write_sections,
)
from pipeline.documents import part_name
from pipeline.partitions import Output
from storage.tables import ID

SETS = pa.schema(
    [
        pa.field("near_id", ID, nullable=False),
        pa.field("id", ID, nullable=False),  # smallest id of the exact group
        pa.field("shingles", pa.large_list(pa.uint64()), nullable=False),  # distinct, ascending
    ]
)
EDGES = pa.schema([pa.field("near_id", ID, nullable=False), pa.field("id", ID, nullable=False), pa.field("other_id", ID, nullable=False)])
GROUPED_EDGE = np.dtype([(name, "<u8") for name in ("near_hi", "near_lo", "hi", "lo", "to_hi", "to_lo")])


def grouped_edges(near_edges: Records, found: Records) -> Records:
    """Edges (dtype NEAR_EDGE) with the near_id of both ends, from the components (dtype COMPONENT, sorted): dtype GROUPED_EDGE, sorted."""
    edges = plain_edges(near_edges)
    place = lookup(found["hi"], found["lo"], edges["hi"], edges["lo"])
    ends = {name: edges[name] for name in ("hi", "lo", "to_hi", "to_lo")}
    grouped = records(GROUPED_EDGE, near_hi=found["near_hi"][place], near_lo=found["near_lo"][place], **ends)
    return sort_records(grouped, "near_hi", "near_lo", "hi", "lo", "to_hi", "to_lo")


def send_sets(near: Near, group: tuple[int, tuple[Sections, ...]], output: Output) -> None:
    """Shingle sets of the documents of partition `group[0]` that have a near edge, a section for each partition of near_ids."""
    part, files = group
    found = read_records(near.store, files, part, COMPONENT)
    found = sort_records(found[found["has_near"] == 1], "near_hi", "near_lo", "hi", "lo")
    high, low, sets = shingle_sets_of(near, part, found)
    place = lookup(high, low, found["hi"], found["lo"])
    limits = np.searchsorted(key_section(found["near_hi"], near.partitions), np.arange(near.partitions + 1))
    sections = (_pack(found[limits[k] : limits[k + 1]], sets, place[limits[k] : limits[k + 1]]) for k in range(near.partitions))
    write_sections(output, "near_sets", part, sections)


def _pack(rows: Records, sets: list[U64], places: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Iterator[bytes | memoryview]:
    """A section: the number of documents, (near_id, id, number of shingles) of each, their shingles."""
    yield np.array([len(rows)], "<u8").tobytes()
    sizes = np.array([len(sets[i]) for i in places.tolist()], np.uint64)
    yield np.stack([rows["near_hi"], rows["near_lo"], rows["hi"], rows["lo"], sizes], axis=1).astype("<u8").tobytes()
    for i in places.tolist():
        yield sets[i].astype("<u8", copy=False).tobytes()


def group_sets(near: Near, group: tuple[int, tuple[Sections, ...], tuple[Sections, ...]], output: Output) -> None:
    """The two tables of partition `group[0]` of near_ids, from the sets (`group[1]`) and the edges (`group[2]`) sent to it."""
    part, set_files, edge_files = group
    heads, values = [np.empty((0, 5), np.uint64)], [np.empty(0, np.uint64)]
    for file in set_files:
        data = np.frombuffer(read_section(near.store, file, part), "<u8")
        count = int(data[0])
        heads.append(data[1 : 1 + 5 * count].reshape(count, 5))
        values.append(data[1 + 5 * count :])
    head, shingles = np.concatenate(heads), np.concatenate(values)
    order = np.lexsort((head[:, 3], head[:, 2], head[:, 1], head[:, 0]))
    offsets = np.concatenate(([0], np.cumsum(head[:, 4].astype(np.int64))))
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(shingles)).take(pa.array(order))
    columns = [join_ids(head[order, 0], head[order, 1]), join_ids(head[order, 2], head[order, 3]), lists]
    output.table(f"near/sets/{part_name(part)}", pa.table(columns, schema=SETS))
    edges = read_records(near.store, edge_files, part, GROUPED_EDGE)
    ids = [join_ids(edges[f"{name}hi"], edges[f"{name}lo"]) for name in ("near_", "", "to_")]
    output.table(f"near/edges/{part_name(part)}", pa.table(ids, schema=EDGES))


def write_grouped_edges(output: Output, near_edges: Records, found: Records, partitions: int) -> None:
    """Send the edges to the partitions of their near_ids."""
    grouped = grouped_edges(near_edges, found)
    write_records(output, "near_edges_grouped", 0, grouped, key_section(grouped["near_hi"], partitions), partitions)
