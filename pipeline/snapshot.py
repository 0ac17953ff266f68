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
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.ingest.config import LOOK_AGAIN, RawFile, SourceConfig
from storage.artifact import Attempt, FileEntry, Manifest, canonical_json, find, identity, read_verified
from storage.errors import ConfigError, IntegrityError
from storage.sealed import seal, unseal
from storage.store import FileInfo, Store

log = logging.getLogger(__name__)

NAME = "snapshot"
VERSION = 1
LISTING = "listing.json"
READ_CHUNK_BYTES = 16 << 20
SHOWN_SKIPPED = 10

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
        found, skipped = dict[str, FileInfo](), dict[str, str]()
        for pattern in source.patterns:
            matches = raw.glob(pattern, skipped)
            if not matches:
                raise ConfigError(f"source {source.name}: {pattern!r} matches no file under {raw.uri}")
            found.update((file.path, file) for file in matches)
        _check_names(source.name, found)
        _say_skipped(source.name, skipped)
        listing[source.name] = [_hashed(raw, file, cache) for _, file in sorted(found.items())]
    if cache != before:
        store.write(cache_path, seal({"files": cache}))
    return listing


def _check_names(source: str, paths: Iterable[str]) -> None:
    """Raises ConfigError for a name that no manifest can hold."""
    for path in paths:
        if (name := path.encode("utf-8", "surrogateescape")) and not _is_utf8(name):
            raise ConfigError(f"source {source}: the name of the raw file {name!r} is no UTF-8: rename it, or leave it out of the pattern")


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _say_skipped(source: str, skipped: Mapping[str, str]) -> None:
    """A line about what a source's patterns match and is no file."""
    if skipped:
        shown = ", ".join(f"{path!r} ({what})" for path, what in sorted(skipped.items())[:SHOWN_SKIPPED])
        more = f" and {len(skipped) - SHOWN_SKIPPED:,} more" if len(skipped) > SHOWN_SKIPPED else ""
        log.warning("source %s: %d that its patterns match are no files, and are skipped: %s%s", source, len(skipped), shown, more)


def _hashed(raw: Store, file: FileInfo, cache: Cache) -> RawFile:
    """`file` with its sha256, from `cache` where nothing about it has changed; noted there."""
    known = cache.get(file.path, [])
    if known[:2] != [file.size_bytes, file.version]:
        cache[file.path] = known = [file.size_bytes, file.version, sha256_of(raw, file)]
    return RawFile(file.path, file.size_bytes, str(known[2]))


def sha256_of(raw: Store, file: FileInfo) -> str:
    """sha256 (hex) of a raw file, read in pieces. Raises IntegrityError when it is gone or shorter than listed."""
    digest, asked = hashlib.sha256(), f"{file.size_bytes:,} bytes, as it was listed"
    for start in range(0, file.size_bytes, READ_CHUNK_BYTES):
        end = min(start + READ_CHUNK_BYTES, file.size_bytes)
        try:
            piece = raw.read_range(file.path, start, end)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise IntegrityError(file.path, expected=asked, actual="no such file: it vanished", remedy=LOOK_AGAIN) from error
        if len(piece) < end - start:
            found = f"{start + len(piece):,} bytes: it changed while it was read"
            raise IntegrityError(file.path, expected=asked, actual=found, remedy=LOOK_AGAIN)
        digest.update(piece)
    return digest.hexdigest()


def _read_cache(store: Store, path: str) -> Cache:
    """What earlier snapshots hashed: path → [size in bytes, version, sha256]. A cache that does not verify is made anew."""
    try:
        return parse_cache(store.read(path), where=path)
    except FileNotFoundError:
        return {}
    except IntegrityError as error:
        log.warning("%s: every raw file is hashed again", error)
        return {}


def parse_cache(data: bytes, *, where: str) -> Cache:
    """A cache from the bytes of its file. Raises IntegrityError when they are damaged."""
    cache: Cache = unseal(data, where=where, what="a cache")["files"]
    return cache
