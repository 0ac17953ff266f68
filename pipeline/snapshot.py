"""Snapshot: the listing of every raw file of every source, with its sha256. It runs each time, for it is how a change of the raw data
is noticed.

Writes `listing.json`: {source name: [{"path", "size_bytes", "sha256"}, …]}, sorted by path; paths are relative to raw_root. What it
asks for cannot be known before it has looked, so its fingerprint covers the listing itself.

Hashing is skipped for a file whose path, size and version (modification time and inode, or ETag) are those of an earlier snapshot; the
cache is a small file of the store, `cache/snapshot-<hash of the raw root>.json`. The trade: a file that is rewritten in place with the
same size and the same modification time to the nanosecond is not noticed here. Extraction checks the sha256 of what it reads, so stale
bytes are an error, never a result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from pipeline.ingest.config import RawFile, SourceConfig
from storage.artifact import Attempt, FileEntry, Manifest, canonical_json, find, identity, read_verified
from storage.errors import ConfigError, IntegrityError
from storage.store import FileInfo, Store

NAME = "snapshot"
VERSION = 1
LISTING = "listing.json"
READ_CHUNK_BYTES = 16 << 20

Listing = dict[str, list[RawFile]]
Cache = dict[str, list[Any]]


def snapshot(raw: Store, store: Store, sources: Iterable[SourceConfig]) -> Manifest:
    """Look at the raw files of `sources` in the store `raw` (raw_root) and publish their listing as an artifact of `store`.

    Raises ConfigError when a pattern of a source matches no file, naming source, pattern and raw root.
    """
    listing = look(raw, store, sources)
    fingerprint, payload = listing_identity(listing)
    plain = _plain(listing)
    if standing := find(store, NAME, fingerprint):
        return standing
    attempt, entries = Attempt(store, NAME, fingerprint), list[FileEntry]()
    with attempt.create(LISTING, entries) as file:
        file.write(json.dumps(plain, indent=1, sort_keys=True).encode())
    files = sum(len(found) for found in listing.values())
    size_bytes = sum(file.size_bytes for found in listing.values() for file in found)
    return attempt.publish(payload, entries, counts={"files": files, "size_bytes": size_bytes}, info={"raw_root": raw.uri})


def listing_identity(listing: Listing) -> tuple[str, dict[str, Any]]:
    """Fingerprint and payload of the artifact that holds `listing`, published or not."""
    digests = {name: hashlib.sha256(canonical_json(files)).hexdigest() for name, files in _plain(listing).items()}
    return identity(NAME, VERSION, {"listing_sha256": digests}, {})


def _plain(listing: Listing) -> dict[str, list[dict[str, Any]]]:
    return {name: [file._asdict() for file in files] for name, files in listing.items()}


def read_listing(store: Store, manifest: Manifest) -> Listing:
    """The listing that a snapshot published. Raises IntegrityError."""
    rows: dict[str, list[dict[str, Any]]] = json.loads(read_verified(store, manifest, LISTING))
    return {name: [RawFile(**row) for row in files] for name, files in rows.items()}


def look(raw: Store, store: Store, sources: Iterable[SourceConfig]) -> Listing:
    """The raw files of each source, by name, sorted by path. Raises ConfigError when a pattern matches nothing."""
    cache_path = f"cache/snapshot-{hashlib.sha256(raw.uri.encode()).hexdigest()[:16]}.json"
    cache = _read_cache(store, cache_path)
    before, listing = dict(cache), Listing()
    for source in sorted(sources, key=lambda source: source.name):
        if source.name in listing:
            raise ConfigError(f"two sources have the name {source.name!r}")
        found: dict[str, FileInfo] = {}
        for pattern in source.patterns:
            matches = raw.glob(pattern)
            if not matches:
                raise ConfigError(f"source {source.name}: {pattern!r} matches no file under {raw.uri}")
            found.update((file.path, file) for file in matches)
        listing[source.name] = [_hashed(raw, file, cache) for _, file in sorted(found.items())]
    if cache != before:
        store.write(cache_path, canonical_json(cache))
    return listing


def _hashed(raw: Store, file: FileInfo, cache: Cache) -> RawFile:
    """`file` with its sha256, from `cache` where nothing about it has changed; noted there."""
    known = cache.get(file.path, [])
    if known[:2] != [file.size_bytes, file.version]:
        cache[file.path] = known = [file.size_bytes, file.version, sha256_of(raw, file)]
    return RawFile(file.path, file.size_bytes, str(known[2]))


def sha256_of(raw: Store, file: FileInfo) -> str:
    """sha256 (hex) of a raw file, read in pieces. Raises IntegrityError when it is shorter than listed."""
    digest = hashlib.sha256()
    for start in range(0, file.size_bytes, READ_CHUNK_BYTES):
        piece = raw.read_range(file.path, start, min(start + READ_CHUNK_BYTES, file.size_bytes))
        if not piece:
            raise IntegrityError(file.path, expected=f"{file.size_bytes} bytes", actual=f"{start} bytes: it changed while it was read")
        digest.update(piece)
    return digest.hexdigest()


def _read_cache(store: Store, path: str) -> Cache:
    """What earlier snapshots hashed: path → [size in bytes, version, sha256]. A cache that cannot be read is no cache."""
    try:
        cache = json.loads(store.read(path))
    except (FileNotFoundError, ValueError):
        return {}
    rows = cache.items() if isinstance(cache, dict) else ()
    return {name: row for name, row in rows if isinstance(row, list) and len(row) == 3}
