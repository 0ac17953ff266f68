"""What killed processes left goes when a run is begun, and a refusing disk is told by the name of our folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from flows.running.driver import Plan
from flows.running.leftovers import named_refusals, tidy
from storage.disk import temporary_name
from storage.errors import DiskError
from tests.storage.test_disk import name_of_one_that_ended


def test_what_an_ended_process_left_goes_and_what_a_living_one_writes_stays(
    finished: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the store, in the folder of temporary files, and in the run's own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder, work = finished.store.local_path("artifacts"), finished.run.work_dir(finished.execution.work_dir)
    dead, alive = name_of_one_that_ended(), temporary_name()
    scratch = work / "pretrain-x" / "attempt-1" / "scratch"
    scratch.mkdir(parents=True)
    (scratch / "part").write_bytes(b"x")
    for place in (folder, tmp_path):
        for name in (dead, alive):
            (place / name).write_bytes(b"x")
    try:
        tidy(finished, store_too=False)
        assert (folder / dead).exists()
        tidy(finished, store_too=True)
        assert [(place / name).exists() for place in (folder, tmp_path) for name in (dead, alive)] == [False, True, False, True]
        assert not scratch.exists()
    finally:
        (folder / alive).unlink()


def test_a_refusal_says_which_folder_it_is(finished: Plan) -> None:
    path = Path(finished.execution.work_dir) / "x"
    with pytest.raises(DiskError, match=r"x \(in work_dir .*\): Read-only file system"), named_refusals(finished):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
    with pytest.raises(OSError, match="Input/output error"), named_refusals(finished):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
