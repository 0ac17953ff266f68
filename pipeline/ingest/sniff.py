"""What bytes look like, whatever their headers say: HTML, text, or neither."""

from __future__ import annotations

import re

from pipeline.ingest.charset import BOMS, wide_without_mark

LOOK_BYTES = 2048
SAMPLE_BYTES = 64 << 10
MAX_CONTROL_FRACTION = 0.01  # noise has 10 %, a page with a stray NUL or a damaged stretch far less

_PAGE = re.compile(rb"<!doctype\s+html|<html[\s>]|<head[\s>]|<body[\s>]", re.I)
_START = re.compile(rb"<(?:!doctype\s+html|html|head|body|script|iframe|h1|div|font|table|style|title|meta|link|br|p|a|b)[\s/>]", re.I)
_CONTROLS = bytes(range(0x09)) + bytes(range(0x0E, 0x1B)) + bytes(range(0x1C, 0x20)) + b"\x7f"
# Documents that are written in text and are not text to read, and what may be too short to show in control characters.
_NO_TEXT = (b"%PDF-", b"%!PS", b"{\\rtf", b"\x89PNG\r\n", b"GIF87a", b"GIF89a", b"\xff\xd8\xff", b"PK\x03\x04", b"Rar!\x1a\x07")

_BLANK = b"\xef\xbb\xbf \t\r\n\x0b\x0c"  # with the bytes of UTF-8's byte-order mark


def looks_like_html(data: bytes) -> bool:
    """Whether bytes without a declared type are an HTML page: a page's tags near the beginning, or another tag of HTML at it."""
    head = _head(data)
    return _PAGE.search(head) is not None or starts_as_html(head)


def starts_as_html(data: bytes) -> bool:
    """Whether the first tag of HTML begins the data, behind white space and comments (WHATWG MIME Sniffing, section 7.1)."""
    data = data.lstrip()
    while data.startswith(b"<!--"):
        data = data.partition(b"-->")[2].lstrip()
    return _START.match(data) is not None


def looks_like_text(data: bytes, declared: str | None = None) -> bool:
    """Whether bytes can be text in some charset: next to no control characters, and no magic bytes of a type that is none, at the
    beginning or behind white space and a byte-order mark. `declared` is the charset that a header names."""
    if data.startswith(_NO_TEXT) or data[:LOOK_BYTES].lstrip(_BLANK).startswith(_NO_TEXT):
        return False
    sample = data.strip(b"\0")[:SAMPLE_BYTES]
    if not sample:
        return False
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    return controls <= MAX_CONTROL_FRACTION * len(sample) or _is_wide(data, declared) or b"\x1b$)C" in sample


def _is_wide(data: bytes, declared: str | None = None) -> bool:
    """Whether it is UTF-16 or UTF-32."""
    return any(data.startswith(mark) for mark, name in BOMS if name != "utf-8") or wide_without_mark(data, declared) is not None


def _head(data: bytes) -> bytes:
    head = data[: 2 * LOOK_BYTES]
    if b"\0" in head and _is_wide(head):
        head = head.replace(b"\0", b"")
    for mark, _ in BOMS:
        head = head.removeprefix(mark)
    return head[:LOOK_BYTES]
