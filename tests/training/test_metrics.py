"""Model FLOPs, utilisation and the JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from training.config import LLAMA3_405B
from training.metrics import JsonLines, flops_per_token, mfu, peak_flops, peak_of_chip


@pytest.mark.parametrize(("seq_len", "gap"), [(8_192, 0.04), (131_072, 0.40)])
def test_conventions_differ_as_published(seq_len: int, gap: float) -> None:
    """For 405B, counting all pairs rather than causal ones adds 4 % at 8,192 tokens and 40 % at 131,072."""
    full, causal = flops_per_token(LLAMA3_405B, seq_len)
    assert full / causal - 1 == pytest.approx(gap, abs=0.005)


def test_flops_are_six_per_parameter_and_attention() -> None:
    """6 x (405.8e9 - embedding) + 12 x 126 x 16,384 x 8,192."""
    full, _ = flops_per_token(LLAMA3_405B, 8_192)
    assert full == 6 * (405_845_000_192 - 128_000 * 16_384) + 12 * 126 * 16_384 * 8_192


def test_published_utilisation_of_h100() -> None:
    """430 TFLOP/s a GPU are 43.5 % of an H100's dense bfloat16 peak."""
    full, _ = flops_per_token(LLAMA3_405B, 8_192)
    row = mfu(LLAMA3_405B, 8_192, 16_384 * 430e12 / full, 16_384, peak_of_chip("NVIDIA H100 80GB HBM3"))
    assert row["mfu_full"] == pytest.approx(0.435, abs=0.0005)
    assert row["mfu_causal"] is not None
    assert row["mfu_full"] is not None
    assert row["mfu_causal"] < row["mfu_full"]


def test_an_unknown_chip_has_no_utilisation() -> None:
    """None rather than another chip's figure; a CPU too."""
    for name in ("NVIDIA GeForce RTX 9090", "NVIDIA H100 NVL", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"):
        assert peak_of_chip(name) is None
    assert peak_flops(torch.device("cpu"), torch.bfloat16) is None
    assert mfu(LLAMA3_405B, 8_192, 1e6, 1, None) == {"mfu_full": None, "mfu_causal": None}


def test_json_lines_are_appended_and_readable_at_once(tmp_path: Path) -> None:
    """A reader sees each line as soon as it is written; another attempt appends."""
    path = tmp_path / "run" / "metrics.jsonl"
    first = JsonLines(path)
    first.write({"step": 0, "loss": 1.5})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"step": 0, "loss": 1.5}]
    first.close()
    second = JsonLines(path)
    second.write({"step": 1, "mfu_full": None})
    second.close()
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize("left", ["", '{"step": 0}\n', '{"step": 0}\n{"step": 1, "lo', '{"st', "\n"])
def test_a_line_without_its_end_goes_when_the_file_is_opened_again(tmp_path: Path, left: str) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    path.parent.mkdir()
    path.write_text(left)
    lines = JsonLines(path)
    lines.write({"step": 2})
    lines.close()
    whole = left[: left.rfind("\n") + 1]
    assert path.read_text() == whole + '{"step": 2}\n'
    assert [json.loads(line) for line in path.read_text().splitlines() if line][-1] == {"step": 2}
