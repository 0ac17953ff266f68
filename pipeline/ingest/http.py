"""HTTP messages as archives keep them: status line, headers, a body that may be chunked and compressed, or wrongly says that it is.

Skipped, counted: http_status; not_html (another type by the header, or no type and no page); not_text (bytes of no text under a type that
is text); empty.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.ingest.codings import unpacked
from pipeline.ingest.records import BadRecord, Skip
from pipeline.ingest.robots import header_opts_out
from pipeline.ingest.sniff import looks_like_html, looks_like_text

HTML_TYPES = {"text/html", "application/xhtml+xml", "application/vnd.wap.xhtml+xml"}
TEXT_TYPES = {"text/plain"}
# What servers send when they do not know, or send for everything: the bytes decide.
UNKNOWN_TYPES = {"unknown/unknown", "application/unknown", "application/octet-stream", "binary/octet-stream", "content/unknown", "*/*"}
LIST_FIELDS = {"content-type", "content-encoding", "transfer-encoding", "x-robots-tag"}
MAX_HEADS = 5
MAX_HEAD_BYTES = 1 << 20
MAX_LENGTH_DIGITS = 18
# What an archive may identify in a payload that it kept in its coding.
COMPRESSION_TYPES = {
    *("application/gzip", "application/x-gzip", "application/zlib", "application/zstd", "application/x-zstd", "application/x-brotli"),
    *("application/x-bzip", "application/x-bzip2", "application/x-xz", "application/x-lzma"),
}

_HEADER_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/\d+(?:\.\d+)?\s+(\d{3})")
_CHARSET = re.compile(r"""charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]+)""", re.I)
_MEDIA = re.compile(r"\s*([^\s;,\"']+)")


class Body(NamedTuple):
    """A decoded body: HTML or plain text, the charset that the header declares, whether it breaks off, and whether its headers ask not to
    be used for AI."""

    data: bytes
    is_html: bool
    declared: str | None
    truncated: bool = False
    noai: bool = False


def parse_headers(lines: bytes) -> dict[str, str]:
    """Header lines by lower-case name; folded lines are joined. Of several with a name the first counts; fields that are lists are joined
    by commas (RFC 9110, section 5.3). Lines without a colon are passed over."""
    headers: dict[str, list[str]] = {}
    name = ""
    for line in lines.splitlines():
        if line[:1] in (b" ", b"\t") and name:
            headers[name].append(" " + line.strip().decode("utf-8", "replace"))
            continue
        key, colon, raw = line.partition(b":")
        name, value = key.strip().lower().decode("utf-8", "replace"), raw.strip().decode("utf-8", "replace")
        if colon and name not in headers:
            headers[name] = [value]
        elif colon and name in LIST_FIELDS:
            headers[name].append(f", {value}")
        else:
            name = ""
    return {name: "".join(pieces) for name, pieces in headers.items()}


def response_body(message: bytes, limit: int, identified: str | None = None) -> Body | Skip:
    """The text-bearing body of an HTTP response, or why it has none. `identified` is the type that the archive found in the payload.

    Raises BadRecord: bad_http, bad_encoding (a compressed or chunked body that does not unpack), too_large (it unpacks to more than `limit`
    bytes).
    """
    headers, body = _head_and_body(message)
    if headers is None:
        return Skip("http_status")
    codings = [coding for name in ("content-encoding", "transfer-encoding") for coding in headers.get(name, "").split(",")]
    length = headers.get("content-length", "")
    is_short = not any(coding.strip() for coding in codings) and is_length(length) and int(length) > len(body)
    noai = header_opts_out(headers)
    return typed_body(body, headers.get("content-type"), limit, codings=codings, identified=identified, is_short=is_short, noai=noai)


def _head_and_body(message: bytes) -> tuple[dict[str, str] | None, bytes]:
    """The headers (None: the status is not 200) and the body of a response; interim responses before it are passed over. Raises
    BadRecord."""
    for _ in range(MAX_HEADS):
        end = _HEADER_END.search(message, 0, MAX_HEAD_BYTES)
        if end is None and len(message) > MAX_HEAD_BYTES:
            raise BadRecord("bad_http", f"a head of more than {MAX_HEAD_BYTES} bytes")
        head, body = (message[: end.start()], message[end.end() :]) if end else (message, b"")
        status = _STATUS.match(head)
        if status is None:
            raise BadRecord("bad_http", head[:60].decode("latin-1"))
        headers = parse_headers(head.partition(b"\n")[2])
        interim = status[1].startswith(b"1") or (status[1] == b"200" and "content-type" not in headers)  # 200: a proxy's "established"
        if not (interim and _STATUS.match(body)):
            return headers if status[1] == b"200" else None, body
        message = body
    raise BadRecord("bad_http", "responses within responses")


def is_length(text: str) -> bool:
    """Whether a header's text is a length in bytes; longer digits are damage, and `int` refuses thousands of them."""
    return text.isascii() and text.isdigit() and len(text) <= MAX_LENGTH_DIGITS


def typed_body(
    body: bytes,
    content_type: str | None,
    limit: int,
    *,
    codings: Sequence[str] = (),
    identified: str | None = None,
    charset: str | None = None,
    is_short: bool = False,
    noai: bool = False,
) -> Body | Skip:
    """A payload as text in HTML or plain, or why it is neither, by its declared type, by the type that an archive identified, and by its
    bytes. `charset` holds where the type names none; `is_short`: fewer bytes than their header says, so a page without its end breaks off.
    Raises BadRecord: bad_encoding, too_large."""
    kind, declared = content_kind(content_type)
    if (identified or "").partition(";")[0].strip().lower() in COMPRESSION_TYPES:
        identified = None
    found, _ = content_kind(identified)
    if kind == "other" or (found == "other" and not _may_be_text(identified or "")):
        return Skip("not_html")
    data, complete = unpacked(body, codings, limit)
    if not data.strip():
        return Skip("empty")
    if kind == "unknown" and found != "other":
        kind = found
    if kind == "unknown" or found == "other":
        if not (looks_like_html(data) and looks_like_text(data, declared)):
            return Skip("not_html")
        kind = "html"
    if not looks_like_text(data, declared):
        return Skip("not_text")
    truncated = (is_short or not complete) and not data.rstrip().lower().endswith(b"</html>")
    return Body(data, kind != "text", declared or charset, truncated, noai)


def content_kind(content_type: str | None) -> tuple[str, str | None]:
    """("html" | "text" | "other" | "unknown", declared charset) of a Content-Type, also of several joined by commas: HTML if one is, else
    text if one is; the last charset."""
    medias = [found[1].lower() for part in (content_type or "").split(",") if (found := _MEDIA.match(part))]
    charsets = _CHARSET.findall(content_type or "")
    kinds = {_kind(media) for media in medias}
    kind = next((name for name in ("html", "text", "other") if name in kinds), "unknown")
    return kind, charsets[-1] if charsets else None


def _may_be_text(identified: str) -> bool:
    """Whether an identified type is one that pages are taken for: other text, and XML."""
    media = identified.strip().lower()
    return media.startswith("text/") or "xml" in media


def _kind(media: str) -> str:
    if media in HTML_TYPES or media in TEXT_TYPES:
        return "html" if media in HTML_TYPES else "text"
    return "unknown" if media in UNKNOWN_TYPES or "/" not in media else "other"
