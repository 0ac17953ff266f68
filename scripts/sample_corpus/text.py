"""From the forms that packages keep text in to plain paragraphs: R data files, HTML, wrapped lines; and documents cut to size."""

from __future__ import annotations

import gzip
import hashlib
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path

SKIPPED = frozenset({"script", "style", "head", "nav"})
BLOCK_TAGS = "p div li dt dd h1 h2 h3 h4 h5 h6 td th tr pre blockquote title table ul ol dl section article header footer br"
BLOCKS = frozenset(BLOCK_TAGS.split())


class _Blocks(HTMLParser):
    """Collects the text of block elements, one string each, in document order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[str] = []
        self._parts: list[str] = []
        self._skip = 0
        self._pre = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._skip += tag in SKIPPED
        if tag in BLOCKS:
            self.flush()
        self._pre += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        self._skip -= tag in SKIPPED and self._skip > 0
        if tag in BLOCKS:
            self.flush()
        self._pre -= tag == "pre" and self._pre > 0

    def handle_data(self, data: str) -> None:
        if not self._skip:
            self._parts.append(data)

    def flush(self) -> None:
        text = "".join(self._parts)
        self._parts = []
        text = text.strip("\n").rstrip() if self._pre else " ".join(text.split())
        if text:
            self.blocks.append(text)


def html_blocks(html: str) -> list[str]:
    """The text of an HTML page as its block elements, in order, white space collapsed except in `pre`."""
    parser = _Blocks()
    parser.feed(html)
    parser.close()
    parser.flush()
    return parser.blocks


class _Xdr:
    """A reader of R's serialization format (XDR, versions 2 and 3), for the few types that data sets of text use."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.references = data, 0, list[object]()
        if self.bytes(2) != b"X\n":
            raise ValueError("not an XDR serialization")
        version = self.int()
        self.bytes(8)
        if version == 3:
            self.bytes(self.int())

    def bytes(self, n: int) -> bytes:
        self.at += n
        return self.data[self.at - n : self.at]

    def int(self) -> int:
        return int(struct.unpack(">i", self.bytes(4))[0])

    def item(self) -> object:
        """One item: str, list or None. Attributes of vectors become the second part of a pair (values, attributes)."""
        flags = self.int()
        kind, has_attributes, has_tag = flags & 0xFF, bool(flags & 0x200), bool(flags & 0x400)
        if kind in (254, 242, 253, 251):
            return None
        if kind == 255:
            return self.references[(flags >> 8) - 1]
        if kind == 1:
            self.references.append(self.item())
            return self.references[-1]
        if kind == 9:
            size = self.int()
            return None if size == -1 else self.bytes(size).decode("utf-8", "replace")
        if kind == 2:
            if has_attributes:
                self.item()
            tag = self.item() if has_tag else None
            head = self.item()
            rest = self.item()
            return {str(tag): head, **(rest if isinstance(rest, dict) else {})}
        size = self.int()
        if kind in (10, 13):
            values: list[object] = [self.int() for _ in range(size)]
        elif kind == 14:
            values = list(struct.unpack(f">{size}d", self.bytes(8 * size)))
        elif kind in (16, 19):
            values = [self.item() for _ in range(size)]
        else:
            raise ValueError(f"R type {kind} is not handled")
        if has_attributes:
            attributes = self.item()
            if isinstance(attributes, dict) and "names" in attributes:
                return dict(zip(map(str, attributes["names"]), values, strict=True))
        return values


def r_data(folder: Path) -> dict[str, list[str]]:
    """The character vectors of an R package's lazy-load database (`Rdata.rdx`, `Rdata.rdb` in `folder`), by name.

    Raises ValueError when the database holds a type that texts do not need.
    """
    index = _Xdr(gzip.decompress((folder / "Rdata.rdx").read_bytes())).item()
    if not isinstance(index, dict):
        raise ValueError(f"{folder}: no index")
    blob = (folder / "Rdata.rdb").read_bytes()
    found: dict[str, list[str]] = {}
    for name, (start, size) in index["variables"].items():
        values = _Xdr(zlib.decompress(blob[start + 4 : start + size])).item()
        texts = list(values.values()) if isinstance(values, dict) else values
        if isinstance(texts, list):
            found[name] = [str(t) for t in texts]
    return found


def paragraphs(lines: Iterable[str]) -> list[str]:
    """Paragraphs of wrapped text: lines between empty lines, joined by spaces."""
    joined = "\n".join(line.rstrip() for line in lines)
    return [" ".join(p.split()) for p in re.split(r"\n\s*\n", joined) if p.strip()]


def pack(parts: Sequence[str], size_bytes: int, joint: str = "\n\n") -> list[str]:
    """Joins consecutive parts into documents of about `size_bytes` (UTF-8); a part is never cut."""
    documents: list[str] = []
    held: list[str] = []
    held_bytes = 0
    for part in parts:
        n = len(part.encode())
        if held and held_bytes + n > size_bytes:
            documents.append(joint.join(held))
            held, held_bytes = [], 0
        held.append(part)
        held_bytes += n
    if held:
        documents.append(joint.join(held))
    return documents


def sample(paths: Iterable[Path], root: Path, count: int) -> list[Path]:
    """`count` of the paths, drawn by a hash of their names below `root`, in the order of the names."""
    drawn = sorted(paths, key=lambda p: hashlib.sha1(str(p.relative_to(root)).encode()).digest())[:count]
    return sorted(drawn)


def take(rows: Iterable[dict[str, str]], size_bytes: int) -> Iterator[dict[str, str]]:
    """Rows until their texts reach `size_bytes` (UTF-8)."""
    used = 0
    for row in rows:
        used += len(row["text"].encode())
        if used > size_bytes:
            return
        yield row


def read_text(path: Path) -> str:
    """A UTF-8 file, unpacked when its name ends in `.gz` or `.dz`; line ends are `\\n`, bytes that are not UTF-8 become U+FFFD."""
    data = path.read_bytes()
    if path.suffix in (".gz", ".dz"):
        data = gzip.decompress(data)
    return data.decode("utf-8", "replace").replace("\r\n", "\n")
