"""Near duplicates that stay and go, against the greedy choice computed from all pairs of sets."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dedup.minhash import shingle_sets
from pipeline.select.config import Survivors
from pipeline.select.near import drop_near
from pipeline.select.survivors import Lost, Member

NEAR = b"n" * 16


def member(number: int, split: str = "train", size: int = 1) -> Member:
    """A member of one near group, a text of its own."""
    own = number.to_bytes(16, "big")
    return Member(NEAR, own, None, own, NEAR, split, None, size, None, 0)


def jaccard(a: set[int], b: set[int]) -> float:
    """The definition."""
    return len(a & b) / len(a | b)


def brute_force(rows: list[tuple[set[int], str, int]], least: float) -> dict[int, tuple[int, float]]:
    """Who goes, for whom, and how like: longest first, ties by number, each side by itself."""
    gone = dict[int, tuple[int, float]]()
    for side in ("train", "held_out"):
        kept = list[int]()
        for n in sorted((n for n, row in enumerate(rows) if row[1] == side), key=lambda n: (-rows[n][2], n)):
            like = [(jaccard(rows[n][0], rows[k][0]), -place, k) for place, k in enumerate(kept)]
            most = max(like, default=None)
            if most is not None and most[0] >= least:
                gone[n] = (most[2], most[0])
            else:
                kept.append(n)
    return gone


ROWS = st.lists(
    st.tuples(st.sets(st.integers(0, 12), min_size=1, max_size=9), st.sampled_from(["train", "train", "held_out"]), st.integers(1, 3)),
    max_size=10,
)


@given(ROWS, st.sampled_from([0.3, 0.5, 0.8]), st.randoms())
def test_the_choice_is_the_greedy_one_whatever_the_order_of_rows(rows: list[tuple[set[int], str, int]], least: float, shuffle: Any) -> None:
    """RULE 30, 31: each document goes for the most similar one that stays, on its own side, and no other goes."""
    members = [member(n, side, size) for n, (_, side, size) in enumerate(rows)]
    sets = {one.id: np.array(sorted(values), np.uint64) for one, (values, _, _) in zip(members, rows, strict=True)}
    shuffle.shuffle(members)
    dropped = drop_near(members, sets, {}, Survivors(), least)
    expected = {n.to_bytes(16, "big"): Lost("near", k.to_bytes(16, "big"), like) for n, (k, like) in brute_force(rows, least).items()}
    assert dropped == expected


def windows(count: int, length: int, step: int) -> list[str]:
    """Windows of `length` words that slide over one text by `step` words: neighbours are alike, the ends share no word."""
    return [" ".join(f"word{i}" for i in range(k * step, k * step + length)) for k in range(count)]


def test_sixty_sliding_windows_leave_one_for_each_that_is_unlike_those_that_stay() -> None:
    """A chain of near edges does not empty a corpus: what goes has at least the threshold with one that stays, and others stay."""
    sets = shingle_sets(windows(60, 100, 5), 5)
    members = [member(n) for n in range(60)]
    dropped = drop_near(members, {m.id: s for m, s in zip(members, sets, strict=True)}, {}, Survivors(), 0.8)
    rows: list[tuple[set[int], str, int]] = [(set(s.tolist()), "train", 1) for s in sets]
    assert {int.from_bytes(n, "big") for n in dropped} == set(brute_force(rows, 0.8))
    kept = [n for n in range(60) if members[n].id not in dropped]
    assert len(kept) == 20
    assert all(jaccard(rows[a][0], rows[b][0]) < 0.8 for a, b in combinations(kept, 2))


def test_many_that_stay_are_compared_by_edges_alone() -> None:
    """Above max_kept_compared only a verified edge to one that stays makes a document go, and the similarity is not known."""
    sets = {member(n).id: np.array([n], np.uint64) for n in range(5)} | {member(n).id: np.array([0], np.uint64) for n in (5, 6)}
    edges = {member(5).id: [member(3).id, member(1).id]}
    few = Survivors(max_kept_compared=3)
    assert drop_near([member(n) for n in range(7)], sets, edges, few, 0.8) == {member(5).id: Lost("near", member(1).id, None)}
    many = Survivors(max_kept_compared=5)
    assert drop_near([member(n) for n in range(7)], sets, edges, many, 0.8) == {
        member(n).id: Lost("near", member(0).id, 1.0) for n in (5, 6)
    }


@pytest.mark.parametrize("near", [("newest"), ("longest")])
def test_a_member_without_a_near_edge_stays(near: Any) -> None:
    """Its group is only its own copies, and those are decided before."""
    assert drop_near([member(1), member(2)], {member(1).id: np.array([1], np.uint64)}, {}, Survivors(near=near), 0.8) == {}
