"""This machine's disks: temporary files that say whose they are, what is flushed before what, and refusals in one line."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage import disk
from storage.artifact import Attempt, FileEntry, fingerprint_of
from storage.disk import TEMPORARY_PREFIX, full, is_abandoned, named, refusals, remove_abandoned, temporary_folder, temporary_name
from storage.errors import DiskError
from storage.store import Store


def name_of_one_that_ended() -> str:
    """A temporary name of a process that is gone."""
    code = "from storage.disk import temporary_name; print(temporary_name())"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_what_an_ended_process_left_is_told_from_what_a_living_one_writes(tmp_path: Path) -> None:
    ours, theirs, elsewhere = temporary_name(), name_of_one_that_ended(), f"{TEMPORARY_PREFIX}{'0' * 8}-{'0' * 8}-{'0' * 8}-1-1-x"
    for name in (ours, theirs, elsewhere, "other"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / f"{theirs}-folder").mkdir()
    (tmp_path / f"{theirs}-folder" / "file").write_bytes(b"x")
    assert [is_abandoned(name) for name in (ours, theirs, elsewhere, "other")] == [False, True, False, False]
    assert remove_abandoned(tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([ours, elsewhere, "other"])
    assert remove_abandoned(tmp_path / "no folder") == 0


def test_a_temporary_folder_is_gone_after_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temporary_folder() as folder:
        (folder / "x").write_bytes(b"x")
        assert folder.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def flushes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is flushed from now on, and which names appear, in order."""
    seen, fsync, link, replace = list[str](), os.fsync, os.link, os.replace

    def noted(handle: int) -> None:
        seen.append(f"flush {Path(os.readlink(f'/proc/self/fd/{handle}')).name.partition(TEMPORARY_PREFIX)[1] or 'folder'}")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)

    def naming(action: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        def name(source: Any, target: Any) -> None:
            seen.append(f"name {Path(target).name}")
            action(source, target)

        return name

    monkeypatch.setattr(os, "link", naming(link))
    monkeypatch.setattr(os, "replace", naming(replace))
    return seen


def test_bytes_are_flushed_before_their_name_and_names_before_what_refers_to_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut between any two of these leaves nothing published that is empty, partial or without its files."""
    store, payload = Store(str(tmp_path)), {"name": "x"}
    attempt, entries = Attempt(store, "stage", fingerprint_of(payload)), list[FileEntry]()
    seen = flushes(monkeypatch)
    with attempt.create("a", entries) as file:
        file.write(b"x")
    attempt.publish(payload, entries, counts={}, info={})
    plain = [line for n, line in enumerate(seen) if n == 0 or line != seen[n - 1] or "folder" not in line]
    assert plain == [
        f"flush {TEMPORARY_PREFIX}",
        "name a",
        "flush folder",
        f"flush {TEMPORARY_PREFIX}",
        "name manifest.json",
        "flush folder",
    ]


def test_the_folders_above_are_flushed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a new folder has to be on the disk too, and that of the one above it."""
    store = Store(str(tmp_path / "store"))
    flushed = list[str]()
    monkeypatch.setattr(disk, "_flush_names", lambda folder: flushed.append(str(folder)))
    store.write("a/b/one", b"x")
    assert flushed[:4] == [str(tmp_path / name) for name in ("store/a/b", "store/a", "store", "")]
    flushed.clear()
    store.write("a/b/two", b"x")
    assert flushed == [str(tmp_path / "store" / "a" / "b")]


def test_a_store_that_need_not_be_durable_flushes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path), durable=False)
    seen = flushes(monkeypatch)
    store.write("a", b"x")
    assert store.put_if_absent("b", b"x")
    assert seen == ["name a", "name b"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_refusal_is_told_with_folder_path_and_room(tmp_path: Path, number: int) -> None:
    path = tmp_path / "a" / "b"
    with pytest.raises(DiskError) as caught, refusals("the store /s", path, 1_000):
        raise OSError(number, os.strerror(number))
    said = str(caught.value)
    assert said.startswith(f"{path} (in the store /s): {os.strerror(number)}")
    assert ("1,000 bytes or more were to be written" in said) == (number in (errno.ENOSPC, errno.EDQUOT))
    assert ("bytes are free there" in said) == (number in (errno.ENOSPC, errno.EDQUOT))


def test_another_error_of_the_system_is_left_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output error") as caught, refusals("the store", tmp_path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    assert not isinstance(caught.value, DiskError)
    assert named(caught.value, {}) is None


def test_the_folder_of_a_refusal_is_the_innermost_of_ours(tmp_path: Path) -> None:
    error = OSError(errno.EROFS, "Read-only file system", "/data/work/x")
    found = named(error, {"/data": "the store", "/data/work": "work_dir", "/dat": "another"})
    assert found is not None
    assert found.folder == "work_dir /data/work"
    assert full(tmp_path / "no" / "folder", 1, "work_dir") is None
    assert full(tmp_path, 1 << 62, "work_dir") is not None


FULL = """
import resource, sys
from storage.artifact import Attempt, fingerprint_of
from storage.errors import DiskError
from storage.store import Store
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
store, payload = Store(sys.argv[1]), {"name": "x"}
attempt, entries = Attempt(store, "stage", fingerprint_of(payload)), []
try:
    with attempt.create("a", entries) as file:
        for _ in range(100):
            file.write(b"x" * 1_000)
            file.flush()
except DiskError as error:
    print(error)
print(entries, [path.name for path in store.local_path("").rglob("*") if path.is_file()])
"""


def test_a_file_that_a_disk_takes_no_more_of_is_told_with_its_folder_and_leaves_nothing(tmp_path: Path) -> None:
    """Really refused by the system, here for its limit on a file's size."""
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], check=True, capture_output=True, text=True)
    told, left = done.stdout.splitlines()
    assert told.startswith(f"{tmp_path}/artifacts/stage/")
    assert f"(in the store {tmp_path}): File too large" in told
    assert left == "[] []"
