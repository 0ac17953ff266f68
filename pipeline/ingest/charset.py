"""Bytes to text: a byte-order mark, then valid UTF-8, then what header and page declare as far as the bytes bear it out, then detection.

Text that is strictly valid UTF-8 and not ASCII is UTF-8, whatever is declared: chance makes that of legacy text hardly ever. Text whose
well-formed sequences outnumber its bad bytes is damaged UTF-8, with U+FFFD for the damaged bytes alone; by chance GBK, Thai or EUC-JP text
reaches one well-formed sequence for two bad bytes. All else is legacy: header, page and detection (uchardet) each propose a charset, and
the one under which the text reads most plausibly is taken (`legibility`), the declared before the detected where they are about equal.
Labels mean what the WHATWG Encoding Standard says (ISO-8859-1 is windows-1252, GB2312 is GB18030); those it lacks, what Python says.

What stays undecidable: undeclared text of a few legacy bytes, and one Latin charset taken for another where both give letters.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

from pipeline.ingest.legibility import implausible_fraction

BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
META_BYTES = 64 << 10
SAMPLE_BYTES = 16 << 10  # for detection
READ_BYTES = 8 << 10  # of them, to weigh charsets against one another
FEW_CHARS = 60  # beyond ASCII: below that, detection says less than a declaration
EQUALLY_LEGIBLE = 0.05
ILLEGIBLE = 0.1
MAX_BAD_PER_GOOD = 3
MIN_NUL_FRACTION = 0.03  # of every second byte, in UTF-16 without a mark: its markup and white space

_META = re.compile(rb"""<meta[^>]{1,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]+)""", re.I)
_XML = re.compile(rb"""^\s*<\?xml[^>]{1,200}?encoding\s*=\s*["']([A-Za-z0-9_:.-]+)["']""", re.I)
_TAG = re.compile(rb"<[^<>]{0,2000}>")
_UNREAD = re.compile(rb"<(script|style)\b", re.I)
_NON_ASCII = re.compile(rb"[\x80-\xff]")
_SURROGATE_PAIR = re.compile(rb"\xed[\xa0-\xaf][\x80-\xbf]\xed[\xb0-\xbf][\x80-\xbf]")  # CESU-8, as Java and MySQL wrote emoji
_SURE_UTF8 = re.compile(rb"\xe2[\x80-\x84][\x80-\xbf]|\xf0\x9f[\x80-\xbf]{2}")  # punctuation and signs; emoji
_LIKELY_UTF8 = re.compile(rb"\xc3[\xa0-\xbf]")  # small Latin letters with marks
_RARE_AT_THE_END = re.compile(rb"[\xc2-\xdf\xe2\xf0]")  # as letters: capitals, and those that end few words
_ESCAPED = (("iso2022_jp_2", b"\x1b$"), ("iso2022_jp_ext", b"\x1b$"), ("iso2022_kr", b"\x1b$)C"))  # 7-bit, so ASCII to who doesn't know

# Where the standard means a superset of the codec that resiliparse's table names, and labels that the table lacks.
_SUPERSETS = {
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "iso8859-11": "cp874",
    "euc_jp": "euc_jis_2004",  # the standard's table has NEC's row 13, which Python's EUC-JP lacks
}
_MORE_LABELS = {"uhc": "cp949", "cp949": "cp949", "macintosh": "mac-roman", "x-mac-cyrillic": "mac-cyrillic", "hz-gb-2312": "hz"}
_PYTHON_LABEL = re.compile(r"(?:x-|win-?|windows-?)?((?:cp|iso|koi8|kz|mac|gb|big5|euc|shift|johab|hz|tis|ptcp|utf|125\d)[\w.-]*)")

_FAMILIES = {
    "cyrillic": {"cp1251", "koi8-r", "koi8-u", "iso8859-5", "cp866", "cp855", "mac-cyrillic"},
    "greek": {"cp1253", "iso8859-7"},
    "hebrew": {"cp1255", "iso8859-8"},
    "arabic": {"cp1256", "iso8859-6"},
    "thai": {"cp874"},
    "gb": {"gb18030", "hz"},
    "big5": {"big5hkscs", "cp950"},
    "shift_jis": {"cp932"},
    "euc_jp": {"euc_jis_2004"},
    "korean": {"cp949", "johab"},
    "central": {"cp1250", "iso8859-2"},
    "baltic": {"cp1257", "iso8859-13", "iso8859-4"},
    "turkish": {"cp1254"},
}
_LATIN_FAMILIES = {"central", "baltic", "turkish"}
_FAMILY = {encoding: family for family, encodings in _FAMILIES.items() for encoding in encodings}
# What detection takes for one another: the same letters in most places.
_SIBLINGS = (
    ("cp1250", "iso8859-2"),
    ("cp1253", "iso8859-7"),
    ("cp1255", "iso8859-8"),
    ("cp1256", "iso8859-6"),
    ("cp1257", "iso8859-13", "iso8859-4"),
    ("cp1252", "iso8859-15"),
    ("koi8-r", "koi8-u"),
)


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
            if (text := _marked(data[len(mark) :], name)) is not None:
                return text
            data = data[len(mark) :]
            break
    if (wide := wide_without_mark(data, declared)) is not None:
        return data.decode(wide, "replace")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _damaged_or_legacy(data, [python_name(label) for label in _declarations(data, declared, is_html)], is_html)
    if data.isascii():
        return _seven_bit(data, declared, is_html) or text
    return text


def python_name(label: str) -> str | None:
    """Python's codec for a charset label of the web, or None for a label that means nothing. UTF-16 in a page that was read as ASCII
    means UTF-8."""
    label = label.strip().lower()
    known = map_encoding_to_html5(label, fallback_utf8=False) or _MORE_LABELS.get(label)
    if known is None and (found := _PYTHON_LABEL.fullmatch(label)) is not None and label != "utf-7":
        known = f"cp{found[1]}" if found[1].isdigit() else found[1]
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


def wide_without_mark(data: bytes, declared: str | None = None) -> str | None:
    """UTF-16 or UTF-32 of text without a mark, in its byte order: by the NUL bytes of its markup and spaces, by characters of four bytes,
    or as a header `declared` it, where that makes writing of the bytes; None for other data."""
    return _utf16_by_zeros(data) or _utf32(data) or _declared_wide(data, declared)


def _utf32(data: bytes) -> str | None:
    """Which UTF-32 the bytes are: other data has hardly four bytes in a row that it allows."""
    head = data[: min(4096, len(data) & ~3)]
    if len(head) < 8 or b"\0" not in head:
        return None
    return next((name for name in ("utf-32-le", "utf-32-be") if _is_written_in(head, name)), None)


def _declared_wide(data: bytes, declared: str | None) -> str | None:
    """The UTF-16 that a header declares, for text without markup and spaces. Pairs of ASCII are ideographs, so valid UTF-8 is none."""
    name = python_name(declared or "")
    head = data[: min(4096, len(data) & ~1)]
    if name is None or not name.startswith("utf-16") or len(head) < 2 or is_utf8(head):
        return None
    for order in ("utf-16-be", "utf-16-le") if name.endswith("be") else ("utf-16-le", "utf-16-be"):
        if _is_written_in(head, order) and implausible_fraction(head.decode(order, "ignore")) <= ILLEGIBLE:
            return order
    return None


def _is_written_in(head: bytes, encoding: str) -> bool:
    """Whether bytes are strictly of a charset, but for a character cut at the end, and next to all printable."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return False
    return sum(1 for char in text if not (char.isprintable() or char.isspace())) <= len(text) // 50 + 1


def is_utf8(data: bytes) -> bool:
    """Whether bytes are valid UTF-8, but for a character cut at the end."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return False
    return True


def _utf16_by_zeros(data: bytes) -> str | None:
    head = data[:4096]
    if b"\0" not in head or len(head) < 2:
        return None
    even, odd = head[::2], head[1::2]
    zeros_even, zeros_odd = even.count(0) / len(even), odd.count(0) / max(len(odd), 1)
    if max(zeros_even, zeros_odd) < max(MIN_NUL_FRACTION, 3 * min(zeros_even, zeros_odd)):
        return None
    name = "utf-16-be" if zeros_even > zeros_odd else "utf-16-le"
    text = head[: len(head) & ~1].decode(name, "replace")
    odd_chars = sum(1 for char in text if char == "\ufffd" or not (char.isprintable() or char.isspace()))
    return name if odd_chars <= len(text) // 50 + 1 else None


def _marked(data: bytes, encoding: str) -> str | None:
    """`data` behind a byte-order mark, or None where the mark is false."""
    text = data.decode(encoding, "replace")
    bad = text.count("\ufffd")
    if encoding == "utf-8":
        good = _beyond_ascii(text) - bad
        return text if bad <= good or len(_cut_tail(data)) > 1 else None
    return text if bad <= len(text) // 10 + 1 else None


def _seven_bit(data: bytes, declared: str | None, is_html: bool) -> str | None:
    """The text of an escaped 7-bit charset: ISO-2022, and HZ where it is declared. None: it is ASCII."""
    for encoding, escape in _ESCAPED:
        if escape in data:
            text = data.decode(encoding, "replace")
            if 10 * text.count("\ufffd") <= _beyond_ascii(text) and not text.isascii():
                return text
    if b"~{" in data and "hz" in (python_name(label) for label in _declarations(data, declared, is_html)):
        return data.decode("hz", "replace")
    return None


def _declarations(data: bytes, declared: str | None, is_html: bool) -> Iterator[str]:
    if declared:
        yield declared
    if is_html and (label := declared_in_page(data)):
        yield label


def _cut_tail(data: bytes) -> bytes:
    """The beginning of a character of UTF-8 at the end of bytes that are valid but for it; empty for others."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(data)
    except UnicodeDecodeError:
        return b""
    return decoder.getstate()[0]


def _joined_surrogate(pair: re.Match[bytes]) -> bytes:
    return pair[0].decode("utf-8", "surrogatepass").encode("utf-16-le", "surrogatepass").decode("utf-16-le").encode()


def _damaged_or_legacy(data: bytes, declared: list[str | None], is_html: bool) -> str:
    """The text of bytes that are neither ASCII nor valid UTF-8. UTF-8 that is cut within its last character is UTF-8 where that is
    declared. A tie is, too, or what legacy text of the West never holds, and a few bad bytes more where no legacy charset makes writing of
    the text either."""
    paired = _SURROGATE_PAIR.sub(_joined_surrogate, data)
    as_utf8 = paired.decode("utf-8", "replace")
    bad = as_utf8.count("\ufffd") - data.count(b"\xef\xbf\xbd")
    good = _beyond_ascii(as_utf8) - bad
    is_declared = "utf-8" in declared
    if good > bad or (good == bad and is_declared):
        return as_utf8
    tail = _cut_tail(paired)
    if tail and (good or (is_declared and (len(tail) > 1 or is_html or _RARE_AT_THE_END.match(tail)))):
        return as_utf8
    encoding, mark = _most_legible(data, [name for name in declared if name is not None and not name.startswith(("utf-", "iso2022", "hz"))])
    if good + bad < FEW_CHARS and mark > ILLEGIBLE and good * MAX_BAD_PER_GOOD >= bad:
        return as_utf8
    if is_declared and is_single_byte(encoding) and _FAMILY.get(encoding, "latin") in {"latin", *_LATIN_FAMILIES} and _has_sure_utf8(data):
        return as_utf8
    return data.decode(encoding, _on_error(encoding))


def _has_sure_utf8(data: bytes) -> bool:
    """Whether bytes hold sequences of UTF-8 that legacy text of the West does not: "â€™", two of "Ã©"."""
    return _SURE_UTF8.search(data) is not None or len(_LIKELY_UTF8.findall(data)) > 1


def _most_legible(data: bytes, declared: list[str]) -> tuple[str, float]:
    """(legacy charset, its implausible fraction): the most legible of those declared, that detected and its siblings. Of two that are
    declared, windows-1252 comes behind another Latin one: servers say it of every page."""
    if len(declared) > 1 and declared[0] == "cp1252" and _FAMILY.get(declared[1]) in _LATIN_FAMILIES:
        declared = declared[::-1]
    sample = sample_of(data)
    detected = _detected(sample)
    if detected is not None and declared and declared[0] == detected:
        return detected, 0.0
    read = sample[:READ_BYTES]
    marks = {
        encoding: implausible_fraction(read.decode(encoding, _on_error(encoding)))
        for encoding in dict.fromkeys([*declared, *_with_siblings(detected), "cp1252"])
    }
    legible = [encoding for encoding, mark in marks.items() if mark <= min(marks.values()) + EQUALLY_LEGIBLE]
    best = legible[0]
    if detected is not None and len(_NON_ASCII.findall(sample)) >= FEW_CHARS:
        # Western text is what detection falls back on: it decides between declarations, and does not overrule a more special Latin one.
        may_overrule = detected in _FAMILY or _FAMILY.get(best) not in _LATIN_FAMILIES
        alike = [each for each in legible if _FAMILY.get(each) == _FAMILY.get(detected) and (may_overrule or each in declared)]
        best = min(alike, key=lambda encoding: marks[encoding], default=best)
    return best, marks[best]


def _detected(sample: bytes) -> str | None:
    """What uchardet takes `sample` for, or None. Where it says UTF-8, which these bytes are not, its halves are asked."""
    middle = len(sample) // 2
    for part in (sample, sample[middle:], sample[:middle]):
        found = python_name(detect_encoding(part, max_len=SAMPLE_BYTES, html5_compatible=False) or "")
        if found is not None and not found.startswith("utf-8"):
            return found
    return None


def sample_of(data: bytes) -> bytes:
    """The text around and behind the first byte beyond ASCII, without markup, scripts and styles; at most `SAMPLE_BYTES`."""
    first = _NON_ASCII.search(data)
    start = max(0, (first.start() if first else 0) - 1024)
    data = data[start : start + 16 * SAMPLE_BYTES]
    pieces, at, lower = list[bytes](), 0, data.lower()
    while (found := _UNREAD.search(data, at)) is not None:
        end = lower.find(b"</" + found[1].lower(), found.end())
        if end < 0:
            break
        pieces.append(data[at : found.start()])
        at = end
    sample = _TAG.sub(b" ", b" ".join([*pieces, data[at:]]))
    return sample[:SAMPLE_BYTES]


def _with_siblings(encoding: str | None) -> list[str]:
    if encoding is None:
        return []
    return [encoding, *(other for group in _SIBLINGS if encoding in group for other in group if other != encoding)]


def _on_error(encoding: str) -> str:
    return "caravan-control" if is_single_byte(encoding) else "replace"


def is_single_byte(encoding: str) -> bool:
    """Whether a codec (a name of Python's) takes every byte for a character of its own."""
    return not encoding.startswith(("utf", "gb", "big5", "cp932", "cp949", "cp950", "euc", "iso2022", "johab", "hz", "shift"))


def _beyond_ascii(text: str) -> int:
    """How many characters are not ASCII."""
    return 0 if text.isascii() else len(text) - len(text.encode("ascii", "ignore"))
