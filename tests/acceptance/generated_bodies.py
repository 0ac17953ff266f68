"""Generated HTTP bodies in WARC records, over charsets, declarations, codings, languages and damage, each with what is right.

`generate(seed, n)` makes the cases, `run_cases` sends each through the real extraction, a WARC file of its own. Right is one of these: a
document whose text holds the case's paragraph, character by character, and no U+FFFD more than that; or one of the reasons that the case
allows. What is right is computed with Python's codecs alone.

Left out, because no one can decide them: Latin text of fewer than `DECIDABLE` bytes beyond ASCII that is undeclared or wrongly declared; a
Latin text declared as another Latin charset than windows-1252's kind (both read it as letters); a flipped byte in compressed data without
a checksum (Brotli, raw deflate).
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import brotli
import zstandard

from pipeline.documents import DOCUMENTS
from pipeline.ingest import extract
from pipeline.ingest.config import LanguageConfig, SourceConfig
from pipeline.ingest.html import normal_text
from pipeline.snapshot import look
from storage.store import Store
from storage.tables import read_table
from tests.acceptance.body_texts import TEXTS

DECIDABLE = 70  # bytes beyond ASCII
LATIN_WESTERN = ("iso-8859-1", "windows-1252", "iso-8859-15")
LATIN_OTHER = ("windows-1250", "iso-8859-2", "windows-1254", "iso-8859-9", "windows-1257", "iso-8859-13")
OTHERS = (
    *("windows-1251", "koi8-r", "iso-8859-5", "windows-1253", "windows-1255", "windows-1256", "windows-874"),
    *("gbk", "gb18030", "big5", "shift_jis", "euc-jp", "euc-kr"),
)
# Where the web's label means more than Python's codec of that name.
CODECS = {
    "iso-8859-1": "cp1252", "windows-874": "cp874", "tis-620": "cp874", "iso-8859-9": "cp1254", "gbk": "gb18030", "gb2312": "gb18030",
    "shift_jis": "cp932", "euc-kr": "cp949", "big5": "big5hkscs",
}  # fmt: skip
COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "deflate": zlib.compress,
    "raw deflate": lambda data: zlib.compress(data)[2:-4],
    "br": brotli.compress,
    "zstd": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "gzip twice": lambda data: gzip.compress(gzip.compress(data, mtime=0), mtime=0),
    "br in gzip": lambda data: gzip.compress(brotli.compress(data), mtime=0),
    "two gzip members": lambda data: gzip.compress(data[:200], mtime=0) + gzip.compress(data[200:], mtime=0),
}
DECLARED_AS = {"raw deflate": "deflate", "gzip twice": "gzip, gzip", "br in gzip": "br, gzip", "two gzip members": "gzip"}
UNMARKED = ("raw deflate", "br", "br in gzip")  # nothing shows what they are
UNCHECKED = ("raw deflate", "br", "br in gzip")
BINARY_STARTS = (
    b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    b"PK\x03\x04\x14\0",
    b"\xff\xd8\xff\xe0\0\x10JFIF\0",
)
NOAI_TAGS = (
    b'<meta name="robots" content="noai, noimageai">',
    b"<meta content=noai name=robots>",
    b"<META NAME='Googlebot' CONTENT='NOAI'>",
)
NO_DOCUMENT = frozenset({"skipped:not_text", "skipped:not_html", "quarantined:bad_encoding"})
BROKEN_OFF = frozenset({"skipped:truncated", "quarantined:bad_encoding"})


@dataclass(frozen=True)
class Case:
    """A WARC record and what is right for it: one of `texts` in its document, or one of `reasons`; and a signal that has to be counted."""

    name: str
    record: bytes
    texts: tuple[str, ...] = ()
    reasons: frozenset[str] = frozenset()
    signal: str | None = None


@dataclass(frozen=True)
class Outcome:
    """Whether what came out of a case is right, and what it was."""

    case: Case
    is_right: bool
    found: str


@dataclass
class _Draft:
    """A case in the making: what its page says, its bytes and its headers."""

    rng: random.Random
    paragraph: str
    body: bytes
    name: list[str]
    http: list[tuple[str, str]] = field(default_factory=list)
    warc: list[tuple[str, str]] = field(default_factory=list)
    texts: tuple[str, ...] = ()
    reasons: frozenset[str] = frozenset()
    signal: str | None = None
    start: int = 0  # of the paragraph in `body`
    end: int = 0


Sentences = Mapping[str, tuple[Sequence[str], Sequence[str]]]


def generate(seed: int, n: int, texts: Sentences = TEXTS) -> list[Case]:
    """`n` cases. `texts`: language -> (sentences, labels of its legacy charsets). Equal arguments give equal cases."""
    rng = random.Random(seed)
    return [_case(rng, number, texts) for number in range(n)]


def run_cases(cases: Iterable[Case]) -> list[Outcome]:
    """What ingest makes of each case."""
    with tempfile.TemporaryDirectory() as folder:
        raw, store = Store(f"{folder}/raw"), Store(f"{folder}/store")
        Path(folder, "raw").mkdir()
        return [_outcome(case, number, raw, store) for number, case in enumerate(cases)]


def wrong_ones(outcomes: Iterable[Outcome]) -> list[str]:
    """A line for each outcome that is not right."""
    return [f"{outcome.case.name}: {outcome.found}" for outcome in outcomes if not outcome.is_right]


def _outcome(case: Case, number: int, raw: Store, store: Store) -> Outcome:
    path = f"{number:05d}.warc.gz"
    raw.write(path, gzip.compress(case.record, mtime=0))
    source = SourceConfig(name="bodies", format="warc", path=path)
    (file,) = look(raw, store, [source])[source.name]
    made = extract.run(store=store, raw=raw, config=extract.config_of(source, file, LanguageConfig()))
    reasons = sorted(name for name in made.counts if name.startswith(("skipped:", "quarantined:")))
    if reasons:
        return Outcome(case, set(reasons) <= case.reasons, ", ".join(reasons))
    (text,) = read_table(store, made, "documents-00000.parquet", DOCUMENTS.names).column("text").to_pylist()
    fits = any(want in text and text.count("\ufffd") <= want.count("\ufffd") for want in case.texts)
    counted = case.signal is None or made.counts.get(case.signal) == 1
    return Outcome(case, fits and counted, ascii(text[:60]) if fits else f"{text[:90]!r}, not {[want[:60] for want in case.texts]}")


def _case(rng: random.Random, number: int, texts: Sentences) -> Case:
    draft = _page(rng, texts)
    damage = rng.choice(["none"] * 5 + ["bytes", "cut", "coding", "noise", "record"])
    if damage == "noise":
        draft.body = rng.randbytes(rng.randint(600, 6000))
        draft.texts, draft.reasons = (), NO_DOCUMENT
        draft.name.append("all noise")
    elif damage == "bytes":
        _damage_bytes(draft)
    elif damage == "record":
        _odd_record(draft)
    elif damage == "cut":
        _cut(draft)
    _code(draft, damage == "coding")
    _type(draft)
    block = _head("HTTP/1.1 200 OK", draft.http) + draft.body
    fields = [
        ("WARC-Type", "response"),
        ("WARC-Record-ID", f"<urn:uuid:{number}>"),
        ("WARC-Date", "2024-03-01T12:00:00Z"),
        ("WARC-Target-URI", f"http://example.org/{number}"),
        *draft.warc,
        ("Content-Type", "application/http; msgtype=response"),
        ("Content-Length", str(len(block))),
    ]
    record = _head("WARC/1.0", fields) + block + b"\r\n\r\n"
    wanted = tuple(normal_text(text).strip() for text in draft.texts)
    return Case(f"{number}: " + ", ".join(draft.name), record, wanted, draft.reasons, draft.signal)


def _head(first: str, fields: Sequence[tuple[str, str]]) -> bytes:
    return "\r\n".join([first, *(f"{name}: {value}" for name, value in fields)]).encode() + b"\r\n\r\n"


def _page(rng: random.Random, texts: Sentences) -> _Draft:
    """A page in a charset that header, meta tag, both or neither declare, rightly or wrongly."""
    language = rng.choice(sorted(texts))
    sentences, legacy = texts[language]
    charset = rng.choice([*["utf-8"] * 2, "utf-8-sig", "utf-16-le", "utf-16-be", *legacy, *legacy, *legacy])
    codec = charset.removesuffix("-sig") if charset.startswith("utf") else CODECS.get(charset, charset)
    paragraph = _paragraph(rng, sentences, codec)
    header, meta = _declarations(rng, charset, len([byte for byte in paragraph.encode(codec) if byte > 127]))
    tags = [f'<meta charset="{meta}">', f"<META http-equiv='Content-Type' content='text/html; charset={meta}'>"]
    tag = "" if meta is None else rng.choice(tags)
    before = f"<!DOCTYPE html><html><head>{tag}<title>{paragraph[:12]}</title></head><body><main><article><p>"
    has_mark = charset == "utf-8-sig" or (charset.startswith("utf-16") and rng.random() < 0.6)
    mark = "\ufeff".encode(codec) if has_mark else b""
    start = mark + before.encode(codec)
    inner = paragraph.encode(codec)
    body = start + inner + "</p></article></main></body></html>".encode(codec)
    marked = " with a mark" if mark else ""
    draft = _Draft(rng, paragraph, body, [language, charset + marked, f"header {header}", f"meta {meta}"], texts=(paragraph,))
    draft.start, draft.end = len(start), len(start) + len(inner)
    draft.http = [("Content-Type", "text/html" + (f"; charset={header}" if header else ""))]
    return draft


def _paragraph(rng: random.Random, sentences: Sequence[str], codec: str) -> str:
    """Sentences in random order, at least 500 characters and, where the language has them, enough beyond ASCII; without what the charset
    lacks."""
    found = ""
    for _ in range(60):
        sentence = rng.choice(sentences)
        sentence = sentence.encode(codec, "ignore").decode(codec)
        found += sentence + f" ({rng.randint(1, 999)}) "
        if len(found) >= 500 and sum(char > "\x7f" for char in found) >= DECIDABLE + 20:
            break
    return " ".join(found.split())


def _declarations(rng: random.Random, charset: str, beyond_ascii: int) -> tuple[str | None, str | None]:
    """(header's charset, meta's charset), None for one that names none."""
    right = {"utf-8-sig": "utf-8", "utf-16-le": "utf-16le", "utf-16-be": "utf-16be"}.get(charset, charset)
    if charset.startswith("utf"):
        wrong = [*LATIN_WESTERN, *LATIN_OTHER, *OTHERS, "nonsense"]
    elif charset in LATIN_WESTERN or charset in LATIN_OTHER:
        wrong = ["utf-8", *OTHERS, *(LATIN_WESTERN if charset in LATIN_OTHER else ())]
    else:
        wrong = ["utf-8", *LATIN_WESTERN, *(other for other in OTHERS if _kind(other) != _kind(charset))]
    other, more = rng.choice(wrong), rng.choice(wrong)
    ways: list[tuple[str | None, str | None]] = [(right, None), (None, right), (right, right)]
    if charset.startswith("utf") or beyond_ascii >= DECIDABLE:
        ways += [(None, None), (other, right), (right, other), (other, None), (None, other), (other, more)]
    return rng.choice(ways)


def _kind(label: str) -> str:
    """Charsets between which a text of one reads as the other's letters."""
    groups = {"cyrillic": ("windows-1251", "koi8-r", "koi8-u", "iso-8859-5"), "greek": ("windows-1253", "iso-8859-7")}
    groups |= {"hebrew": ("windows-1255", "iso-8859-8"), "arabic": ("windows-1256", "iso-8859-6"), "gb": ("gbk", "gb2312", "gb18030")}
    groups |= {"thai": ("windows-874", "tis-620")}
    return next((name for name, labels in groups.items() if label in labels), label)


