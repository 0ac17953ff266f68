"""The snapshot: what is listed, what makes it change, and what it refuses."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline import snapshot as module
from pipeline.ingest.config import RawFile, SourceConfig
from pipeline.snapshot import look, read_listing, snapshot
from storage.errors import ConfigError, IntegrityError
from storage.store import FileInfo, Store

FILES = {"a/one.jsonl": b'{"text":"1"}\n', "a/deep/two.jsonl": b'{"text":"2"}\n', "b/three.jsonl": b'{"text":"3"}\n'}


@pytest.fixture
def raw(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "raw [1]"))  # a folder's name may hold the characters of patterns
    for path, data in FILES.items():
        store.write(path, data)
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def source(path: str | tuple[str, ...], name: str = "s") -> SourceConfig:
    return SourceConfig(name=name, format="jsonl", path=path)


def raw_file(path: str) -> RawFile:
    return RawFile(path, len(FILES[path]), hashlib.sha256(FILES[path]).hexdigest())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/*.jsonl", ["a/one.jsonl"]),
        ("a/**/*.jsonl", ["a/deep/two.jsonl", "a/one.jsonl"]),
        (("b/*", "a/one.jsonl", "a/o*"), ["a/one.jsonl", "b/three.jsonl"]),
        ("**/t*.jsonl", ["a/deep/two.jsonl", "b/three.jsonl"]),
    ],
)
def test_lists_what_the_patterns_match_once_and_sorted(raw: Store, store: Store, path: str | tuple[str, ...], expected: list[str]) -> None:
    manifest = snapshot(raw, store, [source(path)])
    assert read_listing(store, manifest) == {"s": [raw_file(name) for name in expected]}


def test_nothing_changed_is_the_same_artifact_and_hashes_nothing(raw: Store, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = snapshot(raw, store, [source("a/**")])
    monkeypatch.setattr(module, "sha256_of", lambda raw, file: pytest.fail(f"hashed {file.path} again"))
    assert snapshot(raw, store, [source("a/**")]).fingerprint == first.fingerprint


def test_a_changed_file_is_hashed_again_and_only_that(raw: Store, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = snapshot(raw, store, [source("**")])
    path = raw.local_path("b/three.jsonl")
    raw.write("b/three.jsonl", b'{"text":"4"}\n')  # same size
    os.utime(path, ns=(1, 1))
    hashed = list[str]()
    original = module.sha256_of

    def spy(raw: Store, file: FileInfo) -> str:
        hashed.append(file.path)
        return original(raw, file)

    monkeypatch.setattr(module, "sha256_of", spy)
    second = snapshot(raw, store, [source("**")])
    assert hashed == ["b/three.jsonl"]
    assert second.fingerprint != first.fingerprint
    assert second.digest != first.digest


def test_two_recipes_share_the_cache_without_loss(raw: Store, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What either recipe hashed, a third one that names both does not hash again."""
    hashed: list[str] = []
    snapshot(raw, store, [source("a/*")])
    snapshot(raw, store, [source("b/*")])

    def spy(raw: Store, file: FileInfo) -> str:
        hashed.append(file.path)
        return ""

    monkeypatch.setattr(module, "sha256_of", spy)
    snapshot(raw, store, [source("a/*"), source("b/*", "t")])
    assert hashed == []


@pytest.mark.parametrize("cache", [b"{", b"[]", b'{"a/one.jsonl": 3}'])
def test_a_cache_that_cannot_be_read_is_no_cache(raw: Store, store: Store, cache: bytes) -> None:
    expected = look(raw, store, [source("a/*")])
    (path,) = [file.path for file in store.list_files("cache")]
    store.write(path, cache)
    assert look(raw, store, [source("a/*")]) == expected


def test_a_pattern_without_a_file_names_source_and_pattern(raw: Store, store: Store) -> None:
    with pytest.raises(ConfigError, match=r"source s: 'c/\*\.jsonl' matches no file under .*raw"):
        snapshot(raw, store, [source(("a/*.jsonl", "c/*.jsonl"))])


def test_two_sources_of_one_name_are_refused(raw: Store, store: Store) -> None:
    with pytest.raises(ConfigError, match="two sources have the name 's'"):
        snapshot(raw, store, [source("a/*"), source("b/*")])


def test_a_file_that_shrinks_while_it_is_read_is_named(raw: Store) -> None:
    with pytest.raises(IntegrityError, match=r"a/one\.jsonl.*changed while it was read"):
        module.sha256_of(raw, FileInfo("a/one.jsonl", 1 << 30))


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "s3://bucket/x", "a//b", "./a", "", ()])
def test_a_path_cannot_leave_raw_root(path: str | tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match=r"must be relative to raw_root|names no file"):
        source(path)


def test_a_link_to_a_file_is_a_file(raw: Store, store: Store) -> None:
    raw.local_path("b/link.jsonl").symlink_to(raw.local_path("a/one.jsonl"))
    listing = look(raw, store, [source("b/*.jsonl")])
    assert {file.path: file.sha256 for file in listing["s"]}["b/link.jsonl"] == raw_file("a/one.jsonl").sha256


def test_snapshot_of_an_object_store_is_that_of_a_folder(raw: Store, store: Store, s3_store: Store) -> None:
    """Same bytes, same listing, same digest; the ETag serves the cache."""
    remote = Store(f"{s3_store.uri}/raw")
    for path, data in FILES.items():
        remote.write(path, data)
    sources = [source("a/**/*.jsonl")]
    here, there = snapshot(raw, store, sources), snapshot(remote, s3_store, sources)
    assert (here.fingerprint, here.digest) == (there.fingerprint, there.digest)
