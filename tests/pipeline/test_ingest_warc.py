"""WARC, WET and ARC: what is a document, what is skipped, and what accidents leave behind."""

from __future__ import annotations

import gzip
import io
import zlib
from collections import Counter
from pathlib import Path

import pytest
import zstandard
from fastwarc.warc import ArchiveIterator
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ingest.arc import read_arc
from pipeline.ingest.codings import unpacked
from pipeline.ingest.http import parse_headers
from pipeline.ingest.records import Bad, BadRecord, Event, Record, Skip
from pipeline.ingest.stream import Stream
from pipeline.ingest.warc import read_warc
from tests.pipeline.ingest_cases import gz, http, page, warc

LIMIT = 100_000
EDGE_CASES = Path(__file__).resolve().parents[3] / "shared" / "corpus" / "warc-edge-cases"
PLAIN = "text/plain; charset=utf-8"


def events(data: bytes, limit: int = LIMIT) -> list[Event]:
    return list(read_warc(Stream(io.BytesIO(data)), limit))


def short(event: Event) -> str:
    """A record by its key, anything else by its reason."""
    return str(event.key) if isinstance(event, Record) else event.reason


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (warc(http(page())), "<urn:uuid:1>"),
        (warc(http(page(), "application/xhtml+xml; charset=UTF-8")), "<urn:uuid:1>"),
        (warc(http(b"plain text", "text/plain")), "<urn:uuid:1>"),
        (warc(http(page(), None)), "<urn:uuid:1>"),
        (warc(http(b"\x89PNG", None)), "not_html"),
        (warc(http(b"{}", "application/json")), "not_html"),
        (warc(http(page(), "text/html, text/html; charset=utf-8")), "<urn:uuid:1>"),
        (warc(http(page(), "unknown/unknown")), "<urn:uuid:1>"),
        (warc(http(page(), "application/octet-stream")), "<urn:uuid:1>"),
        (warc(http(page(), "html")), "<urn:uuid:1>"),
        (warc(http(page(), "text/html charset=utf-8")), "<urn:uuid:1>"),
        (warc(http(b"plain", "unknown/unknown")), "not_html"),
        (warc(http(b"%PDF-1.4 " + page())), "not_text"),
        (warc(http(bytes(range(256)) * 10)), "not_text"),
        (warc(http(page()), fields={"WARC-Identified-Payload-Type": "application/pdf"}), "not_html"),
        (warc(http(page()), fields={"WARC-Identified-Payload-Type": "text/x-matlab"}), "<urn:uuid:1>"),
        (warc(http(b"<rss></rss>"), fields={"WARC-Identified-Payload-Type": "application/rss+xml"}), "not_html"),
        (warc(http(page(), None), fields={"WARC-Identified-Payload-Type": "text/html"}), "<urn:uuid:1>"),
        (warc(b"HTTP/1.1 100 Continue\r\n\r\n" + http(page())), "<urn:uuid:1>"),
        (warc(b"HTTP/1.1 200 Connection established\r\n\r\n" + http(page())), "<urn:uuid:1>"),
        (warc(http(page(), status=404)), "http_status"),
        (warc(http(page(), status=206)), "http_status"),
        (warc(http(b"  \n")), "empty"),
        (warc(b"HTTP garbage\r\n\r\nx"), "bad_http"),
        (warc(b"GET / HTTP/1.1\r\n\r\n", kind="request"), "not_response"),
        (warc(http(page()), kind="revisit"), "not_response"),
        (warc(b"a: b", kind="metadata", content_type="application/warc-fields"), "not_response"),
        (warc(b"a: b", kind="warcinfo", content_type="application/warc-fields"), "not_response"),
        (warc(b"dns", content_type="text/dns"), "not_html"),
        (warc(page(), kind="resource", content_type="text/html"), "<urn:uuid:1>"),
        (warc(b"\x89PNG", kind="resource", content_type="image/png"), "not_html"),
        (
            warc(b"wget log", kind="resource", content_type="text/plain", url="metadata://gnu.org/software/wget/warc/wget.log"),
            "not_response",
        ),
        (warc(b"the text of a page", kind="conversion", content_type="text/plain"), "<urn:uuid:1>"),
        (warc(http(page(), headers={"Content-Encoding": "gzip"})), "<urn:uuid:1>"),  # the header lies
        (warc(http(b"\x1f\x8bbroken", headers={"Content-Encoding": "gzip"})), "bad_encoding"),
    ],
)
def test_what_a_record_is(record: bytes, expected: str) -> None:
    assert [short(event) for event in events(record)] == [expected]


