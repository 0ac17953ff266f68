"""What was wrapped around a body: chunks and compression, declared or not, whole or not; and what publishers say about AI."""

from __future__ import annotations

import bz2
import lzma
import random
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ingest.codings import MAX_LAYERS, unpacked
from pipeline.ingest.http import Body, response_body
from pipeline.ingest.records import BadRecord, Skip
from pipeline.ingest.robots import page_opts_out
from pipeline.ingest.sniff import looks_like_text
from tests.pipeline.ingest_cases import gz as gz_file
from tests.pipeline.ingest_cases import http, page

LIMIT = 4 << 20


def gz(body: bytes) -> bytes:
    return gz_file([body])


MARKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gz,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


def chunks(body: bytes, size: int = 300) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("declared", [[], ["gzip"], ["br"], ["deflate"], ["identity"], ["utf-8"], ["chunked"]])
@pytest.mark.parametrize("coding", MARKED)
def test_what_bytes_show_goes_before_what_headers_say(coding: str, declared: list[str]) -> None:
    pack = MARKED[coding]
    for packed in (pack(page()), pack(pack(page())), gz(pack(page())), chunks(pack(page())), pack(chunks(page()))):
        assert unpacked(packed, declared, LIMIT) == (page(), True)


@pytest.mark.parametrize(
    ("body", "declared"),
    [
        (brotli.compress(page()), ["br"]),
        (zlib.compress(page())[2:-4], ["deflate"]),
        (chunks(gz(page())), ["gzip", "chunked"]),
        (gz(chunks(page())), ["chunked", "gzip"]),
        (gz(page()), ["gzip", "chunked"]),
        (page(), ["gzip", "chunked"]),
        (gz(page()[:100]) + gz(page()[100:]), []),
        (zstandard.ZstdCompressor().compress(page()[:99]) + zstandard.ZstdCompressor().compress(page()[99:]), []),
        (b"\x50\x2a\x4d\x18\x03\0\0\0abc" + zstandard.ZstdCompressor().compress(page()), ["zstd"]),
        (gz(page()) + b"\r\n", ["gzip"]),
        ("\ufeff".encode("utf-16-le") + page().decode().encode("utf-16-le"), ["gzip"]),
    ],
)
def test_declared_codings_are_undone_and_lies_are_not(body: bytes, declared: list[str]) -> None:
    found = unpacked(body, declared, LIMIT)
    assert found.complete
    assert found.data.replace(b"\0", b"").removeprefix(b"\xff\xfe") == page()


