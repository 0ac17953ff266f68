"""The snapshot: what is listed, what makes it change, and what it refuses."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline import snapshot as module
from pipeline.ingest.config import RawFile, SourceConfig
from pipeline.snapshot import look, read_listing, snapshot
from storage.errors import ConfigError, DiskError, IntegrityError
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


def test_what_is_no_file_is_skipped_and_listed(raw: Store, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A FIFO would be read for ever; a folder with a file's name and links that lead nowhere have no bytes."""
    folder = raw.local_path("a")
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "loop.jsonl").symlink_to("loop.jsonl")
    (folder / "folder.jsonl").mkdir()
    (folder / "link.jsonl").symlink_to("one.jsonl")
    (found,) = look(raw, store, [source("a/*.jsonl")]).values()
    assert [file.path for file in found] == ["a/link.jsonl", "a/one.jsonl"]
    (line,) = caplog.messages
    assert line == (
        "source s: 3 that its patterns match are no files, and are skipped: 'a/folder.jsonl' (a folder), "
        "'a/loop.jsonl' (a link that leads nowhere), 'a/pipe.jsonl' (neither a file nor a folder)"
    )


def test_folders_that_a_pattern_for_all_names_goes_through_are_not_skipped_files(
    raw: Store, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    look(raw, store, [source("a/*"), source("**", "t")])
    assert caplog.messages == []


def test_a_name_that_is_no_utf8_is_refused_before_any_work(raw: Store, store: Store) -> None:
    """No manifest could hold it; left out in silence it would be lost."""
    (raw.local_path("a") / os.fsdecode(b"b\xff.jsonl")).write_bytes(b"{}")
    with pytest.raises(ConfigError, match=r"source s: the name of the raw file b'a/b\\xff.jsonl' is no UTF-8: rename it"):
        look(raw, store, [source("a/*.jsonl")])


def test_a_file_that_vanishes_while_it_is_looked_at_is_named(raw: Store) -> None:
    with pytest.raises(
        IntegrityError, match=r"a/gone\.jsonl.*no such file: it vanished; the next `caravan run` looks at the raw files anew"
    ):
        module.sha256_of(raw, FileInfo("a/gone.jsonl", 5))


def test_a_file_that_may_not_be_read_is_named_with_the_folder_that_it_is_in() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders may be closed to others, which would be another refusal
        raw = Store(name, kind="raw_root")
        raw.write("a/one.jsonl", b"{}")
        Path(name).chmod(0o755)
        raw.local_path("a/one.jsonl").chmod(0)
        if os.getuid() == 0:  # who may read everything
            os.seteuid(65534)
        try:
            with pytest.raises(DiskError, match=r"a/one\.jsonl \(in raw_root .*\): Permission denied"):
                look(raw, Store(f"{name}/store"), [source("a/*.jsonl")])
        finally:
            os.seteuid(os.getuid())


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