def test_a_record_carries_its_key_url_date_charset_and_place() -> None:
    first, second = warc(http(page()), "1"), warc(http(b"text", PLAIN), "2", url="<http://example.org/2>")
    for data, offset in ((first + second, len(first)), (gz([first, second]), len(gz([first])))):
        found = events(data)[1]
        assert isinstance(found, Record)
        assert (found.key, found.url, found.date) == ("<urn:uuid:2>", "http://example.org/2", "2024-03-01T12:00:00Z")
        assert (found.offset, found.row, found.payload, found.is_html, found.declared) == (offset, 1, b"text", False, "utf-8")


def test_without_an_id_the_key_is_url_date_and_payload() -> None:
    one, same, other = (events(warc(http(body), None))[0] for body in (page("x"), page("x"), page("y")))
    assert isinstance(one, Record)
    assert isinstance(same, Record)
    assert isinstance(other, Record)
    assert one.key == same.key != other.key


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress(page(), mtime=0)),
        ("x-gzip", gzip.compress(page(), mtime=0)),
        ("deflate", zlib.compress(page())),
        ("deflate", zlib.compress(page())[2:-4]),
        ("zstd", zstandard.ZstdCompressor().compress(page())),
        ("identity", page()),
        ("gzip, gzip", gzip.compress(gzip.compress(page(), mtime=0), mtime=0)),
    ],
)
def test_content_codings_are_undone(coding: str, packed: bytes) -> None:
    (found,) = events(warc(http(packed, headers={"Content-Encoding": coding})))
    assert isinstance(found, Record)
    assert found.payload == page()


def test_a_body_that_unpacks_to_too_much_is_never_held() -> None:
    bomb = gzip.compress(b"<html>" + b"\0" * 10_000_000)
    (found,) = events(warc(http(bomb, headers={"Content-Encoding": "gzip"})))
    assert isinstance(found, Bad)
    assert found.reason == "too_large"
    with pytest.raises(BadRecord, match="too_large"):
        unpacked(bomb, ["gzip"], 1000)


@given(body=st.binary(min_size=1, max_size=200).map(lambda body: b"<" + body), sizes=st.lists(st.integers(1, 50), min_size=1))
def test_chunked_bodies_are_put_together(body: bytes, sizes: list[int]) -> None:
    pieces, at = list[bytes](), 0
    for size in [*sizes, len(body)]:
        if body[at : at + size]:
            pieces.append(body[at : at + size])
        at += size
    coded = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    assert unpacked(coded + b"0\r\n\r\n", ["chunked"], LIMIT) == (body, True)
    assert unpacked(coded, ["chunked"], LIMIT) == (body, False)  # it breaks off after the last piece


def test_a_body_that_is_not_chunked_comes_back_as_it_is() -> None:
    assert unpacked(page(), ["chunked"], LIMIT) == (page(), True)


