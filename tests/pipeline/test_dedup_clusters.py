"""Which pairs are compared, and components."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dedup.candidates import BAND, bucket_pairs
from pipeline.dedup.clusters import EDGE, NEAR_EDGE, components, lookup
from pipeline.dedup.shuffle import Records, join_ids, records, split_bytes

KEYS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=24)


def _bands(keys: list[tuple[int, int]]) -> Records:
    rows = [(key, following, i % 5, i, 0) for i, (key, following) in enumerate(keys)]
    return np.array(rows, BAND)


def _compared(bands: Records, full_bucket: int) -> set[tuple[tuple[int, int], tuple[int, int]]]:
    first, second, _ = bucket_pairs(bands, full_bucket)
    return {((int(a["hi"]), int(a["lo"])), (int(b["hi"]), int(b["lo"]))) for a, b in zip(first, second, strict=True)}


@given(keys=KEYS)
def test_small_buckets_compare_every_pair(keys: list[tuple[int, int]]) -> None:
    """Up to full_bucket + 1 documents: all pairs of a bucket, the smaller id first, and no pair across buckets."""
    bands = _bands(keys)
    expected = {
        tuple(sorted(((int(a["hi"]), int(a["lo"])), (int(b["hi"]), int(b["lo"])))))
        for a, b in combinations(bands, 2)
        if a["key"] == b["key"]
    }
    assert _compared(bands, 24) == expected


@given(keys=KEYS, full_bucket=st.integers(1, 4), shuffle=st.randoms(use_true_random=False))
def test_large_buckets_grow_linearly_and_reach_everyone(keys: list[tuple[int, int]], full_bucket: int, shuffle: object) -> None:
    """At most 2 * full_bucket comparisons a document; every document meets the smallest of its bucket; order does not matter."""
    bands = _bands(keys)
    found = _compared(bands, full_bucket)
    assert len(found) <= 2 * full_bucket * len(bands)
    order = list(range(len(bands)))
    shuffle.shuffle(order)  # type: ignore[attr-defined]  # a random.Random
    assert _compared(bands[order], full_bucket) == found
    for key in {key for key, _ in keys}:
        bucket = sorted((int(row["hi"]), int(row["lo"])) for row in bands if row["key"] == key)
        assert all((bucket[0], other) in found for other in bucket[1:])


def test_a_large_bucket_compares_those_that_agree_on_the_next_band() -> None:
    """Two documents far from the hubs, alike in the next band, are compared."""
    bands = _bands([(7, n) for n in range(20)] + [(7, 99), (7, 99)])
    late = [(int(row["hi"]), int(row["lo"])) for row in bands if row["next"] == 99]
    assert tuple(sorted(late)) in _compared(bands, 1)
    assert bucket_pairs(bands, 1)[2] == 1


EDGES = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=20)


def _edges(pairs: list[tuple[int, int]]) -> Records:
    return np.array([(a % 3, a, b % 3, b) for a, b in pairs], EDGE)


def _near_edges(pairs: list[tuple[int, int]]) -> Records:
    """Near edges where multiples of 4 are held out."""
    return np.array([(a % 3, a, b % 3, b, a % 4 == 0, b % 4 == 0) for a, b in pairs], NEAR_EDGE)


def _id(node: int) -> tuple[int, int]:
    return node % 3, node


def _brute(pairs: list[tuple[int, int]]) -> dict[tuple[int, int], tuple[int, int]]:
    parent = {node: node for pair in pairs for node in pair}
    for _ in parent:
        for a, b in pairs:
            low = min(parent[a], parent[b], key=_id)
            parent[a] = parent[b] = low
    return {_id(node): _id(low) for node, low in parent.items()}


@given(exact=EDGES, url=EDGES, near=EDGES)
def test_components_are_named_by_their_smallest_id(
    exact: list[tuple[int, int]], url: list[tuple[int, int]], near: list[tuple[int, int]]
) -> None:
    """Over exact and near edges, and over all three, as painting until nothing changes does it; the direction of edges does not matter."""
    found = components(_edges(exact), _edges(url), _near_edges(near))
    rows = {(int(r["hi"]), int(r["lo"])): r for r in found}
    assert list(rows) == sorted(rows)
    everything, some = _brute(exact + url + near), _brute(exact + near)
    assert {i: (int(r["cluster_hi"]), int(r["cluster_lo"])) for i, r in rows.items()} == everything
    assert {i: (int(r["near_hi"]), int(r["near_lo"])) for i, r in rows.items()} == {i: some.get(i, i) for i in everything}
    turned = components(_edges([(b, a) for a, b in exact][::-1]), _edges(url[::-1]), _near_edges([(b, a) for a, b in near]))
    ids = ["hi", "lo", "cluster_hi", "cluster_lo", "near_hi", "near_lo"]
    assert turned[ids].tolist() == found[ids].tolist()


@given(copies=EDGES, near=EDGES)
def test_a_held_out_text_beside_a_training_text_is_known_for_all_its_copies(
    copies: list[tuple[int, int]], near: list[tuple[int, int]]
) -> None:
    """`near_training`: it or the smallest of its copies is held out and has a near edge to one that is not. Copies are on one side."""
    smallest = {node: node for node in range(16)}
    for a, b in copies:  # node b becomes a copy of a, unless it has copies or is one already
        if a != b and smallest[a] == a and smallest[b] == b and b not in [smallest[c] for c in range(16) if c != b] and _id(a) < _id(b):
            smallest[b] = a
    edges = [(a, b) for a, b in near if smallest[a] == a and smallest[b] == b and a != b]
    exact = [(b, a) for b, a in smallest.items() if a != b]
    found = components(_edges(exact), _edges([]), _near_edges(edges))
    both = edges + [(b, a) for a, b in edges]
    crossing = {a for a, b in both if a % 4 == 0 and b % 4 != 0}
    flags = {int(row["lo"]): (row["has_near"] == 1, row["near_training"] == 1) for row in found}
    assert flags == {n: (n in {a for a, _ in both}, smallest[n] in crossing) for n in {m for pair in both + exact for m in pair}}


def test_a_long_chain_is_one_component() -> None:
    """Ten thousand documents in a row, in an order that is bad for hooking to smaller ids."""
    order = np.random.RandomState(1).permutation(10_000).astype(np.uint64)
    zeros = np.zeros(9_999, np.uint64)
    chain = records(NEAR_EDGE, hi=zeros, lo=order[:-1], to_hi=zeros, to_lo=order[1:], held_out=zeros, to_held_out=zeros)
    found = components(np.empty(0, EDGE), np.empty(0, EDGE), chain)
    assert len(found) == 10_000
    assert not found["cluster_lo"].any()


@given(known=st.sets(st.binary(min_size=16, max_size=16), max_size=8), asked=st.lists(st.binary(min_size=16, max_size=16), max_size=8))
def test_lookup_finds_ids_and_ids_survive_the_split(known: set[bytes], asked: list[bytes]) -> None:
    """Two 64-bit halves sort as the 16 bytes, come back as the same bytes, and each id is found where it lies or nowhere."""
    table = sorted(known)
    wanted = [*asked, *table[::2]]
    high, low = split_bytes(b"".join(table))
    other_high, other_low = split_bytes(b"".join(wanted))
    assert join_ids(other_high, other_low).to_pylist() == wanted
    assert lookup(high, low, other_high, other_low).tolist() == [table.index(i) if i in known else -1 for i in wanted]
