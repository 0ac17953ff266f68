"""Texts that were kept and dropped, for the report: those that `select` named in samples.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from flows.graph.runs import Run
from pipeline.documents import partition_of, parts_of, read_documents
from storage.artifact import Manifest, read_verified

MAX_CHARS = 700
MAX_SAMPLES = 120


@dataclass(frozen=True)
class Sample:
    """The beginning of one document, unedited."""

    source: str
    reason: str  # "kept", or the reason to drop it
    id: str
    url: str | None
    language: str
    text: str
    is_cut: bool


def samples(run: Run, found: Mapping[str, Manifest]) -> list[Sample]:
    """Samples by reason, "kept" first; at most `MAX_SAMPLES`, taken in turn from every reason and source. Raises IntegrityError."""
    named = json.loads(read_verified(run.store, found["select"], "samples.json"))
    by_turn: dict[tuple[int, str, str], str] = {}
    for source, reasons in named.items():
        for reason, ids in reasons.items():
            by_turn |= {(turn, reason, source): name for turn, name in enumerate(ids)}
    chosen = sorted(by_turn)[:MAX_SAMPLES]
    wanted: dict[tuple[str, int], dict[bytes, str]] = {}
    for key in chosen:
        _, reason, source = key
        name = bytes.fromhex(by_turn[key])
        part = partition_of(name, parts_of(found[f"documents/{source}"]))
        wanted.setdefault((source, part), {})[name] = reason
    read = [sample for place, names in sorted(wanted.items()) for sample in _read(run, found, place, names)]
    return sorted(read, key=lambda sample: (sample.reason != "kept", sample.reason, sample.source, sample.id))


def _read(run: Run, found: Mapping[str, Manifest], place: tuple[str, int], names: Mapping[bytes, str]) -> list[Sample]:
    source, part = place
    table = read_documents(run.store, found[f"documents/{source}"], part, ["id", "text", "url", "language"])
    rows = [i for i, name in enumerate(table.column("id").to_pylist()) if name in names]
    return [
        Sample(
            source=source,
            reason=names[row["id"]],
            id=row["id"].hex(),
            url=row["url"],
            language=row["language"],
            text=row["text"][:MAX_CHARS],
            is_cut=len(row["text"]) > MAX_CHARS,
        )
        for row in table.take(rows).to_pylist()
    ]