def _damage_bytes(draft: _Draft) -> None:
    """Bytes beyond ASCII of the paragraph become others beyond ASCII: one, or a stretch in UTF-8."""
    rng, body = draft.rng, bytearray(draft.body)
    charset = draft.name[1].split()[0]
    if not charset.startswith("utf-8"):
        return
    places = [at for at in range(draft.start, draft.end) if body[at] > 127]
    for at in rng.sample(places, min(rng.choice([1, 1, 2, 5]), len(places) // 8)):
        body[at] = rng.choice([0xE9, 0xFF, 0xC0, 0x80 | body[at] & 0x3F])
    draft.body = bytes(body)
    draft.texts = (bytes(body[draft.start : draft.end]).decode("utf-8", "replace"),)
    draft.name.append("bad bytes")


def _odd_record(draft: _Draft) -> None:
    """What the archive or the publisher says about the record, or a payload of another type."""
    kind = draft.rng.choice(["truncated", "pdf by the archive", "binary", "noai header", "noai meta"])
    draft.name.append(kind)
    if kind == "truncated":
        draft.warc.append(("WARC-Truncated", draft.rng.choice(["length", "disconnect", "time", "unspecified"])))
        draft.texts, draft.reasons = (), frozenset({"skipped:truncated"})
    elif kind == "pdf by the archive":
        draft.warc.append(("WARC-Identified-Payload-Type", draft.rng.choice(["application/pdf", "image/png", "video/mp4"])))
        draft.texts, draft.reasons = (), frozenset({"skipped:not_html"})
    elif kind == "binary":
        draft.body = draft.rng.choice(BINARY_STARTS) + draft.rng.randbytes(3000)
        draft.texts, draft.reasons = (), NO_DOCUMENT
    elif kind == "noai header":
        value = draft.rng.choice(["noai, noimageai", "noai", "index, noai", "otherbot: noai", "unavailable_after: 1 Jan 2030, noai"])
        draft.http += [("X-Robots-Tag", "noarchive"), ("x-robots-tag", value)]
        draft.signal = "kept:noai"
    elif not draft.name[1].startswith("utf-16"):
        draft.body = draft.body.replace(b"<title>", draft.rng.choice(NOAI_TAGS) + b"<title>", 1)
        draft.signal = "kept:noai"


def _cut(draft: _Draft) -> None:
    """The page breaks off within the paragraph, and nothing says so."""
    at = draft.rng.randint(draft.start + (draft.end - draft.start) * 3 // 4, draft.end - 1)
    charset = draft.name[1].split()[0]
    codec = charset.removesuffix("-sig") if charset.startswith("utf") else CODECS.get(charset, charset)
    if codec.startswith("iso-2022"):
        return
    inner = draft.body[draft.start : at]
    draft.body = draft.body[:at]
    left = inner.decode(codec, "replace")
    draft.texts = (left.rstrip("\ufffd"), left)
    draft.name.append("cut")


def _code(draft: _Draft, damaged: bool) -> None:
    """Compress and chunk the body; headers say so, say nothing, or say something else."""
    rng = draft.rng
    coding = rng.choice(["identity"] * 4 + sorted(COMPRESSED) + ["gzip"] * 3)
    says = rng.choice(["rightly", "rightly", "nothing", "wrongly"])
    right = "" if coding == "identity" else DECLARED_AS.get(coding, coding)
    if coding != "identity":
        draft.body = COMPRESSED[coding](draft.body)
    wrong = rng.choice([name for name in ("gzip", "deflate", "br", "zstd") if name != right])
    declared = {"rightly": right, "nothing": "", "wrongly": wrong}[says]
    # The gzip of the one is seen, and then it is what is declared; the other is what some servers send as gzip.
    seen = (coding, declared) in (("br in gzip", "br"), ("raw deflate", "gzip"))
    if coding in UNMARKED and says != "rightly" and not seen:
        draft.texts, draft.reasons, draft.signal = (), draft.reasons | NO_DOCUMENT, None
    draft.name.append(f"{coding} declared {declared or 'nothing'}")
    if damaged and coding != "identity":
        _damage_coded(draft, coding)
    transfer = [declared] if declared and rng.random() < 0.25 else []
    if declared and not transfer:
        draft.http.append(("Content-Encoding", declared))
    if rng.random() < 0.3:
        draft.body = _chunked(draft, damaged and coding == "identity")
        if rng.random() < 0.8 or len(draft.body) < 100:
            transfer.append("chunked")
            draft.name.append("chunked")
        else:
            draft.name.append("chunked undeclared")
    elif rng.random() < 0.1:
        transfer.append("chunked")
        draft.name.append("chunked declared and undone")
    if transfer:
        draft.http.append(("Transfer-Encoding", ", ".join(transfer)))


def _damage_coded(draft: _Draft, coding: str) -> None:
    """Cut the compressed body, or flip a byte of it where a checksum would tell."""
    rng = draft.rng
    if coding in UNCHECKED or rng.random() < 0.5:
        draft.body = draft.body[: rng.randint(len(draft.body) // 3, len(draft.body) - 12)]
        if coding == "two gzip members" and _is_whole_gzip(draft.body):  # cut between the two: nobody could tell that there was more
            draft.body = draft.body[:-1]
        # The text is right too: where only a checksum is gone, the page is whole.
        draft.reasons |= BROKEN_OFF | (NO_DOCUMENT if coding in ("deflate", *UNMARKED) else frozenset())
        draft.name.append("cut")
    else:
        at = rng.randint(20, len(draft.body) - 9)
        draft.body = draft.body[:at] + bytes([draft.body[at] ^ (1 << rng.randrange(8))]) + draft.body[at + 1 :]
        draft.reasons |= BROKEN_OFF | {"quarantined:too_large"} | (NO_DOCUMENT if coding == "deflate" else frozenset())
        draft.name.append("a flipped bit")


def _is_whole_gzip(data: bytes) -> bool:
    try:
        gzip.decompress(data)
    except (EOFError, OSError, zlib.error):
        return False
    return True


def _chunked(draft: _Draft, damaged: bool) -> bytes:
    """The body in chunks; `damaged`: one of the sizes is wrong, or the body breaks off."""
    rng, pieces, at = draft.rng, list[bytes](), 0
    while at < len(draft.body):
        size = rng.randint(100, 900)
        pieces.append(draft.body[at : at + size])
        at += size
    sizes = [len(piece) for piece in pieces]
    whole = "breaks off"
    if damaged and rng.random() < 0.6:
        n = rng.randrange(len(sizes))
        sizes[n] = max(1, sizes[n] + rng.choice([-40, -3, 5, 60, 100_000]))
        whole = "a wrong size"
    coded = b"".join(b"%x\r\n%b\r\n" % (size, piece) for size, piece in zip(sizes, pieces, strict=True)) + b"0\r\n\r\n"
    if damaged:
        if whole == "breaks off":
            coded = coded[: rng.randint(len(coded) // 3, len(coded) * 2 // 3)]
        draft.reasons |= BROKEN_OFF
        draft.name.append(f"in chunks: {whole}")
    return coded


def _type(draft: _Draft) -> None:
    """The Content-Type in one of the ways in which servers send it."""
    name, value = draft.http[0]
    way = draft.rng.choice(["plain"] * 6 + ["twice in one", "two fields", "unknown", "missing", "odd"])
    charset = value.partition(";")[2]
    if way == "twice in one":
        draft.http[0] = (name, f"text/html, {value}")
    elif way == "two fields":
        draft.http.insert(0, (name, "text/html"))
    elif way == "unknown":
        draft.http[0] = (name, f"unknown/unknown{';' if charset else ''}{charset}")
    elif way == "odd":
        draft.http[0] = (name, f"Text/HTML ;{charset.upper()}")
    elif way == "missing" and not charset:
        del draft.http[0]
    draft.name.append(f"type {way}")
