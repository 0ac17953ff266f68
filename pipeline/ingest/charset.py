"""Bytes to text: a byte-order mark, then the HTTP header, then the page's own declaration, then detection.

A declaration is believed only as far as the bytes bear it out: a page that declares a single-byte charset and is valid UTF-8 beyond
ASCII is UTF-8 (chance makes that of legacy text hardly ever), one that declares UTF-8 or a multi-byte charset and has more than a few
bad bytes is tried with the next candidate. Labels mean what the WHATWG Encoding Standard says (ISO-8859-1 is windows-1252, GB2312 is
GB18030). Detection is uchardet's.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
META_BYTES = 4096
DETECT_BYTES = 64 << 10
MAX_BAD_CHARS_FRACTION = 0.02  # of the characters beyond ASCII

_META = re.compile(rb"""<meta[^>]{1,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]+)""", re.I)
_XML = re.compile(rb"""^\s*<\?xml[^>]{1,200}?encoding\s*=\s*["']([A-Za-z0-9_:.-]+)["']""", re.I)
_MARKUP = re.compile(rb"<(script|style)\b.{0,100000}?</\1\s*>|<[^<>]{0,2000}>", re.I | re.S)
_JAPANESE_ESCAPE = b"\x1b$"  # ISO-2022-JP is ASCII to whoever does not know it
_NON_ASCII = re.compile(rb"[\x80-\xff]")

# Where the standard means a superset of the codec that resiliparse's table names, and labels that the table lacks.
_SUPERSETS = {"shift_jis": "cp932", "euc_kr": "cp949", "gbk": "gb18030", "big5": "big5hkscs", "iso8859-11": "cp874"}
_MORE_LABELS = {
    "uhc": "cp949",
    "cp949": "cp949",
    "x-mac-cyrillic": "mac-cyrillic",
    "mac-cyrillic": "mac-cyrillic",
    "macintosh": "mac-roman",
}


def _keep_as_control(error: UnicodeError) -> tuple[str, int]:
    """Bytes that a single-byte charset leaves undefined become the control of that number, as the standard has it; text loses controls
    later."""
    assert isinstance(error, UnicodeDecodeError)
    return "".join(chr(byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error("caravan-control", _keep_as_control)


def decode(data: bytes, *, declared: str | None = None, is_html: bool = False) -> str:
    """The text of `data`. `declared` is the charset that a header names. Never fails: what cannot be decoded becomes U+FFFD."""
    for mark, name in BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace")
    as_utf8 = _strict(data, "utf-8")
    if as_utf8 is not None and data.isascii() and _JAPANESE_ESCAPE not in data:
        return as_utf8
    for label in _declarations(data, declared, is_html):
        encoding = python_name(label)
        if encoding is None:
            continue
        if as_utf8 is not None and (encoding == "utf-8" or _is_single_byte(encoding)):
            return as_utf8
        if (text := _borne_out(data, encoding)) is not None:
            return text
    if as_utf8 is None:
        return _detected(data)
    japanese = _strict(data, "iso2022_jp") if data.isascii() and _JAPANESE_ESCAPE in data else None
    return as_utf8 if japanese is None else japanese


def python_name(label: str) -> str | None:
    """Python's codec for a charset label of the web, or None for a label that means nothing. UTF-16 in a page that was read as ASCII
    means UTF-8."""
    known = map_encoding_to_html5(label.strip().lower(), fallback_utf8=False) or _MORE_LABELS.get(label.strip().lower())
    try:
        return codecs.lookup(_SUPERSETS.get(known, known)).name if known else None
    except LookupError:
        return None


def declared_in_page(data: bytes) -> str | None:
    """The charset label in the first bytes of an HTML or XML page, or None."""
    head = data[:META_BYTES]
    found = _XML.search(head) or _META.search(head)
    if found is None:
        return None
    label = found.group(1).decode("ascii").lower()
    return "utf-8" if label.startswith("utf-16") else label


def _declarations(data: bytes, declared: str | None, is_html: bool) -> Iterator[str]:
    if declared:
        yield declared
    if is_html and (label := declared_in_page(data)):
        yield label


def _strict(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _is_single_byte(encoding: str) -> bool:
    return not encoding.startswith(("utf", "gb", "big5", "cp932", "cp949", "euc", "iso2022", "johab", "hz"))


def _borne_out(data: bytes, encoding: str) -> str | None:
    """`data` in `encoding`, or None when too much of it is not."""
    if _is_single_byte(encoding):
        return data.decode(encoding, "caravan-control")
    text = data.decode(encoding, "replace")
    bad = text.count("\ufffd")
    beyond_ascii = sum(map(len, re.findall(r"[^\x00-\x7f]+", text))) if bad else 1
    return text if bad <= MAX_BAD_CHARS_FRACTION * beyond_ascii else None


def _detected(data: bytes) -> str:
    """`data` in the charset that detection finds in its text without markup; windows-1252 where it finds nothing that fits."""
    if (text := _borne_out(data, "utf-8")) is not None:
        return text
    first = _NON_ASCII.search(data)
    start = max(0, (first.start() if first else 0) - 1024)
    sample = _MARKUP.sub(b" ", data[start : start + 4 * DETECT_BYTES])
    encoding = python_name(detect_encoding(sample, max_len=DETECT_BYTES, html5_compatible=False) or "")
    for candidate in (encoding, "cp1252"):
        if candidate is not None and candidate != "utf-8" and (text := _borne_out(data, candidate)) is not None:
            return text
    return data.decode("cp1252", "caravan-control")
