"""This machine's disks: files written whole, flushed in the order that a power cut needs, refused in one line, tidied by who comes next.

What is said to be there is on the disk: a file's bytes are flushed before it gets its name, and the name (its folder, and the folders
above that are new) before anything that refers to it is written. Temporary files carry the name of the process that writes them, so
that what a killed one left can be told from what a living one is writing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from storage.errors import DiskError
from storage.hosts import is_gone, start_of, this_host

TEMPORARY_PREFIX = ".caravan-tmp-"
REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
UNREADABLE = (errno.EIO, errno.EUCLEAN, errno.ESTALE)  # what a bad sector, or a file system that sums its blocks, says
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EBADF)  # of folders, on file systems that know no such thing
_OWNER = re.compile(re.escape(TEMPORARY_PREFIX) + r"(?P<host>[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8})-(?P<pid>\d+)-(?P<start>\d+)-")
_flushed: set[tuple[str, int, int]] = set()  # folders whose names this process has flushed: path, device, inode


def temporary_name() -> str:
    """A name for a file or folder that this process is writing; no two are alike."""
    host = "-".join(this_host().split(" ")[1:])
    return f"{TEMPORARY_PREFIX}{host}-{os.getpid()}-{start_of(os.getpid()) or 0}-{uuid.uuid4().hex[:12]}"


def is_abandoned(name: str) -> bool:
    """Whether a temporary file's name says that a process of this machine wrote it which has ended."""
    found = _OWNER.match(name)
    return found is not None and is_gone(f"? {found['host'].replace('-', ' ')}", int(found["pid"]), int(found["start"]))


def remove_abandoned(folder: Path) -> int:
    """Remove what ended processes of this machine left directly in `folder`; returns how many files and folders that were."""
    count = 0
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        for entry in os.scandir(folder):
            if is_abandoned(entry.name):
                with contextlib.suppress(OSError):  # somebody else was quicker, or it is not ours to remove
                    shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
                    count += 1
    return count


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder in the system's folder of temporary files, gone after the block; a killed process's is removed by the next run."""
    folder = Path(tempfile.gettempdir()) / temporary_name()
    with refusals(f"the folder of temporary files {folder.parent}", folder):
        folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def flush_folder(folder: Path) -> None:
    """Let the names in a folder reach the disk, and those of the folders above it that this process has not flushed before."""
    _flush_names(folder)
    new = list[tuple[str, int, int]]()
    for inner in (folder, *folder.parents):
        found = os.stat(inner)
        key = (str(inner), found.st_dev, found.st_ino)
        if key in _flushed:
            break
        _flush_names(inner.parent)
        new.append(key)
    _flushed.update(new)


def _flush_names(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno in _NO_SYNC:  # a folder above ours that we may not read: it was there before us
            return
        raise
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)


@contextlib.contextmanager
def refusals(folder: str, path: Path | str, needed_bytes: int | None = None) -> Iterator[None]:
    """Raise a DiskError for what a disk refuses inside the block. `folder`: which of ours `path` is in."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        raise DiskError(str(path), folder=folder, problem=str(error.strerror), needed=needed(error, path, needed_bytes)) from error


def needed(error: OSError, path: Path | str, needed_bytes: int | None) -> str:
    """How many bytes were wanted, and how many there are, where room was the trouble."""
    if error.errno not in NO_ROOM:
        return ""
    want = f"{needed_bytes:,} bytes or more were to be written" if needed_bytes else ""
    place = next((folder for folder in (Path(path), *Path(path).parents) if folder.is_dir()), None)
    free = f"{shutil.disk_usage(place).free:,} bytes are free there" if place else ""
    return ", ".join(filter(None, (want, free)))


def full(path: Path, needed_bytes: int, folder: str) -> DiskError | None:
    """The DiskError of a disk that has not room for `needed_bytes` at `path`, or None: for failures that do not say why."""
    place = next(each for each in (path, *path.parents) if each.is_dir())
    if (free_bytes := shutil.disk_usage(place).free) >= needed_bytes:
        return None
    said = f"{needed_bytes:,} bytes or more were to be written, {free_bytes:,} bytes are free there"
    return DiskError(str(path), folder=folder, problem=os.strerror(errno.ENOSPC), needed=said)


def named(error: OSError, folders: Mapping[str, str]) -> DiskError | None:
    """The DiskError of a refusal that nobody named, or None when it is another error. `folders`: what each of ours is called, by path."""
    if error.errno not in REFUSED:
        return None
    if error.filename is None:
        return DiskError("a file", folder="", problem=str(error.strerror))
    path = str(error.filename)
    inside = [root for root in folders if path == root or path.startswith(root.rstrip("/") + "/")]
    folder = f"{folders[max(inside, key=len)]} {max(inside, key=len)}" if inside else ""
    return DiskError(path, folder=folder, problem=str(error.strerror), needed=needed(error, path, None))
