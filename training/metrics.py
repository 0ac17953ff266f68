"""What a step cost and did, as JSON lines: metrics.jsonl for the run, and per rank a log of the samples fed.

A line of `metrics.jsonl`: stage, attempt, step (from 0), loss (of the step's global batch, before its update), lr, grad_norm (before
clipping), tokens (consumed by the stage so far), seq_len, global_batch_size, step_s, tokens_per_s, and model FLOP utilisation by two
conventions (`mfu_full`, `mfu_causal`), null on chips whose peak is not known. A line of `fed/<stage>-rank-<n>.jsonl`: stage, attempt, step,
rank, dp_rank, samples (indices) and sha256 (of each sample's tokens, see `data.sample_hash`). A resumed attempt repeats the steps after its
checkpoint; the last line of a step holds.
"""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, TextIO

import torch

from storage.disk import refusals
from training.config import ModelConfig, parameter_count

# Dense bfloat16 peak, FLOP/s, from the vendors' data sheets (the sparse figures are twice these), by what the device's name holds.
# The first that fits counts; None: the name holds another chip's (an NVL runs slower, a MIG slice is a part of one).
PEAK_BF16_FLOPS = (("NVL", None), ("MIG", None), ("H100 PCIe", 756e12), ("H100", 989e12), ("H200", 989e12), ("A100", 312e12))


MAX_LINE_BYTES = 16 << 20  # of a line of the samples fed: some 80 bytes for each


def flops_per_token(model: ModelConfig, seq_len: int) -> tuple[float, float]:
    """Model FLOPs of one token's forward and backward pass, by the full and by the causal convention.

    6 for each parameter that multiplies (all but the embedding), plus attention: 12 * layers * width * seq_len when all pairs are counted,
    half of that when only those that a causal mask leaves are.
    """
    weights = 6.0 * (parameter_count(model) - model.vocab_size * model.dim)
    attention = 12.0 * model.n_layers * model.n_heads * model.head_dim * seq_len
    return weights + attention, weights + attention / 2


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Peak of the device at the dtype, FLOP/s; None where it is not known."""
    if device.type != "cuda" or dtype != torch.bfloat16:
        return None
    return peak_of_chip(torch.cuda.get_device_name(device))


def peak_of_chip(name: str) -> float | None:
    """Dense bfloat16 peak of a chip by its name, FLOP/s; None where it is not known."""
    return next((peak for part, peak in PEAK_BF16_FLOPS if part in name), None)


def mfu(model: ModelConfig, seq_len: int, tokens_per_s: float, n_devices: int, peak: float | None) -> dict[str, float | None]:
    """Model FLOP utilisation by both conventions, a fraction; None without a known peak."""
    if peak is None:
        return {"mfu_full": None, "mfu_causal": None}
    full, causal = (flops * tokens_per_s / (n_devices * peak) for flops in flops_per_token(model, seq_len))
    return {"mfu_full": full, "mfu_causal": causal}


class JsonLines:
    """Appends JSON objects to a file, one a line, each passed on as soon as it is written. Raises DiskError when the disk refuses.

    A last line that a full disk or a kill left without its end is taken away first, so that it does not spoil the next one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._refusals():
            path.parent.mkdir(parents=True, exist_ok=True)
            _end_with_a_line(path)
            self._file: TextIO = path.open("a", encoding="utf-8", buffering=1)

    def write(self, row: dict[str, Any]) -> None:
        """Append `row`."""
        with self._refusals():
            self._file.write(json.dumps(row) + "\n")

    def _refusals(self) -> AbstractContextManager[None]:
        return refusals("work_dir", self._path)

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # what could not be written was told when it was
            self._file.close()


def _end_with_a_line(path: Path) -> None:
    """Cut a file off behind its last line feed."""
    with path.open("ab+") as file:
        start = max(0, file.seek(0, os.SEEK_END) - MAX_LINE_BYTES)
        file.seek(start)
        file.truncate(start + file.read().rfind(b"\n") + 1)
