"""A body's bytes without what was wrapped around them: chunked transfer coding and compression, in as many layers as there are.

What bytes look like goes before what headers say. gzip, zstd, bzip2 and xz are known by their magic bytes, zlib by its header and by
unpacking to its checksum; raw deflate and Brotli have no mark and are undone only where they are declared. A declared coding of a body
that is text is one that the crawler has undone already.

Bounds: `MAX_LAYERS`, the caller's size limit, and `MAX_RATIO` above `FREE_BYTES`.
"""

from __future__ import annotations

import bz2
import io
import lzma
import re
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import zstandard
from fastwarc.stream_io import BrotliReader

from pipeline.ingest.records import BadRecord
from pipeline.ingest.sniff import looks_like_text, starts_as_html

MAX_LAYERS = 4
MAX_RATIO = 200
MAX_EMPTY_BYTES = 64  # of a compressed empty body; noise may pass for one of Brotli
FREE_BYTES = 1 << 20
LZMA_MEMORY_BYTES = 128 << 20
STEP_BYTES = 8 << 10
BROTLI_STEP_BYTES = 1 << 10
RLE_BLOCK = 1
ZSTD_WINDOW_BYTES = 8 << 20  # RFC 9659; a frame of one segment has a window of its own size

GZIP = b"\x1f\x8b\x08"
ZSTD = b"\x28\xb5\x2f\xfd"
ZSTD_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
_MAGIC = {"gzip": GZIP, "zstd": ZSTD, "bzip2": b"BZh", "xz": b"\xfd7zXZ\0"}
_FOREIGN = {"compress": b"\x1f\x9d", "lz4": b"\x04\x22\x4d\x18", "lzop": b"\x89LZO", "lzip": b"LZIP"}
_BEFORE_MAGIC = re.compile(rb"(?:\xef\xbb\xbf|[ \t\r\n])+")  # what scripts print before they compress
MAGIC_BYTES = 10
_BZIP2 = re.compile(rb"BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)")
_ALIASES = {"x-gzip": "gzip", "zlib": "deflate", "x-deflate": "deflate", "brotli": "br", "x-bzip2": "bzip2", "bzip": "bzip2", "lzma": "xz"}
_ZEROS = re.compile(rb"\0+")
_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]{0,1024})?\r?\n")
_LAST_CHUNK = re.compile(rb"\r?\n0+[ \t]*(?:;[^\r\n]{0,1024})?\r?\n\r?\n\s*\Z")


class Unpacked(NamedTuple):
    """A body, and whether all of it was there."""

    data: bytes
    complete: bool


def unpacked(body: bytes, codings: Sequence[str], limit: int) -> Unpacked:
    """`body` without the `codings` that headers name, first applied first, and without those that its bytes show.

    Raises BadRecord: bad_encoding (damaged, too many layers, compressed by what cannot be undone), too_large (more than `limit` bytes, or
    a bomb).
    """
    left = [_ALIASES.get(name, name) for name in (coding.strip().lower() for coding in codings) if name not in ("", "identity", "none")]
    unknown = [name for name in left if name not in _UNPACKERS and name != "chunked"]
    complete = True
    for layer in range(MAX_LAYERS + 2):
        name, found = _next_layer(body, left, limit)
        if found is None:
            break
        if layer == MAX_LAYERS + 1:
            raise BadRecord("bad_encoding", f"more than {MAX_LAYERS} layers of compression")
        if name in left:
            left.remove(name)
        body, complete = found.data, complete and found.complete
    if (foreign := _foreign(body, unknown)) is not None:
        raise BadRecord("bad_encoding", f"{foreign}: not a coding that can be undone")
    return Unpacked(body, complete)


def _next_layer(body: bytes, left: Sequence[str], limit: int) -> tuple[str, Unpacked | None]:
    """The outermost layer of a body and what is within; ("", None) where there is no more. Raises BadRecord."""
    if (chunks := _chunks(body, "chunked" in left)) is not None:
        return "chunked", chunks
    start = _BEFORE_MAGIC.match(body)
    if (name := _by_magic(body)) is None and start and (name := _by_magic(body[start.end() : start.end() + MAGIC_BYTES])) is not None:
        body = body[start.end() :]
    if name is not None:
        return name, _undo(name, body, limit)
    if (inner := _sure_zlib(body, limit)) is not None:
        return "deflate", inner
    compressions = [name for name in left if name in _UNPACKERS]
    if not compressions or not body.strip() or looks_like_text(body):
        return "", None
    return compressions[-1], _undo(compressions[-1], body, limit)


def _by_magic(body: bytes) -> str | None:
    if body[:3] == b"BZh":
        return "bzip2" if _BZIP2.match(body) else None
    if ZSTD_SKIPPABLE.match(body):
        return "zstd"
    return next((name for name, magic in _MAGIC.items() if body.startswith(magic)), None)


