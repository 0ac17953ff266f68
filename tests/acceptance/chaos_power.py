"""Power cuts, simulated: everything is killed at once, and what was not flushed to the disk is lost.

`chaos_site/sitecustomize.py` notes in every process what each flush made durable: of a file its size and time, of a folder the names in
it. After a kill of all processes the store is made what a disk may hold: a name that was not flushed is there or not, as a coin falls; a
name that was replaced or removed since the last flush may be what it was; a file's bytes after its last flush are cut off anywhere. No
file system is as cruel, and none promises more.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flows.history.damage import find_damage
from storage.store import Store
from tests.acceptance.chaos_run import start
from tests.acceptance.common import Place

SITE = Path(__file__).parent / "chaos_site"
FIRST_CUT_S, LAST_CUT_S = 4.0, 16.0  # after the command was started


@dataclass
class Journal:
    """What flushes made durable: by folder its names (→ inode), by inode of a file its size in bytes and its time."""

    folders: dict[str, dict[str, int]] = field(default_factory=dict)
    files: dict[int, tuple[int, int]] = field(default_factory=dict)


def journal_folder(folder: Path) -> Path:
    """A new, empty folder for a journal, on the disk of the store: it keeps other names of the store's files."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "kept").mkdir(parents=True)
    return folder


def variables(journal: Path | None, sabotage: str = "") -> dict[str, str]:
    """What makes every process of a command note its flushes (and break one thing on purpose)."""
    found = {"PYTHONPATH": os.pathsep.join([str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])])}
    return found | ({"CARAVAN_FLUSH_JOURNAL": str(journal)} if journal else {}) | ({"CARAVAN_SABOTAGE": sabotage} if sabotage else {})


def read_journal(folder: Path) -> Journal:
    """The journal that the processes wrote."""
    found, path = Journal(), folder / "journal"
    for line in path.read_bytes().splitlines() if path.exists() else ():
        row = json.loads(line)
        if "folder" in row:
            found.folders[row["folder"]] = row["names"]
        else:
            found.files[row["file"]] = (row["size"], row["mtime_ns"])
    return found


def lose_power(root: Path, before: Mapping[str, dict[str, int]], journal: Path, rng: random.Random) -> int:
    """Make the folder `root` what a disk may hold; returns how many names and files were lost, cut or are old again.

    `before`: the names that were on the disk when the command began, by folder.
    """
    found = read_journal(journal)
    durable = {**before, **found.folders}
    began_with = {inode for names in before.values() for inode in names.values()}
    return _lose(root, durable, found.files, began_with, journal / "kept", rng)


def _lose(
    folder: Path, durable: Mapping[str, dict[str, int]], files: Mapping[int, tuple[int, int]], old: set[int], kept: Path, rng: random.Random
) -> int:
    n_lost, names = 0, durable.get(str(folder), {})
    for entry in list(os.scandir(folder)):
        path, is_durable = Path(entry.path), names.get(entry.name) == entry.inode()
        if not is_durable and rng.random() < 0.5:  # the name did not reach the disk, or what it named before did
            shutil.rmtree(path) if entry.is_dir(follow_symlinks=False) else path.unlink()
            n_lost += 1
        elif entry.is_dir(follow_symlinks=False):
            n_lost += _lose(path, durable, files, old, kept, rng)
        else:
            n_lost += _cut(path, entry.inode(), files, old, rng)
    for name, inode in names.items():
        if not (folder / name).exists() and (kept / str(inode)).exists() and rng.random() < 0.5:
            os.link(kept / str(inode), folder / name)
            n_lost += 1
    return n_lost


def _cut(path: Path, inode: int, files: Mapping[int, tuple[int, int]], old: set[int], rng: random.Random) -> int:
    """Cut off what of a file was not flushed; 1 when something was."""
    found = path.stat()
    if inode in old or files.get(inode) == (found.st_size, found.st_mtime_ns):
        return 0
    flushed_bytes = min(files.get(inode, (0, 0))[0], found.st_size)
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: rng.randint(flushed_bytes, len(data)) if rng.random() < 0.5 else flushed_bytes])
    return 1


def names_below(root: Path) -> dict[str, dict[str, int]]:
    """Names and inodes of every folder from `root` down."""
    folders = [(folder, os.scandir(folder)) for folder, _, _ in os.walk(root)]
    return {folder: {entry.name: entry.inode() for entry in entries} for folder, entries in folders}


@dataclass
class Cuts:
    """What came of power cuts: how many, how much they lost, what was published and damaged, what a command said when it failed."""

    n: int = 0
    n_lost: int = 0
    damaged: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def cut_power(here: Place, n: int, rng: random.Random, server: Mapping[str, str]) -> Cuts:
    """Run the path in `here`, whose store may hold anything, through `n` power cuts, begun anew where it ends before; not to its end."""
    found, root = Cuts(), Store(here.store_uri).local_path("")
    root.mkdir(parents=True, exist_ok=True)
    while found.n < n:
        before, journal = names_below(root), journal_folder(here.recipe.parent / "flushes")
        command = start(here, env={**server, **variables(journal)})
        end = time.monotonic() + rng.uniform(FIRST_CUT_S, LAST_CUT_S)
        while command.process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        if command.process.poll() is not None:  # the path is at its end
            if command.process.returncode:
                found.problems.append(command.output()[-400:])
                return found
            shutil.rmtree(root / "artifacts")
            continue
        command.kill_all()
        found.n += 1
        found.n_lost += lose_power(root, before, journal, rng)
        found.damaged += [f"{damage.path}: {damage.problem}" for damage in find_damage(Store(here.store_uri), deep=True)]
    return found
