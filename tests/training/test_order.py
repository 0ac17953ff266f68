"""The order of training data: RULES 23 to 27, by property."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import ConfigError
from training.order import (
    PERIOD,
    Component,
    Order,
    Pattern,
    Permutation,
    Phase,
    block_permutation,
    pattern,
    round_shares,
)


@st.composite
def share_lists(draw: st.DrawFn, max_components: int = 6) -> tuple[int, ...]:
    """Positive integers that sum to 10,000."""
    k = draw(st.integers(1, max_components))
    cuts = sorted(draw(st.sets(st.integers(1, PERIOD - 1), min_size=k - 1, max_size=k - 1)))
    return tuple(b - a for a, b in pairwise([0, *cuts, PERIOD]))


@st.composite
def orders(draw: st.DrawFn) -> Order:
    """Small stages: several phases whose seq_len and batch size change, components from below one epoch to several."""
    shares = draw(share_lists(4))
    phases = [
        Phase(seq_len=4 * draw(st.sampled_from([1, 2, 4])), global_batch_size=draw(st.integers(1, 9)), n_steps=draw(st.integers(1, 20)))
        for _ in range(draw(st.integers(1, 4)))
    ]
    components = [Component(f"c{n}", share, draw(st.integers(17, 900))) for n, share in enumerate(shares)]
    return Order(stage=draw(st.sampled_from(["pretrain", "anneal"])), seed=draw(st.integers(0, 5)), phases=phases, components=components)


@given(size=st.integers(1, 700), key=st.binary(min_size=16, max_size=16))
@settings(max_examples=60, deadline=None)
def test_permutation_is_a_bijection_and_inverse_undoes_it(size: int, key: bytes) -> None:
    permutation = Permutation(key, size)
    images = [permutation.forward(value) for value in range(size)]
    assert sorted(images) == list(range(size))
    assert [permutation.inverse(image) for image in images] == list(range(size))


@given(size=st.integers(2**33, 2**60), value=st.integers(0, 2**33 - 1))
@settings(max_examples=50, deadline=None)
def test_permutation_of_huge_domains_is_undone(size: int, value: int) -> None:
    permutation = Permutation(b"k" * 16, size)
    assert permutation.inverse(permutation.forward(value)) == value


def test_permutation_depends_on_seed_stage_component_and_epoch() -> None:
    keys = [
        (1, "pretrain", "code", 0),
        (2, "pretrain", "code", 0),
        (1, "anneal", "code", 0),
        (1, "pretrain", "math", 0),
        (1, "pretrain", "code", 1),
    ]
    permutations = [tuple(map(block_permutation(*key, 50).forward, range(50))) for key in keys]
    assert len(set(permutations)) == len(keys)


def test_permutation_golden_values() -> None:
    """The order is part of what a checkpoint means: these numbers may never change."""
    assert [block_permutation(7, "pretrain", "general", 0, 10).forward(n) for n in range(10)] == GOLDEN_PERMUTATION


def test_permutation_is_uniform_enough() -> None:
    """Over many keys each of 6 places receives value 0 about equally often (chi-squared, 5 degrees of freedom, far tail)."""
    n = 3000
    seen = Counter(block_permutation(seed, "s", "c", 0, 6).forward(0) for seed in range(n))
    assert sum((seen[place] - n / 6) ** 2 / (n / 6) for place in range(6)) < 25


@pytest.mark.parametrize("value", [-1, 10])
def test_permutation_refuses_values_outside(value: int) -> None:
    permutation = Permutation(b"k" * 16, 10)
    with pytest.raises(IndexError):
        permutation.forward(value)
    with pytest.raises(IndexError):
        permutation.inverse(value)


@given(shares=share_lists())
@settings(max_examples=40, deadline=None)
def test_every_prefix_is_within_one_sample_of_the_mixture(shares: tuple[int, ...]) -> None:
    """|n_c - n p_c| < 1 at every n of a period, and the period closes exactly, so it holds for ever."""
    built = Pattern(shares)
    for c, share in enumerate(shares):
        assert all(abs(built.count_before(c, n) * PERIOD - n * share) < PERIOD for n in range(PERIOD + 1))
        assert built.count_before(c, PERIOD) == share


@given(shares=share_lists(), start=st.integers(0, 10**6), length=st.integers(0, 30_000))
@settings(max_examples=60, deadline=None)
def test_every_window_is_within_two_samples_of_the_mixture(shares: tuple[int, ...], start: int, length: int) -> None:
    built = pattern(shares)
    for c, share in enumerate(shares):
        taken = built.count_before(c, start + length) - built.count_before(c, start)
        assert abs(Fraction(share * length, PERIOD) - taken) < 2


@given(shares=share_lists(), index=st.integers(0, 10**12))
@settings(max_examples=60, deadline=None)
def test_pattern_index_undoes_count_before(shares: tuple[int, ...], index: int) -> None:
    built = pattern(shares)
    component = built.component(index)
    assert built.index(component, built.count_before(component, index)) == index


def test_pattern_is_tijdemans_rule_in_fractions() -> None:
    """The integer form picks what RULE 26 says, written out in fractions, ties by name."""
    shares = (5000, 2500, 1700, 800)
    p, k, taken = [Fraction(s, PERIOD) for s in shares], 4, [0, 0, 0, 0]
    w = Fraction(1, 2 * k - 2)
    for n in range(1, 2001):
        eligible = [c for c in range(k) if n * p[c] - taken[c] >= w]
        best = min(eligible, key=lambda c: ((1 - w - n * p[c] + taken[c]) / p[c], c))
        assert pattern(shares).component(n - 1) == best
        taken[best] += 1


def test_one_component_takes_every_sample() -> None:
    assert {Pattern((PERIOD,)).component(n) for n in range(20)} == {0}


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ({"a": "0.5", "b": "0.25", "c": "0.17", "d": "0.08"}, {"a": 5000, "b": 2500, "c": 1700, "d": 800}),
        ({"a": "1", "b": "1", "c": "1"}, {"a": 3334, "b": 3333, "c": 3333}),
        ({"b": "1", "a": "0"}, {"b": PERIOD}),
        ({"a": "0.0001", "b": "0.9999"}, {"a": 1, "b": 9999}),
    ],
)
def test_shares_are_rounded_by_largest_remainder(shares: dict[str, str], expected: dict[str, int]) -> None:
    assert round_shares({name: Fraction(share) for name, share in shares.items()}) == expected


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"a": "0.00004", "b": "0.99996"}, "share of a: 4e-05 rounds to 0 of 10,000"),
        ({"a": "-0.1", "b": "1.1"}, "at least 0"),
        ({"a": "0"}, "one above 0"),
    ],
)
def test_shares_that_cannot_be_kept_are_refused(shares: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        round_shares({name: Fraction(share) for name, share in shares.items()})


@given(order=orders())
@settings(max_examples=120, deadline=None)
def test_runs_follow_rule_24_and_count_unused_slices(order: Order) -> None:
    """Runs tile each component's samples and blocks, never cross an epoch, and leave fewer than r slices each."""
    for component, runs in zip(order.components, order.runs, strict=True):
        blocks, used, ordinal = order.n_blocks(component.name), 0, 0
        for run in runs:
            r = order.block_len // order.phases[run.phase].seq_len
            assert (run.epoch, run.first_block) == divmod(used, blocks)
            assert run.first_block + run.n_blocks <= blocks
            assert run.first_ordinal == ordinal
            assert 0 <= run.unused_slices == r * run.n_blocks - run.n_samples < r
            used, ordinal = used + run.n_blocks, ordinal + run.n_samples
        assert ordinal == order.counts_before(order.n_samples)[component.name]
        assert used == order.blocks_used(component.name)


