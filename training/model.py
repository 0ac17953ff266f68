"""The Llama 3 architecture in plain PyTorch; it knows no parallelism.

RMSNorm, grouped-query attention with document masks, SwiGLU, rotary positions (arXiv:2407.21783, 3.2). Rotary pairs are the two halves of a
head, as in Hugging Face's layout (Meta's interleaves them; the two differ by a permutation of wq's and wk's rows), so an export renames and
nothing else. Positions count from the start of the sample and do not restart with a document: rotary attention is relative, and no document
sees another.

A model part holds some of the layers: all of them, or a pipeline stage's. Parameters carry global layer numbers
(`layers.12.attention.wq.weight`) whatever part they are in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from training.config import ModelConfig

EMBEDDING_STD = 0.02
MIN_MEAN_SPAN = 128  # tokens: with shorter documents on average, one dense mask beats a loop over them (measured on CPU)
MIN_SEQ_LEN_FOR_SPANS = 512

Rotation = tuple[Tensor, Tensor]  # cosines and sines, float32 [b, s, head_dim / 2]


class Mask(Protocol):
    """Who may see whom in one micro-batch, and attention under that rule."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of q [b, s, heads, head_dim] over k, v [b, s, kv_heads, head_dim] → [b, s, heads, head_dim]."""
        ...


def visible(positions: Tensor, documents: Tensor, key_positions: Tensor, key_documents: Tensor) -> Tensor:
    """Which keys each query may see: those of its document, up to its position. [b, s], [b, s_k] → bool [b, 1, s, s_k]."""
    same_document = documents[:, :, None] == key_documents[:, None, :]
    not_later = positions[:, :, None] >= key_positions[:, None, :]
    return (same_document & not_later)[:, None]


def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention with [b, s, heads, head_dim] tensors and a mask [b, 1, s, s_k], or plain causal attention where it is None.

    Keys and values are repeated for their group of query heads: CUDA's memory-efficient kernel takes masks but not groups.
    """
    group = q.shape[2] // k.shape[2]
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if group > 1:
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None).transpose(1, 2)


class DocumentMask:
    """Causal attention within documents, for whole sequences. Made once a forward pass from positions and documents [b, s] (int).

    On CPU long documents are attended one by one, which skips what a dense mask computes and throws away (5x at 1,024 tokens).
    """

    def __init__(self, positions: Tensor, documents: Tensor) -> None:
        self._spans = document_spans(documents) if documents.device.type == "cpu" else None
        self._dense = None if self._spans is not None else visible(positions, documents, positions, documents)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `Mask.attend`."""
        if self._spans is None:
            return masked_attention(q, k, v, self._dense)
        rows = [
            torch.cat([masked_attention(q[n : n + 1, a:e], k[n : n + 1, a:e], v[n : n + 1, a:e], None) for a, e in spans], dim=1)
            for n, spans in enumerate(self._spans)
        ]
        return torch.cat(rows)


def document_spans(documents: Tensor) -> list[list[tuple[int, int]]] | None:
    """Start and end of each document in each row of `documents` [b, s], or None where a dense mask is faster."""
    rows, seq_len = documents.shape
    if seq_len < MIN_SEQ_LEN_FOR_SPANS:
        return None
    changes = (documents[:, 1:] != documents[:, :-1]).nonzero().tolist()
    if (len(changes) + rows) * MIN_MEAN_SPAN > rows * seq_len:
        return None
    edges: list[list[int]] = [[0] for _ in range(rows)]
    for row, column in changes:
        edges[row].append(column + 1)
    return [list(zip(row, [*row[1:], seq_len], strict=True)) for row in edges]


