"""Training tokens per second of the real trainer against a bare loop (`bare_loop.py`) of the same model on the same tokens.

The trainer is `training.run` as a stage starts it, in a process of its own: order, verified reads, hashes of what is fed, metrics, lease
and checkpoints. The two take turns: one is stopped (SIGSTOP, all its threads) while the other does a few steps, in the order ABBA,
so that what else the machine does meets both; and there are several such pairs. Their losses are compared, so both do the same work.
Tokens are random, in documents of random lengths: speed does not depend on which they are, so the corpus is not read.

    python -m benchmarks.bench_training [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.figure import Figure
from storage.artifact import Attempt, FileEntry, Manifest, fingerprint_of
from storage.store import Store
from storage.token_shards import open_shard
from tests.training.stages import StageUnderTest, lines
from training.config import ModelConfig, OptimizerConfig, PhaseConfig, ScheduleConfig, TrainingConfig, parameter_count
from training.data import open_streams, read_batch
from training.mix import order_of, read_plan

PROJECT = Path(__file__).resolve().parents[1]
BOS, EOS = 0, 1
MEAN_DOCUMENT_TOKENS = 400
WARMUP_STEPS, TURNS = 4, 4  # turns: of each of the two
PAIRS = 4  # of processes: single pairs of the same code differed by 3 % and more
CHECKPOINT_STEPS = 20  # the demo saves every 50
N_STEPS = 150  # neither may reach its end while it is measured
POLL_S = 0.002
LOSS_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Size:
    """A model and its batches: lengths in tokens, batches in sequences; `turn_steps`: optimizer steps of a turn, some ten seconds."""

    name: str
    model: ModelConfig
    seq_len: int
    global_batch_size: int
    micro_batch_size: int
    turn_steps: int

    @property
    def step_tokens(self) -> int:
        """Tokens of one optimizer step."""
        return self.seq_len * self.global_batch_size


SIZES = (
    Size("demo", ModelConfig(n_layers=4, dim=128, ffn_dim=384, n_heads=4, n_kv_heads=2, vocab_size=4096), 256, 16, 4, 10),
    Size("larger", ModelConfig(n_layers=8, dim=384, ffn_dim=1024, n_heads=6, n_kv_heads=3, vocab_size=4096), 512, 4, 2, 2),
)


def training_of(size: Size, n_steps: int) -> TrainingConfig:
    """A constant rate, so that the bare loop needs no schedule."""
    phases = (PhaseConfig(seq_len=size.seq_len, global_batch_size=size.global_batch_size),)
    schedule = ScheduleConfig(warmup_steps=0, decay="constant", phases=phases, n_steps=n_steps)
    return TrainingConfig(optimizer=OptimizerConfig(lr_peak=1e-3), schedule=schedule, dtype="float32")


def write_tokens(store: Store, n_tokens: int, vocab_size: int, seed: int) -> Manifest:
    """An artifact of the stage tokenize: `n_tokens` random tokens of one component, in documents of exponential lengths."""
    payload = {"name": "0" * 32}
    attempt, entries, random = Attempt(store, "tokenize", fingerprint_of(payload)), list[FileEntry](), np.random.default_rng(seed)
    with open_shard(lambda name: attempt.create(name, entries), "train/general/part-00000", tokenizer="none", token_size=2) as shard:
        while shard.n_tokens < n_tokens:
            body = random.integers(2, vocab_size, size=1 + int(random.exponential(MEAN_DOCUMENT_TOKENS)))
            shard.append(len(shard.ids).to_bytes(16, "big"), np.array([BOS, *body, EOS]), len(body))
    with attempt.create("counts.json", entries) as file:
        file.write(json.dumps({"bos_id": BOS, "train": {"general": {"tokens": shard.n_tokens}}}).encode())
    return attempt.publish(payload, entries, counts={}, info={})


@dataclass
class Racer:
    """A process that writes a line for each step, stopped between its turns."""

    process: subprocess.Popen[bytes]
    steps: Path
    log: Path
    used_s: float = 0.0

    def n_steps(self) -> int:
        """Steps done so far."""
        return self.steps.read_bytes().count(b"\n") if self.steps.exists() else 0

    def turn(self, n_steps: int) -> float:
        """Let it run until it has done `n_steps` more; the seconds that took. Raises RuntimeError when it ends."""
        goal, started = self.n_steps() + n_steps, time.perf_counter()
        self.process.send_signal(signal.SIGCONT)
        while self.n_steps() < goal:
            if self.process.poll() is not None:
                raise RuntimeError(f"it ended after {self.n_steps()} steps:\n{self.log.read_text()[-2000:]}")
            time.sleep(POLL_S)
        taken_s = time.perf_counter() - started
        self.process.send_signal(signal.SIGSTOP)
        return taken_s

    def cpu_s(self) -> float:
        """CPU seconds of all its threads so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def racer(
    arguments: list[str], folder: Path, name: str, steps: Path | None = None, env: Mapping[str, str] | None = None
) -> Iterator[Racer]:
    """Start `python -m …`, let it warm up, stop it; killed at the end. `steps`: where its lines go, else its stdout."""
    out, log = folder / f"{name}.out", folder / f"{name}.log"
    with out.open("wb") as output, log.open("wb") as errors:
        environment = {**os.environ, **(env or {}), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=PROJECT,
            env=environment,
            stdout=output,
            stderr=errors,
            start_new_session=True,  # when the shell that started us ends, the kernel wakes what is stopped in our process group
        )
    try:
        found = Racer(process, steps or out, log)
        found.turn(WARMUP_STEPS)
        yield found
    finally:
        process.kill()
        process.wait()


