"""A short training on token shards from elsewhere."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from flows.graph.logs import keep_logs, logs_of
from flows.graph.runs import Run
from storage.artifact import Attempt, FileEntry, Manifest, find, fingerprint_of
from storage.store import Store
from storage.token_shards import open_shard
from tests.acceptance.common import PROJECT
from tests.acceptance.given_shards import components, documents
from tests.training.stages import StageUnderTest
from training.config import ModelConfig, OptimizerConfig, PhaseConfig, ScheduleConfig, TrainingConfig
from training.parallel.dims import ParallelDims

STAGE = "pretrain"
BUDGET = ScheduleConfig(
    warmup_steps=2,
    decay="cosine",
    lr_final=1e-4,
    phases=(PhaseConfig(seq_len=32, global_batch_size=16), PhaseConfig(seq_len=64, global_batch_size=32, from_step=20)),
    n_steps=60,
)


def tokens_artifact(store: Store, given: dict[str, list[Path]]) -> tuple[Manifest, int]:
    """The shards as an artifact of the stage tokenize, documents numbered in order; and the size of their vocabulary."""
    payload = {"name": "0" * 32}
    attempt, entries, counts = Attempt(store, "tokenize", fingerprint_of(payload)), list[FileEntry](), dict[str, Any]()
    number, vocab_size, first = 0, 0, None
    for component, paths in given.items():
        with open_shard(
            lambda name: attempt.create(name, entries), f"train/{component}/part-00000", tokenizer="given", token_size=4
        ) as shard:
            for document in (document for path in paths for document in documents(path) if len(document)):
                first = int(document[0]) if first is None else first
                vocab_size = max(vocab_size, int(document.max()) + 1)
                shard.append(number.to_bytes(16, "big"), document, 0)
                number += 1
        counts[component] = {"tokens": shard.n_tokens}
    with attempt.create("counts.json", entries) as file:
        file.write(json.dumps({"bos_id": first, "train": counts}).encode())
    return attempt.publish(payload, entries, counts={}, info={}), vocab_size


def train_on(folder: Path, shards: Path, seed: int) -> Run:
    """Train on the shards under torchrun, two ranks, shares drawn by `seed`; a run with what is asked of one. Raises CalledProcessError."""
    given, rng = components(shards), random.Random(seed)
    store = Store(str(folder / "store"))
    tokens, vocab_size = tokens_artifact(store, given)
    drawn = {name: rng.randint(1, 100) for name in given}
    shares = {name: round(value / sum(drawn.values()), 4) for name, value in drawn.items()}
    shares[max(shares, key=shares.__getitem__)] += 1 - sum(shares.values())
    training = TrainingConfig(optimizer=OptimizerConfig(lr_peak=3e-3), schedule=BUDGET, dtype="float32")
    stage = StageUnderTest(folder / "stage", stage=STAGE, training=training, store=store, tokens=tokens, shares=shares, max_epochs=1000)
    model = ModelConfig(n_layers=2, dim=32, ffn_dim=64, n_heads=4, n_kv_heads=2, vocab_size=vocab_size)
    spec = stage.spec(model=model, parallel=ParallelDims(dp=2), micro_batch_size=8, checkpoint_interval_steps=30)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--max-restarts=0",
        "--nproc-per-node=2",
        "-m",
        "training.run",
    ]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    subprocess.run([*command, "--spec", str(spec)], env=environment, stdin=subprocess.DEVNULL, check=True)
    run = Run(store, "given")
    run.point("tokenize", tokens)
    run.point(f"mix/{STAGE}", stage.plan)
    checkpoint = find(store, STAGE, json.loads(spec.read_text())["fingerprint"])
    assert checkpoint is not None, "the trainer ended well without a checkpoint"
    run.point(STAGE, checkpoint)
    keep_logs(store, logs_of(run.name, STAGE, checkpoint.fingerprint), stage.folder / "run")
    return run
