"""What the extraction of pages left out, beside a source's documents: navigation, footers, comments of a keyed sample of pages, from
which the quality classifier learns what a good page's text is not.

Artifact `dropped`: `part-%05d.parquet` with rows of `DROPPED`, at most one for each document, sorted by id; its bytes are the same however
the input was cut into files and in whatever order.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipeline.documents import DROPPED, part_name, parts_of, read_documents
from pipeline.ingest.shuffle import Piece, Place, gather, groups_of, ids_of, places_of, sorted_by_id, split
from pipeline.partitions import Output, RunGroups, Step, map_groups, run_stage
from storage.artifact import Manifest
from storage.store import Store
from storage.strict import Strict

NAME = "dropped"
VERSION = 1


class Config(Strict):
    """What bears on a source's dropped blocks beyond its extractions and documents."""

    source: str = Field(description="name of the source")


def run(
    *,
    store: Store,
    config: Config,
    inputs: Mapping[str, Manifest],
    run_groups: RunGroups = map_groups,
    info: Mapping[str, Any] | None = None,
) -> Manifest:
    """Make the `dropped` artifact of a source from its extractions, `extract.<path>` in `inputs`, and its `documents`."""
    extractions = [inputs[name] for name in sorted(inputs) if name.startswith("extract.")]
    documents = inputs["documents"]
    partitions = parts_of(documents)
    return run_stage(
        store=store,
        stage=NAME,
        version=VERSION,
        config=config,
        inputs=inputs,
        steps=[
            Step("split", lambda _: list(enumerate(groups_of(extractions, "dropped-"))), partial(_split, store, partitions), final=False),
            Step("merge", lambda results: list(enumerate(places_of(results["split"], partitions))), partial(_merge, store, documents)),
        ],
        run_groups=run_groups,
        info=info,
    )


def _split(store: Store, partitions: int, group: tuple[int, list[Piece]], output: Output) -> None:
    n, pieces = group
    split(store, DROPPED, partitions, f"spill-{n:05d}", pieces, output)


def _merge(store: Store, documents: Manifest, group: tuple[int, list[Place]], output: Output) -> None:
    """Write the rows of a partition whose ids are documents; of several records that became one, the first by text."""
    part, places = group
    table = sorted_by_id(gather(store, places, DROPPED), ["text"])
    table = table.filter(pc.is_in(table.column("id"), value_set=read_documents(store, documents, part, ["id"]).column("id")))
    ids = ids_of(table.column("id"))
    is_first = [True, *(ids[1:] != ids[:-1]).any(axis=1).tolist()][: len(ids)]
    kept = table.filter(pa.array(is_first, pa.bool_())).combine_chunks()
    output.table(part_name(part), kept)
    output.counts["pages"] += kept.num_rows
