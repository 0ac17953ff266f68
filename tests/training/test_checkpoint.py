"""training/checkpoint.py in one process: resume, damage, averaging, the lease. Other meshes are in test_parallel_checkpoint.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from storage.artifact import fingerprint_of
from storage.checkpoints import find_step
from storage.errors import RetryableError
from storage.store import Store
from training.checkpoint import Checkpointer, model_state, optimizer_state

FINGERPRINT = fingerprint_of({})


@dataclass
class Held:
    """A lease that is ours, or not."""

    token: int
    ours: bool

    def still_holds(self) -> bool:
        return self.ours


def checkpointer(tmp_path: Path, **other: object) -> Checkpointer:
    store = Store(str(tmp_path / "store"))
    return Checkpointer(store=store, stage="pretrain", fingerprint=FINGERPRINT, payload={}, scratch=tmp_path / "scratch", **other)  # type: ignore[arg-type]


def trained(steps: int) -> tuple[nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    step_on(model, optimizer, range(steps))
    return model, optimizer


def step_on(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        model(torch.full((2, 4), float(step + 1))).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def full_state(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> dict[str, torch.Tensor]:
    return {**model_state([model]), **optimizer_state([model], optimizer, step)}


def test_resumed_training_is_bit_identical(tmp_path: Path) -> None:
    """Five steps in one go equal three steps, a save, a load into fresh objects, and two more."""
    straight, _ = trained(5)
    model, optimizer = trained(3)
    saver = checkpointer(tmp_path)
    saver.save(3, full_state(model, optimizer, 3))
    saver.wait()
    fresh = nn.Linear(4, 4)
    fresh_optimizer = torch.optim.AdamW(fresh.parameters(), fused=True)
    step = checkpointer(tmp_path).newest(full_state(fresh, fresh_optimizer, 0))
    assert step == 3
    full_state(fresh, fresh_optimizer, step)
    step_on(fresh, fresh_optimizer, range(3, 5))
    assert torch.equal(straight.weight, fresh.weight)


def test_a_save_holds_the_values_of_its_moment(tmp_path: Path) -> None:
    """Training goes on while the thread writes; the checkpoint has what the tensors held at the call."""
    state = {"model.w": torch.zeros(1 << 16)}
    saver = checkpointer(tmp_path)
    saver.save(1, state)
    state["model.w"].fill_(7.0)
    saver.wait()
    loaded = {"model.w": torch.full((1 << 16,), -1.0)}
    assert saver.load(1, loaded)
    assert loaded["model.w"].abs().max() == 0


def test_a_damaged_checkpoint_is_passed_over_and_its_step_saved_again(tmp_path: Path) -> None:
    saver = checkpointer(tmp_path)
    for step in (1, 2):
        saver.save(step, {"model.w": torch.full((4,), float(step))})
    saver.wait()
    manifest = find_step(saver.store, "pretrain", FINGERPRINT, 2)
    assert manifest is not None
    path = saver.store.local_path(f"{manifest.root}/steps/000000002/{manifest.file('__0_0.distcp').path}")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    state = {"model.w": torch.zeros(4)}
    assert saver.newest(state) == 1
    assert state["model.w"].tolist() == [1.0] * 4
    saver.save(2, {"model.w": torch.full((4,), 2.0)})
    assert saver.finish(2).digest == manifest.digest
    assert saver.newest(state) == 2


def test_average_is_the_mean_and_names_what_it_averaged(tmp_path: Path) -> None:
    saver = checkpointer(tmp_path)
    for step, value in ((1, 1.0), (2, 2.0), (3, 6.0)):
        saver.save(step, {"model.w": torch.full((3,), value)})
    saver.wait()
    state = {"model.w": torch.zeros(3)}
    saver.average([1, 2, 3], state)
    assert state["model.w"].tolist() == [3.0] * 3
    saver.save(4, state)
    assert saver.finish(4, averaged=[1, 2, 3]).info["averaged_steps"] == [1, 2, 3]
    with pytest.raises(RetryableError, match="the checkpoint of step 5, which is to be averaged, is not there"):
        saver.average([1, 5], state)


def test_a_damaged_checkpoint_to_average_is_saved_again_by_the_next_attempt(tmp_path: Path) -> None:
    """It and those after it are set aside: training goes on from before it. It stopped the stage for good."""
    saver = checkpointer(tmp_path)
    for step in (1, 2, 3):
        saver.save(step, {"model.w": torch.full((3,), float(step))})
    saver.wait()
    store, state = saver.store, {"model.w": torch.zeros(3)}
    manifest = find_step(store, "pretrain", FINGERPRINT, 2)
    assert manifest is not None
    path = f"artifacts/pretrain/{FINGERPRINT}/steps/000000002/{manifest.file('__0_0.distcp').path}"
    data = store.read(path)
    store.write(path, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(RetryableError, match=r"step 2, which is to be averaged, does not verify \(.*__0_0\.distcp\)"):
        saver.average([1, 2, 3], state)
    assert saver.newest(state) == 1
    for step in (2, 3):
        saver.save(step, {"model.w": torch.full((3,), float(step))})
    saver.wait()
    saver.average([1, 2, 3], state)
    assert state["model.w"].tolist() == [2.0] * 3


def test_a_lost_lease_publishes_nothing(tmp_path: Path) -> None:
    saver = checkpointer(tmp_path, lease=Held(token=3, ours=False))
    saver.save(1, {"model.w": torch.zeros(2)})
    with pytest.raises(RetryableError, match="lease"):
        saver.wait()
    assert find_step(saver.store, "pretrain", FINGERPRINT, 1) is None


def test_the_manifest_carries_lease_and_parent(tmp_path: Path) -> None:
    saver = checkpointer(tmp_path, lease=Held(token=3, ours=True), parent_digest="abc")
    saver.save(1, {"model.w": torch.zeros(2)})
    info = saver.finish(1).info
    assert (info["lease"], info["parent_digest"], info["step"]) == (3, "abc", 1)
