"""From raw files to documents and origins: names for ever, places that follow from them, counters that close."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from pipeline.documents import DOCUMENTS, document_id, part_name, partition_of, parts_of, read_documents
from pipeline.ingest import documents, extract, shuffle
from pipeline.ingest.config import LanguageConfig, RawFile, SourceConfig
from pipeline.ingest.documents import read_origins, read_quarantine, resolve
from pipeline.ingest.main_text import blocks
from pipeline.partitions import Output
from storage.artifact import Attempt, artifact_root
from storage.errors import ConfigError, InputError, IntegrityError
from storage.store import Store
from tests.pipeline.ingest_cases import closes, gz, http, ingest, page, rows_of, warc


@pytest.fixture
def raw(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "raw"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def jsonl_source(**fields: Any) -> SourceConfig:
    return SourceConfig(**{"name": "s", "format": "jsonl", "path": "*.jsonl", "language": "en", **fields})


def lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def cut(records: Sequence[bytes], files: int, rng: random.Random) -> list[list[bytes]]:
    """`records` shuffled and dealt to `files` files."""
    mixed = rng.sample(records, len(records))
    return [mixed[n::files] for n in range(files)]


WARC_RECORDS = [warc(http(page(f"Page {n} of the caravan, which keeps its name. " * 8)), str(n), url=f"http://a/{n}") for n in range(40)]
JSON_RECORDS = [lines([{"text": f"text {n}", "id": f"r{n % 35}", "url": None if n % 3 else f"http://a/{n % 35}"}]) for n in range(40)]


@pytest.mark.parametrize(
    ("source", "records", "suffix", "pack"),
    [
        (SourceConfig(name="s", format="warc", path="*"), WARC_RECORDS, "warc.gz", gz),
        (SourceConfig(name="s", format="warc", path="*"), WARC_RECORDS, "warc", b"".join),
        (jsonl_source(path="*", id_field="id", url_field="url", max_bad_fraction=1.0), JSON_RECORDS, "jsonl", b"".join),
    ],
)
def test_documents_do_not_know_how_the_input_was_cut(
    tmp_path: Path, source: SourceConfig, records: list[bytes], suffix: str, pack: Callable[[list[bytes]], bytes]
) -> None:
    """One, three and seven files, shuffled, groups run in any order: the same bytes of every part; only the origins differ."""
    digests, origins = set(), set()
    for files in (1, 3, 7):
        rng = random.Random(files)
        raw, store = Store(str(tmp_path / f"raw{files}")), Store(str(tmp_path / f"store{files}"))
        for n, piece in enumerate(cut(records, files, rng)):
            raw.write(f"{n}.{suffix}", pack(piece))

        def backwards(function: Callable[[Any], Any], groups: Sequence[Any], /) -> list[Any]:
            return list(map(pickle.loads(pickle.dumps(function)), reversed(groups)))[::-1]

        _, made, places = ingest(raw, store, source, run_groups=backwards)
        assert closes(made.counts)
        digests.add(made.digest)
        origins.add(places.digest)
    assert len(digests) == 1
    assert len(origins) == 3


def test_documents_lie_by_their_leading_bits_sorted_by_id(raw: Store, store: Store) -> None:
    raw.write("a.jsonl", lines({"text": f"t{n}"} for n in range(200)))
    _, made, _ = ingest(raw, store, jsonl_source(), partitions=8)
    assert made.names() == [part_name(part) for part in range(8)]
    for part in range(8):
        table = read_documents(store, made, part)
        ids = table.column("id").to_pylist()
        assert table.schema.equals(DOCUMENTS)
        assert ids == sorted(ids)
        assert {partition_of(name, 8) for name in ids} == {part}
    assert made.counts["documents"] == 200


def test_a_document_is_what_its_record_says(raw: Store, store: Store) -> None:
    row = {"body": "Cafe\u0301 \r\nline\x00 \ud800", "key": "k", "where": "http://x/\ud800", "when": "2024-03-01"}
    raw.write("a.jsonl", lines([row]))
    fields = {"text_field": "body", "id_field": "key", "url_field": "where", "date_field": "when", "license": "MIT", "language": "fr"}
    _, made, places = ingest(raw, store, jsonl_source(**fields))
    name = document_id("s", "k")
    assert rows_of(store, made) == [
        {
            "id": name,
            "text": "Café\nline \ufffd",
            "url": "http://x/?",
            "date": "2024-03-01T00:00:00Z",
            "source": "s",
            "language": "fr",
            "language_probability": 1.0,
            "license": "MIT",
        }
    ]
    assert read_origins(store, places, name) == [{"id": name, "file": "a.jsonl", "offset": 0, "row": 0}]
    assert read_origins(store, places, document_id("s", "other")) == []


def test_same_id_same_content_is_one_document_with_all_its_origins(raw: Store, store: Store) -> None:
    row = {"text": "twice", "id": "x"}
    raw.write("a.jsonl", lines([row, {"text": "other", "id": "y"}]))
    raw.write("b.jsonl", lines([row, row]))
    _, made, places = ingest(raw, store, jsonl_source(id_field="id"))
    assert (made.counts["records"], made.counts["documents"], made.counts["duplicate_id"]) == (4, 2, 2)
    assert closes(made.counts)
    found = [(row["file"], row["row"]) for row in read_origins(store, places, document_id("s", "x"))]
    assert found == [("a.jsonl", 0), ("b.jsonl", 0), ("b.jsonl", 1)]


@pytest.mark.parametrize("other", [{"text": "other"}, {"url": "http://elsewhere"}, {"date": "2020-01-01"}])
def test_same_id_other_content_is_quarantined_all_of_it(raw: Store, store: Store, other: dict[str, str]) -> None:
    """Whatever column differs, and however many agree: none of them is a document."""
    row = {"text": "one", "url": "http://here", "date": "2024-01-01", "id": "x"}
    raw.write("a.jsonl", lines([row, {**row, "id": "y"}, row]))
    raw.write("b.jsonl", lines([{**row, **other}]))
    source = jsonl_source(id_field="id", url_field="url", date_field="date", max_bad_fraction=1.0)
    _, made, places = ingest(raw, store, source)
    assert [row["id"] for row in rows_of(store, made)] == [document_id("s", "y")]
    assert made.counts["quarantined:id_conflict"] == 3
    assert closes(made.counts)
    bad = read_quarantine(store, places).to_pylist()
    assert sorted((row["file"], row["reason"], row["id"]) for row in bad) == [
        ("a.jsonl", "id_conflict", document_id("s", "x")),
        ("a.jsonl", "id_conflict", document_id("s", "x")),
        ("b.jsonl", "id_conflict", document_id("s", "x")),
    ]
    assert read_origins(store, places, document_id("s", "x")) == []


def test_resolve_of_many_groups() -> None:
    ids = [b"a" * 16, b"a" * 16, b"b" * 16, b"c" * 16, b"c" * 16, b"d" * 16]
    table = pa.table({"id": pa.array(ids, pa.binary(16)), "text": ["1", "1", "2", "3", "x", "4"]})
    kept, duplicates, conflicts = resolve(table)
    assert (kept.column("text").to_pylist(), duplicates, conflicts) == (["1", "2", "4"], 1, 2)
    assert resolve(table.slice(0, 0)) == (table.slice(0, 0), 0, 0)


def test_an_added_file_extracts_no_other_again(raw: Store, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    raw.write("a.jsonl", lines([{"text": "one"}]))
    first, before, _ = ingest(raw, store, jsonl_source())
    raw.write("b.jsonl", lines([{"text": "two"}]))
    worked = list[str]()
    original = extract._extract

    def spy(file: BinaryIO, config: extract.Config, output: Output) -> None:
        worked.append(config.path)
        original(file, config, output)

    monkeypatch.setattr(extract, "_extract", spy)
    second, after, _ = ingest(raw, store, jsonl_source())
    assert worked == ["b.jsonl"]
    assert second["extract.a.jsonl"].fingerprint == first["extract.a.jsonl"].fingerprint
    assert after.digest != before.digest
    ingest(raw, store, jsonl_source())
    assert worked == ["b.jsonl"]


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ({"domain": "code"}, False),
        ({"url_dedup": True, "line_dedup": True}, False),
        ({"max_bad_fraction": 0.5}, False),
        ({"license": "MIT"}, True),
        ({"language": None}, True),
        ({"max_record_bytes": 5000}, True),
        ({"text_field": "body"}, True),
    ],
)
def test_what_makes_an_extraction_stale(changed: dict[str, Any], again: bool) -> None:
    """Only the part of a source's configuration that extraction reads."""
    file = RawFile("a.jsonl", 1, "0" * 64)
    before = extract.config_of(jsonl_source(), file, LanguageConfig())
    after = extract.config_of(jsonl_source(**changed), file, LanguageConfig())
    assert (before != after) == again
    other_model = extract.config_of(jsonl_source(), file, LanguageConfig(max_chars=99))
    assert other_model == before  # a declared language asks no model


