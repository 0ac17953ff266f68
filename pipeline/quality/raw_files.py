"""Files that a recipe names beside its sources: word lists and evaluation tasks. Their sha256 is part of the stage's config."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator

import zstandard

from pipeline.quality.config import RawFiles
from storage.errors import ConfigError, IntegrityError
from storage.store import Store

MAX_UNPACKED_BYTES = 1 << 30


def read_raw(raw: Store, files: RawFiles, where: str) -> Iterator[tuple[str, bytes]]:
    """(path, unpacked bytes) of each file, checked against its sha256.

    Raises ConfigError when `resolve_files` has not been called or a file unpacks to more than 1 GB, IntegrityError for other bytes.
    """
    if not files.sha256:
        raise ConfigError(f"{where}: no file of {files.path!r} has been looked up in raw_root yet (resolve_files does it)")
    for path, expected in sorted(files.sha256.items()):
        data = raw.read(path)
        actual = hashlib.sha256(data).hexdigest()
        if actual != expected:
            raise IntegrityError(path, expected=f"sha256 {expected}", actual=f"sha256 {actual}")
        yield path, _unpack(path, data, where)


def _unpack(path: str, data: bytes, where: str) -> bytes:
    try:
        if path.endswith(".gz"):
            data = gzip.decompress(data)
        elif path.endswith(".zst"):
            data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raise ConfigError(f"{where}: {path} cannot be unpacked: {error}") from error
    if len(data) > MAX_UNPACKED_BYTES:
        raise ConfigError(f"{where}: {path} unpacks to {len(data):,} bytes, at most {MAX_UNPACKED_BYTES:,} are allowed")
    return data
