"""A source's documents and their origins: the extractions of its files, partitioned by the leading bits of the id and sorted by it.
RULES 2 to 4.

Two artifacts. `documents` (`run`): `part-%05d.parquet` with rows of `DOCUMENTS`; its bytes are the same however the input was cut into
files and in whatever order. `origins` (`run_origins`): `part-%05d.parquet` with rows of `ORIGINS`, sorted by id, file, offset and row,
one for each record that became the document; and `quarantine.parquet` with rows of `QUARANTINE`. Only lineage and the report read it.

Counts of `documents` close: records = documents + skipped + duplicate_id + quarantined; `skipped:<reason>` and `quarantined:<reason>` add
up to theirs. Records of one id with equal content (every column of the document) are one document, and the others `duplicate_id`; with
other content all of them are quarantined as `id_conflict`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator

from pipeline.documents import DOCUMENTS, ORIGINS, QUARANTINE, part_name, partition_of, parts_of, read_documents
from pipeline.ingest.config import SourceConfig, check_partitions
from pipeline.ingest.shuffle import Piece, Place, gather, groups_of, ids_of, places_of, sorted_by_id, split
from pipeline.partitions import GroupResult, Output, Results, RunGroups, Step, map_groups, run_stage
from storage.artifact import Manifest, read_entry
from storage.errors import InputError, IntegrityError
from storage.store import Store
from storage.strict import Strict
from storage.tables import open_table, parse_table, read_table

NAME = "documents"
VERSION = 1
ORIGINS_NAME = "origins"
ORIGINS_VERSION = 1

QUARANTINE_FILE = "quarantine.parquet"
EXAMPLES = 3
FATES = ("documents", "skipped", "duplicate_id", "quarantined")


class Config(Strict):
    """What bears on a source's documents beyond its extractions."""

    source: str = Field(description="name of the source")
    partitions: int = Field(description="how many partitions, a power of two")
    max_bad_fraction: float = Field(ge=0, le=1, description="quarantined records / all records above which the stage fails")

    @field_validator("partitions")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        return check_partitions(value)


class OriginsConfig(Strict):
    """What bears on a source's origins beyond its extractions and documents."""

    source: str = Field(description="name of the source")


def config_of(source: SourceConfig, partitions: int) -> Config:
    """The configuration of a source's documents."""
    return Config(source=source.name, partitions=partitions, max_bad_fraction=source.max_bad_fraction)


def run(
    *,
    store: Store,
    config: Config,
    inputs: Mapping[str, Manifest],
    run_groups: RunGroups = map_groups,
    info: Mapping[str, Any] | None = None,
) -> Manifest:
    """Make the `documents` artifact of a source from its extractions, `extract.<path>` in `inputs`, or return it when it is there already.

    Raises InputError when more than `max_bad_fraction` of the records are quarantined, naming the fraction and the first of them.
    """
    extractions = _extractions(inputs)
    return run_stage(
        store=store,
        stage=NAME,
        version=VERSION,
        config=config,
        inputs=inputs,
        steps=[
            Step("split", lambda _: _numbered(groups_of(extractions, "documents-")), partial(_split_documents, store, config), final=False),
            Step("merge", lambda results: _partitions(results, config.partitions), partial(_merge_documents, store)),
        ],
        run_groups=run_groups,
        info=info,
        check=partial(_check_counts, store, config, extractions),
    )


def run_origins(
    *,
    store: Store,
    config: OriginsConfig,
    inputs: Mapping[str, Manifest],
    run_groups: RunGroups = map_groups,
    info: Mapping[str, Any] | None = None,
) -> Manifest:
    """Make the `origins` artifact of a source from its extractions, `extract.<path>` in `inputs`, and its `documents`."""
    extractions, documents = _extractions(inputs), inputs["documents"]
    partitions = parts_of(documents)
    return run_stage(
        store=store,
        stage=ORIGINS_NAME,
        version=ORIGINS_VERSION,
        config=config,
        inputs=inputs,
        steps=[
            Step("split", lambda _: _numbered(groups_of(extractions, "origins-")), partial(_split_origins, store, partitions), final=False),
            Step("merge", lambda results: _partitions(results, partitions), partial(_merge_origins, store, documents)),
            Step("quarantine", lambda results: [results["merge"]], partial(_write_quarantine, store, extractions)),
        ],
        run_groups=run_groups,
        info=info,
    )


def read_origins(store: Store, origins: Manifest, document: bytes) -> list[dict[str, Any]]:
    """Where a document came from: its rows of `ORIGINS`; empty for an id that the source does not have. Raises IntegrityError."""
    part = partition_of(document, len(origins.names("part-")))
    table = read_table(store, origins, part_name(part))
    rows: list[dict[str, Any]] = table.filter(pc.equal(table.column("id"), pa.scalar(document, pa.binary(16)))).to_pylist()
    return rows


def read_quarantine(store: Store, origins: Manifest) -> pa.Table:
    """What was quarantined of a source, rows of `QUARANTINE`. Raises IntegrityError."""
    return read_table(store, origins, QUARANTINE_FILE)


def _extractions(inputs: Mapping[str, Manifest]) -> list[Manifest]:
    return [inputs[name] for name in sorted(inputs) if name.startswith("extract.")]


def _numbered(groups: list[list[Piece]]) -> list[tuple[int, list[Piece]]]:
    return list(enumerate(groups))


def _partitions(results: Results, partitions: int) -> list[tuple[int, list[Place]]]:
    return list(enumerate(places_of(results["split"], partitions)))


