"""Targets and their loss. RULE 28."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from training.loss import NO_TARGET, TargetLoss, document_numbers, document_starts, next_tokens
from training.parallel.context import local_positions

BOS = 9


def test_bos_is_never_a_target_and_eos_is() -> None:
    """The token after a document's end is masked; a row may begin inside a document."""
    tokens = torch.tensor([[4, 8, BOS, 5, 6, 8, BOS], [BOS, 1, 2, 3, 4, 5, 6]])
    assert next_tokens(tokens, BOS).tolist() == [[8, NO_TARGET, 5, 6, 8, NO_TARGET], [1, 2, 3, 4, 5, 6]]
    assert document_numbers(tokens, BOS).tolist() == [[0, 0, 1, 1, 1, 1, 2], [1] * 7]


@given(st.lists(st.lists(st.integers(0, 9), min_size=6, max_size=6), min_size=1, max_size=4))
def test_masked_targets_are_those_across_a_documents_end(rows: list[list[int]]) -> None:
    """A target is masked exactly where the document's number changes."""
    tokens = torch.tensor(rows)
    documents = document_numbers(tokens, BOS)
    assert torch.equal(next_tokens(tokens, BOS) == NO_TARGET, documents[:, 1:] != documents[:, :-1])


@given(
    st.lists(st.lists(st.integers(0, 2), max_size=4), min_size=1, max_size=8),
    st.integers(2, 12),
    st.booleans(),
)
def test_documents_are_told_apart_by_their_lengths_alone(documents: list[list[int]], row_len: int, bos_is_eos: bool) -> None:
    """Every row of a stream, wherever it begins (inside a document, between EOS and BOS): starts are those that the lengths give.

    Only a row of nothing but the one token that does both is left out: no reader of the row could tell.
    """
    eos = BOS if bos_is_eos else 8
    stream = [token for document in documents for token in (BOS, *document, eos)]
    starts = [n == 0 for document in documents for n in range(len(document) + 2)]
    for first in range(len(stream) - row_len + 1):
        row, truth = stream[first : first + row_len], starts[first : first + row_len]
        if bos_is_eos and set(row) == {BOS}:
            continue
        tokens = torch.tensor([row])
        assert document_starts(tokens, BOS, bos_is_eos)[0].tolist() == truth
        assert document_numbers(tokens, BOS, bos_is_eos)[0].tolist() == list(itertools.accumulate(map(int, truth)))
        expected = [NO_TARGET if begins else token for token, begins in zip(row[1:], truth[1:], strict=True)]
        assert next_tokens(tokens, BOS, bos_is_eos)[0].tolist() == expected


def test_the_end_of_a_document_is_a_target_where_bos_is_eos() -> None:
    """Only the BOS after it is masked; a row of that token alone is taken to begin with a BOS."""
    tokens = torch.tensor([[4, BOS, BOS, 5, 6, BOS], [BOS, BOS, 1, 2, BOS, BOS], [BOS] * 6])
    masked = [[BOS, NO_TARGET, 5, 6, BOS], [NO_TARGET, 1, 2, BOS, NO_TARGET], [BOS, NO_TARGET, BOS, NO_TARGET, BOS]]
    assert next_tokens(tokens, BOS, bos_is_eos=True).tolist() == masked
    assert document_numbers(tokens, BOS, bos_is_eos=True).tolist() == [[0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 2], [1, 1, 2, 2, 3, 3]]


def test_parts_of_the_loss_add_up_to_the_mean_over_all_targets() -> None:
    """Pieces of unequal numbers of targets, each over the global count, sum to the global mean; a mean of means would differ."""
    logits, targets = torch.randn(4, 6, 10), torch.randint(0, 10, (4, 6))
    targets[0, :5] = NO_TARGET
    loss = TargetLoss()
    loss.n_targets = int((targets != NO_TARGET).sum())
    parts = [loss(logits[rows], targets[rows]) for rows in (slice(0, 1), slice(1, 4))]
    whole = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=NO_TARGET)
    torch.testing.assert_close(sum(parts), whole)


def test_loss_is_float32_of_bfloat16_logits() -> None:
    """The loss is computed in float32 whatever the logits' dtype."""
    loss = TargetLoss()
    loss.n_targets = 1
    assert loss(torch.randn(1, 1, 10, dtype=torch.bfloat16), torch.tensor([[3]])).dtype == torch.float32


def test_a_step_without_a_count_is_our_own_mistake() -> None:
    """The count of targets is set before the loss is asked."""
    with pytest.raises(AssertionError, match="n_targets"):
        TargetLoss()(torch.randn(1, 1, 10), torch.tensor([[3]]))


@given(st.sampled_from([1, 2, 4, 8]), st.integers(1, 4))
def test_context_ranks_hold_each_position_once_and_equal_causal_work(cp: int, factor: int) -> None:
    """Head-tail chunks: every position on one rank, and as many causal pairs on each."""
    seq_len = 2 * cp * factor
    held = [local_positions(seq_len, cp, rank) for rank in range(cp)]
    assert sorted(torch.cat(held).tolist()) == list(range(seq_len))
    assert len({int((positions + 1).sum()) for positions in held}) == 1
