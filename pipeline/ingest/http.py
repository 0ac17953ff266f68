"""HTTP messages as archives keep them: status line, headers, a body that may be chunked and compressed, or wrongly says that it is."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable
from typing import NamedTuple

import zstandard
from fastwarc.stream_io import BrotliReader

from pipeline.ingest.html import looks_like_html
from pipeline.ingest.records import BadRecord, Skip

HTML_TYPES = {"text/html", "application/xhtml+xml", "application/vnd.wap.xhtml+xml"}
TEXT_TYPES = {"text/plain"}
GZIP_OR_ZLIB_WBITS = 47

_HEADER_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/\d+(?:\.\d+)?\s+(\d{3})")
_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]{0,1024})?\r?\n")
_CHARSET = re.compile(r"""charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]+)""", re.I)


class Body(NamedTuple):
    """A decoded body: HTML or plain text, and the charset that the header declares."""

    data: bytes
    is_html: bool
    declared: str | None


def parse_headers(lines: bytes) -> dict[str, str]:
    """Header lines by lower-case name; the first of several with a name counts, folded lines are joined. Lines without a colon are
    passed over."""
    headers: dict[str, str] = {}
    name = ""
    for line in lines.splitlines():
        if line[:1] in (b" ", b"\t") and name:
            headers[name] += " " + line.strip().decode("utf-8", "replace")
            continue
        key, colon, value = line.partition(b":")
        name = key.strip().lower().decode("utf-8", "replace")
        if colon and name not in headers:
            headers[name] = value.strip().decode("utf-8", "replace")
        else:
            name = ""
    return headers


def response_body(message: bytes, limit: int) -> Body | Skip:
    """The text-bearing body of an HTTP response, or why it has none: http_status, not_html, empty.

    Raises BadRecord: bad_http, bad_encoding (a compressed body that does not unpack), too_large (it unpacks to more than `limit` bytes).
    """
    end = _HEADER_END.search(message)
    head, body = (message[: end.start()], message[end.end() :]) if end else (message, b"")
    status = _STATUS.match(head)
    if status is None:
        raise BadRecord("bad_http", head[:60].decode("latin-1"))
    if status.group(1) != b"200":
        return Skip("http_status")
    headers = parse_headers(head.partition(b"\n")[2])
    kind, declared = content_kind(headers.get("content-type"))
    if kind == "other":
        return Skip("not_html")
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = dechunked(body)
    body = unpacked(body, headers.get("content-encoding", ""), limit)
    return typed_body(body, kind, declared)


def typed_body(body: bytes, kind: str, declared: str | None) -> Body | Skip:
    """A body with the kind that its header gave; without one, HTML when it looks like it."""
    if not body.strip():
        return Skip("empty")
    if kind == "unknown" and not looks_like_html(body):
        return Skip("not_html")
    return Body(body, kind != "text", declared)


def content_kind(content_type: str | None) -> tuple[str, str | None]:
    """("html" | "text" | "other" | "unknown", declared charset) of a Content-Type."""
    if not content_type:
        return "unknown", None
    media = content_type.partition(";")[0].strip().lower()
    charset = _CHARSET.search(content_type)
    kind = "html" if media in HTML_TYPES else "text" if media in TEXT_TYPES else "other"
    return kind, charset.group(1) if charset else None


def dechunked(body: bytes) -> bytes:
    """A body in chunked transfer coding put together. One that is not chunked after all comes back as it is; one that breaks off, as
    far as it goes."""
    pieces, at = list[bytes](), 0
    while found := _CHUNK_SIZE.match(body, at):
        size = int(found.group(1), 16)
        if size == 0:
            return b"".join(pieces)
        pieces.append(body[found.end() : found.end() + size])
        at = found.end() + size
        at += 2 if body[at : at + 2] == b"\r\n" else 1 if body[at : at + 1] == b"\n" else 0
    if not pieces:
        return body
    return b"".join(pieces)


def unpacked(body: bytes, content_encoding: str, limit: int) -> bytes:
    """A body without its content codings, undone last first. One whose header lies, so that it is not compressed, comes back as it is.

    Raises BadRecord: bad_encoding, too_large.
    """
    codings = [name.strip().lower() for name in content_encoding.split(",") if name.strip()]
    for coding in reversed(codings):
        unpack = _UNPACKERS.get(coding)
        if unpack is None:
            continue
        if coding in ("gzip", "x-gzip") and not body.startswith(b"\x1f\x8b"):
            continue
        try:
            body = unpack(body, limit + 1)
        except (zlib.error, OSError, zstandard.ZstdError) as error:
            if body.lstrip()[:1] == b"<":  # crawlers keep the header and store the body unpacked
                continue
            raise BadRecord("bad_encoding", f"{coding}: {error}") from error
        if len(body) > limit:
            raise BadRecord("too_large", f"the body unpacks to more than {limit} bytes")
    return body


def _inflate(body: bytes, size: int) -> bytes:
    """gzip or zlib; a body that breaks off gives what there is."""
    return zlib.decompressobj(GZIP_OR_ZLIB_WBITS).decompress(body, size)


def _deflate(body: bytes, size: int) -> bytes:
    """HTTP's "deflate": zlib by the standard, raw deflate by some servers."""
    try:
        return _inflate(body, size)
    except zlib.error:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(body, size)


def _brotli(body: bytes, size: int) -> bytes:
    data: bytes = BrotliReader(io.BytesIO(body)).read(size)
    return data


def _zstd(body: bytes, size: int) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(body) as reader:
        return reader.read(size)


_UNPACKERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _inflate,
    "x-gzip": _inflate,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
