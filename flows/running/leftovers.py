"""What killed processes left, cleared away before a run begins; and what a disk refuses, with the name of our folder that it is in."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flows.running.driver import Plan
from storage.disk import is_abandoned, named, remove_abandoned

SCRATCH = "scratch"  # of an attempt at training: checkpoints on their way to the store


def tidy(plan: Plan, *, store_too: bool) -> None:
    """Remove temporary files of processes of this machine that have ended: in the system's folder, in the run's own, and with `store_too`
    in the store, all of whose folders are looked into."""
    remove_abandoned(Path(tempfile.gettempdir()))
    if plan.store.is_local and store_too:
        for file in plan.store.list_temporaries(""):
            if is_abandoned(Path(file.path).name):
                plan.store.remove(file.path)
    folder = plan.run.work_dir(plan.execution.work_dir)
    for left in (*folder.glob(f"*/attempt-*/{SCRATCH}"), *folder.glob("*.progress")):
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


@contextlib.contextmanager
def named_refusals(plan: Plan) -> Iterator[None]:
    """Raise what a disk refuses inside the block as a DiskError that says which of our folders it is."""
    try:
        yield
    except OSError as error:
        folders = {plan.execution.work_dir: "work_dir", tempfile.gettempdir(): "the folder of temporary files"}
        if plan.store.is_local:
            folders[str(plan.store.local_path(""))] = "the store"
        if refused := named(error, folders):
            raise refused from error
        raise
