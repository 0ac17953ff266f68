"""AdamW's groups and clipping."""

from __future__ import annotations

import pytest
import torch

from training.config import ModelConfig, OptimizerConfig
from training.model import Llama, init_weights
from training.optimizer import build_optimizer, clip_gradients, set_learning_rate
from training.parallel.dims import ParallelDims
from training.parallel.mesh import build_meshes

CONFIG = ModelConfig(n_layers=2, dim=16, ffn_dim=32, n_heads=2, n_kv_heads=1, vocab_size=20)


def parts_with_gradients() -> list[Llama]:
    part = Llama(CONFIG)
    init_weights([part], seed=0, n_layers=2)
    generator = torch.Generator().manual_seed(0)
    for parameter in part.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return [part]


@pytest.mark.parametrize(("share", "factor"), [(0.5, 0.5), (2.0, 1.0)])
def test_clipping_scales_to_the_norm_and_leaves_smaller_gradients(share: float, factor: float) -> None:
    """The norm before is returned; after, it is at most what was asked, in the same direction."""
    parts = parts_with_gradients()
    before = torch.cat([p.grad.flatten() for p in parts[0].parameters() if p.grad is not None])
    limit = share * float(before.norm())
    assert float(clip_gradients(parts, limit, build_meshes(ParallelDims(), "cpu"))) == pytest.approx(float(before.norm()), rel=1e-6)
    after = torch.cat([p.grad.flatten() for p in parts[0].parameters() if p.grad is not None])
    torch.testing.assert_close(after, before * factor, rtol=1e-4, atol=1e-6)


def test_norm_weights_do_not_decay_and_the_rate_is_that_of_every_group() -> None:
    """One-dimensional parameters are in a group without weight decay."""
    optimizer = build_optimizer(parts_with_gradients(), OptimizerConfig(lr_peak=1e-3, weight_decay=0.1))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert all(p.dim() == 1 for p in optimizer.param_groups[1]["params"])
    assert len(optimizer.param_groups[1]["params"]) == 5
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]