@given(order=orders())
@settings(max_examples=120, deadline=None)
def test_within_an_epoch_no_token_is_an_input_twice(order: Order) -> None:
    seen = set()
    for index in range(order.n_samples):
        sample = order.sample(index)
        seq_len = order.phase_of_step(sample.step).seq_len
        assert sample.end - sample.start == seq_len + 1
        assert 0 <= sample.start <= sample.end <= next(c.n_tokens for c in order.components if c.name == sample.component)
        assert sample.start // order.block_len == sample.block
        for unit in range(sample.start, sample.end - 1, 4):
            key = (sample.component, sample.epoch, unit)
            assert key not in seen
            seen.add(key)


@given(order=orders(), data=st.data())
@settings(max_examples=120, deadline=None)
def test_samples_of_a_document_are_those_whose_slices_overlap_it(order: Order, data: st.DataObject) -> None:
    """The inverse agrees with a search through all samples, for all epochs, runs and phases."""
    component = data.draw(st.sampled_from(order.components))
    start = data.draw(st.integers(0, component.n_tokens - 1))
    end = data.draw(st.integers(start + 1, component.n_tokens))
    samples = [order.sample(index) for index in range(order.n_samples)]
    expected = [s.index for s in samples if s.component == component.name and s.start < end and start < s.end - 1]
    assert order.samples_of(component.name, start, end) == expected


