"""The model: sizes, names, masks, initial weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training import model as model_file
from training.config import LLAMA3_8B, LLAMA3_70B, LLAMA3_405B, ModelConfig, parameter_count
from training.model import DocumentMask, Llama, document_spans, init_weights, masked_attention, rotate, rotation, visible
from training.parallel.dims import split_layers

TINY = ModelConfig(n_layers=5, dim=32, ffn_dim=48, n_heads=4, n_kv_heads=2, vocab_size=40)


def built(config: ModelConfig = TINY, seed: int = 3) -> Llama:
    part = Llama(config)
    init_weights([part], seed=seed, n_layers=config.n_layers)
    return part


def numbered(lengths: list[int]) -> Tensor:
    """Document numbers [1, s] of documents of these lengths."""
    return torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None]


@pytest.mark.parametrize(
    ("config", "count"),
    [(LLAMA3_8B, 8_028_164_096), (LLAMA3_70B, 70_549_512_192), (LLAMA3_405B, 405_845_000_192), (TINY, None)],
)
def test_parameter_count_is_what_the_arithmetic_gives(config: ModelConfig, count: int | None) -> None:
    """A build without memory has exactly the parameters of `parameter_count` (the released models have 256 tokens more)."""
    with torch.device("meta"):
        built_count = sum(p.numel() for p in Llama(config).parameters())
    assert built_count == parameter_count(config)
    assert count is None or built_count == count


def test_parts_carry_global_layer_numbers_and_the_same_weights() -> None:
    """The parts of a pipeline hold together the names and, bit for bit, the weights of the whole model."""
    whole = dict(built().named_parameters())
    parts = [Llama(TINY, layers) for layers in split_layers(TINY.n_layers, 3)]
    init_weights(parts, seed=3, n_layers=TINY.n_layers)
    cut = {name: parameter for part in parts for name, parameter in part.named_parameters()}
    assert cut.keys() == whole.keys()
    assert "layers.4.attention.wq.weight" in cut
    assert all(torch.equal(cut[name], whole[name]) for name in whole)


def test_initial_weights_depend_on_the_seed() -> None:
    """Another seed, other weights; norms are 1."""
    one, other = dict(built(seed=1).named_parameters()), dict(built(seed=2).named_parameters())
    assert not torch.equal(one["output.weight"], other["output.weight"])
    assert torch.equal(one["norm.weight"], torch.ones(32))


def test_no_token_sees_another_document_or_what_comes_later() -> None:
    """Changing a token changes the logits of itself and of later tokens of its document, and of no other."""
    model = built()
    documents = numbered([5, 7, 4])
    positions = torch.arange(16)[None]
    tokens = torch.arange(16)[None] + 3
    changed = tokens.clone()
    changed[0, 7] = 1
    with torch.no_grad():
        moved = (model(tokens, positions, documents) != model(changed, positions, documents)).any(dim=-1)[0]
    assert moved.tolist() == [7 <= n < 12 for n in range(16)]


def test_documents_one_by_one_give_what_one_dense_mask_gives() -> None:
    """The fast path on CPU: outputs and gradients are those of the dense mask, and it is taken for long documents alone."""
    lengths = [[300, 200, 12], [512], [1, 511]]
    documents = torch.cat([numbered(row) for row in lengths])
    assert document_spans(documents) == [[(0, 300), (300, 500), (500, 512)], [(0, 512)], [(0, 1), (1, 512)]]
    assert document_spans(torch.cat([numbered([64] * 8)] * 3)) is None
    assert document_spans(documents[:, :256]) is None
    positions = torch.arange(512).expand(3, -1)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, 512, heads, 8, generator=generator, requires_grad=True) for heads in (4, 2, 2))
    weight = torch.randn(3, 512, 4, 8, generator=generator)
    fast = DocumentMask(positions, documents).attend(q, k, v)
    dense = masked_attention(q, k, v, visible(positions, documents, positions, documents))
    torch.testing.assert_close(fast, dense)
    for mine, theirs in zip(
        torch.autograd.grad((fast * weight).sum(), [q, k, v]), torch.autograd.grad((dense * weight).sum(), [q, k, v]), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_rotation_is_relative() -> None:
    """The product of a turned query and a turned key depends on the distance of their positions alone, so positions need not restart."""
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(query_position: int, key_position: int) -> Tensor:
        at = [rotation(torch.tensor([[p]]), 8, 500_000.0) for p in (query_position, key_position)]
        return (rotate(q, at[0]) * rotate(k, at[1])).sum()

    torch.testing.assert_close(score(9, 4), score(105, 100), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(score(9, 4), score(9, 5))


def test_rotation_stays_float32_in_bfloat16_models() -> None:
    """Angles of far positions would be lost in bfloat16."""
    cos, sin = rotation(torch.tensor([[100_000]]), 8, 500_000.0)
    assert cos.dtype == sin.dtype == torch.float32
    assert rotate(torch.ones(1, 1, 1, 8, dtype=torch.bfloat16), (cos, sin)).dtype == torch.bfloat16


def test_the_model_file_knows_no_parallelism() -> None:
    """No mesh, group or collective is imported; DTensor appears where whole initial weights are cut to a rank's piece."""
    names = set(vars(model_file))
    assert not names & {"dist", "DeviceMesh", "fully_shard", "parallelize_module", "PipelineStage"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_heads": 5}, "even head width"),
        ({"n_kv_heads": 3}, "not a multiple of n_kv_heads 3"),
        ({"width": 3}, "Extra inputs"),
        ({"n_layers": 0}, "n_layers"),
    ],
)
def test_wrong_models_are_refused(changes: dict[str, int], message: str) -> None:
    """Each wrong field is named."""
    with pytest.raises(ValueError, match=message):
        ModelConfig.model_validate({**TINY.model_dump(), **changes})
