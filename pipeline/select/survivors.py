"""Who stays of the documents with one URL or one text. RULES 18, 31.

Both groups lie within a cluster (clusters.cluster_id covers url, exact and near edges), so a cluster's members are looked at together:
first by URL, then by text, each among those still kept. Near duplicates come after them (near.py). Held-out documents are decided among
themselves, so that nothing which is added to the training documents bears on them, nor they on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pyarrow as pa

from pipeline.select.config import Policy, Survivors
from storage.tables import ID

MEMBERS = pa.schema(
    [
        pa.field("cluster_id", ID, nullable=False),
        pa.field("id", ID, nullable=False),
        pa.field("url_id", ID),
        pa.field("exact_id", ID, nullable=False),
        pa.field("near_id", ID, nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("date", pa.string()),
        pa.field("text_size_bytes", pa.int64(), nullable=False),
        pa.field("quality_score", pa.float32()),
        pa.field("priority", pa.int64(), nullable=False),
    ]
)
DROPPED = pa.schema(
    [
        pa.field("id", ID, nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("duplicate_of", ID, nullable=False),
        pa.field("similarity", pa.float32()),
    ]
)


class Member(NamedTuple):
    """A still kept document of a cluster with several; fields as in `MEMBERS`. `date` is ISO 8601 in UTC, so that strings compare."""

    cluster_id: bytes
    id: bytes
    url_id: bytes | None
    exact_id: bytes
    near_id: bytes
    split: str
    date: str | None
    text_size_bytes: int
    quality_score: float | None
    priority: int


class Lost(NamedTuple):
    """Why a document goes, and for which; fields as in `DROPPED`. `similarity` is the Jaccard similarity of near duplicates."""

    reason: str
    duplicate_of: bytes
    similarity: float | None = None


def rank(member: Member, policy: Policy) -> tuple[str | float, ...]:
    """What the policy compares; the largest survives. Without a date a document is the oldest, without a score the worst."""
    match policy:
        case "newest":
            return (member.date or "",)
        case "longest":
            return (member.text_size_bytes,)
        case "best_quality":
            return (-1.0 if member.quality_score is None else member.quality_score,)
        case "preferred_source":
            return (member.priority,)


def best_first(members: Iterable[Member], policy: Policy) -> list[Member]:
    """The members in the order of the policy; of equals the smallest id first."""
    by_id = sorted(members, key=lambda member: member.id)
    return sorted(by_id, key=lambda member: rank(member, policy), reverse=True)  # stable, also in reverse


def drop_copies(members: Iterable[Member], policies: Survivors) -> dict[bytes, Lost]:
    """Those of one cluster that go as copies by URL or by text, by id."""
    alive, dropped = {member.id: member for member in members}, dict[bytes, Lost]()
    for reason, policy in (("url", policies.url), ("exact", policies.exact)):
        groups = dict[tuple[str, bytes], list[Member]]()
        for member in alive.values():
            name: bytes | None = getattr(member, f"{reason}_id")
            if name is not None:
                groups.setdefault((member.split, name), []).append(member)
        for group in groups.values():
            kept, *others = best_first(group, policy)
            dropped.update({other.id: Lost(reason, kept.id) for other in others})
        alive = {name: member for name, member in alive.items() if name not in dropped}
    return dropped


def dropped_table(dropped: dict[bytes, Lost]) -> tuple[pa.Table, Sequence[bytes]]:
    """The table of those that go, schema DROPPED, sorted by id; and their ids."""
    names = sorted(dropped)
    return pa.Table.from_pylist([{"id": name, **dropped[name]._asdict()} for name in names], schema=DROPPED), names