def _foreign(body: bytes, unknown: Sequence[str]) -> str | None:
    """The coding of a body that is still compressed, or None."""
    for name, magic in _FOREIGN.items():
        if body.startswith(magic):
            return name
    return unknown[-1] if unknown and body.strip() and not looks_like_text(body) else None


def _undo(name: str, body: bytes, limit: int) -> Unpacked:
    """One layer less. Raises BadRecord: bad_encoding, too_large."""
    try:
        found = _UNPACKERS[name](body, limit + 1)
    except (zlib.error, OSError, EOFError, ValueError, lzma.LZMAError, zstandard.ZstdError) as error:
        raise BadRecord("bad_encoding", f"{name}: {error}") from error
    if len(found.data) > limit:
        raise BadRecord("too_large", f"the body unpacks to more than {limit} bytes")
    if len(found.data) > max(FREE_BYTES, MAX_RATIO * len(body)):
        raise BadRecord("too_large", f"{name}: the body unpacks to more than {MAX_RATIO} times its size")
    if not found.data and (not found.complete or len(body) > MAX_EMPTY_BYTES):
        raise BadRecord("bad_encoding", f"{name}: nothing comes out of {len(body)} bytes")
    return found


def _chunks(body: bytes, declared: bool) -> Unpacked | None:
    """A body in chunked transfer coding put together; None for one that is not, whatever its header says. One that breaks off gives what
    there is.

    Raises BadRecord: bad_encoding, where a chunk does not end where its size says.
    """
    pieces, at = list[bytes](), 0
    while found := _CHUNK_SIZE.match(body, at):
        size = int(found[1], 16)
        start = found.end()
        end = start + size
        if not pieces and not (_begins_declared(body, found, end) if declared else size and _begins_chunked(body, start, end)):
            return None
        if size == 0:
            return Unpacked(b"".join(pieces), True)
        pieces.append(body[start:end])
        if end >= len(body):
            if _LAST_CHUNK.search(body[-64:]):
                raise BadRecord("bad_encoding", "chunked: the size of a chunk reaches over the last one")
            return Unpacked(b"".join(pieces), False)
        at = _behind_line_end(body, end)
        if at == end:
            raise BadRecord("bad_encoding", f"chunked: no chunk ends at byte {end}")
    if pieces:
        if body[at:].strip():
            raise BadRecord("bad_encoding", f"chunked: no chunk begins at byte {at}")
        return Unpacked(b"".join(pieces), False)
    if declared and _LAST_CHUNK.search(body[-64:]):
        raise BadRecord("bad_encoding", "chunked: the size of the first chunk is unreadable")
    return None


def _behind_line_end(body: bytes, at: int) -> int:
    return at + (2 if body[at : at + 2] == b"\r\n" else 1 if body[at : at + 1] == b"\n" else 0)


def _begins_declared(body: bytes, line: re.Match[bytes], end: int) -> bool:
    """Whether a body that is declared as chunked and begins with a hexadecimal `line` is so still, and not text that the crawler has put
    together: another chunk follows where the size says, a page or what is no text begins behind the line, or a last chunk ends it all.
    Where the size reaches over the body, text is in chunks if its lines end in another way than the first."""
    start = line.end()
    if start == end:
        return not body[start:].strip() or b":" in body[start : start + 100].partition(b"\n")[0]  # trailers
    behind = _behind_line_end(body, end)
    if end < behind and (behind == len(body) or _CHUNK_SIZE.match(body, behind)):
        return True
    head = body[start : start + 64]
    if _by_magic(head) is not None or starts_as_html(head) or not looks_like_text(body) or _LAST_CHUNK.search(body[-64:]):
        return True
    if end < len(body):
        return False
    if not line[0].endswith(b"\r\n"):
        return False
    return body.count(b"\n", start) > body.count(b"\r\n", start) or body.find(b"\n", start) < 0


def _begins_chunked(body: bytes, start: int, end: int) -> bool:
    """Whether an undeclared body that begins with a hexadecimal line is chunked: another chunk follows where the size says, or a page or
    a compressed one begins behind the line."""
    if end < len(body) and _CHUNK_SIZE.match(body, end + 2 if body[end : end + 2] == b"\r\n" else end + 1) is not None:
        return True
    if end < len(body) and body[start - 2 : start] != b"\r\n":
        return False
    head = body[start : start + 64]
    return _by_magic(head) is not None or starts_as_html(head.lstrip(b"\xef\xbb\xbf\xfe\xff").replace(b"\0", b""))  # UTF-16 too


