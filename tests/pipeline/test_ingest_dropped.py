"""What extraction leaves out of pages is kept for a keyed sample of them, and does not know how the input was cut."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pipeline.documents import DROPPED, document_id, part_name, parts_of
from pipeline.ingest import dropped
from pipeline.ingest.config import SourceConfig
from storage.artifact import Manifest
from storage.store import Store
from storage.tables import read_table
from tests.pipeline.ingest_cases import WORDS, gz, http, ingest, warc

PAGE = (
    '<html><body><nav class="menu"><ul><li><a href="/">Home</a></li><li><a href="/about">About us</a></li></ul></nav>'
    '<main><article><p>{0}</p><p>{0}</p></article></main><footer class="site-footer"><p>Copyright. All rights reserved. '
    '<a href="/privacy">Privacy policy</a></p></footer></body></html>'
)
RECORDS = [warc(http(PAGE.format(f"Page {n} of the caravan. {WORDS * 3}").encode()), str(n), url=f"http://a/{n}") for n in range(60)]


def made_from(folder: Path, records: list[bytes], files: int, source: SourceConfig) -> tuple[Store, Manifest]:
    """The dropped blocks of `records`, dealt to so many files."""
    raw, store = Store(str(folder / "raw")), Store(str(folder / "store"))
    for n in range(files):
        raw.write(f"{n}.warc.gz", gz(records[n::files]))
    extractions, made, _ = ingest(raw, store, source)
    inputs = {**extractions, "documents": made}
    return store, dropped.run(store=store, config=dropped.Config(source=source.name), inputs=inputs)


def rows_of(store: Store, made: Manifest) -> list[dict[str, object]]:
    """The rows of every part."""
    tables = [read_table(store, made, part_name(part)) for part in range(parts_of(made))]
    assert all(table.schema == DROPPED for table in tables)
    return [row for table in tables for row in table.to_pylist()]


def test_every_page_is_kept_when_all_are_asked_for(tmp_path: Path) -> None:
    source = SourceConfig(name="s", format="warc", path="*", language="en", extractor="blocks", dropped_fraction=1.0)
    rows = rows_of(*made_from(tmp_path, RECORDS, 1, source))
    assert {row["id"] for row in rows} == {document_id("s", f"<urn:uuid:{n}>") for n in range(60)}
    assert all("About us" in str(row["text"]) and "caravan" not in str(row["text"]) for row in rows)


def test_the_sample_does_not_know_how_the_input_was_cut(tmp_path: Path) -> None:
    """One, three and seven files, shuffled: the same bytes, and about the share that was asked for."""
    source = SourceConfig(name="s", format="warc", path="*", language="en", extractor="blocks", dropped_fraction=0.3)
    digests, sizes = set(), set()
    for files in (1, 3, 7):
        store, made = made_from(tmp_path / str(files), random.Random(files).sample(RECORDS, len(RECORDS)), files, source)
        digests.add(made.digest)
        sizes.add(len(rows_of(store, made)))
    assert len(digests) == 1
    assert 5 <= sizes.pop() <= 35


@pytest.mark.parametrize("fields", [{"extractor": "resiliparse"}, {"dropped_fraction": 0.0}])
def test_nothing_is_kept_where_it_is_not_asked_for(tmp_path: Path, fields: dict[str, object]) -> None:
    source = SourceConfig(**{"name": "s", "format": "warc", "path": "*", "language": "en", "extractor": "blocks", **fields})
    assert not source.keeps_dropped
    assert rows_of(*made_from(tmp_path, RECORDS[:5], 1, source)) == []
