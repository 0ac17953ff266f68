"""JSONL, Parquet and directories of files: keys, fields, and what is wrong with a record."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import io
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from pydantic import ValidationError

from pipeline.ingest.charset import decode
from pipeline.ingest.config import SourceConfig, common_root
from pipeline.ingest.files import read_file
from pipeline.ingest.jsonl import read_jsonl
from pipeline.ingest.parquet import plain, read_parquet
from pipeline.ingest.records import Bad, Event, Record, Skip
from pipeline.ingest.stream import Stream
from tests.pipeline.ingest_cases import gz, page

LIMIT = 2000


def jsonl(data: bytes, **fields: str | None) -> list[Event]:
    names: dict[str, Any] = {"text_field": "text", "id_field": None, "url_field": None, "date_field": None, **fields}
    return list(read_jsonl(Stream(io.BytesIO(data)), LIMIT, **names))


def parquet(data: bytes, **fields: str | None) -> list[Event]:
    names: dict[str, Any] = {"text_field": "text", "id_field": None, "url_field": None, "date_field": None, **fields}
    return list(read_parquet(io.BytesIO(data), LIMIT, **names))


def as_parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    data = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), data, **options)
    return data.getvalue()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "caf\xe9"}', "invalid_utf8"),
        (b'{"text": "x"', "invalid_json"),
        (b"[" * 100_0, "invalid_json"),
        (b'["text"]', "not_an_object"),
        (b'{"body": "x"}', "missing_text"),
        (b'{"text": null}', "missing_text"),
        (b'{"text": 3}', "bad_text"),
        (b'{"text": "x", "n": 1.5}', "bad_id"),
        (b'{"text": "x", "n": true}', "bad_id"),
        (b'{"text": "' + b"x" * LIMIT + b'"}', "too_large"),
    ],
)
def test_a_bad_line_is_quarantined_at_its_offset_and_the_next_is_read(line: bytes, reason: str) -> None:
    first = b'{"text": "before"}\n'
    found = jsonl(first + line + b'\n{"text": "behind"}', id_field="n")
    assert [event.text if isinstance(event, Record) else event.reason for event in found] == ["before", reason, "behind"]
    assert isinstance(found[1], Bad)
    assert found[1].offset == len(first)
    assert isinstance(found[2], Record)
    assert (found[2].row, found[2].offset) == (2, len(first + line) + 1)


@pytest.mark.parametrize(
    ("row", "field", "detail"),
    [
        ({"text": None}, "text", "text is null"),
        ({"x": 1}, "text", "no field 'text'"),
        ({"a": {"x": 1}}, "a.b", "no field 'a.b'"),
        ({"a": None}, "a.b", "a is null"),
        ({"a": {"b": None}}, "a.b.c", "a.b is null"),
    ],
)
def test_a_text_that_is_null_is_told_from_one_that_is_not_there(row: dict[str, Any], field: str, detail: str) -> None:
    for found in (*jsonl(json.dumps(row).encode(), text_field=field), *parquet(as_parquet([row]), text_field=field)):
        assert isinstance(found, Bad)
        assert (found.reason, found.detail) == ("missing_text", detail)


@pytest.mark.parametrize(
    ("value", "name"), [(3, "an integer"), (1.5, "a number"), (True, "a boolean"), (["x"], "a list"), ({"x": 1}, "an object")]
)
def test_a_text_of_another_type_is_named_by_what_it_is(value: Any, name: str) -> None:
    for (found,) in (jsonl(json.dumps({"text": value}).encode()), parquet(as_parquet([{"text": value}]))):
        assert isinstance(found, Bad)
        assert (found.reason, found.detail) == ("bad_text", f"'text' is {name}")


def test_the_key_is_the_id_field_or_else_the_hash_of_the_line() -> None:
    lines = [b'{"text":"a","id":"x"}', b'{"text":"b","id":7}', b'{"text":"c"}', b'{"text":"d","id":null}']
    found = [event.key for event in jsonl(b"\n".join(lines), id_field="id") if isinstance(event, Record)]
    assert found == ["x", "7", hashlib.sha256(lines[2]).digest(), hashlib.sha256(lines[3]).digest()]


def test_the_key_of_a_line_does_not_know_its_end_or_a_byte_order_mark() -> None:
    line = b'{"text":"a"}'
    ways = [line, line + b"\n", line + b"\r\n", b"\xef\xbb\xbf" + line, b"\n \n" + line + b"\n\n"]
    assert {event.key for data in ways for event in jsonl(data) if isinstance(event, Record)} == {hashlib.sha256(line).digest()}


def test_fields_may_be_paths_and_wrong_ones_are_null() -> None:
    line = {"a": {"b": "text"}, "meta": {"url": "http://x", "at": 5}, "meta.url": 7}
    (found,) = jsonl(json.dumps(line).encode(), text_field="a.b", url_field="meta.url", date_field="meta.at")
    assert isinstance(found, Record)
    assert (found.text, found.url, found.date) == ("text", None, 5)  # a field with a dot in its name comes before the path


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_compressed_lines_are_the_same_records(pack: Any) -> None:
    data = b"".join(json.dumps({"text": f"line {n}"}).encode() + b"\n" for n in range(50))
    assert jsonl(pack(data)) == jsonl(data)


def test_damage_in_a_member_costs_that_member() -> None:
    members = [gz([b'{"text": "%d"}\n' % n]) for n in range(3)]
    members[1] = members[1][:15] + b"\xff\xff\xff" + members[1][18:]
    found = jsonl(b"".join(members))
    assert [event.text if isinstance(event, Record) else event.reason for event in found] == ["0", "damaged", "2"]


def test_parquet_rows_are_records_and_name_themselves() -> None:
    rows: list[dict[str, Any]] = [
        {"text": "a", "id": "x", "n": 1},
        {"text": "b", "id": None, "n": 2},
        {"text": None, "id": "z", "n": 3},
        {"text": "y" * LIMIT * 2},
    ]
    found = parquet(as_parquet(rows, row_group_size=2), id_field="id")
    assert [event.key if isinstance(event, Record) else event.reason for event in found] == [
        "x",
        hashlib.sha256(b'{"id":null,"n":2,"text":"b"}').digest(),
        "missing_text",
        "too_large",
    ]
    assert [event.offset for event in found if not isinstance(event, Skip)] == [0, 1, 2, 3]


def test_every_type_of_a_row_has_a_canonical_form() -> None:
    value = {
        "bytes": b"\x00\xff",
        "when": datetime.datetime(2024, 1, 2, 3, tzinfo=datetime.UTC),
        "day": datetime.date(2024, 1, 2),
        "money": Decimal("1.50"),
        "list": [float("nan"), 1.5, {"x": None}],
    }
    expected = {
        "bytes": "00ff",
        "when": "2024-01-02T03:00:00+00:00",
        "day": "2024-01-02",
        "money": "1.50",
        "list": ["nan", 1.5, {"x": None}],
    }
    assert plain(value) == expected


def test_no_parquet_is_unreadable_as_a_whole() -> None:
    (found,) = parquet(b"PAR1 nonsense")
    assert isinstance(found, Bad)
    assert (found.reason, found.offset) == ("unreadable", None)


def test_a_damaged_row_group_costs_its_rows_and_counts_them() -> None:
    """Three row groups, the middle one's pages overwritten: its rows are lost as so many records, the others are read."""
    rows = [{"text": f"{n} " + hashlib.sha256(b"%d" % n).hexdigest() * 5} for n in range(30)]
    data = bytearray(as_parquet(rows, row_group_size=10, compression="zstd", use_dictionary=False))
    column = pq.ParquetFile(io.BytesIO(bytes(data))).metadata.row_group(1).column(0)
    start = column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    found = parquet(bytes(data))
    (bad,) = [event for event in found if isinstance(event, Bad)]
    assert (bad.reason, bad.offset, bad.records) == ("damaged", 10, 10)
    assert [event.row for event in found if isinstance(event, Record)] == [*range(10), *range(20, 30)]


