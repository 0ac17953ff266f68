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


@pytest.mark.parametrize(
    "text",
    [
        b"2024\nwas a good year\n",
        b"Cafe\nand tea\n",
        b"1\n00:01 --> 00:02\nWords\n2\nMore",
        b"0\nis the first line of the poem\n",
        b"2024\r\nwas a year\r\nof ships\r\n",
        b"10\nsixteen is ten here\nand not elsewhere\n",
        b"Cafe\n",
    ],
)
def test_text_whose_first_line_is_hexadecimal_is_not_chunked_because_the_header_says_so(text: bytes) -> None:
    """The crawler has put it together and left the header; the same text in chunks comes out of them, whole or not."""
    assert unpacked(text, ["chunked"], LIMIT) == (text, True)
    assert unpacked(chunks(text * 99), ["chunked"], LIMIT) == (text * 99, True)
    assert unpacked(b"1f40\r\n" + text.replace(b"\r", b""), ["chunked"], LIMIT) == (text.replace(b"\r", b""), False)
    assert unpacked(b"0\r\n\r\n", ["chunked"], LIMIT) == (b"", True)


@pytest.mark.parametrize("pack", [gz, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress])
def test_all_streams_of_a_body_are_read(pack: Callable[[bytes], bytes]) -> None:
    """As parallel compressors write them, however many and however small."""
    text = page() * 40
    packed = b"".join(pack(text[at : at + 700]) for at in range(0, len(text), 700))
    assert unpacked(packed, [], LIMIT) == (text, True)
    assert not unpacked(packed[:-30], [], LIMIT).complete
    assert unpacked(pack(b"") * 2000 + pack(text), [], LIMIT) == (text, True)


@pytest.mark.parametrize("before", [b"\r\n", b"\n\n ", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"])
@pytest.mark.parametrize("pack", MARKED.values())
def test_blanks_before_a_compressed_body_are_passed_over(pack: Callable[[bytes], bytes], before: bytes) -> None:
    if pack is not zlib.compress:  # two bytes are no mark
        assert unpacked(before + pack(page()), ["gzip"], LIMIT) == (page(), True)


def test_brotli_that_breaks_off_gives_what_there_is_and_says_so() -> None:
    text = b"<html>" + b"".join(b"<p>%d</p>" % random.Random(n).getrandbits(900) for n in range(500))
    found = unpacked(brotli.compress(text)[:20_000], ["br"], LIMIT)
    assert not found.complete
    assert text.startswith(found.data)
    assert len(found.data) > 20_000


def test_raw_deflate_that_is_declared_as_gzip_is_undone() -> None:
    assert unpacked(zlib.compress(page())[2:-4], ["gzip"], LIMIT) == (page(), True)


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
        (chunks(page()).replace(b"12c\r\n", b"12a\r\n", 1), []),
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
        (b"\n%PDF-1.4\n" + page(), False),
        (b"\xef\xbb\xbf%PDF-1.4\n" + page(), False),
        (b"%!PS\n/x 3 def", False),
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
        ('<meta/name="robots"/content="noai">', True),
        ('<meta name="robots"content="noai"/>', True),
        ("<meta name=robots content=noai/>", True),
        ('<meta data-x="a > b" name="robots" content="noindex > noai">', True),
        ('<meta http-equiv="X-Robots-Tag" content="noai">', True),
        ("""<meta title=it's><meta name='robots' content='noai'>""", True),
        ('<meta name="robots" data-content="noai" content="all">', False),
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


@pytest.mark.parametrize("identified", ["application/gzip", "application/x-gzip", "Application/GZIP; x=1"])
def test_an_identified_coding_is_no_type(identified: str) -> None:
    """An archive that kept a page in its coding identifies the coding."""
    found = response_body(http(gz(page()), headers={"Content-Encoding": "gzip"}), LIMIT, identified)
    assert isinstance(found, Body)
    assert found.data == page()
    assert response_body(http(gz(b"a,b"), None), LIMIT, identified) == Skip("not_html")


@pytest.mark.parametrize("encoding", ["utf-16le", "utf-16be", "utf-32le"])
def test_wide_text_that_its_header_declares_is_text(encoding: str) -> None:
    text = "商队把原始网页一路运到训练好的模型" * 20
    found = response_body(http(text.encode(encoding), f"text/plain; charset={encoding}"), LIMIT)
    assert isinstance(found, Body)
    assert (found.data, found.declared) == (text.encode(encoding), encoding)
