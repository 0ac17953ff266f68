"""The bytes inside a raw file: gzip with any number of members, zstd with any number of frames, or plain, read forwards in pieces, with the
place of each byte in the file.

Skippable zstd frames are passed over; those of magic number 0x184D2A5D hold dictionaries, themselves compressed or not, for the frames
behind them (IIPC, "Use of Zstandard in WARC files", which has one at the head of a file; files may be put together). Damage raises
`Damaged`; `next_member` then goes on at the next member or frame that begins as a record of the format does.
"""

from __future__ import annotations

import re
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import BinaryIO

import zstandard

GZIP_MAGIC = b"\x1f\x8b"
GZIP_MEMBER = re.compile(rb"\x1f\x8b\x08(?=[\x00-\x1f])")
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
ZSTD_FRAME = re.compile(rb"\x28\xb5\x2f\xfd|\x5d\x2a\x4d\x18")  # with data, or with a dictionary
ZSTD_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
ZSTD_SKIPPABLE_HEADER_BYTES = 8
ZSTD_DICTIONARY_FRAME = b"\x5d\x2a\x4d\x18"
ZSTD_DICTIONARY_MAGIC = b"\x37\xa4\x30\xec"
MAX_DICTIONARY_BYTES = 64 << 20
ZSTD_MAX_HEADER_BYTES = 18
MAX_DICTIONARIES = 16  # as many archives in one file; a frame needs one of the last
PADDING = b"\0 \t\r\n"
MAX_END_BYTES = 4
RAW_CHUNK_BYTES = 64 << 10
ZSTD_CHUNK_BYTES = 2 << 10  # zstandard has no bound on output, so the input is kept small: blocks of 4 bytes give 128 KiB
CHUNK_BYTES = 512 << 10
PROBE_BYTES = 64
GZIP_WBITS = 31


class Damaged(Exception):
    """The compressed bytes are bad. `offset` is where the member (zstd: the frame) begins in the file, `reason` is damaged or truncated."""

    def __init__(self, reason: str, offset: int, detail: str) -> None:
        super().__init__(reason, offset, detail)
        self.reason, self.offset, self.detail = reason, offset, detail