def test_counters_close_over_everything_that_can_happen(raw: Store, store: Store) -> None:
    """Documents, duplicates, skipped of each kind, quarantined of each kind, in one source of three files."""
    good = [warc(http(page()), "1"), warc(http(page()), "1"), warc(http(page("x" * 300)), "2"), warc(http(page("y" * 300)), "2")]
    raw.write("a.warc.gz", gz([*good, warc(http(b"", status=404), "3"), warc(http(b"x", "image/png"), "4")]))
    raw.write("b.warc", warc(b"a", "5", "request") + warc(http(page(" ")), "6") + b"stray" + warc(http(page("last")), "7")[:-100])
    raw.write("c.warc.gz", gz([warc(http(page("whole")), "8")])[:-20])
    source = SourceConfig(name="s", format="warc", path="*.warc*", max_bad_fraction=1.0)
    _, made, places = ingest(raw, store, source)
    assert closes(made.counts)
    expected = {
        "records": 11,
        "documents": 1,
        "duplicate_id": 1,
        "skipped": 4,
        "quarantined": 5,
        "skipped:http_status": 1,
        "skipped:not_html": 1,
        "skipped:not_response": 1,
        "skipped:empty": 1,
        "quarantined:id_conflict": 2,
        "quarantined:bad_header": 1,
        "quarantined:truncated": 2,
    }
    assert made.counts == expected
    assert read_quarantine(store, places).num_rows == 5


