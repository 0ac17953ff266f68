"""Disks that are full or read-only: a small tmpfs for the store or for work_dir, in a mount namespace of the acceptance's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from flows.graph.runs import Run, open_run
from storage.store import Store
from tests.acceptance.chaos_run import copy_store, digests_of, roots_of, temporary_files
from tests.acceptance.common import Place, different

INSIDE = "CARAVAN_MOUNT_NAMESPACE"
NAMESPACES = (
    ("unshare", "--mount"),
    ("unshare", "--user", "--map-root-user", "--mount"),
)  # as root; as a user, root in a namespace of his own
FULL, READ_ONLY = "No space left on device", "Read-only file system"


def enter_namespace() -> None:
    """Run this command again in a mount namespace of its own, where one is permitted; else the disk checks say that they were not done."""
    if os.environ.get(INSIDE):
        return
    for words in NAMESPACES:
        tried = subprocess.run([*words, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
        if tried.returncode == 0:
            os.environ[INSIDE] = "1"
            os.execvp(words[0], [*words, sys.executable, "-m", *_module(), *sys.argv[1:]])


def _module() -> Sequence[str]:
    return ["tests.acceptance.chaos"]


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[None]:
    """A disk of that size at `folder`, gone after the block."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    """Change a disk: its size, or whether it may be written."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


@dataclass(frozen=True)
class Trouble:
    """A disk's trouble in a stage: which folder is on it (store, work_dir), and whether it is full or read-only."""

    stage: str
    folder: str
    problem: str

    def __str__(self) -> str:
        return f"{self.folder} {'full' if self.problem == FULL else 'read-only'} in {self.stage}"


TROUBLES = (
    Trouble("dedup", "the store", FULL),
    Trouble("tokenize", "the store", READ_ONLY),
    Trouble("pretrain", "the store", FULL),
    Trouble("pretrain", "work_dir", FULL),
    Trouble("quality", "work_dir", READ_ONLY),
    Trouble("pretrain", "work_dir", READ_ONLY),
)


def meet(run: Run, here: Place, trouble: Trouble) -> list[str]:
    """The stage on such a disk, then on one that is mended: what went wrong."""
    store, work = Store(here.store_uri).local_path(""), Path(yaml.safe_load(here.execution.read_text())["work_dir"])
    disk = store if trouble.folder == "the store" else work
    left_out = tuple(f"{root}/" for root in roots_of(run, trouble.stage))
    names = [file for file in run.store.list_files("artifacts") if not file.path.startswith(left_out)]
    with small_disk(disk, 1 << 30):
        if disk == store:
            for file in names:
                target = store / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(run.store.local_path(file.path), target)
        else:
            copy_store(run.store.local_path(""), store, without=(*left_out, "runs/"))
        room = 64 << 10 if trouble.stage != "pretrain" else 300 << 10  # enough to begin, too little for what is made
        used_bytes = shutil.disk_usage(disk).used
        remount(disk, f"size={used_bytes + room}" if trouble.problem == FULL else "ro")
        met = here.run("--to", trouble.stage, check=False)
        problems = _told(trouble, disk, met.code, met.output, here)
        remount(disk, "size=2g" if trouble.problem == FULL else "rw")
        mended = here.run("--to", trouble.stage, check=False)
        if mended.code:
            problems.append(f"not resumed when mended: {mended.output[-400:]}")
        problems += [f"another digest of {key}" for key in different(digests_of(run), here.digests())[:1]]
        problems += [f"left {path}" for path in temporary_files(here)[:2]]
    return problems


def _told(trouble: Trouble, disk: Path, code: int, output: str, here: Place) -> list[str]:
    """What is wrong with how a command told it."""
    lines = [line for line in output.splitlines() if trouble.problem in line]
    problems = [] if code == 1 else [f"exit code {code}: {output[-400:]}"]
    if "Traceback" in output:
        problems.append(f"a traceback: {output[-600:]}")
    said = [line for line in lines if line.startswith("DiskError")]
    if len(said) != 1 or str(disk) not in said[0] or trouble.folder not in said[0]:
        problems.append(f"not told in one line with folder and path: {lines or output[-400:]}")
    elif trouble.problem == FULL and "bytes are free" not in said[0]:
        problems.append(f"it does not say how much there is: {said[0]}")
    if "tries" in output or "attempt 2" in output:
        problems.append("it was tried again")
    state = open_run(Store(here.store_uri), str(yaml.safe_load(here.recipe.read_text())["name"])).state
    if state not in ("failed", "new") and not (trouble.folder == "the store" and state == "running"):
        problems.append(f"the run's file says {state}")
    return problems


def on_disk(here: Place, folder: Path) -> Place:
    """The place with its store and work_dir where a small disk can be put."""
    execution = yaml.safe_load(here.execution.read_text())
    execution |= {"store": str(folder / "store"), "work_dir": str(folder / "work")}
    here.execution.write_text(yaml.safe_dump(execution, sort_keys=False))
    return replace(here, store_uri=str(folder / "store"))
