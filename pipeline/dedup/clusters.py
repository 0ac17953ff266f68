"""From edges to clusters: connected components, each named by its smallest id. RULE 13.

The one step of deduplication that sees all edges at once. Its memory is bounded by the number of duplicates, not of documents: a
document without an edge is not in it. About 100 bytes an edge: ten million duplicates take a gigabyte.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.dedup.shuffle import U64, Records, records, unique_records

EDGE = np.dtype(
    [("hi", "<u8"), ("lo", "<u8"), ("to_hi", "<u8"), ("to_lo", "<u8")]
)  # two documents; in a group: a member and its smallest id
NEAR_EDGE = np.dtype([*EDGE.descr, ("held_out", "u1"), ("to_held_out", "u1")])  # two near duplicates, and which of them are held out
COMPONENT = np.dtype(
    [
        *[
            (name, "<u8") for name in ("hi", "lo", "cluster_hi", "cluster_lo", "near_hi", "near_lo")
        ],  # a document, its cluster_id and near_id
        ("has_near", "u1"),  # whether it is an end of a near edge
        ("near_training", "u1"),  # whether its text is held out and has a near edge to one that is not
    ]
)
_ID = np.dtype([("hi", "<u8"), ("lo", "<u8")])


def components(exact: Records, url: Records, near: Records) -> Records:
    """The component of every document that has an edge: dtype COMPONENT, sorted by id.

    `near_*` is the smallest id over exact and near edges, `cluster_*` over all three kinds. `exact` and `url` are of dtype EDGE; `near`, of
    NEAR_EDGE, joins smallest members of exact groups. Edges come in any order; an exact one goes from a member to the smallest.
    """
    edges = np.concatenate((exact, plain_edges(near), url))
    ends = np.concatenate((records(_ID, hi=edges["hi"], lo=edges["lo"]), records(_ID, hi=edges["to_hi"], lo=edges["to_lo"])))
    nodes = unique_records(ends, "hi", "lo")
    where = positions(nodes["hi"], nodes["lo"], ends["hi"], ends["lo"])
    tail, head = where[: len(edges)], where[len(edges) :]
    near_edges = len(exact) + len(near)
    near_root = _smallest(len(nodes), tail[:near_edges], head[:near_edges])
    cluster_root = _smallest(len(nodes), tail, head)
    has_near, near_training = np.zeros(len(nodes), np.uint8), np.zeros(len(nodes), np.uint8)
    for ends_of_near, here, there in (
        (tail[len(exact) : near_edges], near["held_out"], near["to_held_out"]),
        (head[len(exact) : near_edges], near["to_held_out"], near["held_out"]),
    ):
        has_near[ends_of_near] = 1
        near_training[ends_of_near[(here == 1) & (there == 0)]] = 1
    near_training[tail[: len(exact)]] = near_training[head[: len(exact)]]  # copies of one text are on one side
    return records(
        COMPONENT,
        hi=nodes["hi"],
        lo=nodes["lo"],
        cluster_hi=nodes["hi"][cluster_root],
        cluster_lo=nodes["lo"][cluster_root],
        near_hi=nodes["hi"][near_root],
        near_lo=nodes["lo"][near_root],
        has_near=has_near,
        near_training=near_training,
    )


def plain_edges(near: Records) -> Records:
    """Edges of dtype NEAR_EDGE as EDGE."""
    return records(EDGE, **{name: near[name] for name in ("hi", "lo", "to_hi", "to_lo")})


def _smallest(nodes: int, tail: npt.NDArray[np.int64], head: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For each node the smallest node of its component; nodes are numbered in the order of ids.

    Each round joins every root to the smallest root beside it and shortens all paths; edges inside one component are dropped. Pointers go
    to smaller nodes only, so there is no cycle, and what remains at the end is the smallest of each component.
    """
    root = np.arange(nodes)
    while True:
        a, b = root[tail], root[head]
        apart = a != b
        if not apart.any():
            return root
        tail, head, a, b = tail[apart], head[apart], a[apart], b[apart]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(root, shorter := root[root]):
            root = shorter


def positions(sorted_high: U64, sorted_low: U64, high: U64, low: U64) -> npt.NDArray[np.int64]:
    """Where each 128-bit value lies in a sorted array of distinct ones; every value must be in it."""
    found = lookup(sorted_high, sorted_low, high, low)
    assert (found >= 0).all(), "an id is missing from the array that was made of all ids"
    return found


def lookup(sorted_high: U64, sorted_low: U64, high: U64, low: U64) -> npt.NDArray[np.int64]:
    """Where each 128-bit value lies in a sorted array of distinct ones, or -1. int64 [values]."""
    count = len(sorted_high)
    both = np.concatenate((np.stack((sorted_high, sorted_low)), np.stack((high, low))), axis=1)
    kind = np.concatenate((np.zeros(count, np.int8), np.ones(len(high), np.int8)))
    order = np.lexsort((kind, both[1], both[0]))
    # After the sort each value comes behind the array's element that it equals, if there is one: the last element at or before it.
    last = np.cumsum(kind[order] == 0) - 1
    found = np.empty(len(order), np.int64)
    found[order] = last
    found = found[count:]
    if count == 0:
        return np.full(len(high), -1, np.int64)
    hit = (found >= 0) & (sorted_high[found] == high) & (sorted_low[found] == low)
    return np.where(hit, found, -1)