def test_truncated_and_noai_pages_are_counted_kept_or_skipped(raw: Store, store: Store) -> None:
    """By default a truncated page is skipped and a noai page kept; the recipe turns either; a date that cannot be read is counted."""
    noai = page().replace(b"<title>", b"<meta name='robots' content='noai'><title>")
    records = [
        warc(http(page()), "1", fields={"WARC-Truncated": "length"}),
        warc(http(page(), headers={"X-Robots-Tag": "noai, noimageai"}), "2", date="2024-01"),
        warc(http(noai), "3", date="long ago"),
        warc(http(page()), "4", date="2024-01-01 00:00:00 UTC"),
    ]
    raw.write("a.warc.gz", gz(records))
    cases: list[tuple[dict[str, Any], dict[str, int]]] = [
        ({}, {"documents": 3, "skipped": 1, "skipped:truncated": 1, "kept:noai": 2, "unreadable_date": 1}),
        ({"truncated": "keep"}, {"documents": 4, "kept:truncated": 1, "kept:noai": 2, "unreadable_date": 1}),
        ({"noai": "skip"}, {"documents": 1, "skipped": 3, "skipped:truncated": 1, "skipped:noai": 2}),
    ]
    for choices, expected in cases:
        source = SourceConfig(name="s", format="warc", path="*.warc*", **choices)
        extractions, made, _ = ingest(raw, store, source)
        assert extractions["extract.a.warc.gz"].counts == {"records": 4, **expected}
        assert closes(made.counts)
        assert made.counts == {"records": 4, **expected}


