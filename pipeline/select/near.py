"""Which near duplicates stay: greedily, by the similarity of a document with those that stay. RULE 30.

Edges between near duplicates make chains whose ends share no word, so a document does not go because it is in a component with another: in
the order of the policy (best first, ties by id) each stays unless its Jaccard similarity with one that stays is at least the threshold. So
every document that goes has one that stays and is as like it as was asked, and it names the most similar (of equals the first).

The similarity is exact, of the shingle sets that dedup publishes by near_id. A group costs its members times those that stay; once more
than `max_kept_compared` stay, the rest goes only by a verified edge to one of them, which is counted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dedup.minhash import U64, similarities
from pipeline.documents import part_name
from pipeline.select.config import Survivors
from pipeline.select.survivors import Lost, Member, best_first
from storage.artifact import Manifest, read_verified
from storage.store import Store
from storage.tables import ID, read_table, table_pieces

Edges = Mapping[bytes, Sequence[bytes]]


def drop_near(
    members: Iterable[Member], sets: Mapping[bytes, U64], edges: Edges, policies: Survivors, min_jaccard: float
) -> dict[bytes, Lost]:
    """Those of one near group that go, by id; held-out members are decided among themselves.

    `sets`: shingles by exact_id, of all that have a near edge; `edges`: by exact_id the others that it has a verified edge to, needed only
    where more than `max_kept_compared` stay. A `similarity` of None says that an edge alone decided.
    """
    dropped = dict[bytes, Lost]()
    for split in ("train", "held_out"):
        kept, kept_sets = list[Member](), list[U64]()
        by_text = dict[bytes, Member]()
        for member in best_first((member for member in members if member.split == split), policies.near):
            mine = sets.get(member.exact_id)
            if mine is None:
                continue  # no near edge: nothing is near it but its own copies
            lost: Lost | None = None
            if len(kept) > policies.max_kept_compared:
                known = [by_text[other] for other in edges.get(member.exact_id, ()) if other in by_text]
                lost = Lost("near", best_first(known, policies.near)[0].id) if known else None
            elif kept:
                found = similarities(mine, kept_sets, min_jaccard)
                nearest = int(np.argmax(found))
                lost = Lost("near", kept[nearest].id, float(found[nearest])) if found[nearest] >= min_jaccard else None
            if lost is not None:
                dropped[member.id] = lost
                continue
            by_text[member.exact_id] = member
            if len(kept) <= policies.max_kept_compared:
                kept.append(member)
                kept_sets.append(mine)
    return dropped


def shingles_by_group(store: Store, clusters: Manifest, part: int, wanted: frozenset[bytes]) -> Iterator[tuple[bytes, dict[bytes, U64]]]:
    """(near_id, shingles by exact_id) of every near group of partition `part`, ascending: of those exact groups that are `wanted`.

    Memory holds the file and the sets of one group. Raises IntegrityError.
    """
    name = f"near/sets/{part_name(part)}"
    current, sets = b"", dict[bytes, U64]()
    for piece in table_pieces(read_verified(store, clusters, name), f"{clusters.root}/{name}", ["near_id", "id", "shingles"]):
        lists = piece["shingles"].combine_chunks()
        values, offsets = lists.values.to_numpy(), lists.offsets.to_numpy()
        rows = zip(piece["near_id"].to_pylist(), piece["id"].to_pylist(), offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
        for near_id, exact_id, start, end in rows:
            if near_id != current:
                if sets:
                    yield current, sets
                current, sets = near_id, {}
            if exact_id in wanted:
                sets[exact_id] = values[start:end].copy()
    if sets:
        yield current, sets


def edges_of(store: Store, clusters: Manifest, part: int, near_ids: Collection[bytes]) -> dict[bytes, list[bytes]]:
    """The verified edges of those near groups of partition `part`, both ways. Raises IntegrityError."""
    found = dict[bytes, list[bytes]]()
    if near_ids:
        table = read_table(store, clusters, f"near/edges/{part_name(part)}")
        table = table.filter(pc.is_in(table["near_id"], value_set=pa.array(sorted(near_ids), ID)))
        for one, other in zip(table["id"].to_pylist(), table["other_id"].to_pylist(), strict=True):
            found.setdefault(one, []).append(other)
            found.setdefault(other, []).append(one)
    return found
