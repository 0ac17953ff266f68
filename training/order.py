"""The order of training data, a pure function of integers: (plan, seed, sample index) to tokens and back. RULES 23 to 27.

A component's stream of T tokens is cut into B = (T - 1) div L blocks of L tokens, L the largest sequence length of the training stage.
A sample is one slice (`seq_len` tokens) of one block, plus the token after it. Which component the n-th sample takes comes from
Tijdeman's pattern; which block, from a keyed permutation of the blocks per epoch. Nothing here reads data, and nothing is a state:
resuming needs one integer.

Sources: R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32 (1980), for the pattern; J. Black and P. Rogaway,
"Ciphers with arbitrary finite domains", CT-RSA 2002, for the permutation (a Feistel network with cycle walking).
"""

from __future__ import annotations

import functools
import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import NamedTuple

from storage.errors import ConfigError

PERIOD = 10_000  # shares are integers of this; the pattern repeats after as many samples
FEISTEL_ROUNDS = 6


@dataclass(frozen=True)
class Permutation:
    """A bijection of 0 … `size` - 1 keyed by `key`, with expected O(1) access both ways.

    A balanced Feistel network over the smallest even number of bits that holds `size`; a value outside walks on until it is inside, after
    fewer than 4 steps on average. Round function: blake2b(digest_size=8) of key, round (1 byte), half (8 bytes), read little-endian and
    cut to half the bits.
    """

    key: bytes
    size: int

    def forward(self, value: int) -> int:
        """Where `value` goes. Raises IndexError outside 0 … size - 1."""
        self._check(value)
        bits = self._half_bits
        while True:
            left, right = value >> bits, value & ((1 << bits) - 1)
            for n in range(FEISTEL_ROUNDS):
                left, right = right, left ^ self._round(n, right, bits)
            value = left << bits | right
            if value < self.size:
                return value

    def inverse(self, value: int) -> int:
        """What goes to `value`. Raises IndexError outside 0 … size - 1."""
        self._check(value)
        bits = self._half_bits
        while True:
            left, right = value >> bits, value & ((1 << bits) - 1)
            for n in reversed(range(FEISTEL_ROUNDS)):
                left, right = right ^ self._round(n, left, bits), left
            value = left << bits | right
            if value < self.size:
                return value

    @property
    def _half_bits(self) -> int:
        return (max(self.size - 1, 1).bit_length() + 1) // 2

    def _round(self, n: int, half: int, bits: int) -> int:
        digest = hashlib.blake2b(self.key + bytes([n]) + half.to_bytes(8, "little"), digest_size=8).digest()
        return int.from_bytes(digest, "little") & ((1 << bits) - 1)

    def _check(self, value: int) -> None:
        if not 0 <= value < self.size:
            raise IndexError(f"{value} is not in 0 … {self.size - 1}")


@functools.lru_cache(maxsize=1024)
def block_permutation(seed: int, stage: str, component: str, epoch: int, n_blocks: int) -> Permutation:
    """The order of a component's blocks in one epoch of a training stage. RULE 25.

    The key is blake2b(digest_size=16) of "seed NUL stage NUL component NUL epoch", numbers in decimal, UTF-8.
    """
    name = "\0".join([str(seed), stage, component, str(epoch)])
    return Permutation(hashlib.blake2b(name.encode(), digest_size=16).digest(), n_blocks)


def round_shares(shares: Mapping[str, Fraction]) -> dict[str, int]:
    """Shares as integers of 10,000 that sum to it, by largest remainder, ties by name; zero shares are left out. RULE 26.

    Raises ConfigError when a share is negative or all are 0, and when a positive share becomes 0.
    """
    total = sum(shares.values(), Fraction(0))
    if total <= 0 or any(share < 0 for share in shares.values()):
        raise ConfigError(f"shares {_listed(shares)}: each must be at least 0, and one above 0")
    exact = {name: share * PERIOD / total for name, share in sorted(shares.items()) if share > 0}
    rounded = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (rounded[name] - exact[name], name))
    for name in by_remainder[: PERIOD - sum(rounded.values())]:
        rounded[name] += 1
    for name, share in rounded.items():
        if share == 0:
            raise ConfigError(
                f"share of {name}: {float(shares[name] / total):g} rounds to 0 of {PERIOD:,}; at least {1 / PERIOD:g}, or 0 to leave it out"
            )
    return rounded


def _listed(shares: Mapping[str, Fraction]) -> str:
    return ", ".join(f"{name} {float(share):g}" for name, share in shares.items())