def test_too_much_that_is_bad_stops_with_the_fraction_and_the_first_of_it(raw: Store, store: Store) -> None:
    raw.write("a.jsonl", lines([{"text": "good"}] * 3) + b"not json\n")
    with pytest.raises(
        InputError, match=r"source s: 1 of 4 records \(25\.00%\).*allows 24\.00%; first: a\.jsonl at 51: invalid_json"
    ) as caught:
        ingest(raw, store, jsonl_source(max_bad_fraction=0.24))
    assert caught.value.reason == "too_many_bad_records"
    _, made, _ = ingest(raw, store, jsonl_source(max_bad_fraction=0.25))  # at the bound it passes
    assert made.counts["quarantined"] == 1


def test_an_unreadable_file_is_quarantined_as_a_whole(raw: Store, store: Store) -> None:
    raw.write("a.parquet", b"PAR1 nothing")
    pq.write_table(pa.table({"text": ["x", ""]}), raw.local_path("b.parquet"))
    _, made, places = ingest(raw, store, jsonl_source(format="parquet", path="*.parquet", max_bad_fraction=0.5))
    assert made.counts == {
        "records": 3, "documents": 1, "skipped": 1, "skipped:empty": 1, "quarantined": 1, "quarantined:unreadable": 1,
    }  # fmt: skip
    (row,) = read_quarantine(store, places).to_pylist()
    assert (row["file"], row["offset"], row["reason"]) == ("a.parquet", None, "unreadable")


