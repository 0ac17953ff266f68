"""Looks for damage: what a manifest lists against what is there. Cheaply by sizes, and by sums of small files; or by every byte."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from storage.artifact import REMAKE, FileEntry, read_entry, verify_entry
from storage.errors import IntegrityError
from storage.store import Store

SMALL_BYTES = 64 << 10


def damage(store: Store, root: str, entries: Iterable[FileEntry], *, deep: bool = False, remedy: str = REMAKE) -> Iterator[IntegrityError]:
    """Which of the files of the artifact at `root` are not as they were written. One listing; `deep` reads every file through.

    Otherwise only files of up to `SMALL_BYTES` are read, and of larger ones the size counts.
    """
    sizes = {file.path: file.size_bytes for file in store.list_files(root)}
    for entry in entries:
        path = f"{root}/{entry.path}"
        actual = sizes.get(path)
        if actual != entry.size_bytes:
            found = "no such file" if actual is None else f"{actual:,} bytes"
            yield IntegrityError(path, expected=f"{entry.size_bytes:,} bytes", actual=found, remedy=remedy)
            continue
        try:
            if entry.size_bytes <= SMALL_BYTES:
                read_entry(store, root, entry, remedy=remedy)
            elif deep:
                verify_entry(store, root, entry, remedy=remedy)
        except IntegrityError as error:
            yield error