def test_a_value_that_python_cannot_hold_costs_its_row_alone() -> None:
    """Other writers put bytes that are no UTF-8 into string columns."""
    texts = pa.array([b"a", b"caf\xe9", b"c"], pa.binary()).view(pa.string())
    data = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), data)
    found = parquet(data.getvalue())
    assert [
        event.text if isinstance(event, Record) else (event.reason, event.offset) for event in found if not isinstance(event, Skip)
    ] == [
        "a",
        ("invalid_utf8", 1),
        "c",
    ]


def test_batches_of_large_rows_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by bytes, not by rows alone; the events are the same."""
    data = as_parquet([{"text": f"{n} " + "word " * 200} for n in range(20)])
    expected, sizes = parquet(data), list[int]()

    def counted(batch: pa.RecordBatch) -> list[dict[str, Any]]:
        sizes.append(batch.num_rows)
        return list(batch.to_pylist())

    monkeypatch.setattr("pipeline.ingest.parquet.BATCH_BYTES", 3000)
    monkeypatch.setattr("pipeline.ingest.parquet._rows", counted)
    assert parquet(data) == expected
    assert max(sizes) < 20


def test_a_column_that_is_not_there_is_a_text_that_is_missing() -> None:
    assert [event.reason for event in parquet(as_parquet([{"body": "x"}] * 3)) if isinstance(event, Bad)] == ["missing_text"] * 3


def one_file(data: bytes, path: str = "docs/a/b.txt", encoding: str | None = None) -> Event:
    (event,) = read_file(Stream(io.BytesIO(data)), LIMIT, path=path, root="docs", encoding=encoding)
    return event


def test_a_declared_charset_is_a_promise_and_a_detected_one_is_not() -> None:
    """With `encoding` a byte that is not in it is quarantined at its place; without, the file is read; a byte-order mark goes before."""
    bad = one_file(b"abc \xff def", encoding="utf-8")
    assert isinstance(bad, Bad)
    assert (bad.reason, bad.offset) == ("wrong_encoding", 4)
    assert isinstance(one_file(b"abc \xff def"), Record)
    assert isinstance(one_file("abc \u0141".encode(), encoding="utf-8"), Record)
    assert isinstance(one_file("\ufeffabc".encode("utf-16"), encoding="utf-8"), Record)


@pytest.mark.parametrize("encoding", ["cp850", "cp437", "utf-32", "utf-32-le", "utf-16-le", "latin-1", "koi8-r"])
def test_a_declared_charset_is_used_whoever_knows_it(encoding: str) -> None:
    """The web's standard has no cp850 and no UTF-32; Python has."""
    text = "Привет" if encoding == "koi8-r" else "déjà vu ñ"
    found = one_file(text.encode(encoding), encoding=encoding)
    assert isinstance(found, Record)
    assert decode(found.payload, declared=found.declared) == text


