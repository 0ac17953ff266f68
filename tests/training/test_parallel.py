"""Gradients on a mesh equal those of one process: some meshes, sabotaged runs, a short bfloat16 run (`make accept-parity` runs all)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.training.parity import factorisations
from training.parallel.dims import ParallelDims


def parity(project: Path, *arguments: str) -> str:
    """The output of the parity command, in a process of its own: its ranks are forked, which this one must not be."""
    command = [sys.executable, "-m", "tests.training.parity", *arguments]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    return done.stdout


def test_some_meshes_equal_one_process(project: Path) -> None:
    """All four dimensions at once on 16 processes; each alone or with one other on 4. Norms agree on every rank, clipping is active."""
    output = parity(project, "--mesh", "2,2,2,2", "2,1,2,1", "1,2,1,2", "1,1,2,2", "4,1,1,1")
    assert re.search(r"^5 of 5 meshes equal one process", output, re.MULTILINE), output


def test_sabotaged_runs_fail(project: Path) -> None:
    """A rank that does not synchronise, a mask without document ids, a loss averaged per rank: each is noticed."""
    assert "3 of 3 sabotaged runs fail" in parity(project, "--sabotage")


def test_bfloat16_stays_near_float32_and_reduces_in_float32(project: Path) -> None:
    """A few steps at DP 2, TP 2; the dtype of what is reduced over data-parallel ranks is looked at."""
    assert "gradients reduced in {torch.float32}" in parity(project, "--bf16", "5")


def test_there_are_69_meshes() -> None:
    """Ordered factorisations of 2, 4, 8 and 16 into four degrees."""
    meshes = factorisations(2, 4, 8, 16)
    assert len(meshes) == len(set(map(str, meshes))) == 69
    assert ParallelDims(tp=2, cp=2, pp=2, dp=2) in meshes