def trainer_arguments(stage: StageUnderTest, size: Size) -> tuple[list[str], dict[str, str]]:
    """The command of a single rank, and the variables that torchrun would set."""
    spec = stage.spec(model=size.model, micro_batch_size=size.micro_batch_size, checkpoint_interval_steps=CHECKPOINT_STEPS)
    env = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    return ["training.run", "--spec", str(spec)], env


def bare_arguments(stage: StageUnderTest, size: Size, folder: Path) -> list[str]:
    """The command of the bare loop, with the stage's own batches in a file."""
    order = order_of(read_plan(stage.store, stage.plan))
    streams = open_streams(stage.store, stage.tokens, order)
    np.save(
        folder / "tokens.npy", np.stack([read_batch(order, streams, step, dp_rank=0, dp_size=1).tokens for step in range(order.n_steps)])
    )
    optimizer, seed = stage.training.optimizer.model_dump(), stage.training.seed
    config = {"model": size.model.model_dump(), "optimizer": optimizer, "seed": seed, "bos_id": BOS}
    (folder / "config.json").write_text(json.dumps({**config, "micro_batch_size": size.micro_batch_size}))
    return ["benchmarks.bare_loop", str(folder / "config.json"), str(folder / "tokens.npy")]


def losses_differ(metrics: Path, bare: Path) -> float:
    """The largest relative difference of the two's losses, over the steps that both did: the trainer's metrics, the bare loop's output."""
    theirs = [float(line) for line in bare.read_text().splitlines()]
    mine: dict[int, float] = {row["step"]: row["loss"] for row in lines(metrics)}
    return max(abs(loss - theirs[step]) / theirs[step] for step, loss in mine.items() if step < len(theirs))


@dataclass
class Race:
    """What a pair of processes did: seconds of each turn, CPU seconds, and the largest relative difference of their losses."""

    ours_s: list[float]
    bare_s: list[float]
    ours_cpu_s: float
    bare_cpu_s: float
    gap: float


def race(size: Size, folder: Path, seed: int) -> Race:
    """Run both in turns. Raises RuntimeError when their losses differ: then it is not the same work."""
    training = training_of(size, N_STEPS)
    store = Store(str(folder / "store"))
    tokens = write_tokens(store, N_STEPS * size.step_tokens, size.model.vocab_size, seed)
    stage = StageUnderTest(folder, training=training, store=store, tokens=tokens, shares={"general": 1.0}, max_epochs=2)
    trainer, variables = trainer_arguments(stage, size)
    metrics = folder / "run" / "metrics.jsonl"
    with (
        racer(trainer, folder, "trainer", metrics, variables) as ours,
        racer(bare_arguments(stage, size, folder), folder, "bare") as bare,
    ):
        cpu_before_s = ours.cpu_s(), bare.cpu_s()
        turns: dict[str, list[float]] = {"ours": [], "bare": []}
        for n in range(TURNS):
            for name, runner in (("ours", ours), ("bare", bare)) if n % 2 == 0 else (("bare", bare), ("ours", ours)):
                turns[name].append(runner.turn(size.turn_steps))
        ours_cpu_s, bare_cpu_s = ours.cpu_s() - cpu_before_s[0], bare.cpu_s() - cpu_before_s[1]
    if (gap := losses_differ(metrics, bare.steps)) > LOSS_TOLERANCE:
        raise RuntimeError(f"{size.name}: the losses of trainer and bare loop differ by {gap:.1e}")
    return Race(turns["ours"], turns["bare"], ours_cpu_s, bare_cpu_s, gap)


def compare(size: Size, folder: Path, seed: int) -> Figure:
    """Race several pairs of processes and take the ratio over all their turns."""
    races = []
    for n in range(PAIRS):
        (folder / str(n)).mkdir()
        races.append(race(size, folder / str(n), seed))
        ours_s, bare_s = sum(races[-1].ours_s), sum(races[-1].bare_s)
        print(f"      {size.name}: pair {n + 1} of {PAIRS}, ours {ours_s:.2f} s, bare {bare_s:.2f} s, {bare_s / ours_s:.3f}x", flush=True)
    ours_s, bare_s = sum(sum(one.ours_s) for one in races), sum(sum(one.bare_s) for one in races)
    by_cpu = sum(one.bare_cpu_s for one in races) / sum(one.ours_cpu_s for one in races)
    ratios = [sum(one.bare_s) / sum(one.ours_s) for one in races]
    n_tokens = PAIRS * TURNS * size.turn_steps * size.step_tokens
    return Figure(
        name=f"training, {size.name} model ({parameter_count(size.model) / 1e6:.1f}M parameters), one rank",
        unit="tokens/s",
        ours=n_tokens / ours_s,
        peer=n_tokens / bare_s,
        peer_name="bare loop",
        asked=0.95,
        note=f"{PAIRS} pairs of processes, {TURNS} turns of {size.turn_steps} steps each, {min(ratios):.3f} to {max(ratios):.3f}; "
        f"by CPU time {by_cpu:.3f}x; a checkpoint every {CHECKPOINT_STEPS} steps; losses within {max(one.gap for one in races):.0e}",
    )


def figures(corpus: Path, seed: int) -> list[Figure]:
    """One figure for each size of model."""
    found = []
    for size in SIZES:
        with tempfile.TemporaryDirectory(prefix="caravan-bench-training-") as folder:
            found.append(compare(size, Path(folder), seed))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of the tokens")
    for figure in figures(Path(), parser.parse_args().seed):
        print(figure.line())
