"""Counters of a finished run, counted again from its tables: what went into every stage is what came out, was dropped, or failed."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from fastwarc.warc import ArchiveIterator

from flows.graph.runs import Run
from pipeline.coverage import EVALUATED
from pipeline.snapshot import read_listing
from storage.artifact import Manifest, read_verified
from storage.store import Store
from storage.tables import read_table
from training.mix import read_plan

ReadTable = Callable[[Store, Manifest, str, Sequence[str]], pa.Table]


@dataclass(frozen=True)
class Balance:
    """What went into a stage, `into` `unit`, and what became of it by name."""

    stage: str
    unit: str
    into: int
    became: Mapping[str, int]

    @property
    def closes(self) -> bool:
        """Whether nothing was lost and nothing came from nowhere."""
        return self.into == sum(self.became.values())

    def __str__(self) -> str:
        parts = " + ".join(f"{count:,} {name}" for name, count in self.became.items() if count) or "0"
        return f"{self.into:,} {self.unit} {'=' if self.closes else '!='} {parts}"


def balances(run: Run, read: ReadTable = read_table) -> Iterator[Balance]:
    """The balance of every stage of the path, in its order. `read` reads the tables: a test gives one that loses a row."""
    documents = {source: _rows(read, run, f"documents/{source}", "part-") for source in run.manifests("documents")}
    yield from _ingested(run, read, documents)
    total = sum(documents.values())
    for stage in ("dedup", "quality", "domains"):
        rows = sum(_rows(read, run, stage, f"{source}/part-") for source in documents)
        yield Balance(stage, "documents", total, {"described": rows})
    yield Balance(
        "dedup, lines", "documents", total, {"described": sum(_rows(read, run, "dedup", f"spans/{source}/part-") for source in documents)}
    )
    decided = _decided(run, read, list(documents))
    reasons = Counter({name: count for name, count in decided.items() if not name.startswith("kept")})
    kept = {split: decided[f"kept {split}"] for split in ("train", "held_out")}
    yield Balance("select", "documents", total, {"kept": sum(kept.values()), **dict(reasons.most_common())})
    funnel = json.loads(read_verified(run.store, run.need("select"), "funnel.json"))["total"]
    printed = {reason: cell["documents"] for reason, cell in funnel["dropped"].items()}
    yield Balance("select, as its funnel says", "documents", total, {"kept": funnel["kept"]["documents"], **printed})
    judged = Counter[str]()
    for name in run.need("coverage").names("held_out/part-"):
        judged.update(read(run.store, run.need("coverage"), name, ["verdict"])["verdict"].to_pylist())
    yield Balance("coverage", "documents", kept["held_out"], dict(sorted(judged.items())))
    for split, key, n in (("train", "tokenize", kept["train"]), ("held_out", "held_out_tokens", judged[EVALUATED])):
        counts = json.loads(read_verified(run.store, run.need(key), "counts.json"))
        yield Balance(f"tokenize, {split}", "documents", n, {name: row["documents"] for name, row in counts[split].items()})
    for stage, manifest in run.manifests("mix").items():
        plan = read_plan(run.store, manifest)
        samples = sum(phase["global_batch_size"] * phase["n_steps"] for phase in plan["phases"])
        yield Balance(f"mix, {stage}", "samples", samples, {row["name"]: row["samples"] for row in plan["components"]})


def _ingested(run: Run, read: ReadTable, documents: Mapping[str, int]) -> Iterator[Balance]:
    """Records of the raw files, counted by others' readers where nothing is damaged; then by the pipeline's own counts and its tables."""
    listing = read_listing(run.store, run.need("snapshot"))
    for source, rows in documents.items():
        counts = Counter(run.need(f"documents/{source}").counts)
        failed, again = counts["quarantined"], counts["duplicate_id"]
        formats = {entry["name"]: entry["format"] for entry in run.recipe["sources"]}
        if not failed and (count := RAW_COUNTS.get(formats[source])):
            raw = sum(count(Path(run.execution["raw_root"]) / file.path) for file in listing[source])
            yield Balance(f"read {source}", "raw records", raw, {"records": counts["records"]})
        became = {"documents": rows, "skipped": counts["skipped"], "of an id seen before": again, "quarantined": failed}
        yield Balance(f"ingest {source}", "records", counts["records"], became)
        origins = _rows(read, run, f"origins/{source}", "part-")
        yield Balance(f"origins {source}", "records", counts["documents"] + again, {"origins": origins})


def _rows(read: ReadTable, run: Run, key: str, prefix: str) -> int:
    manifest = run.need(key)
    return sum(read(run.store, manifest, name, ["id"]).num_rows for name in manifest.names(prefix))


def _decided(run: Run, read: ReadTable, sources: Sequence[str]) -> Counter[str]:
    """Documents by reason, or by "kept train" and "kept held_out", from the selection's tables."""
    found, selection = Counter[str](), run.need("select")
    for source in sources:
        for name in selection.names(f"{source}/part-"):
            table = read(run.store, selection, name, ["reason", "split"])
            outcome = pc.if_else(pc.is_null(table["reason"]), pc.binary_join_element_wise("kept", table["split"], " "), table["reason"])
            found.update(outcome.to_pylist())
    return found


def _warc_records(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in ArchiveIterator(file, parse_http=False))


def _lines(path: Path) -> int:
    with io.BufferedReader(pa.input_stream(str(path))) as file:  # which unpacks by the ending of the name
        return sum(1 for line in file if line.strip())


RAW_COUNTS: dict[str, Callable[[Path], int]] = {"warc": _warc_records, "jsonl": _lines}


def losing_a_row(key: Manifest) -> ReadTable:
    """A reader of tables that loses the first row of the artifact `key`, once, as a faulty stage would; every checksum still holds."""
    lost = False

    def read(store: Store, manifest: Manifest, name: str, columns: Sequence[str]) -> pa.Table:
        nonlocal lost
        table: Any = read_table(store, manifest, name, columns)
        if manifest.root == key.root and table.num_rows and not lost:
            lost = True
            return table.slice(1)
        return table

    return read