def test_a_head_without_an_end_is_bad_and_long_headers_are_read_in_one_pass() -> None:
    """Work grows with the bytes, not with their square: both sizes would take minutes."""
    folded = b"X: a\r\n" + b" b\r\n" * 200_000
    assert len(parse_headers(folded + b"X-Robots-Tag: c\r\n" * 50_000)["x"]) == 400_001
    (found,) = events(warc(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n" + folded * 3), 16 << 20)
    assert isinstance(found, Bad)
    assert found.reason == "bad_http"


def test_many_beginnings_without_an_end_are_read_in_one_pass() -> None:
    """Each search for the end of a header goes on where the last one found none."""
    found = [short(event) for event in events(b"WARC/1.0\r\nA:" * 30_000 + b"\r\n\r\n" + RECORDS[0])]
    assert found[-1] == KEYS[0]
    assert set(found[:-1]) == {"bad_header"}


def test_headers_fold_and_the_first_of_a_name_counts() -> None:
    assert parse_headers(b"X-Robots-Tag: a\r\nx-robots-tag: b\r\n") == {"x-robots-tag": "a, b"}
    assert parse_headers(b"A: 1\r\n b\r\na: 2\r\nno colon\r\nC:\xff\r\n") == {"a": "1 b", "c": "\ufffd"}


def test_a_record_says_that_it_breaks_off() -> None:
    """By WARC-Truncated or by its codings; a chunked page without its last chunk that ends as a page does is whole."""
    chunked = {"Transfer-Encoding": "chunked"}
    cut = b"%x\r\n" % len(page()) + page()[:-20]
    whole = b"%x\r\n" % len(page()) + page() + b"\r\n"
    for record, truncated in (
        (warc(http(page())), False),
        (warc(http(page()), fields={"WARC-Truncated": "length"}), True),
        *((warc(http(page()), fields={"WARC-Truncated": value}), False) for value in ("", "none", "No", "false")),
        (warc(http(page()[:-20], headers={"Content-Length": "9999"})), True),
        (warc(http(page(), headers={"Content-Length": "9999"})), False),
        (warc(http(page()[:-20], headers={"Content-Length": "9999", "Content-Encoding": "gzip"})), False),
        (warc(http(cut, headers=chunked)), True),
        (warc(http(whole, headers=chunked)), False),
    ):
        (found,) = events(record)
        assert isinstance(found, Record)
        assert found.truncated == truncated


RECORDS = [warc(http(page(f"page {n}")), str(n)) for n in range(4)]
KEYS = [f"<urn:uuid:{n}>" for n in range(4)]


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes(byte ^ 0xFF for byte in data[at : at + 20]) + data[at + 20 :]


GZ = [gz([record]) for record in RECORDS]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"".join(GZ), KEYS),
        (gz([b"".join(RECORDS)]), KEYS),
        (zstandard.ZstdCompressor().compress(b"".join(RECORDS)), KEYS),
        (b"".join(RECORDS), KEYS),
        (b"\r\n\n".join(RECORDS), KEYS),
        (b"", []),
        (b"no archive at all\n" * 3, ["bad_header"]),
        (GZ[0] + flipped(GZ[1], 60) + GZ[2] + GZ[3], [KEYS[0], "damaged", *KEYS[2:]]),
        (GZ[0] + flipped(GZ[1], 0) + GZ[2] + GZ[3], [KEYS[0], "damaged", *KEYS[2:]]),
        (GZ[0] + GZ[1][:100] + GZ[2] + GZ[3], [KEYS[0], "damaged", *KEYS[2:]]),
        (b"".join(GZ)[:-30], [*KEYS[:3], "truncated"]),
        (GZ[0] + b"between" + GZ[2], [KEYS[0], "damaged", KEYS[2]]),
        (b"".join(RECORDS)[:-30], [*KEYS[:3], "truncated"]),
        (RECORDS[0] + b"stray bytes\r\n" + RECORDS[1], [KEYS[0], "bad_header", KEYS[1]]),
        (RECORDS[0] + warc(http(page()), "x", length=50) + RECORDS[2], [KEYS[0], "bad_length", KEYS[2]]),
        (
            RECORDS[0] + warc(http(page()), "x", length=len(http(page())) + 200) + RECORDS[2] + RECORDS[3],
            [KEYS[0], "bad_length", *KEYS[2:]],
        ),
        (RECORDS[0] + warc(http(page()), "x", length=90_000) + RECORDS[2] + RECORDS[3], [KEYS[0], "truncated", *KEYS[2:]]),
        (RECORDS[0] + warc(http(page()), "x", length=-5) + RECORDS[2], [KEYS[0], "bad_header", KEYS[2]]),
        (RECORDS[0] + RECORDS[1].replace(b"Length: ", b"Length: " + b"9" * 5000) + RECORDS[2], [KEYS[0], "bad_header", KEYS[2]]),
        (RECORDS[0] + RECORDS[1].replace(b"Content-Length", b"Content-Height") + RECORDS[2], [KEYS[0], "bad_header", KEYS[2]]),
        (RECORDS[0] + warc(b"x" * (LIMIT + 1), "x") + RECORDS[2], [KEYS[0], "too_large", KEYS[2]]),
        (GZ[0] + gz([warc(b"x" * (LIMIT + 1), "x")]) + GZ[2], [KEYS[0], "too_large", KEYS[2]]),
        (RECORDS[0] + warc(b"", "x", length=10**15) + RECORDS[2], [KEYS[0], "too_large", KEYS[2]]),
        (GZ[0] + gz([warc(b"", "x", length=10**15)]) + GZ[2], [KEYS[0], "too_large", KEYS[2]]),
        (GZ[0] + gz([b"WARC/1.0\r\n" + b"X-Long: " + b"y" * 70_000]) + GZ[2], [KEYS[0], "bad_header", KEYS[2]]),
    ],
)
def test_after_damage_reading_goes_on(data: bytes, expected: list[str]) -> None:
    """Every accident is one event with its reason, and the records behind it are read."""
    assert [short(event) for event in events(data)] == expected


@given(st.data())
def test_no_damage_raises_or_hangs(data: st.DataObject) -> None:
    """Any bytes overwritten anywhere: the reader ends, and behind gzip damage the untouched last record is still read."""
    archive = data.draw(st.sampled_from([b"".join(GZ[:3]), b"".join(RECORDS[:3]), gz([b"".join(RECORDS[:3])])]))
    at = data.draw(st.integers(0, len(archive) - 1))
    patch = data.draw(st.binary(max_size=30))
    damaged = archive[:at] + patch + archive[at + len(patch) :]
    last = GZ[3] if archive.startswith(b"\x1f\x8b") else RECORDS[3]
    found = [short(event) for event in events(damaged + last)]
    assert len(found) <= 12
    if damaged.startswith(b"\x1f\x8b"):  # in a plain archive an altered length may reach over the last record
        assert found[-1] == KEYS[3]


