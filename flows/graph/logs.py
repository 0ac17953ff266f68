"""What a training stage wrote while it ran, kept in the store beside the run that trained it: metrics, the samples fed, output. RULE 8.

`runs/<run>/<stage>-<fingerprint>/` holds copies of the files in the run's folder of `work_dir`, each time in a folder of their own, and
`files.json`, which names those that count with their sums: a reader takes none that is damaged, or of a copy that did not end.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from pathlib import Path

from storage.artifact import FileEntry, read_entry
from storage.errors import IntegrityError
from storage.sealed import seal, unseal
from storage.store import Store
from storage.verify import damage

log = logging.getLogger(__name__)

METRICS = "metrics.jsonl"
FILES = "files.json"
RENEW = "`caravan verify --deep --repair` sets it aside, and the report goes without it"


def logs_of(run: str, stage: str, fingerprint: str) -> str:
    """The folder in the store of a training stage's logs, by the run that trained it."""
    return f"runs/{run}/{stage}-{fingerprint[:12]}"


def keep_logs(store: Store, root: str, folder: Path) -> None:
    """Copy the logs in `folder` to `root` in the store; then say which they are, and remove those whose place they take."""
    copy, entries = uuid.uuid4().hex[:8], _known(store, root)  # those of another machine's attempts are not here
    old = {entry.path for entry in entries.values()}
    for path in log_files(folder):
        name, data = path.relative_to(folder).as_posix(), path.read_bytes()
        store.write(f"{root}/{copy}/{name}", data)
        entries[name] = FileEntry(name, f"{copy}/{name}", len(data), hashlib.sha256(data).hexdigest())
    if entries:
        _write_files(store, root, list(entries.values()))
    for path_before in old - {entry.path for entry in entries.values()}:
        store.remove(f"{root}/{path_before}")


def _known(store: Store, root: str) -> dict[str, FileEntry]:
    """What is listed already; nothing where the list is damaged."""
    try:
        return logged(store, root)
    except IntegrityError as error:
        log.warning("%s", error)
        return {}


def log_files(folder: Path) -> list[Path]:
    """The files of a training stage's folder in work_dir that are kept."""
    kept = (path for path in folder.rglob("*") if path.name == "output.log" or path.suffix in (".jsonl", ".json"))
    return sorted(path for path in kept if path.is_file())


def are_sound(store: Store, root: str) -> bool:
    """Whether logs are kept at `root`, as far as can be told without reading large ones."""
    try:
        entries = logged(store, root)
    except IntegrityError:
        return False
    return bool(entries) and next(damage(store, root, entries.values()), None) is None


def logged(store: Store, root: str) -> dict[str, FileEntry]:
    """The logs that are kept at `root`, by name; empty where none are. Raises IntegrityError when the list of them is damaged."""
    path = f"{root}/{FILES}"
    try:
        return parse_files(store.read(path), where=path)
    except FileNotFoundError:
        return {}


def parse_files(data: bytes, *, where: str) -> dict[str, FileEntry]:
    """The list of logs from the bytes of its file. Raises IntegrityError when they are damaged."""
    raw = unseal(data, where=where, what="a list of logs", remedy=RENEW)
    try:
        return {row["name"]: FileEntry(**row) for row in raw["files"]}
    except (TypeError, KeyError) as error:
        raise IntegrityError(where, expected="a list of logs", actual=str(error), remedy=RENEW) from error


def forget(store: Store, root: str, name: str) -> None:
    """Set the kept log of that name aside, and take it out of the list."""
    known = logged(store, root)
    store.set_aside(f"{root}/{known.pop(name).path}")
    _write_files(store, root, list(known.values()))


def _write_files(store: Store, root: str, entries: list[FileEntry]) -> None:
    store.write(f"{root}/{FILES}", seal({"files": [vars(entry) for entry in entries]}))


def read_log(store: Store, root: str, name: str) -> bytes | None:
    """A kept log, its bytes checked; None where it was not kept. Raises IntegrityError."""
    entry = logged(store, root).get(name)
    return None if entry is None else read_entry(store, root, entry, remedy=RENEW)
