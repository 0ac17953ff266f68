"""The benches of the trainer and of the store, small: both sides do the same work, and a side that does other work is noticed."""

from __future__ import annotations

import re
from pathlib import Path
from unittest import mock

import pytest

from benchmarks import bench_minio, bench_training
from flows.recipe.loading import load_recipe
from scripts.minio import Minio
from storage.store import Store
from tests.flows.small_corpus import write_corpus
from tests.training.stages import MODEL

TINY = bench_training.Size("tiny", MODEL, seq_len=32, global_batch_size=4, micro_batch_size=2, turn_steps=2)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WARMUP_STEPS": 1, "TURNS": 2, "PAIRS": 2, "CHECKPOINT_STEPS": 2, "N_STEPS": 2000}.items():
        monkeypatch.setattr(bench_training, name, value)


def test_trainer_and_bare_loop_take_turns_and_have_the_same_losses(tmp_path: Path) -> None:
    figure = bench_training.compare(TINY, tmp_path, seed=3)
    assert figure.ours > 0
    assert figure.peer is not None
    found = re.search(r"losses within (\S+)", figure.note)
    assert found is not None
    assert float(found[1]) < 1e-6
    # and a peer that does other work in one step is noticed
    metrics, bare = tmp_path / "1" / "run" / "metrics.jsonl", tmp_path / "1" / "bare.out"
    first, *rest = bare.read_text().splitlines()
    bare.write_text("\n".join([str(float(first) * 1.001), *rest]))
    assert bench_training.losses_differ(metrics, bare) > bench_training.LOSS_TOLERANCE


def test_a_stage_runs_in_both_stores_and_gives_equal_digests(tmp_path: Path, minio: Minio, monkeypatch: pytest.MonkeyPatch) -> None:
    minio.create_bucket(bench_minio.BUCKET)
    monkeypatch.setattr(bench_minio, "STAGES", ("ingest",))
    figure = bench_minio.data_path(load_recipe("test"), write_corpus(tmp_path / "raw"), tmp_path, None)
    assert figure.ours > 0
    assert re.search(r"\d\d artifacts with equal digests", figure.note)
    for uri in (f"{tmp_path}/test", f"s3://{bench_minio.BUCKET}/test"):
        assert "documents" in Store(uri).list_dirs("artifacts")


def test_other_bytes_in_one_store_are_noticed(tmp_path: Path, minio: Minio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_minio, "STAGES", ("ingest",))
    with (
        mock.patch.object(bench_minio.Place, "walk", lambda place, recipe, last: {"documents": place.store.uri}),
        pytest.raises(RuntimeError, match="gave other bytes"),
    ):
        bench_minio.data_path(load_recipe("test"), tmp_path, tmp_path, None)