class Pattern:
    """Which component each sample of a stage takes: Tijdeman's rule in exact integers, with period 10,000. RULE 26.

    `shares` are positive integers that sum to 10,000, in order of the components' names. Every prefix is within one sample of the mixture,
    every window within two. Counting, finding and going back cost O(1).
    """

    def __init__(self, shares: Sequence[int]) -> None:
        assert sum(shares) == PERIOD, f"shares {shares} must sum to {PERIOD}"
        assert min(shares) > 0, f"shares {shares} must be positive"
        self.shares = tuple(shares)
        self._component = array("H", _tijdeman(self.shares))
        self._before = [array("H", accumulate((int(c == which) for c in self._component), initial=0)) for which in range(len(shares))]
        self._positions = [array("H", (n for n, c in enumerate(self._component) if c == which)) for which in range(len(shares))]

    def component(self, index: int) -> int:
        """The component of sample `index` (from 0)."""
        return self._component[index % PERIOD]

    def count_before(self, component: int, index: int) -> int:
        """How many of the samples 0 … `index` - 1 are of `component`."""
        periods, rest = divmod(index, PERIOD)
        return periods * self.shares[component] + self._before[component][rest]

    def index(self, component: int, ordinal: int) -> int:
        """The sample that is number `ordinal` (from 0) of `component`."""
        periods, rest = divmod(ordinal, self.shares[component])
        return periods * PERIOD + self._positions[component][rest]


def _tijdeman(shares: tuple[int, ...]) -> Iterator[int]:
    """One period of RULE 26 times w D, with D = 10,000, w = 2k - 2, p = shares of D: among w (n p - D m) >= D, the smallest
    (w D - D - w (n p - D m)) / p."""
    if len(shares) == 1:
        yield from [0] * PERIOD
        return
    weight = 2 * len(shares) - 2
    taken = [0] * len(shares)
    for n in range(1, PERIOD + 1):
        best, best_slack = -1, 0
        for component, share in enumerate(shares):
            lag = weight * (n * share - PERIOD * taken[component])
            slack = weight * PERIOD - PERIOD - lag
            if lag >= PERIOD and (best < 0 or slack * shares[best] < best_slack * share):
                best, best_slack = component, slack
        taken[best] += 1
        yield best


@functools.lru_cache(maxsize=32)
def pattern(shares: tuple[int, ...]) -> Pattern:
    """The pattern of these shares, built once per process."""
    return Pattern(shares)


@dataclass(frozen=True)
class Phase:
    """Optimizer steps with one sequence length (tokens) and one global batch size (sequences)."""

    seq_len: int
    global_batch_size: int
    n_steps: int

    @property
    def n_samples(self) -> int:
        """Samples of the phase."""
        return self.global_batch_size * self.n_steps


@dataclass(frozen=True)
class Component:
    """A stream to take samples from: its share of 10,000 (above 0) and its length in tokens."""

    name: str
    share: int
    n_tokens: int


class Run(NamedTuple):
    """Samples of one component within one phase and one epoch. RULE 24.

    Sample j of the run is slice j div `n_blocks` of block perm_epoch(`first_block` + j mod `n_blocks`); it is number `first_ordinal` + j
    of its component in the stage. `unused_slices` = the slices of these blocks that stay unused.
    """

    component: str
    phase: int
    epoch: int
    first_block: int
    n_blocks: int
    n_samples: int
    first_ordinal: int
    unused_slices: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample: tokens `start` to `end` (exclusive; `seq_len` + 1 of them) of the component's stream, and where that comes from."""

    index: int
    step: int
    component: str
    epoch: int
    block: int
    slice: int
    start: int
    end: int