class Stream:
    """Reads the decompressed bytes of `file`, which is seekable."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        head = file.read(4)
        file.seek(0)
        is_zstd = head == ZSTD_MAGIC or ZSTD_SKIPPABLE.match(head) is not None
        self.compression = "gzip" if head[:2] == GZIP_MAGIC else "zstd" if is_zstd else "none"
        self._decompressors = {0: zstandard.ZstdDecompressor()}  # by the id of their dictionary, the latest last
        self._fill_more = {"gzip": self._fill_gzip, "zstd": self._fill_zstd, "none": self._fill_plain}[self.compression]
        self._base = self._at = 0
        self._restart(0)

    def _restart(self, file_offset: int) -> None:
        """Go on at `file_offset`, where a member begins; what was decompressed and not read is dropped."""
        self._file.seek(file_offset)
        self._raw, self._raw_offset = b"", file_offset
        self._gzip: zlib._Decompress | None = None
        self._zstd: zstandard.ZstdDecompressionObj | None = None
        self._none_before: tuple[re.Pattern[bytes], int] | None = None
        self._member = file_offset
        self._base, self._at = (file_offset if self.compression == "none" else self.position), 0
        self._buffer = bytearray()
        self._marks: deque[tuple[int, int]] = deque()
        self._failure: Damaged | None = None

    @property
    def position(self) -> int:
        """How many decompressed bytes were read or skipped (plain file: the offset)."""
        return self._base + self._at

    @property
    def member(self) -> int:
        """Offset in the file of the gzip member or zstd frame that holds the next byte; of the next byte itself in a plain file."""
        if self.compression == "none":
            return self.position
        self._have(1)
        while len(self._marks) > 1 and self._marks[1][0] <= self.position:
            self._marks.popleft()
        return self._marks[0][1] if self._marks else self._member

    def at_end(self) -> bool:
        """Whether nothing is left. Raises Damaged."""
        return not self._have(1)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end. Raises Damaged."""
        self._have(size)
        data = bytes(memoryview(self._buffer)[self._at : self._at + size])
        self._at += len(data)
        return data

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, or fewer at the end, without reading them. Raises Damaged."""
        self._have(size)
        return bytes(memoryview(self._buffer)[self._at : self._at + size])

    def skip(self, size: int) -> int:
        """Pass over `size` bytes without holding them; how many there were. Raises Damaged."""
        left = size
        while left and self._have(1):
            step = min(left, len(self._buffer) - self._at)
            self._at += step
            left -= step
        return size - left

    def unread(self, data: bytes) -> None:
        """Put back what was just read."""
        self._buffer[: self._at] = data
        self._base, self._at = self.position - len(data), 0

    def read_through(self, end: re.Pattern[bytes], limit: int) -> bytes | None:
        """Bytes through the first match of `end` (of `MAX_END_BYTES` or fewer); None when there is none within `limit` bytes (then
        nothing is read). Raises Damaged."""
        while True:  # what is there first: the bytes behind it may be damaged and belong to another record
            start = self._at
            if self._none_before is not None and self._none_before[0] is end:  # as where many headers begin and none ends
                start = max(start, self._none_before[1] - MAX_END_BYTES - self._base)
            if found := end.search(self._buffer, start, self._at + limit):
                data = bytes(memoryview(self._buffer)[self._at : found.end()])
                self._at = found.end()
                return data
            self._none_before = end, self._base + min(self._at + limit, len(self._buffer))
            if len(self._buffer) - self._at >= limit or not self._fill():
                return None

    def seek_match(self, start: re.Pattern[bytes], overlap: int = 64) -> bool:
        """Go to the first match of `start` at or after the next byte; False when there is none (then all is read). Raises Damaged."""
        while True:
            if found := start.search(self._buffer, self._at):
                self._at = found.start()
                return True
            self._at = max(self._at, len(self._buffer) - overlap)
            if not self._fill():
                self._at = len(self._buffer)
                return False

    def next_member(self, after: int, begins_well: Callable[[bytes], object]) -> bool:
        """Go to the first gzip member or zstd frame after file offset `after` that unpacks and whose first bytes `begins_well`. False:
        there is none."""
        if self.compression == "none":
            self._restart_at_end()
            return False
        for offset in self._candidates(after + 1, GZIP_MEMBER if self.compression == "gzip" else ZSTD_FRAME):
            head = self._head_of_member(offset)
            if head is not None and begins_well(head):
                self._restart(offset)
                return True
        self._restart_at_end()
        return False

    def _head_of_member(self, offset: int) -> bytes | None:
        """The first bytes of the member or frame at `offset`, or None where none begins there."""
        self._file.seek(offset)
        raw = self._file.read(RAW_CHUNK_BYTES)
        try:
            if self.compression == "gzip":
                return zlib.decompressobj(GZIP_WBITS).decompress(raw, PROBE_BYTES)
            if raw.startswith(ZSTD_DICTIONARY_FRAME):
                self._keep_dictionary(offset)
                return None
            with self._decompressor_of(raw).stream_reader(raw) as reader:
                return reader.read(PROBE_BYTES)
        except (zlib.error, zstandard.ZstdError):
            return None

    def back_to(self, position: int) -> None:
        """Go back to `position` in a plain file."""
        assert self.compression == "none"
        self._restart(position)

    def lines(self, limit: int) -> Iterator[tuple[int, bytes | None]]:
        r"""(position, line without its end) of each line, the line None when it is longer than `limit` bytes. Ends are \n and \r\n.
        Raises Damaged."""
        while not self.at_end():
            start, scanned, too_long = self.position, 0, False
            while (end := self._buffer.find(b"\n", self._at + scanned)) < 0:
                scanned = len(self._buffer) - self._at
                if scanned > limit + 1:
                    self._at, scanned, too_long = len(self._buffer), 0, True
                if not self._fill():
                    break
            stop = end if end >= 0 else len(self._buffer)
            line = b"" if too_long else bytes(memoryview(self._buffer)[self._at : stop]).removesuffix(b"\r")
            self._at = stop + (end >= 0)
            yield start, None if too_long or len(line) > limit else line

    def _have(self, size: int) -> bool:
        """Fill the buffer until it holds `size` bytes; whether it does."""
        while len(self._buffer) - self._at < size:
            if not self._fill():
                return False
        return True

    def _fill(self) -> bool:
        """Append the next piece to the buffer; False at the end. After damage it raises again until the reader moves elsewhere."""
        if self._failure is not None:
            raise self._failure
        if self._at > CHUNK_BYTES or self._at == len(self._buffer):
            del self._buffer[: self._at]
            self._base, self._at = self._base + self._at, 0
        return self._fill_more()

    def _fill_plain(self) -> bool:
        data = self._file.read(CHUNK_BYTES)
        self._buffer += data
        return bool(data)

    def _fill_gzip(self) -> bool:
        while True:
            if self._gzip is None:
                if not self._begin(GZIP_MAGIC, "no gzip member"):
                    return False
                self._gzip = zlib.decompressobj(GZIP_WBITS)
            if not self._raw and not self._read_raw(RAW_CHUNK_BYTES):
                raise self._fail("truncated", "the file ends within a gzip member")
            try:
                data = self._gzip.decompress(self._raw, CHUNK_BYTES)
            except zlib.error as error:
                raise self._fail("damaged", str(error)) from error
            self._consume(self._gzip.unused_data if self._gzip.eof else self._gzip.unconsumed_tail)
            if self._gzip.eof:
                self._gzip = None
            if data:
                self._buffer += data
                return True

    def _fill_zstd(self) -> bool:
        while True:
            if self._zstd is None:
                self._pass_skippable_frames()
                if not self._begin(ZSTD_MAGIC, "no zstd frame"):
                    return False
                while len(self._raw) < ZSTD_MAX_HEADER_BYTES and self._read_raw(RAW_CHUNK_BYTES):
                    pass
                try:
                    self._zstd = self._decompressor_of(self._raw).decompressobj()
                except zstandard.ZstdError as error:
                    raise self._fail("damaged", str(error)) from error
            if not self._raw and not self._read_raw(RAW_CHUNK_BYTES):
                raise self._fail("truncated", "the file ends within a zstd frame")
            piece = self._raw[:ZSTD_CHUNK_BYTES]
            try:
                data = self._zstd.decompress(piece)
            except zstandard.ZstdError as error:
                raise self._fail("damaged", str(error)) from error
            unused = self._zstd.unused_data if self._zstd.eof else b""
            self._consume(self._raw[len(piece) - len(unused) :])
            if self._zstd.eof:
                self._zstd = None
            if data:
                self._buffer += data
                return True

    def _decompressor_of(self, frame: bytes) -> zstandard.ZstdDecompressor:
        """The decompressor with the dictionary that the head of a frame asks for; with the latest where it names none. Raises
        ZstdError."""
        number = zstandard.get_frame_parameters(frame[:ZSTD_MAX_HEADER_BYTES].ljust(ZSTD_MAX_HEADER_BYTES, b"\0")).dict_id
        if number and number not in self._decompressors:
            raise zstandard.ZstdError(f"the frame needs dictionary {number}, which the file does not hold before it")
        return self._decompressors[number or next(reversed(self._decompressors))]

    def _pass_skippable_frames(self) -> None:
        """Go to the next zstd frame that holds data, over padding too; a dictionary on the way is kept."""
        while self._pass_padding(ZSTD_SKIPPABLE_HEADER_BYTES) and ZSTD_SKIPPABLE.match(self._raw):
            self._member = self._raw_offset
            size = int.from_bytes(self._raw[4:ZSTD_SKIPPABLE_HEADER_BYTES], "little")
            end = self._raw_offset + ZSTD_SKIPPABLE_HEADER_BYTES + size
            if end > self._file.seek(0, 2):
                raise self._fail("truncated", "the file ends within a skippable zstd frame")
            if self._raw.startswith(ZSTD_DICTIONARY_FRAME):
                self._keep_dictionary(self._raw_offset)
            self._file.seek(end)
            self._raw, self._raw_offset = b"", end

    def _keep_dictionary(self, offset: int) -> None:
        """Keep the dictionary in the skippable frame at `offset`; one that holds something else or is damaged is passed over."""
        self._file.seek(offset + 4)
        data = self._file.read(min(int.from_bytes(self._file.read(4), "little"), MAX_DICTIONARY_BYTES))
        if data.startswith(ZSTD_MAGIC):
            try:
                with zstandard.ZstdDecompressor().stream_reader(data) as reader:
                    data = reader.read(MAX_DICTIONARY_BYTES)
            except zstandard.ZstdError:
                return
        if data.startswith(ZSTD_DICTIONARY_MAGIC):
            dictionary = zstandard.ZstdCompressionDict(data)
            number = dictionary.dict_id()
            self._decompressors.pop(number, None)
            self._decompressors[number] = zstandard.ZstdDecompressor(dict_data=dictionary)
            if len(self._decompressors) > MAX_DICTIONARIES:
                del self._decompressors[list(self._decompressors)[1]]

    def _begin(self, magic: bytes, what: str) -> bool:
        """Begin the next member or frame; False at the end of the file. Zeros and blanks between and behind members are padding."""
        self._pass_padding(len(magic))
        if not self._raw:
            return False
        self._member = self._raw_offset
        self._marks.append((self._base + len(self._buffer), self._member))
        if not self._raw.startswith(magic):
            raise self._fail("damaged", what)
        return True

    def _pass_padding(self, size: int) -> bool:
        """Pass over zeros and blanks, and hold at least `size` raw bytes; whether there are so many."""
        while True:
            stripped = self._raw.lstrip(PADDING)
            self._raw_offset += len(self._raw) - len(stripped)
            self._raw = stripped
            if len(self._raw) >= size:
                return True
            if not self._read_raw(RAW_CHUNK_BYTES):
                return False

    def _read_raw(self, size: int) -> bool:
        data = self._file.read(size)
        self._raw += data
        return bool(data)

    def _consume(self, rest: bytes) -> None:
        self._raw_offset += len(self._raw) - len(rest)
        self._raw = rest

    def _fail(self, reason: str, detail: str) -> Damaged:
        self._failure = Damaged(reason, self._member, detail)
        return self._failure

    def _restart_at_end(self) -> None:
        self._restart(self._file.seek(0, 2))

    def _candidates(self, offset: int, begin: re.Pattern[bytes]) -> Iterator[int]:
        """File offsets from `offset` on where a member or frame may begin."""
        while True:
            self._file.seek(offset)
            data = self._file.read(CHUNK_BYTES)
            for found in begin.finditer(data):
                yield offset + found.start()
            if len(data) < CHUNK_BYTES:
                return
            offset += len(data) - 3
