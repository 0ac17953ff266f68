"""A training stage on one process, in this one: resuming, what follows from a parent, averaging, stopping, and refusing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any
from unittest import mock

import pytest
import torch

from storage.artifact import Manifest, find
from storage.checkpoints import load_into
from storage.errors import ConfigError, IntegrityError
from tests.training.stages import BOS, MODEL, StageUnderTest, lines, training_config
from training import loop, worker
from training.checkpoint import Checkpointer, model_state
from training.config import OptimizerConfig, PhaseConfig, ScheduleConfig
from training.data import open_streams, sample_hash
from training.metrics import flops_per_token
from training.mix import order_of, read_plan
from training.model import Llama
from training.parallel.dims import ParallelDims
from training.parallel.mesh import build_meshes
from training.step import ForwardBackward, local_batch


@pytest.fixture(autouse=True)
def _one_process() -> Iterator[None]:
    """torch says of checkpoints of one process that it is alone."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def train(stage: StageUnderTest, *, stop_after: int = 0, **spec: Any) -> dict[str, Any]:
    """An attempt at the stage; its result. With `stop_after` it is asked to stop in that step (from 1)."""
    stop, agree, steps = Event(), loop.agree, 0

    def counted(*arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        loss, _ = agree(*arguments)
        return loss, steps == stop_after

    read = worker.read_spec(stage.spec(**spec))
    with mock.patch.object(loop, "agree", counted):
        return worker.run_stage(read, stage.store, stop, None)


def published(stage: StageUnderTest, result: dict[str, Any]) -> Manifest:
    """The artifact that an attempt published."""
    manifest = find(stage.store, stage.stage, worker.read_spec(stage.spec()).fingerprint)
    assert manifest is not None
    assert manifest.digest == result["digest"]
    return manifest


def weights(stage: StageUnderTest, manifest: Manifest, root: str | None = None) -> dict[str, torch.Tensor]:
    """The model's tensors in a checkpoint."""
    state = model_state([Llama(MODEL)])
    load_into(state, stage.store, root or manifest.root, manifest)
    return state


def test_stopped_and_resumed_is_bit_identical(tmp_path: Path) -> None:
    """Stopped after 5 of 10 steps, just before the batch grows, and resumed: the digest and every loss of an undisturbed run."""
    whole, cut = StageUnderTest(tmp_path / "whole"), StageUnderTest(tmp_path / "cut")
    digest = train(whole)["digest"]
    assert train(cut, stop_after=5) == {"status": "stopped", "step": 5}
    assert train(cut) == {"status": "ok", "step": 10, "digest": digest}
    assert [row["loss"] for row in whole.metrics().values()] == [row["loss"] for row in cut.metrics().values()]
    assert whole.fed() == cut.fed()
    attempts = {row["step"]: row["attempt"] for row in lines(tmp_path / "cut" / "run" / "metrics.jsonl")}
    assert attempts == {step: "attempt-1" if step < 5 else "attempt-2" for step in range(10)}, "no step was run twice"


def test_a_finished_stage_that_died_before_publishing_trains_nothing_again(tmp_path: Path) -> None:
    """All steps saved, nothing published: the next attempt publishes, without a step."""
    stage = StageUnderTest(tmp_path)
    with mock.patch.object(worker, "publish", side_effect=OSError("died")), pytest.raises(OSError, match="died"):
        train(stage)
    steps = len(list(lines(tmp_path / "run" / "metrics.jsonl")))
    assert train(stage)["status"] == "ok"
    assert len(list(lines(tmp_path / "run" / "metrics.jsonl"))) == steps == 10


def test_what_is_logged(tmp_path: Path) -> None:
    """Metrics follow the schedule; the samples fed are each step's, hashed as the log says."""
    stage = StageUnderTest(tmp_path)
    train(stage)
    rows = stage.metrics()
    assert [row["tokens"] for row in rows.values()] == [256 * n for n in range(1, 7)] + [1536 + 1024 * n for n in range(1, 5)]
    assert {(row["seq_len"], row["global_batch_size"]) for row in rows.values()} == {(32, 8), (64, 16)}
    assert [rows[step]["lr"] for step in (0, 1)] == [1.5e-3, 3e-3]
    assert rows[9]["loss"] < rows[0]["loss"]
    assert all(row["mfu_full"] is None and row["mfu_causal"] is None for row in rows.values()), "the CPU's peak is not known"
    order = order_of(read_plan(stage.store, stage.plan))
    streams = open_streams(stage.store, stage.tokens, order)
    for index, found in stage.fed()[7].items():
        sample = order.sample(index)
        assert sample.step == 7
        assert sample_hash(streams[sample.component].read(sample.start, sample.end)) == found
    assert flops_per_token(MODEL, 64)[0] > flops_per_token(MODEL, 32)[0]


def test_a_following_stage_starts_from_its_parent_and_carries_its_moments(tmp_path: Path) -> None:
    """Weights are the parent's; the optimizer counts on from its steps, so a first step is as small as the parent's last."""
    first = StageUnderTest(tmp_path)
    parent = published(first, train(first))
    second = StageUnderTest(tmp_path, stage="anneal", store=first.store, tokens=first.tokens)
    trainer, step = started(second, parent)
    assert (step, trainer.carried_steps) == (0, 10)
    assert {float(state["step"]) for state in trainer.optimizer.state.values()} == {10.0}
    assert all(torch.equal(value, weights(first, parent)[name]) for name, value in model_state(trainer.model_parts).items())
    assert train(second, parent=parent, stop_after=3)["step"] == 3
    trainer, step = started(second, parent)
    assert (step, {float(state["step"]) for state in trainer.optimizer.state.values()}) == (3, {13.0})


def started(stage: StageUnderTest, parent: Manifest) -> tuple[loop.Trainer, int]:
    """A trainer of the stage with its tensors loaded, and the step that it would go on from."""
    spec = worker.read_spec(stage.spec(parent=parent))
    order = order_of(read_plan(stage.store, stage.plan))
    trainer = worker.build_trainer(spec, stage.store, order, bos_id=BOS, parent=parent, lease=None)
    return trainer, worker.start(trainer, stage.store, parent)


def test_annealing_ends_in_the_mean_of_its_last_checkpoints(tmp_path: Path) -> None:
    """Three checkpoints, two steps apart, averaged into the artifact, which holds the model alone; resuming does not take it for a step."""
    schedule = ScheduleConfig(warmup_steps=0, decay="linear", phases=(PhaseConfig(seq_len=32, global_batch_size=4),), n_steps=7)
    optimizer = OptimizerConfig(lr_peak=1e-2)
    training = training_config(schedule=schedule, optimizer=optimizer, average_checkpoints=3, average_interval_steps=2)
    stage = StageUnderTest(tmp_path, stage="anneal", training=training)
    with mock.patch.object(Checkpointer, "finish", side_effect=OSError("died")), pytest.raises(OSError, match="died"):
        train(stage)
    manifest = published(stage, train(stage))
    assert manifest.info["averaged_steps"] == [3, 5, 7]
    steps = [weights(stage, *at_step(stage, manifest, step)) for step in (3, 5, 7)]
    for name, value in weights(stage, manifest).items():
        torch.testing.assert_close(value, torch.stack([step[name] for step in steps]).double().mean(dim=0).float(), rtol=0, atol=1e-7)
    assert not torch.equal(steps[0]["model.output.weight"], steps[2]["model.output.weight"])
    assert not worker.has_moments(stage.store, manifest)


def at_step(stage: StageUnderTest, manifest: Manifest, step: int) -> tuple[Manifest, str]:
    """A step's checkpoint, and its folder."""
    root = f"{manifest.root}/steps/{step:09d}"
    return Manifest.from_json(stage.store.read(f"{root}/manifest.json"), where=root), root


def test_a_damaged_parent_stops_everything(tmp_path: Path) -> None:
    """A flipped byte in the parent's file is an IntegrityError that names it."""
    first = StageUnderTest(tmp_path)
    parent = published(first, train(first))
    path = first.store.local_path(f"{parent.root}/{parent.files[-1].path}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    second = StageUnderTest(tmp_path, stage="anneal", store=first.store, tokens=first.tokens)
    with pytest.raises(IntegrityError, match=path.name):
        train(second, parent=parent)


def test_a_loss_that_is_not_finite_stops_training(tmp_path: Path) -> None:
    """It names the stage and the step."""
    stage = StageUnderTest(tmp_path)
    with (
        mock.patch.object(ForwardBackward, "global_targets", return_value=1),
        mock.patch("training.loss.TargetLoss.__call__", lambda self, logits, targets: logits.sum() * float("nan")),
        pytest.raises(FloatingPointError, match="pretrain: the loss of step 0 is nan"),
    ):
        train(stage)


def test_a_gradient_that_is_not_finite_stops_training_before_it_is_saved(tmp_path: Path) -> None:
    """The loss of that step is still finite, the weights after it are not: a checkpoint of them would poison every resume."""
    stage = StageUnderTest(tmp_path)
    with (
        mock.patch("training.loop.clip_gradients", return_value=torch.tensor(float("inf"))),
        pytest.raises(FloatingPointError, match=r"pretrain: the loss of step 0 is .*, its gradient's norm inf"),
    ):
        train(stage, checkpoint_interval_steps=1)
    assert list(stage.store.list_files("artifacts/pretrain")) == []


def test_a_plan_for_another_schedule_is_refused(tmp_path: Path) -> None:
    """The plan and the spec must agree on stage and phases."""
    stage = StageUnderTest(tmp_path)
    other = ScheduleConfig(warmup_steps=0, decay="constant", phases=(PhaseConfig(seq_len=32, global_batch_size=8),), n_steps=4)
    stage.training = training_config(schedule=other)
    with pytest.raises(ConfigError, match=r"plan .* is for pretrain"):
        train(stage)


def test_documents_are_numbered_before_the_sequence_is_cut() -> None:
    """A context-parallel rank that holds the first and last quarter knows that a document began in between."""
    meshes = build_meshes(ParallelDims(), "cpu")
    tokens = torch.tensor([[5, 5, 5, 5, BOS, 5, 5, 5, 5]])
    assert local_batch(tokens, BOS, meshes).documents.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]
    dims = ParallelDims(cp=2)
    first_rank = type(meshes)(dims, dims.coordinates(0))
    batch = local_batch(tokens, BOS, first_rank)
    assert batch.positions.tolist() == [[0, 1, 6, 7]]
    assert batch.documents.tolist() == [[0, 0, 1, 1]]


def test_a_mesh_may_serve_the_later_phases_alone(tmp_path: Path) -> None:
    """A mesh that does not divide the first batches takes over at the phase it serves, and is refused before it."""
    stage = StageUnderTest(tmp_path)
    with pytest.raises(ConfigError, match="global_batch_size 8 is not a multiple"):
        stage.spec(micro_batch_size=16)
    with pytest.raises(ConfigError, match="serves steps from 6 on, and the newest checkpoint is of step 0"):
        train(stage, micro_batch_size=16, first_step=6)
    assert train(stage, stop_after=6)["step"] == 6
    assert train(stage, micro_batch_size=16, first_step=6)["status"] == "ok"