class Order:
    """The order of one training stage: built from integers, asked by sample, by step or by document.

    Raises ConfigError when a sequence length does not divide the largest, or a component has less than one block.
    """

    def __init__(self, *, stage: str, seed: int, phases: Sequence[Phase], components: Sequence[Component]) -> None:
        self.stage, self.seed, self.phases = stage, seed, tuple(phases)
        self.components = tuple(sorted(components, key=lambda c: c.name))
        self.block_len = block_length(self.phases)
        self.pattern = pattern(tuple(c.share for c in self.components))
        self._number = {c.name: n for n, c in enumerate(self.components)}
        self._n_blocks = [block_count(c, self.block_len) for c in self.components]
        self._first_step = list(accumulate((p.n_steps for p in self.phases), initial=0))
        self._first_sample = list(accumulate((p.n_samples for p in self.phases), initial=0))
        self.runs = [list(self._runs_of(n)) for n in range(len(self.components))]
        self._first_ordinals = [[run.first_ordinal for run in runs] for runs in self.runs]

    @property
    def n_steps(self) -> int:
        """Optimizer steps of the stage."""
        return self._first_step[-1]

    @property
    def n_samples(self) -> int:
        """Samples of the stage."""
        return self._first_sample[-1]

    def n_blocks(self, component: str) -> int:
        """B: blocks of the component's stream."""
        return self._n_blocks[self._number[component]]

    def phase_of_step(self, step: int) -> Phase:
        """The phase of optimizer step `step` (from 0). Raises IndexError."""
        return self.phases[_place(self._first_step, step, "step")]

    def first_sample(self, step: int) -> int:
        """The first sample of optimizer step `step`; sample n of its global batch is this + n. `step` = `n_steps` gives `n_samples`."""
        if step == self.n_steps:
            return self.n_samples
        phase = _place(self._first_step, step, "step")
        return self._first_sample[phase] + (step - self._first_step[phase]) * self.phases[phase].global_batch_size

    def step_of(self, index: int) -> int:
        """The optimizer step that takes sample `index`. Raises IndexError."""
        phase = _place(self._first_sample, index, "sample")
        return self._first_step[phase] + (index - self._first_sample[phase]) // self.phases[phase].global_batch_size

    def sample(self, index: int) -> Sample:
        """What sample `index` of the stage is. Raises IndexError."""
        step = self.step_of(index)
        number = self.pattern.component(index)
        ordinal = self.pattern.count_before(number, index)
        run = self.runs[number][bisect_right(self._first_ordinals[number], ordinal) - 1]
        which_slice, which_block = divmod(ordinal - run.first_ordinal, run.n_blocks)
        block = self._permutation(run).forward(run.first_block + which_block)
        seq_len = self.phases[run.phase].seq_len
        start = block * self.block_len + which_slice * seq_len
        return Sample(index, step, run.component, run.epoch, block, which_slice, start, start + seq_len + 1)

    def samples_of(self, component: str, start: int, end: int) -> list[int]:
        """The samples whose slices overlap tokens `start` to `end` (exclusive) of the component's stream, ascending. RULE 27.

        A slice does not include the token after it: where a document begins there, that token is its BOS, which is never a target.
        Constant work per run and block, whatever the size of the data. A component that the stage does not use has none.
        """
        number = self._number.get(component)
        if number is None or start >= end:
            return []
        blocks = range(start // self.block_len, min((end - 1) // self.block_len + 1, self._n_blocks[number]))
        return sorted(index for run in self.runs[number] for block in blocks for index in self._samples_in(number, run, block, start, end))

    def counts_before(self, index: int) -> dict[str, int]:
        """How many of the samples before `index` each component has."""
        return {c.name: self.pattern.count_before(n, index) for n, c in enumerate(self.components)}

    def blocks_used(self, component: str) -> int:
        """Blocks that the stage takes from the component, over all epochs."""
        return sum(run.n_blocks for run in self.runs[self._number[component]])

    def _samples_in(self, number: int, run: Run, block: int, start: int, end: int) -> Iterator[int]:
        place = self._permutation(run).inverse(block) - run.first_block
        if not 0 <= place < run.n_blocks:
            return
        seq_len, origin = self.phases[run.phase].seq_len, block * self.block_len
        first = max(start - origin, 0) // seq_len
        last = (min(end - origin, self.block_len) - 1) // seq_len
        for which in range(first, last + 1):
            j = which * run.n_blocks + place
            if j < run.n_samples:
                yield self.pattern.index(number, run.first_ordinal + j)

    def _permutation(self, run: Run) -> Permutation:
        return block_permutation(self.seed, self.stage, run.component, run.epoch, self._n_blocks[self._number[run.component]])

    def _runs_of(self, number: int) -> Iterator[Run]:
        blocks, used = self._n_blocks[number], 0
        for phase, (spec, first_sample) in enumerate(zip(self.phases, self._first_sample, strict=False)):
            slices = self.block_len // spec.seq_len
            ordinal = self.pattern.count_before(number, first_sample)
            left = self.pattern.count_before(number, first_sample + spec.n_samples) - ordinal
            while left > 0:
                epoch, first = divmod(used, blocks)
                n = min(left, slices * (blocks - first))
                n_blocks = -(-n // slices)
                yield Run(self.components[number].name, phase, epoch, first, n_blocks, n, ordinal, slices * n_blocks - n)
                used, ordinal, left = used + n_blocks, ordinal + n, left - n


def block_length(phases: Sequence[Phase]) -> int:
    """L: the largest sequence length of the stage, in tokens. Raises ConfigError when another does not divide it. RULE 23."""
    longest = max(phase.seq_len for phase in phases)
    for phase in phases:
        if longest % phase.seq_len:
            raise ConfigError(f"seq_len {phase.seq_len:,} does not divide {longest:,}, the largest of its training stage")
    return longest


def block_count(component: Component, block_len: int) -> int:
    """B = (T - 1) div L. Raises ConfigError when that is 0. RULE 23."""
    blocks = (component.n_tokens - 1) // block_len
    if blocks <= 0:
        raise ConfigError(
            f"component {component.name} has a positive share and {component.n_tokens:,} tokens, too few for one block of {block_len:,}"
            " and the token after it"
        )
    return blocks


def _place(firsts: Sequence[int], value: int, what: str) -> int:
    """The phase that holds `value`, given the first value of each phase and the end."""
    if not 0 <= value < firsts[-1]:
        raise IndexError(f"{what} {value} is not in 0 … {firsts[-1] - 1}")
    return bisect_right(firsts, value) - 1
