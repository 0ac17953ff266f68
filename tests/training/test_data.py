"""What each rank is fed: the same samples for every mesh, from one integer, verified."""

from __future__ import annotations

import hashlib
import struct
import threading
from pathlib import Path

import numpy as np
import pytest

from storage.artifact import Attempt, FileEntry, Manifest, fingerprint_of
from storage.errors import ConfigError, IntegrityError
from storage.store import Store
from storage.token_shards import open_shard
from training.data import batches, open_streams, rank_samples, read_batch, read_samples, sample_hash
from training.order import Component, Order, Phase

PHASES = (Phase(seq_len=8, global_batch_size=4, n_steps=5), Phase(seq_len=16, global_batch_size=8, n_steps=4))


def artifact(store: Store, sizes: dict[str, int]) -> tuple[Manifest, dict[str, list[int]]]:
    """Shards of two parts per component, and each component's stream."""
    payload = {"name": "f" * 32}
    rng, attempt, entries, streams = np.random.default_rng(0), Attempt(store, "tokenize", fingerprint_of(payload)), list[FileEntry](), {}
    for component, size in sizes.items():
        streams[component] = rng.integers(0, 60_000, size).tolist()
        for part, piece in enumerate((streams[component][: size // 3], streams[component][size // 3 :])):
            stem = f"train/{component}/part-{part:05d}"
            with open_shard(lambda name: attempt.create(name, entries), stem, tokenizer="t", token_size=2) as shard:
                shard.append(bytes([part]) * 16, piece, len(piece))
    return attempt.publish(payload, entries, counts={}, info={}), streams


def order_for(sizes: dict[str, int]) -> Order:
    """60/40 of two components."""
    components = [Component("code", 4000, sizes["code"]), Component("general", 6000, sizes["general"])]
    return Order(stage="pretrain", seed=3, phases=PHASES, components=components)


SIZES = {"code": 400, "general": 700}


def test_tokens_are_those_of_the_order_read_from_the_stream(tmp_path: Path) -> None:
    manifest, raw = artifact(store := Store(str(tmp_path)), SIZES)
    order = order_for(SIZES)
    streams = open_streams(store, manifest, order)
    for step in range(order.n_steps):
        batch = read_batch(order, streams, step, dp_rank=0, dp_size=1)
        phase = order.phase_of_step(step)
        assert batch.tokens.shape == (phase.global_batch_size, phase.seq_len + 1)
        assert batch.tokens.dtype == batch.samples.dtype == np.int64
        for index, row in zip(batch.samples.tolist(), batch.tokens.tolist(), strict=True):
            sample = order.sample(index)
            assert row == raw[sample.component][sample.start : sample.end]


def test_any_number_of_ranks_sees_the_same_samples_in_the_same_order(tmp_path: Path) -> None:
    """Also when it changes at a step between, across a batch-size and sequence-length step."""
    manifest, _ = artifact(store := Store(str(tmp_path)), SIZES)
    order = order_for(SIZES)

    def fed(step: int, dp_size: int) -> list[tuple[int, str]]:
        parts = [read_batch(order, open_streams(store, manifest, order), step, dp_rank=r, dp_size=dp_size) for r in range(dp_size)]
        return [(int(i), sample_hash(row)) for part in parts for i, row in zip(part.samples, part.tokens, strict=True)]

    for step in range(order.n_steps):
        assert fed(step, 1) == fed(step, 2) == fed(step, 4)
    assert [i for step in range(order.n_steps) for i, _ in fed(step, 1 + step % 2)] == list(range(order.n_samples))


def test_batches_resume_from_one_integer(tmp_path: Path) -> None:
    """What follows step 3 is the same whether training began there or at 0."""
    manifest, _ = artifact(store := Store(str(tmp_path)), SIZES)
    order = order_for(SIZES)
    streams = open_streams(store, manifest, order)
    whole = list(batches(order, streams, dp_rank=1, dp_size=2))
    resumed = list(batches(order, streams, dp_rank=1, dp_size=2, first_step=3, prefetch_steps=1))
    assert [b.step for b in whole] == list(range(order.n_steps))
    assert len(resumed) == order.n_steps - 3
    for a, b in zip(whole[3:], resumed, strict=True):
        np.testing.assert_array_equal(a.tokens, b.tokens)
        np.testing.assert_array_equal(a.samples, b.samples)


def test_ranks_that_do_not_divide_the_batch_are_refused() -> None:
    with pytest.raises(ConfigError, match="global_batch_size 4 of step 0 of pretrain does not divide by 3"):
        rank_samples(order_for(SIZES), 0, dp_rank=0, dp_size=3)


def test_a_stream_of_another_length_than_planned_is_refused(tmp_path: Path) -> None:
    manifest, _ = artifact(store := Store(str(tmp_path)), SIZES)
    with pytest.raises(IntegrityError, match="train/code: expected 401 tokens, found 400 tokens"):
        open_streams(store, manifest, order_for(SIZES | {"code": 401}))


def test_a_damaged_page_stops_the_consumer(tmp_path: Path) -> None:
    """The prefetch thread's error is raised where the batch is asked for, and the thread is gone."""
    manifest, _ = artifact(store := Store(str(tmp_path)), SIZES)
    for part in (0, 1):
        path = store.local_path(f"{manifest.root}/{manifest.file(f'train/general/part-{part:05d}.ds').path}")
        path.write_bytes(b"\xff" + path.read_bytes()[1:])
    order = order_for(SIZES)
    with pytest.raises(IntegrityError, match="page 0"):
        list(batches(order, open_streams(store, manifest, order), dp_rank=0, dp_size=1))
    assert not [thread for thread in threading.enumerate() if thread.name == "caravan-data"]


def test_closing_early_ends_the_thread(tmp_path: Path) -> None:
    manifest, _ = artifact(store := Store(str(tmp_path)), SIZES)
    order = order_for(SIZES)
    iterator = batches(order, open_streams(store, manifest, order), dp_rank=0, dp_size=1)
    next(iterator)
    iterator.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "caravan-data"]


def test_sample_hash_is_sha256_over_int32_little_endian() -> None:
    """Whatever integer type the tensor had."""
    tokens = [1, 2, 70_000]
    expected = hashlib.sha256(struct.pack("<3i", *tokens)).hexdigest()
    assert sample_hash(np.asarray(tokens, dtype=np.int64)) == sample_hash(np.asarray(tokens, dtype=np.uint32)) == expected


def test_read_samples_takes_any_samples(tmp_path: Path) -> None:
    """A step's tokens can be read again later, one by one, as lineage does."""
    manifest, _ = artifact(store := Store(str(tmp_path)), SIZES)
    order = order_for(SIZES)
    streams = open_streams(store, manifest, order)
    batch = read_batch(order, streams, 6, dp_rank=1, dp_size=2)
    again = read_samples(order, streams, [int(batch.samples[2])])
    np.testing.assert_array_equal(again[0], batch.tokens[2])
