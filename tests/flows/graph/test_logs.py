"""Logs of training in the store: a copy counts when its list says so, and what the list says is what is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.graph.logs import METRICS, are_sound, forget, keep_logs, logged, read_log
from storage.errors import IntegrityError
from storage.store import Store

ROOT = "runs/r/pretrain-0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a training stage left in work_dir."""
    (tmp_path / "work" / "attempt-1").mkdir(parents=True)
    (tmp_path / "work" / METRICS).write_text('{"step": 0}\n')
    (tmp_path / "work" / "attempt-1" / "output.log").write_text("started\n")
    (tmp_path / "work" / "attempt-1" / "scratch").write_text("not a log")
    return tmp_path / "work"


def test_a_later_copy_takes_the_place_of_the_one_before(tmp_path: Path, folder: Path) -> None:
    store = Store(str(tmp_path / "store"))
    assert read_log(store, ROOT, METRICS) is None
    assert not are_sound(store, ROOT)
    keep_logs(store, ROOT, folder)
    (folder / METRICS).write_text('{"step": 0}\n{"step": 1}\n')
    keep_logs(store, ROOT, folder)
    assert sorted(logged(store, ROOT)) == ["attempt-1/output.log", METRICS]
    assert read_log(store, ROOT, METRICS) == b'{"step": 0}\n{"step": 1}\n'
    assert len(list(store.list_files(ROOT))) == 3
    assert are_sound(store, ROOT)


def test_a_copy_that_did_not_end_changes_nothing(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list comes last: a kill in the middle leaves what was there."""
    store = Store(str(tmp_path / "store"))
    keep_logs(store, ROOT, folder)
    (folder / METRICS).write_text("other")
    written, write = list[str](), Store.write

    def die(self: Store, path: str, data: bytes) -> None:
        if len(written) == 1:
            raise RuntimeError("killed")
        written.append(path)
        write(self, path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", die)
        with pytest.raises(RuntimeError, match="killed"):
            keep_logs(store, ROOT, folder)
    assert read_log(store, ROOT, METRICS) == b'{"step": 0}\n'
    assert are_sound(store, ROOT)


def test_a_damaged_log_is_refused_with_what_to_do_until_it_is_forgotten(tmp_path: Path, folder: Path) -> None:
    store = Store(str(tmp_path / "store"))
    keep_logs(store, ROOT, folder)
    path = f"{ROOT}/{logged(store, ROOT)[METRICS].path}"
    store.write(path, b'{"step": 7}\n')
    assert not are_sound(store, ROOT)
    with pytest.raises(IntegrityError, match=r"metrics\.jsonl: expected sha256 .*`caravan verify --deep --repair` sets it aside"):
        read_log(store, ROOT, METRICS)
    forget(store, ROOT, METRICS)
    assert read_log(store, ROOT, METRICS) is None
    assert are_sound(store, ROOT)
