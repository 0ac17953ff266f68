"""A training stage small enough for tests: token shards, a plan, and the spec of an attempt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from storage.artifact import Attempt, FileEntry, Manifest, fingerprint_of, identity
from storage.store import Store
from storage.token_shards import open_shard
from training import mix
from training.config import (
    ArtifactRef,
    ModelConfig,
    OptimizerConfig,
    PhaseConfig,
    ScheduleConfig,
    TrainExecution,
    TrainingConfig,
    TrainSpec,
    expand_phases,
)

BOS, EOS, VOCAB = 62, 63, 64
MODEL = ModelConfig(n_layers=3, dim=32, ffn_dim=64, n_heads=4, n_kv_heads=2, vocab_size=VOCAB)
COMPONENTS = ("general", "math")
SHARES = {"general": 0.66, "math": 0.34}


def training_config(**changes: Any) -> TrainingConfig:
    """Ten steps: six of 8 sequences of 32 tokens, then four of 16 sequences of 64."""
    schedule = ScheduleConfig(
        warmup_steps=2,
        decay="cosine",
        lr_final=1e-4,
        phases=(PhaseConfig(seq_len=32, global_batch_size=8), PhaseConfig(seq_len=64, global_batch_size=16, from_step=6)),
        n_steps=10,
    )
    optimizer = OptimizerConfig(lr_peak=3e-3, clip_norm=0.5)
    return TrainingConfig(**{"optimizer": optimizer, "schedule": schedule, "dtype": "float32", **changes})


def write_tokens(store: Store, n_documents: int = 300) -> Manifest:
    """An artifact of the stage tokenize: two components of random documents that have something to learn."""
    payload = {"name": "0" * 32}
    attempt, entries, counts = Attempt(store, "tokenize", fingerprint_of(payload)), list[FileEntry](), {}
    for number, component in enumerate(COMPONENTS):
        random = np.random.default_rng(number)
        with open_shard(
            lambda name: attempt.create(name, entries), f"train/{component}/part-00000", tokenizer="none", token_size=2
        ) as shard:
            for n in range(n_documents):
                body = np.cumsum(random.integers(0, 3, size=1 + int(random.exponential(40)))) % (VOCAB - 2)
                shard.append(n.to_bytes(16, "big"), np.array([BOS, *body, EOS]), len(body))
        counts[component] = {"tokens": shard.n_tokens}
    with attempt.create("counts.json", entries) as file:
        file.write(json.dumps({"bos_id": BOS, "train": counts}).encode())
    return attempt.publish(payload, entries, counts={}, info={})


def write_plan(
    store: Store, tokens: Manifest, stage: str, training: TrainingConfig, shares: Mapping[str, float], max_epochs: int
) -> Manifest:
    """The plan of a training stage."""
    phases = tuple(
        mix.PhaseConfig(seq_len=p.seq_len, global_batch_size=p.global_batch_size, n_steps=p.n_steps)
        for p in expand_phases(training.schedule)
    )
    config = mix.Config(stage=stage, seed=1, shares=dict(shares), max_epochs=max_epochs, phases=phases)
    return mix.run(store=store, config=config, inputs={"tokens": tokens})


class StageUnderTest:
    """A stage in a store of its own, of which attempts can be specified."""

    def __init__(
        self,
        folder: Path,
        *,
        stage: str = "pretrain",
        training: TrainingConfig | None = None,
        store: Store | None = None,
        tokens: Manifest | None = None,
        shares: Mapping[str, float] = SHARES,
        max_epochs: int = 4,
    ) -> None:
        self.folder, self.stage, self.training = folder, stage, training or training_config()
        self.store = store or Store(str(folder / "store"))
        self.tokens = tokens or write_tokens(self.store)
        self.plan = write_plan(self.store, self.tokens, stage, self.training, shares, max_epochs)
        self.n_attempts = 0

    def spec(self, *, parent: Manifest | None = None, model: ModelConfig = MODEL, first_step: int = 0, **execution: Any) -> Path:
        """Write the spec of the next attempt; `execution` are fields of TrainExecution. Its path."""
        self.n_attempts += 1
        inputs = {"tokens": self.tokens.digest, "plan": self.plan.digest, **({"checkpoint": parent.digest} if parent else {})}
        fingerprint, payload = identity(self.stage, 1, {"model": model, "training": self.training}, inputs)
        attempt = self.folder / self.stage / f"attempt-{self.n_attempts}"
        settings = {"micro_batch_size": 2, "checkpoint_interval_steps": 4, "lease_timeout_s": 2.0, **execution}
        spec = TrainSpec(
            stage=self.stage,
            store_uri=self.store.uri,
            fingerprint=fingerprint,
            payload=payload,
            model=model,
            training=self.training,
            execution=TrainExecution.model_validate(settings),
            tokens=reference(self.tokens),
            plan=reference(self.plan),
            parent=reference(parent) if parent else None,
            first_step=first_step,
            run_dir=str(self.folder / "run"),
            attempt_dir=str(attempt),
        )
        attempt.mkdir(parents=True)
        path = attempt / "spec.json"
        path.write_text(spec.model_dump_json())
        return path

    def metrics(self) -> dict[int, dict[str, Any]]:
        """The last line of each step in metrics.jsonl."""
        return {row["step"]: row for row in lines(self.folder / "run" / "metrics.jsonl") if row["stage"] == self.stage}

    def fed(self) -> dict[int, dict[int, str]]:
        """What the last attempt to run each step fed: by step, sample index → hash, over all ranks."""
        rows = [row for path in sorted((self.folder / "run" / "fed").glob("*.jsonl")) for row in lines(path)]
        last: dict[int, str] = {}
        for row in rows:
            last[row["step"]] = max(last.get(row["step"], ""), row["attempt"])
        found: dict[int, dict[int, str]] = {}
        for row in rows:
            if row["attempt"] == last[row["step"]]:
                found.setdefault(row["step"], {}).update(zip(row["samples"], row["sha256"], strict=True))
        return found


def reference(manifest: Manifest) -> ArtifactRef:
    """Where an artifact is."""
    return ArtifactRef(stage=manifest.stage, fingerprint=manifest.fingerprint)


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file."""
    for line in path.read_text().splitlines():
        yield json.loads(line)


def result(spec: Path) -> dict[str, Any]:
    """The result file of an attempt."""
    found: dict[str, Any] = json.loads((spec.parent / "result.json").read_text())
    return found