def _split_documents(store: Store, config: Config, group: tuple[int, list[Piece]], output: Output) -> None:
    n, pieces = group
    split(store, DOCUMENTS, config.partitions, f"spill-{n:05d}", pieces, output)
    for piece in pieces:  # the documents are counted when they are merged
        output.counts.update({name: count for name, count in piece.counts.items() if name != "documents"})


def _split_origins(store: Store, partitions: int, group: tuple[int, list[Piece]], output: Output) -> None:
    n, pieces = group
    split(store, ORIGINS, partitions, f"spill-{n:05d}", pieces, output)


def _merge_documents(store: Store, group: tuple[int, list[Place]], output: Output) -> None:
    part, places = group
    table = sorted_by_id(gather(store, places, DOCUMENTS))
    kept, duplicates, conflicts = resolve(table)
    output.table(part_name(part), kept)
    counts = {"documents": kept.num_rows, "duplicate_id": duplicates, "quarantined": conflicts, "quarantined:id_conflict": conflicts}
    output.counts.update({name: count for name, count in counts.items() if count or name == "documents"})


def resolve(table: pa.Table) -> tuple[pa.Table, int, int]:
    """(rows that stay, duplicates dropped, rows in conflict) of a table of documents sorted by id: RULE 2."""
    ids = ids_of(table.column("id"))
    again = (ids[1:] == ids[:-1]).all(axis=1)
    if not again.any():
        return table, 0, 0
    keep = np.concatenate([[True], ~again])
    starts = np.flatnonzero(keep)
    ends = np.append(starts[1:], table.num_rows)
    conflicts = 0
    for start, end in zip(starts, ends, strict=True):
        if end - start > 1 and not _all_equal(table.slice(start, end - start)):
            keep[start] = False
            conflicts += int(end - start)
    kept = table.filter(pa.array(keep)).combine_chunks()
    return kept, table.num_rows - kept.num_rows - conflicts, conflicts


def _all_equal(rows: pa.Table) -> bool:
    first, *others = rows.to_pylist()
    return all(row == first for row in others)


def _merge_origins(store: Store, documents: Manifest, group: tuple[int, list[Place]], output: Output) -> None:
    """Write the origins of the documents of a partition; those of ids that are no document are conflicts, noted for the quarantine."""
    part, places = group
    table = sorted_by_id(gather(store, places, ORIGINS), ["file", "offset", "row"])
    ids = read_documents(store, documents, part, ["id"]).column("id")
    is_document = pc.is_in(table.column("id"), value_set=ids)
    output.table(part_name(part), table.filter(is_document).combine_chunks())
    conflicts = table.filter(pc.invert(is_document)).to_pylist()
    output.note = [[row["file"], row["offset"], f"record {row['row']}", row["id"].hex()] for row in conflicts]
    output.counts["origins"] += table.num_rows - len(conflicts)


def _write_quarantine(store: Store, extractions: list[Manifest], merged: list[GroupResult], output: Output) -> None:
    """Write quarantine.parquet, a piece at a time: what the extractions quarantined, then the conflicts."""
    with output.create(QUARANTINE_FILE) as file, open_table(file, QUARANTINE) as writer:
        for table in _quarantined(store, extractions):
            writer.write_table(table)
            output.counts["quarantine_rows"] += table.num_rows
        for result in merged:
            if result.note:
                rows = [(file_name, offset, "id_conflict", detail, bytes.fromhex(name)) for file_name, offset, detail, name in result.note]
                columns = zip(*rows, strict=True)
                arrays = [pa.array(column, field.type) for column, field in zip(columns, QUARANTINE, strict=True)]
                writer.write_table(pa.Table.from_arrays(arrays, schema=QUARANTINE))
                output.counts["quarantine_rows"] += len(rows)


def _quarantined(store: Store, extractions: list[Manifest]) -> Iterator[pa.Table]:
    for manifest in extractions:
        for name in manifest.names("quarantine-"):
            entry = manifest.file(name)
            yield parse_table(read_entry(store, manifest.root, entry), f"{manifest.root}/{entry.path}")


def _check_counts(store: Store, config: Config, extractions: list[Manifest], results: Results) -> None:
    """Raise IntegrityError when a record of the extractions is in none of the counts, InputError when too much was quarantined."""
    counts = {name: sum(r.counts.get(name, 0) for step in results.values() for r in step) for name in ("records", *FATES)}
    records, quarantined, found = counts["records"], counts["quarantined"], sum(counts[name] for name in FATES)
    extracted = sum(manifest.counts.get("records", 0) for manifest in extractions)
    if not extracted == records == found:
        raise IntegrityError(
            f"documents of {config.source}", expected=f"{extracted:,} records", actual=f"{records:,}, of which {found:,} counted"
        )
    if quarantined <= config.max_bad_fraction * records:
        return
    examples = [row for table in _quarantined(store, extractions) for row in table.slice(0, EXAMPLES).to_pylist()][:EXAMPLES]
    first = (
        "; ".join(f"{row['file']} at {row['offset']}: {row['reason']} ({row['detail']})" for row in examples)
        or "records of one id with other content"
    )
    detail = (
        f"source {config.source}: {quarantined} of {records} records ({quarantined / records:.2%}) are quarantined, "
        f"max_bad_fraction allows {config.max_bad_fraction:.2%}; first: {first or 'id_conflict'}"
    )
    raise InputError("too_many_bad_records", file=examples[0]["file"] if examples else config.source, detail=detail)
