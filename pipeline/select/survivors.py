"""Who stays of the documents with one URL, one text, or nearly one text. RULE 18.

All three groups lie within a cluster (clusters.cluster_id covers url, exact and near edges), so a cluster's members are looked at together:
first by URL, then by text, then by near-duplicate, each among those still kept.
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
        pa.field("date", pa.string()),
        pa.field("text_size_bytes", pa.int64(), nullable=False),
        pa.field("quality_score", pa.float32()),
        pa.field("priority", pa.int64(), nullable=False),
    ]
)
DROPPED = pa.schema([pa.field("id", ID, nullable=False), pa.field("reason", pa.string(), nullable=False)])


class Member(NamedTuple):
    """A still kept document of a cluster with several; fields as in `MEMBERS`. `date` is ISO 8601 in UTC, so that strings compare."""

    cluster_id: bytes
    id: bytes
    url_id: bytes | None
    exact_id: bytes
    near_id: bytes
    date: str | None
    text_size_bytes: int
    quality_score: float | None
    priority: int


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


def survivor(members: Sequence[Member], policy: Policy) -> Member:
    """The one that stays; of equals the smallest id."""
    best = max(rank(member, policy) for member in members)
    return min((member for member in members if rank(member, policy) == best), key=lambda member: member.id)


def drop(members: Iterable[Member], policies: Survivors) -> dict[bytes, str]:
    """Reason by id for the members of one cluster that go."""
    alive, dropped = {member.id: member for member in members}, dict[bytes, str]()
    reasons: tuple[tuple[str, Policy], ...] = (("url", policies.url), ("exact", policies.exact), ("near", policies.near))
    for reason, policy in reasons:
        groups = dict[bytes, list[Member]]()
        for member in alive.values():
            name: bytes | None = getattr(member, f"{reason}_id")
            if name is not None:
                groups.setdefault(name, []).append(member)
        for group in groups.values():
            kept = survivor(group, policy).id
            dropped.update({member.id: reason for member in group if member.id != kept})
        alive = {name: member for name, member in alive.items() if name not in dropped}
    return dropped
