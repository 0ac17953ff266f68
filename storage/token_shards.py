"""Token shards: datatrove's format, with a table of documents and a checksum per page beside it, so that ranges verify.

A shard `<stem>` is five files, and datatrove's and nanotron's loaders read the first three as they are:

    <stem>.ds             tokens, raw little-endian uint16 or uint32
    <stem>.ds.index       uint64 little-endian: where each document ends, in tokens
    <stem>.ds.metadata    "tokenizer|bytes per token", the count of tokens, and the count for people
    <stem>.ids.parquet    id, start and n_tokens in the shard, n_bytes of the document's edited text (UTF-8); in the order of the shard
    <stem>.pages          blake2b-64 of each 64 KiB of the .ds, 8 bytes a page

The shards `<prefix>/part-%05d` of an artifact are one stream of tokens: parts in order, documents in id order.
Format: datatrove 0.10 `pipeline/tokens/tokenizer.py:TokenizedFile` and `utils/dataset.py:DatatroveFileDataset`.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import accumulate
from typing import NamedTuple, cast

import humanize
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.artifact import REMAKE, HashingWriter, Manifest, read_verified
from storage.errors import IntegrityError
from storage.store import Store
from storage.tables import ID, open_table, read_table

PAGE_BYTES = 64 << 10
PAGE_DIGEST_BYTES = 8
CACHE_PAGES = 64  # of one stream: 4 MiB

Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
Create = Callable[[str], AbstractContextManager[HashingWriter]]

DOCUMENT_SPANS = pa.schema(
    [
        pa.field("id", ID, nullable=False),
        pa.field("start", pa.int64(), nullable=False),  # tokens, in the shard
        pa.field("n_tokens", pa.int64(), nullable=False),
        pa.field("n_bytes", pa.int64(), nullable=False),  # UTF-8 bytes of the edited text
    ]
)


class DocumentSpan(NamedTuple):
    """A document in a stream: tokens `start` to `end` (exclusive), and the UTF-8 bytes of its edited text."""

    id: bytes
    start: int
    end: int
    n_bytes: int


def token_size_for(vocab_size: int) -> int:
    """Bytes per token: 2 where every token id fits uint16, else 4; as datatrove chooses."""
    return 2 if vocab_size <= 1 << 16 else 4


def _dtype(token_size: int) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
    return np.dtype("<u2") if token_size == 2 else np.dtype("<u4")


class ShardWriter:
    """An open shard; made by `open_shard`."""

    def __init__(self, file: HashingWriter, token_size: int) -> None:
        self._file, self._dtype = file, _dtype(token_size)
        self._page, self._page_left = hashlib.blake2b(digest_size=PAGE_DIGEST_BYTES), PAGE_BYTES
        self.pages = bytearray()
        self.ids: list[bytes] = []
        self.ends: list[int] = []
        self.n_bytes: list[int] = []

    @property
    def n_tokens(self) -> int:
        """Tokens written so far."""
        return self.ends[-1] if self.ends else 0

    def append(self, document: bytes, tokens: npt.ArrayLike, n_bytes: int) -> None:
        """Add a document: its 16-byte id, its token ids (1-D), the UTF-8 bytes of its edited text.

        Raises OverflowError when an id does not fit the shard's bytes per token.
        """
        array = np.asarray(tokens)
        if array.dtype != self._dtype and array.size and not 0 <= array.min() <= array.max() <= np.iinfo(self._dtype).max:
            raise OverflowError(f"token ids {array.min()} to {array.max()} do not fit {self._dtype.itemsize} bytes")
        data = memoryview(array.astype(self._dtype, copy=False).tobytes())
        self._file.write(data)
        self._hash(data)
        self.ids.append(document)
        self.ends.append(self.n_tokens + len(array))
        self.n_bytes.append(n_bytes)

    def _hash(self, data: memoryview) -> None:
        while data:
            piece, data = data[: self._page_left], data[self._page_left :]
            self._page.update(piece)
            self._page_left -= len(piece)
            if not self._page_left:
                self._end_page()

    def _end_page(self) -> None:
        self.pages += self._page.digest()
        self._page, self._page_left = hashlib.blake2b(digest_size=PAGE_DIGEST_BYTES), PAGE_BYTES

    def finish(self) -> None:
        """End the last page."""
        if self._page_left < PAGE_BYTES:
            self._end_page()

    def table(self) -> pa.Table:
        """The rows of `.ids.parquet`."""
        ends = np.asarray(self.ends, dtype=np.int64)
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]]) if len(ends) else ends
        return pa.table([pa.array(self.ids, ID), starts, ends - starts, pa.array(self.n_bytes, pa.int64())], schema=DOCUMENT_SPANS)


@contextmanager
def open_shard(create: Create, stem: str, *, tokenizer: str, token_size: int) -> Iterator[ShardWriter]:
    """Write the shard `stem`; `create(name)` opens a file of the artifact. Its five files are there when the block ends well.

    `tokenizer` names the tokenizer in the metadata; `token_size` is 2 or 4 bytes.
    """
    with create(f"{stem}.ds") as file:
        writer = ShardWriter(file, token_size)
        yield writer
        writer.finish()
    with create(f"{stem}.ds.index") as file:
        file.write(np.asarray(writer.ends, dtype="<u8").tobytes())
    with create(f"{stem}.ds.metadata") as file:
        file.write(f"{tokenizer}|{token_size}\n{writer.n_tokens}\n{humanize.metric(writer.n_tokens, unit='T')}".encode())
    with create(f"{stem}.ids.parquet") as file, open_table(file, DOCUMENT_SPANS) as table:
        table.write_table(writer.table())
    with create(f"{stem}.pages") as file:
        file.write(bytes(writer.pages))


def stream_names(manifest: Manifest, split: str) -> list[str]:
    """The streams of a tokenize artifact under `split` ("train": components, "held_out": domains), sorted."""
    return sorted({name.split("/")[1] for name in manifest.names(f"{split}/")})


class TokenStream:
    """The tokens of all shards `<prefix>/part-*` of an artifact as one stream; what is read is verified page by page.

    Not for use by several threads at once. Raises KeyError when there is no such shard; methods raise IntegrityError, which names file,
    page and both digests.
    """

    def __init__(self, store: Store, manifest: Manifest, prefix: str, *, cache_pages: int = CACHE_PAGES) -> None:
        self._store, self._manifest = store, manifest
        self.stems = [name.removesuffix(".ds") for name in manifest.names(f"{prefix}/") if name.endswith(".ds")]
        if not self.stems:
            raise KeyError(f"{manifest.stage} {manifest.fingerprint[:12]} has no token shards {prefix!r}")
        first_line = read_verified(store, manifest, f"{self.stems[0]}.ds.metadata").split(b"\n")[0]
        self.token_size = int(first_line.rpartition(b"|")[2])
        entries = {entry.name: entry for entry in manifest.files}
        self._paths = [f"{manifest.root}/{entries[f'{stem}.ds'].path}" for stem in self.stems]
        self._part_bytes = [entries[f"{stem}.ds"].size_bytes for stem in self.stems]
        self._part_starts = list(accumulate((size // self.token_size for size in self._part_bytes), initial=0))
        self._pages: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._cache_pages = cache_pages
        self._digests: dict[int, bytes] = {}
        self._tables: OrderedDict[int, pa.Table] = OrderedDict()

    @property
    def n_tokens(self) -> int:
        """Length of the stream in tokens."""
        return self._part_starts[-1]

    def read(self, start: int, end: int) -> Tokens:
        """Tokens `start` to `end` (exclusive): 1-D, uint16 or uint32. Raises IndexError outside the stream, IntegrityError."""
        if not 0 <= start <= end <= self.n_tokens:
            raise IndexError(f"tokens {start} to {end} are not in 0 to {self.n_tokens}")
        pieces, part = list[bytes](), bisect_right(self._part_starts, start) - 1
        while start < end:
            origin, stop = self._part_starts[part], min(end, self._part_starts[part + 1])
            pieces.append(self._read_bytes(part, (start - origin) * self.token_size, (stop - origin) * self.token_size))
            start, part = stop, part + 1
        return cast("Tokens", np.frombuffer(b"".join(pieces), dtype=_dtype(self.token_size)))

    def documents(self, start: int = 0, end: int | None = None) -> Iterator[DocumentSpan]:
        """The documents that overlap tokens `start` to `end` (exclusive; None: the end of the stream), in order."""
        end = self.n_tokens if end is None else end
        for part in range(bisect_right(self._part_starts, start) - 1, len(self.stems)):
            origin = self._part_starts[part]
            if origin >= end:
                return
            yield from _overlapping(self._table(part), origin, start, end)

    def locate(self, document: bytes) -> DocumentSpan | None:
        """Where the document with this id lies, or None. Reads the tables of O(log parts) shards."""
        low, high = 0, len(self.stems) - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._table(middle).column("id")[0].as_py() <= document else (low, middle - 1)
        table = self._table(low)
        ids = table.column("id").to_pylist()
        row = bisect_right(ids, document) - 1
        if row < 0 or ids[row] != document:
            return None
        start = self._part_starts[low] + table.column("start")[row].as_py()
        return DocumentSpan(document, start, start + table.column("n_tokens")[row].as_py(), table.column("n_bytes")[row].as_py())

    def _table(self, part: int) -> pa.Table:
        if part not in self._tables:
            self._tables[part] = read_table(self._store, self._manifest, f"{self.stems[part]}.ids.parquet")
            if len(self._tables) > 2:
                self._tables.popitem(last=False)
        return self._tables[part]

    def _read_bytes(self, part: int, start: int, end: int) -> bytes:
        first, last = start // PAGE_BYTES, (end - 1) // PAGE_BYTES
        missing = [page for page in range(first, last + 1) if (part, page) not in self._pages]
        fetched = self._fetch(part, missing[0], missing[-1]) if missing else {}
        joined = b"".join(fetched[page] if page in fetched else self._pages[part, page] for page in range(first, last + 1))
        self._keep(part, range(first, last + 1), fetched)
        return joined[start - first * PAGE_BYTES : end - first * PAGE_BYTES]

    def _fetch(self, part: int, first: int, last: int) -> dict[int, bytes]:
        """Pages `first` to `last` of a shard in one read, each checked."""
        path = self._paths[part]
        if part not in self._digests:
            self._digests[part] = read_verified(self._store, self._manifest, f"{self.stems[part]}.pages")
        try:
            data = self._store.read_range(path, first * PAGE_BYTES, min((last + 1) * PAGE_BYTES, self._part_bytes[part]))
        except FileNotFoundError as error:
            raise IntegrityError(path, expected=f"{self._part_bytes[part]} bytes", actual="no such file", remedy=REMAKE) from error
        pages = {page: data[(page - first) * PAGE_BYTES : (page - first + 1) * PAGE_BYTES] for page in range(first, last + 1)}
        for page, content in pages.items():
            expected = self._digests[part][page * PAGE_DIGEST_BYTES : (page + 1) * PAGE_DIGEST_BYTES]
            actual = hashlib.blake2b(content, digest_size=PAGE_DIGEST_BYTES).digest()
            if actual != expected:
                said = f"blake2b-64 {expected.hex()}", f"blake2b-64 {actual.hex()}"
                raise IntegrityError(f"{path} page {page}", expected=said[0], actual=said[1], remedy=REMAKE)
        return pages

    def _keep(self, part: int, pages: range, fetched: dict[int, bytes]) -> None:
        for page in pages:
            if page in fetched:
                self._pages[part, page] = fetched[page]
            self._pages.move_to_end((part, page))
        while len(self._pages) > self._cache_pages:
            self._pages.popitem(last=False)


def _overlapping(table: pa.Table, origin: int, start: int, end: int) -> Iterator[DocumentSpan]:
    """Rows of a shard's table that overlap tokens `start` to `end` of the stream; the shard begins at `origin`."""
    starts = table.column("start").to_numpy()
    ends = starts + table.column("n_tokens").to_numpy()
    first = int(np.searchsorted(ends, start - origin, side="right"))
    last = int(np.searchsorted(starts, end - origin, side="left"))
    rows = table.slice(first, last - first)
    for document, begin, stop, n_bytes in zip(
        rows.column("id").to_pylist(), starts[first:last], ends[first:last], rows.column("n_bytes").to_pylist(), strict=True
    ):
        yield DocumentSpan(document, origin + int(begin), origin + int(stop), n_bytes)