def rotation(positions: Tensor, head_dim: int, theta: float) -> Rotation:
    """Cosines and sines of the rotary angles of positions [b, s]; float32 whatever the computation's dtype."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device) / head_dim
    angles = positions[..., None].float() * (1.0 / theta**exponents)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos_sin: Rotation) -> Tensor:
    """Turn x [b, s, heads, head_dim] by its positions' angles; computed in float32."""
    cos, sin = (part[:, :, None, :] for part in cos_sin)
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.wq = nn.Linear(config.dim, config.n_heads * config.head_dim, bias=False)
        self.wk = nn.Linear(config.dim, config.n_kv_heads * config.head_dim, bias=False)
        self.wv = nn.Linear(config.dim, config.n_kv_heads * config.head_dim, bias=False)
        self.wo = nn.Linear(config.n_heads * config.head_dim, config.dim, bias=False)

    def forward(self, x: Tensor, cos_sin: Rotation, mask: Mask) -> Tensor:
        """[b, s, dim] → [b, s, dim]."""
        q, k, v = (project(x).unflatten(-1, (-1, self.head_dim)) for project in (self.wq, self.wk, self.wv))
        attended = mask.attend(rotate(q, cos_sin), rotate(k, cos_sin), v)
        return self.wo(attended.flatten(-2))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """SwiGLU: w2(silu(w1 x) * w3 x)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.w1 = nn.Linear(config.dim, config.ffn_dim, bias=False)
        self.w2 = nn.Linear(config.ffn_dim, config.dim, bias=False)
        self.w3 = nn.Linear(config.dim, config.ffn_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[b, s, dim] → [b, s, dim]."""
        return self.w2(F.silu(self.w1(x)) * self.w3(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """One transformer layer, normed before each half."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        self.attention = Attention(config)
        self.ffn_norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor, cos_sin: Rotation, mask: Mask) -> Tensor:
        """[b, s, dim] → [b, s, dim]."""
        x = x + self.attention(self.attention_norm(x), cos_sin, mask)
        return x + self.feed_forward(self.ffn_norm(x))  # type: ignore[no-any-return]


class Llama(nn.Module):
    """A part of a Llama 3 model: layers `layers` (default: all), with the embedding and the head when it holds the first and the last.

    `make_mask` builds the mask of a forward pass from positions and documents.
    """

    def __init__(self, config: ModelConfig, layers: Iterable[int] | None = None) -> None:
        super().__init__()
        numbers = list(range(config.n_layers) if layers is None else layers)
        self.config = config
        self.make_mask: Callable[[Tensor, Tensor], Mask] = DocumentMask
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.dim) if numbers[0] == 0 else None
        self.layers = nn.ModuleDict({str(number): Block(config) for number in numbers})
        is_last = numbers[-1] == config.n_layers - 1
        self.norm = nn.RMSNorm(config.dim, eps=config.norm_eps) if is_last else None
        self.output = nn.Linear(config.dim, config.vocab_size, bias=False) if is_last else None

    def forward(self, x: Tensor, positions: Tensor, documents: Tensor) -> Tensor:
        """Tokens [b, s], or the part before's [b, s, dim] → logits [b, s, vocabulary] or [b, s, dim]; positions, documents [b, s] int."""
        mask = self.make_mask(positions, documents)
        cos_sin = rotation(positions, self.config.head_dim, self.config.rope_theta)
        if self.tok_embeddings is not None:
            x = self.tok_embeddings(x)
        for block in self.layers.values():
            x = block(x, cos_sin, mask)
        if self.norm is not None and self.output is not None:
            x = self.output(self.norm(x))
        return x


def initial_weight(name: str, shape: torch.Size, *, seed: int, n_layers: int) -> Tensor:
    """The initial value of the parameter called `name`, float32 on CPU; a function of name, shape and seed, so the same on every mesh.

    Norms are 1; embedding and head are normal with standard deviation 0.02; the other matrices have fan_in**-0.5, and those that write to
    the residual stream that over sqrt(2 * n_layers) (Radford et al. 2019, 2.3). The Llama 3 paper gives no initialisation.
    """
    if name.endswith("norm.weight"):
        return torch.ones(shape)
    key = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)
    std = EMBEDDING_STD if name.startswith(("tok_embeddings", "output")) else float(shape[-1]) ** -0.5
    if name.endswith(("wo.weight", "w2.weight")):
        std /= (2 * n_layers) ** 0.5
    return torch.randn(shape, generator=generator) * std


@torch.no_grad()
def init_weights(model_parts: Iterable[nn.Module], *, seed: int, n_layers: int) -> None:
    """Set every parameter, sharded or not, to its initial value. Each rank makes whole tensors one by one and keeps its piece."""
    for part in model_parts:
        for name, parameter in part.named_parameters():
            value = initial_weight(name, parameter.shape, seed=seed, n_layers=n_layers).to(parameter.device)
            if isinstance(parameter, DTensor):
                value = distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
            parameter.copy_(value)