@pytest.mark.parametrize(
    ("path", "data", "expected"),
    [
        ("docs/a/b.txt", b"text", ("a/b.txt", False)),
        ("docs/a/b.HTML", page("x"), ("a/b.HTML", True)),
        ("docs/a/b.html.gz", gz([page("x")]), ("a/b.html.gz", True)),
        ("docs/page", page("x"), ("page", True)),
        ("docs/a.py", b"print('<html>')", ("a.py", False)),
        ("docs/u16.txt", "\ufefftext".encode("utf-16-le"), ("u16.txt", False)),
    ],
)
def test_a_file_is_a_record_named_by_its_path_under_the_root(path: str, data: bytes, expected: tuple[str, bool]) -> None:
    found = one_file(data, path)
    assert isinstance(found, Record)
    assert (found.key, found.is_html) == expected


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), (b" \n", "empty"), (b"\x7fELF\0\0", "not_text"), (b"x" * (LIMIT + 1), "too_large"), (gz([b"text"])[:-3], "truncated")],
)
def test_a_file_that_is_no_document_says_why(data: bytes, reason: str) -> None:
    found = one_file(data)
    assert not isinstance(found, Record)
    assert found.reason == reason


def test_utf16_without_a_mark_is_text() -> None:
    assert isinstance(one_file("A text of some length.\n".encode("utf-16-le")), Record)


@pytest.mark.parametrize(
    ("patterns", "root"),
    [
        (("docs/**/*.txt",), "docs"),
        (("docs/a/x.txt", "docs/b/*.txt"), "docs"),
        (("*.txt",), ""),
        (("a/b/c?/d",), "a/b"),
        (("a/x", "b/x"), ""),
    ],
)
def test_the_root_is_what_all_patterns_begin_with(patterns: tuple[str, ...], root: str) -> None:
    assert common_root(patterns) == root


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "warc", "text_field": "body"}, "text_field is for jsonl and parquet"),
        ({"format": "files", "id_field": "id"}, "id_field is for jsonl and parquet"),
        ({"format": "jsonl", "encoding": "latin-1"}, "encoding is for files"),
        ({"format": "jsonl", "extractor": "trafilatura"}, "extractor is for HTML"),
        ({"format": "jsonl", "noai": "skip"}, "noai is for HTML"),
        ({"format": "files", "truncated": "keep"}, "truncated is for warc and arc"),
        ({"format": "warc", "noai": "drop"}, "noai"),
        ({"format": "files", "encoding": "klingon"}, "no charset that Python knows"),
        ({"format": "csv"}, "format"),
        ({"format": "jsonl", "name": "A b"}, "name"),
        ({"format": "jsonl", "max_bad_fraction": 1.5}, "max_bad_fraction"),
        ({"format": "jsonl", "colour": "red"}, "colour"),
    ],
)
def test_a_wrong_source_is_refused_by_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SourceConfig(**{"name": "s", "path": "x", **fields})


@pytest.mark.parametrize("kind", ["warc", "arc", "jsonl", "parquet", "files"])
def test_a_resolved_source_loads_again(kind: Any) -> None:
    """A recipe saved with its run gives every field, also those that do not fit the format; it has to load."""
    source = SourceConfig(name="s", format=kind, path=("a/*", "b/*"))
    assert SourceConfig(**source.model_dump(mode="json")) == source
    assert source.dedups_urls == source.dedups_lines == source.is_web == (kind in ("warc", "arc"))