def arc(
    body: bytes, url: str = "http://example.org/", length: int | None = None, fields: str = "127.0.0.1 20140216050221 text/html"
) -> bytes:
    return f"{url} {fields} {len(body) if length is None else length}\n".encode() + body + b"\n"


V1_FIELDS = "URL IP-address Archive-date Content-type Archive-length"
V1 = arc(
    f"1 0 Crawler\n{V1_FIELDS}\n".encode(),
    "filedesc://a.arc",
    fields="0.0.0.0 20140216050221 text/plain",
)
V2_FIELDS = "URL IP-address Archive-date Content-type Result-code Checksum Location Offset Filename Archive-length"
V2 = arc(f"2 0 Crawler\n{V2_FIELDS}\n".encode(), "filedesc://a.arc", fields="0.0.0.0 20140216050221 text/plain")


def arc_events(data: bytes) -> list[Event]:
    return list(read_arc(Stream(io.BytesIO(data)), LIMIT))


@pytest.mark.parametrize("pack", [b"".join, gz, lambda pieces: gz([b"".join(pieces)])])
def test_arc_records(pack: object) -> None:
    """Version 1, with a URL that holds spaces, a body without HTTP headers and one of another type."""
    assert callable(pack)
    pieces = [V1, arc(http(page()), "http://a/b c&d e"), arc(page(), "http://a/bare"), arc(b"x", fields="0.0.0.0 20140216050221 image/png")]
    found = arc_events(pack(pieces))
    assert [event.reason if isinstance(event, Skip) else "record" for event in found] == ["not_response", "record", "record", "not_html"]
    assert isinstance(found[1], Record)
    assert (found[1].url, found[1].date, found[1].payload) == ("http://a/b c&d e", "20140216050221", page())
    assert str(found[1].key).startswith("http://a/b c&d e 20140216050221 sha256:")


def test_arc_version_2_has_ten_fields() -> None:
    record = arc(http(page()), fields="127.0.0.1 20140216050221 text/html 200 - - 0 a.arc")
    found = arc_events(V2 + record)[1]
    assert isinstance(found, Record)
    assert found.url == "http://example.org/"


@pytest.mark.parametrize("names", [b"URL IP-address x", b"URL IP-address Archive-date  Content-type  Archive-length"])
def test_a_damaged_version_block_costs_no_record(names: bytes) -> None:
    """A line has at least the five fields of version 1, whatever the block says."""
    block = b"1 0 Crawler\n" + names + b"\n"
    found = arc_events(arc(block, "filedesc://a.arc", fields="0.0.0.0 20140216050221 text/plain") + arc(http(page()), "http://a/last"))
    assert isinstance(found[-1], Record)
    assert found[-1].url == "http://a/last"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"no header\n", "bad_header"),
        (arc(b"x", length=-1), "bad_header"),
        (arc(b"x").replace(b" 1\n", b" " + b"9" * 5000 + b"\n"), "bad_header"),
        (arc(b"x" * (LIMIT + 1)), "too_large"),
        (arc(http(page()), length=20), "bad_header"),
    ],
)
def test_after_damage_in_an_arc_reading_goes_on(bad: bytes, reason: str) -> None:
    found = arc_events(V1 + bad + arc(http(page()), "http://a/last"))
    assert reason in [event.reason for event in found if isinstance(event, Bad)]
    assert isinstance(found[-1], Record)
    assert found[-1].url == "http://a/last"


@pytest.mark.skipif(not EDGE_CASES.is_dir(), reason="the shared corpus is not here")
def test_every_edge_case_of_the_corpus_is_survived_and_no_record_is_lost() -> None:
    """Files from the test suites of WARC tools: no exception, and as many records as fastwarc finds in those it can read."""
    reasons: Counter[str] = Counter()
    for path in sorted(path for path in EDGE_CASES.rglob("*") if path.is_file() and path.suffix != ".md"):
        reader = read_arc if ".arc" in path.name else read_warc
        found = list(reader(Stream(io.BytesIO(path.read_bytes())), 16 << 20))
        assert found, path.name
        reasons.update("record" if isinstance(event, Record) else event.reason for event in found)
        try:
            with path.open("rb") as file:
                expected = sum(1 for _ in ArchiveIterator(file))
        except OSError:
            continue
        assert len(found) == expected, path.name
    assert reasons["record"] > 150
    assert {"not_response", "http_status", "not_html", "bad_header", "truncated"} <= set(reasons)