@pytest.mark.parametrize("pack", [gz, zlib.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress, chunks])
def test_a_body_that_breaks_off_gives_what_there_is_and_says_so(pack: Callable[[bytes], bytes]) -> None:
    text = b"<html>" + b"".join(b"<p>%d</p>" % random.Random(n).getrandbits(900) for n in range(5000))
    found = unpacked(pack(text)[: len(pack(text)) * 3 // 4], ["chunked"], LIMIT)
    assert not found.complete
    assert text.startswith(found.data)


NOISE = random.Random(1).randbytes(3000)


@pytest.mark.parametrize(
    ("body", "declared"),
    [
        (NOISE, ["gzip"]),
        (NOISE, ["br"]),
        (NOISE, ["zstd"]),
        (NOISE, ["compress"]),
        (zlib.compress(b"^")[2:-4] + NOISE, ["deflate"]),
        (b"\x1f\x9d\x90" + NOISE, []),
        (b"\x04\x22\x4d\x18" + NOISE, []),
        (brotli.compress(page())[:60], ["br"]),
        (gz(page())[:60] + b"\xff\xff\xff" + gz(page())[63:], []),
        (gz(page())[:8], []),
        (b"zz\r\n" + chunks(page())[5:], ["chunked"]),
        (chunks(page()).replace(b"12c\r\n", b"12a\r\n", 1), ["chunked"]),
        (chunks(page()).replace(b"12c\r\n", b"12e\r\n", 1), ["chunked"]),
        (chunks(page()).replace(b"12c\r\n", b"fffff\r\n", 1), ["chunked"]),
    ],
)
def test_what_does_not_unpack_is_bad_encoding(body: bytes, declared: list[str]) -> None:
    with pytest.raises(BadRecord, match="bad_encoding"):
        unpacked(body, declared, LIMIT)


def test_layers_and_ratio_are_bounded() -> None:
    """A few layers are undone and more are refused; what grows a thousandfold is no page, whatever its layers."""
    body = page()
    for _ in range(MAX_LAYERS):
        body = gz(body)
    assert unpacked(body, [], LIMIT).data == page()
    with pytest.raises(BadRecord, match="layers"):
        unpacked(gz(gz(body)), [], LIMIT)
    for pack in MARKED.values():
        with pytest.raises(BadRecord, match="too_large"):
            unpacked(pack(b"<p>" * (LIMIT // 4)), [], LIMIT)
        with pytest.raises(BadRecord, match="too_large"):
            unpacked(gz(pack(random.Random(1).randbytes(LIMIT + 1))), [], LIMIT)


@given(
    st.binary(max_size=400),
    st.lists(st.sampled_from(["gzip", "deflate", "br", "zstd", "chunked", "x"]), max_size=3),
    st.sampled_from(sorted(MARKED)),
)
def test_any_bytes_unpack_or_are_refused(data: bytes, declared: list[str], coding: str) -> None:
    """No other exception, and never more than the limit."""
    packed = MARKED[coding](page())
    for body in (data, packed[: len(data)] + data, chunks(data) + data):
        try:
            found = unpacked(body, declared, 5000)
        except BadRecord:
            continue
        assert len(found.data) <= max(5000, len(body))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (page(), True),
        (page().replace(b"caravan", b"cara\0van"), True),
        (page().decode().encode("utf-16-be"), True),
        ("汉字" * 500, True),
        ("이야기 " * 200, True),
        (b"\x89PNG\r\n\x1a\n" + page(), False),
        (b"{\\rtf1 text}", False),
        (NOISE, False),
        (b"\0" * 50, False),
    ],
)
def test_what_looks_like_text(data: bytes | str, expected: bool) -> None:
    assert looks_like_text(data.encode("gbk" if "汉" in data else "iso2022_kr") if isinstance(data, str) else data) == expected


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ('<meta name="robots" content="noai">', True),
        ("<META CONTENT='noindex,NoImageAI' NAME='ROBOTS'>", True),
        ("<meta name=googlebot content=noai>", True),
        ('<meta name="gptbot" content="index, noai">', True),
        ('<meta name="robots" content="noindex, noarchive">', False),
        ('<meta name="description" content="what noai means">', False),
        ('<meta name="robots" content="noairplanes">', False),
        ("<p>noai</p>", False),
    ],
)
def test_a_robots_meta_tag_may_ask_not_to_be_used_for_ai(tag: str, expected: bool) -> None:
    for text in (f"<html><head>{tag}</head>", f"<html><head><title>x</title>\n{tag}"):
        assert page_opts_out(text.encode()) == page_opts_out(text.encode("utf-16-le")) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [(["noai, noimageai"], True), (["noarchive", "NOAI"], True), (["ccbot: noai"], True), (["noindex"], False), ([], False)],
)
def test_headers_may_ask_so_too(values: list[str], expected: bool) -> None:
    lines = b"".join(b"X-Robots-Tag: %b\r\n" % value.encode() for value in values)
    found = response_body(http(page()).replace(b"\r\n", b"\r\n" + lines, 1), LIMIT)
    assert isinstance(found, Body)
    assert found.noai == expected


def test_a_payload_of_another_type_is_counted_by_its_reason() -> None:
    assert response_body(http(NOISE), LIMIT) == Skip("not_text")
    assert response_body(http(page()), LIMIT, "image/png") == Skip("not_html")