@given(order=orders())
@settings(max_examples=60, deadline=None)
def test_steps_and_samples_agree(order: Order) -> None:
    """first_sample and step_of are inverse; a step's samples are global_batch_size consecutive integers."""
    for step in range(order.n_steps):
        samples = range(order.first_sample(step), order.first_sample(step + 1))
        assert len(samples) == order.phase_of_step(step).global_batch_size
        assert {order.step_of(index) for index in samples} == {step}
    assert order.first_sample(order.n_steps) == order.n_samples


@given(order=orders())
@settings(max_examples=30, deadline=None)
def test_the_mixture_runs_on_over_phases(order: Order) -> None:
    """At every prefix of the whole stage each component is within one sample, whatever the phase."""
    taken: Counter[str] = Counter()
    for n in range(order.n_samples):
        taken[order.sample(n).component] += 1
        for c in order.components:
            assert abs(taken[c.name] * PERIOD - (n + 1) * c.share) < PERIOD


def test_epochs_take_every_block_once_each_in_another_order() -> None:
    phases = [Phase(seq_len=8, global_batch_size=4, n_steps=30)]
    order = Order(stage="pretrain", seed=3, phases=phases, components=[Component("a", PERIOD, 8 * 20 + 1)])
    blocks = [order.sample(n).block for n in range(120)]
    epochs = [blocks[i : i + 20] for i in range(0, 120, 20)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_a_new_stage_starts_the_pattern_anew_and_orders_blocks_otherwise() -> None:
    def build(stage: str) -> Order:
        return Order(stage=stage, seed=1, phases=[Phase(8, 4, 9)], components=[Component("a", 6000, 900), Component("b", 4000, 900)])

    first, second = ([build(stage).sample(n) for n in range(36)] for stage in ("pretrain", "anneal"))
    assert [s.component for s in first] == [s.component for s in second]
    assert [s.block for s in first] != [s.block for s in second]


def test_the_last_block_needs_one_token_more_than_its_length() -> None:
    """B = (T - 1) div L: 2 L tokens hold one block, 2 L + 1 hold two, L hold none."""

    def blocks(n_tokens: int) -> int:
        return Order(stage="s", seed=0, phases=[Phase(16, 1, 1)], components=[Component("a", PERIOD, n_tokens)]).n_blocks("a")

    assert (blocks(32), blocks(33), blocks(17)) == (1, 2, 1)
    with pytest.raises(ConfigError, match="component a has a positive share and 16 tokens"):
        blocks(16)


def test_a_sequence_length_that_does_not_divide_the_largest_is_refused() -> None:
    with pytest.raises(ConfigError, match="seq_len 6 does not divide 16"):
        Order(stage="s", seed=0, phases=[Phase(6, 1, 1), Phase(16, 1, 1)], components=[Component("a", PERIOD, 100)])


def test_outside_the_stage_there_is_nothing() -> None:
    order = Order(stage="s", seed=0, phases=[Phase(16, 2, 3)], components=[Component("a", PERIOD, 100)])
    with pytest.raises(IndexError, match=r"sample 6 is not in 0 … 5"):
        order.sample(6)
    with pytest.raises(IndexError, match=r"step 3 is not in 0 … 2"):
        order.phase_of_step(3)
    assert order.samples_of("b", 0, 10) == []
    assert order.samples_of("a", 97, 100) == []


GOLDEN_PERMUTATION = [0, 8, 7, 1, 3, 6, 4, 9, 5, 2]
