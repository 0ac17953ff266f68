"""Raw files that are wrong in one way each, as sources beside those of any recipe, and what has to become of them."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flows.graph.runs import open_run
from pipeline.ingest.documents import read_quarantine
from storage.artifact import Manifest
from storage.store import Store
from tests.acceptance.bad_input_cases import Bench
from tests.acceptance.common import Finished
from tests.pipeline.ingest_cases import gz, http, page, warc

FOLDER = RUN = "bad-input"
TEXT = "A line of plain text that nothing is wrong with."


@dataclass(frozen=True)
class BadSource:
    """A source with one wrong file: `quarantined` as (offset, reason) in the file's order, and the other counts of its documents."""

    name: str
    what: str
    suffix: str
    data: bytes
    fields: Mapping[str, Any]
    documents: int
    quarantined: tuple[tuple[int | None, str], ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Its file, relative to raw_root."""
        return f"{FOLDER}/{self.name}{self.suffix}"

    @property
    def in_recipe(self) -> dict[str, Any]:
        """Its entry under `sources`."""
        return {"name": self.name, "path": self.path, "max_bad_fraction": 1.0, "language": "en", "domain": "general", **self.fields}

    def write(self, raw_root: Path) -> None:
        """Write its file under raw_root."""
        path = raw_root / self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.data)


def lines(*rows: Any) -> bytes:
    """JSON Lines; bytes stay as they are."""
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


def parquet(column: pa.Array) -> bytes:
    """A Parquet file with the one column `text`."""
    file = io.BytesIO()
    pq.write_table(pa.table({"text": column}), file)
    return file.getvalue()


def bad_sources() -> list[BadSource]:
    """Every wrong file, as a source of its own."""
    return [*_warcs(), *_texts(), *_ids()]


def _warcs() -> list[BadSource]:
    records = [warc(http(page()), name=str(n), url=f"http://example.org/{n}") for n in range(3)]
    first, second, third = (gzip.compress(record, mtime=0) for record in records)
    form = {"format": "warc"}
    longer = warc(http(page()), name="1", length=len(http(page())) + 7)
    return [
        BadSource("warc-truncated", "WARC: cut off in its last record", ".warc.gz", (first + second + third)[:-40], form, 2,
                  ((len(first + second), "truncated"),)),
        BadSource("warc-garbage", "WARC: garbage between two records", ".warc.gz", first + b"\xff\x00garbage" * 40 + third, form, 2,
                  ((len(first), "damaged"),)),
        BadSource("warc-flipped", "WARC: a byte changed inside a record", ".warc.gz",
                  gz([records[0]]) + second[:60] + bytes([second[60] ^ 255]) + second[61:] + third, form, 2, ((len(first), "damaged"),)),
        BadSource("warc-length", "WARC: a wrong Content-Length", ".warc", records[0] + longer + records[2], form, 2,
                  ((len(records[0]), "bad_length"),)),
    ]  # fmt: skip


def _texts() -> list[BadSource]:
    good, form = {"text": TEXT}, {"format": "jsonl"}
    offset = len(lines(good))
    binary = pa.array([TEXT.encode(), b"caf\xe9"], pa.binary())
    broken = pa.array([TEXT.encode(), b"caf\xe9"], pa.binary()).view(pa.string())  # a string column whose bytes are no UTF-8
    return [
        BadSource("jsonl-utf8", "JSONL: bytes that are no UTF-8", ".jsonl", lines(good, b'{"text": "caf\xe9"}'), form, 1,
                  ((offset, "invalid_utf8"),)),
        BadSource("jsonl-json", "JSONL: a line that is no JSON", ".jsonl", lines(good, b'{"text": "x'), form, 1,
                  ((offset, "invalid_json"),)),
        BadSource("files-utf8", "files: bytes that are not in the charset given", ".txt", b"caf\xe9 " + TEXT.encode(),
                  {"format": "files", "encoding": "utf-8"}, 0, ((3, "wrong_encoding"),)),
        BadSource("parquet-binary", "Parquet: a binary column as text", ".parquet", parquet(binary), {"format": "parquet"}, 0,
                  ((0, "bad_text"), (1, "bad_text"))),
        BadSource("parquet-utf8", "Parquet: a string that is no UTF-8", ".parquet", parquet(broken), {"format": "parquet"}, 1,
                  ((1, "invalid_utf8"),)),
        BadSource("parquet-none", "Parquet: a file that is none", ".parquet", b"PAR1 is how it begins", {"format": "parquet"}, 0,
                  ((None, "unreadable"),)),
        BadSource("jsonl-empty", "JSONL: empty documents (skipped, counted)", ".jsonl", lines({"text": ""}, good, {"text": " \n "}), form,
                  1,                  (), {"skipped": 2, "skipped:empty": 2}),
        BadSource("files-empty", "files: an empty file (skipped, counted)", ".txt", b"", {"format": "files"}, 0,
                  (), {"skipped": 1, "skipped:empty": 1}),
    ]  # fmt: skip


def _ids() -> list[BadSource]:
    form = {"format": "jsonl", "id_field": "key"}
    one, other = {"key": "a", "text": TEXT}, {"key": "a", "text": "Another text."}
    return [
        BadSource("id-same", "two records of one id, same content (one document)", ".jsonl", lines(one, one), form, 1,
                  (), {"duplicate_id": 1}),
        BadSource("id-other", "two records of one id, other content", ".jsonl", lines(one, other), form, 0,
                  ((0, "id_conflict"), (len(lines(one)), "id_conflict"))),
    ]  # fmt: skip


@dataclass(frozen=True)
class Dirty:
    """The recipe's run with every bad source beside its own, up to ingest: what the terminal showed, and the report."""

    bench: Bench
    run: Finished
    report: str
    sources: Sequence[BadSource] = field(default_factory=bad_sources)

    def failures(self, source: BadSource) -> list[str]:
        """What does not hold of one bad source, in words."""
        manifests = _manifests(self.bench.store, source.name)
        counts = manifests[0].counts
        rows = read_quarantine(self.bench.store, manifests[1]).to_pylist()
        found = [(row["offset"], row["reason"]) for row in rows]
        lost = {"documents": source.documents, "quarantined": len(source.quarantined), **source.counts}
        parts = sum(counts.get(name, 0) for name in ("documents", "skipped", "duplicate_id", "quarantined"))
        line = next((line for line in self.run.output.splitlines() if f"documents/{source.name} " in line), "")
        return [
            *([f"quarantined {found}, not {list(source.quarantined)}"] if found != list(source.quarantined) else []),
            *([f"a file other than {source.path}"] if any(row["file"] != source.path for row in rows) else []),
            *[f"{name} {counts.get(name, 0)}, not {n}" for name, n in lost.items() if counts.get(name, 0) != n],
            *([f"{counts['records']} records, {parts} accounted for"] if counts["records"] != parts else []),
            *(["the terminal does not count them"] if rows and f"{counts['quarantined']} quarantined" not in line else []),
            *(["the report does not list them"] if any(not self._is_reported(row) for row in rows) else []),
        ]

    def _is_reported(self, row: Mapping[str, Any]) -> bool:
        place = "whole file" if row["offset"] is None else row["offset"]
        cells = f'<td class="text">{row["file"]}</td><td>{place}</td><td class="text">{row["reason"]}</td>'
        return cells in self.report

    def seen(self, source: BadSource) -> str:
        """The quarantine of a source in a line."""
        counts = _manifests(self.bench.store, source.name)[0].counts
        where = ", ".join(f"{reason} at {'-' if offset is None else offset}" for offset, reason in source.quarantined)
        return where or ", ".join(f"{name} {counts.get(name, 0)}" for name in source.counts)


def _manifests(store: Store, source: str) -> tuple[Manifest, Manifest]:
    run = open_run(store, RUN)
    return run.need(f"documents/{source}"), run.need(f"origins/{source}")


def ingest_dirty(bench: Bench) -> Dirty:
    """Ingest every bad source beside the recipe's own. Raises RuntimeError when that, or its report, fails."""
    sources = bad_sources()
    for source in sources:
        source.write(bench.raw_root)
    recipe = bench.changed(bench.here.recipe, lambda raw: raw["sources"].extend(source.in_recipe for source in sources))
    run = bench.run("--to", "ingest", "--run", RUN, recipe=recipe)
    report = bench.ask("report", run=RUN)
    for what in (run, report):
        if what.code != 0:
            raise RuntimeError(f"the run with bad sources failed:\n{what.output[-3000:]}")
    return Dirty(bench, run, bench.store.read(f"runs/{RUN}/report.html").decode(), sources)