class _Unpacker(Protocol):
    """What zlib, bz2 and lzma have in common: one stream of one coding."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _streams(body: bytes, size: int, begin: Callable[[], _Unpacker], magic: bytes) -> Unpacked:
    """Every stream (gzip: member) of a body; zeros between them, and bytes behind the last that are no stream, are padding."""
    pieces, left, at = list[bytes](), size, 0
    while at == 0 or body.startswith(magic, at):
        unpacker = begin()
        while not unpacker.eof:
            if at >= len(body):
                return Unpacked(b"".join(pieces), False)
            step = body[at : at + STEP_BYTES]  # the whole of what is left would be copied for each of many small streams
            at += len(step)
            pieces.append(unpacker.decompress(step, left))
            left -= len(pieces[-1])
            if left <= 0:
                return Unpacked(b"".join(pieces), True)
        at -= len(unpacker.unused_data)
        if (zeros := _ZEROS.match(body, at)) is not None:
            at = zeros.end()
    return Unpacked(b"".join(pieces), True)


def _gzip(body: bytes, size: int) -> Unpacked:
    """Every member; and, where the header has no magic number, the raw deflate that some servers send as gzip."""
    if body.startswith(GZIP[:2]):
        return _streams(body, size, lambda: zlib.decompressobj(zlib.MAX_WBITS | 16), GZIP[:2])
    found = _raw_deflate(body, size)
    if not found.complete or not looks_like_text(found.data):  # without a checksum, noise may pass for it
        raise ValueError("no gzip member")
    return found


def _deflate(body: bytes, size: int) -> Unpacked:
    """HTTP's "deflate": zlib by the standard, raw deflate by some servers."""
    try:
        return _inflate(body, size, zlib.MAX_WBITS)
    except zlib.error:
        return _raw_deflate(body, size)


def _raw_deflate(body: bytes, size: int) -> Unpacked:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    data = unpacker.decompress(body, size)
    if unpacker.unused_data.strip():  # without a checksum, noise may pass for a short stream
        raise ValueError("bytes behind its end")
    return Unpacked(data, unpacker.eof)


def _inflate(body: bytes, size: int, wbits: int) -> Unpacked:
    unpacker = zlib.decompressobj(wbits)
    data = unpacker.decompress(body, size)
    return Unpacked(data, unpacker.eof)


def _sure_zlib(body: bytes, limit: int) -> Unpacked | None:
    """What a body holds that has zlib's header and checks; also one that breaks off, where it holds text."""
    if len(body) < 8 or body[0] & 0x8F != 0x08 or body[1] & 0x20 or (body[0] << 8 | body[1]) % 31:
        return None
    try:
        found = _inflate(body, limit + 1, zlib.MAX_WBITS)
    except zlib.error:
        return None
    if not found.complete and not (found.data and looks_like_text(found.data)):
        return None
    return _undo("deflate", body, limit)


def _zstd(body: bytes, size: int) -> Unpacked:
    """Every frame; skippable ones are passed over, and bytes behind the last that are no frame are padding."""
    at, complete = 0, True
    while at < len(body) and complete and (body.startswith(ZSTD, at) or ZSTD_SKIPPABLE.match(body, at)):
        end = _frame_end(body, at)
        complete = end <= len(body)
        at = min(end, len(body))
    if at == 0:
        raise ValueError("no frame")
    unpacker = zstandard.ZstdDecompressor(max_window_size=max(ZSTD_WINDOW_BYTES, 2 * size))
    with unpacker.stream_reader(body[:at], read_across_frames=True) as reader:
        return Unpacked(reader.read(size), complete)


def _frame_end(body: bytes, at: int) -> int:
    """Where the zstd frame at `at` ends, by its headers (RFC 8878, section 3); behind the end of `body` where that breaks off."""
    if ZSTD_SKIPPABLE.match(body, at):
        return at + 8 + int.from_bytes(body[at + 4 : at + 8], "little")
    head = body[at : at + 18]
    if len(head) < 18 and len(head) < zstandard.frame_header_size(head + bytes(18)):
        return len(body) + 1
    checksum_bytes = 4 if zstandard.get_frame_parameters(head).has_checksum else 0
    at += zstandard.frame_header_size(head)
    last = False
    while not last:
        block = int.from_bytes(body[at : at + 3], "little")
        if len(body) < at + 3:
            return len(body) + 1
        last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
        at += 3 + (1 if kind == RLE_BLOCK else size)
    return at + checksum_bytes


def _brotli(body: bytes, size: int) -> Unpacked:
    """What comes out before a Brotli body breaks off or is damaged: they cannot be told apart, for want of a checksum."""
    reader, pieces, left = BrotliReader(io.BytesIO(body)), list[bytes](), size
    try:
        while left > 0 and (piece := reader.read(min(left, BROTLI_STEP_BYTES))):
            pieces.append(piece)
            left -= len(piece)
    except OSError:
        data = b"".join(pieces)
        if not looks_like_text(data):
            raise
        return Unpacked(data, False)
    return Unpacked(b"".join(pieces), True)


def _bzip2(body: bytes, size: int) -> Unpacked:
    return _streams(body, size, bz2.BZ2Decompressor, b"BZh")


def _xz(body: bytes, size: int) -> Unpacked:
    return _streams(body, size, lambda: lzma.LZMADecompressor(memlimit=LZMA_MEMORY_BYTES), _MAGIC["xz"])


_UNPACKERS: dict[str, Callable[[bytes, int], Unpacked]] = {
    "gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
    "bzip2": _bzip2,
    "xz": _xz,
}