def test_a_page_that_the_extractor_cannot_take_is_quarantined(raw: Store, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MAX_ELEMENTS", 3)
    raw.write("a.warc", warc(http(page()), "1"))
    source = SourceConfig(name="s", format="warc", path="*.warc", max_bad_fraction=1.0, extractor="blocks")
    _, made, places = ingest(raw, store, source)
    (row,) = read_quarantine(store, places).to_pylist()
    assert (row["reason"], row["detail"], row["id"]) == (
        "extraction_failed",
        "PageTooLargeError: more than 3 elements",
        document_id("s", "<urn:uuid:1>"),
    )
    assert closes(made.counts)


def test_a_source_of_files_and_one_without_any_document(raw: Store, store: Store) -> None:
    raw.write("docs/a.html", page("A page of a manual, kept as it is. " * 10))
    raw.write("docs/b/c.txt", "Zażółć gęślą jaźń".encode("iso-8859-2"))
    source = SourceConfig(name="s", format="files", path="docs/**", encoding="iso-8859-2", language="pl")
    _, made, _ = ingest(raw, store, source)
    texts = {row["id"]: row["text"] for row in rows_of(store, made)}
    assert texts[document_id("s", "b/c.txt")] == "Zażółć gęślą jaźń"
    assert texts[document_id("s", "a.html")].startswith("A page of a manual")
    raw.write("none/a.txt", b" \n")
    _, empty, _ = ingest(raw, store, SourceConfig(name="e", format="files", path="none/*"))
    assert (parts_of(empty), empty.counts) == (4, {"records": 1, "documents": 0, "skipped": 1, "skipped:empty": 1})


@pytest.mark.parametrize("bounds", [("GROUP_BYTES",), ("SPLIT_BYTES", "PARTITION_BYTES")])
def test_pieces_and_spills_bound_memory_and_change_no_byte(
    tmp_path: Path, raw: Store, monkeypatch: pytest.MonkeyPatch, bounds: tuple[str, ...]
) -> None:
    """Tiny bounds give many pieces, many spills or many row groups in a spill, and the same documents and origins."""
    raw.write("a.jsonl", lines({"text": f"text {n}"} if n % 10 else {"body": n} for n in range(100)))
    source = jsonl_source(max_bad_fraction=1.0)
    _, whole, whole_origins = ingest(raw, Store(str(tmp_path / "one")), source)
    monkeypatch.setattr(extract, "PIECE_ROWS", 7)
    for name in bounds:
        monkeypatch.setattr(shuffle, name, 1)
    extractions, pieces, pieces_origins = ingest(raw, Store(str(tmp_path / "two")), source)
    assert len(extractions["extract.a.jsonl"].names("documents-")) == 13
    assert len(extractions["extract.a.jsonl"].names("quarantine-")) == 2
    assert pieces.digest == whole.digest
    assert pieces.counts == whole.counts
    assert pieces_origins.counts == whole_origins.counts == {"origins": 90, "quarantine_rows": 10}


@pytest.mark.parametrize(("partition_bytes", "n_blobs"), [(64 << 10, range(64, 65)), (1, range(300, 401))])
def test_rows_that_are_split_together_grow_with_the_partitions(
    raw: Store, store: Store, monkeypatch: pytest.MonkeyPatch, partition_bytes: int, n_blobs: range
) -> None:
    """A blob for each partition where the rows are few; as they come where the bound is reached, which bounds memory.

    At 4,096 partitions a few megabytes would give blobs of one row, more header than text.
    """
    monkeypatch.setattr(shuffle, "SPLIT_BYTES", 1)
    monkeypatch.setattr(shuffle, "PARTITION_BYTES", partition_bytes)
    monkeypatch.setattr("storage.tables.PIECE_ROWS", 1)
    for n in range(20):
        raw.write(f"{n}.jsonl", lines({"text": f"text {n} {i}"} for i in range(20)))
    extractions, _, _ = ingest(raw, store, jsonl_source())
    (pieces,) = shuffle.groups_of(list(extractions.values()), "documents-")
    output = Output(Attempt(store, "documents", "0" * 64))
    shuffle.split(store, DOCUMENTS, 64, "spill", pieces, output)
    (entry,) = output.entries
    spill = store.read(f"{output.attempt.root}/{entry.path}")
    blobs = [pq.ParquetFile(io.BytesIO(spill[start:end])) for _, start, end, _ in output.note]
    assert sum(blob.metadata.num_rows for blob in blobs) == 400
    assert len(blobs) in n_blobs
    assert {part for part, *_ in output.note} == set(range(64))


def test_another_way_to_cut_work_takes_no_record_of_the_old_one(tmp_path: Path, raw: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after one group of one file, resumed with all files in one group: the same documents, none lost."""
    for n in range(3):
        raw.write(f"{n}.jsonl", lines({"text": f"text {n} {i}"} for i in range(50)))
    _, undisturbed, _ = ingest(raw, Store(str(tmp_path / "undisturbed")), jsonl_source())

    class Stopped(Exception):
        pass

    def one_group(function: Callable[[Any], Any], groups: Sequence[Any], /) -> list[Any]:
        if len(groups) == 3:  # of the split
            function(groups[0])
            raise Stopped
        return [function(group) for group in groups]

    store = Store(str(tmp_path / "store"))
    with monkeypatch.context() as patch:
        patch.setattr(shuffle, "GROUP_BYTES", 1)
        with pytest.raises(Stopped):
            ingest(raw, store, jsonl_source(), run_groups=one_group)
    _, resumed, origins = ingest(raw, store, jsonl_source())
    assert resumed.digest == undisturbed.digest
    assert origins.counts["origins"] == 150


def test_an_interrupted_ingest_goes_on_and_ends_in_the_same_bytes(tmp_path: Path, raw: Store) -> None:
    """Stopped before each group in turn: finished groups are not done again, and the digest is that of an undisturbed run."""
    for n in range(3):
        raw.write(f"{n}.jsonl", lines({"text": f"text {n} {i}"} for i in range(50)))
    _, undisturbed, _ = ingest(raw, Store(str(tmp_path / "undisturbed")), jsonl_source())

    class Killed(Exception):
        pass

    store, ran = Store(str(tmp_path / "store")), list[str]()

    def stops_after(allowed: int) -> Callable[..., list[Any]]:
        left = [allowed]

        def run_groups(function: Any, groups: Sequence[Any], /) -> list[Any]:
            done = []
            for group in groups:
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
                ran.append(f"{function.args[1]}-{group[0]}")
                done.append(function(group))
            return done

        return run_groups

    for allowed in range(6):
        try:
            _, made, _ = ingest(raw, store, jsonl_source(), run_groups=stops_after(allowed))
        except Killed:
            continue
        break
    _, made, _ = ingest(raw, store, jsonl_source())
    assert made.digest == undisturbed.digest
    assert made.counts == undisturbed.counts
    left = [file.path for file in store.list_files(artifact_root("documents", made.fingerprint)) if "spill" in file.path]
    assert left == []


def test_a_raw_file_that_changed_since_the_snapshot_is_an_error(raw: Store, store: Store) -> None:
    raw.write("a.jsonl", lines([{"text": "one"}]))
    stale = RawFile("a.jsonl", 1, hashlib.sha256(b"what it was").hexdigest())
    with pytest.raises(IntegrityError, match=r"a\.jsonl: expected sha256 .*as the snapshot saw it"):
        extract.run(store=store, raw=raw, config=extract.config_of(jsonl_source(), stale, LanguageConfig()))


def test_a_flipped_byte_in_an_extraction_stops_and_names_the_file(raw: Store, store: Store) -> None:
    raw.write("a.jsonl", lines([{"text": "one"}]))
    file = RawFile("a.jsonl", 1, hashlib.sha256(raw.read("a.jsonl")).hexdigest())
    made = extract.run(store=store, raw=raw, config=extract.config_of(jsonl_source(), file, LanguageConfig()))
    path = f"{made.root}/{made.file('documents-00000.parquet').path}"
    data = bytearray(store.read(path))
    data[len(data) // 2] ^= 1
    store.write(path, bytes(data))
    with pytest.raises(IntegrityError, match=r"documents-00000\.parquet: expected sha256"):
        documents.run(store=store, config=documents.config_of(jsonl_source(), 2), inputs={"extract.a.jsonl": made})


def test_a_missing_language_model_is_the_users_to_mend(raw: Store, store: Store) -> None:
    raw.write("a.jsonl", lines([{"text": "one"}]))
    file = RawFile("a.jsonl", 1, hashlib.sha256(raw.read("a.jsonl")).hexdigest())
    config = extract.config_of(jsonl_source(language=None), file, LanguageConfig(model_sha256="0" * 64))
    with pytest.raises(ConfigError, match="make setup"):
        extract.run(store=store, raw=raw, config=config)


@pytest.mark.parametrize("partitions", [0, 3, -2, 131_072])
def test_partitions_are_a_power_of_two(partitions: int) -> None:
    with pytest.raises(ValidationError, match="not a power of two"):
        documents.config_of(jsonl_source(), partitions)


def test_ingest_from_an_object_store_gives_the_bytes_of_a_folder(raw: Store, store: Store, s3_store: Store) -> None:
    """Raw files and artifacts on S3: every digest as on local disk, origins included."""
    remote = Store(f"{s3_store.uri}/raw")
    for place in (raw, remote):
        place.write("a.warc.gz", gz(WARC_RECORDS[:10]))
    source = SourceConfig(name="s", format="warc", path="*.warc.gz")
    here, there = ingest(raw, store, source), ingest(remote, s3_store, source)
    assert here[0]["extract.a.warc.gz"].digest == there[0]["extract.a.warc.gz"].digest
    assert [manifest.digest for manifest in here[1:]] == [manifest.digest for manifest in there[1:]]


def test_the_golden_digest_of_a_small_source(raw: Store, store: Store) -> None:
    """Fails when the bytes change without a version bump: of extraction, of documents, of origins (RULE 12)."""
    raw.write("a.jsonl", lines([{"text": f"text {n}", "id": n} for n in range(5)]) + b"bad\n")
    extractions, made, places = ingest(raw, store, jsonl_source(id_field="id", max_bad_fraction=1.0), partitions=2)
    assert (extract.VERSION, documents.VERSION, documents.ORIGINS_VERSION) == (5, 1, 1)
    assert [m.digest[:16] for m in (extractions["extract.a.jsonl"], made, places)] == GOLDEN


GOLDEN = ["2ccfb7c4cf5d65ae", "3c27f3dc54f11143", "962e9293d141df31"]
