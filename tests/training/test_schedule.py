"""Schedules, meshes and the split of layers: pure arithmetic, checked against the published Llama 3 405B figures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from storage.errors import ConfigError
from training.config import (
    LLAMA3_405B,
    PhaseConfig,
    ScheduleConfig,
    TrainExecution,
    TrainingConfig,
    check_execution,
    expand_phases,
)
from training.order import Phase
from training.parallel.dims import ParallelDims, check_seq_len, micro_batches, split_layers
from training.schedule import learning_rate, n_steps

SCHEDULE_405B = ScheduleConfig(
    warmup_steps=8_000,
    decay="cosine",
    lr_final=8e-7,
    lr_decay_end_step=1_200_000,
    phases=(
        PhaseConfig(seq_len=4096, global_batch_size=1024),
        PhaseConfig(seq_len=8192, global_batch_size=1024, from_tokens=252_000_000),
        PhaseConfig(seq_len=8192, global_batch_size=2048, from_tokens=2_870_000_000_000),
    ),
    n_tokens=15_600_000_000_000,
)
CONTEXT_EXTENSION = Phase(131_072, 128, 1)
MESH_1, MESH_2, MESH_3 = (ParallelDims(tp=8, cp=cp, pp=16, dp=dp) for cp, dp in ((1, 64), (1, 128), (16, 8)))


def small(**changes: object) -> ScheduleConfig:
    fields: dict[str, object] = {"warmup_steps": 2, "decay": "linear", "phases": [{"seq_len": 8, "global_batch_size": 4}], "n_steps": 10}
    return ScheduleConfig.model_validate({**fields, **changes})


def test_405b_phases_begin_at_the_published_steps() -> None:
    """The second and third phase begin at steps 61 and 342,162, and 15.6T tokens end after 1,100,929 steps."""
    phases = expand_phases(SCHEDULE_405B)
    assert [p.n_steps for p in phases] == [61, 342_162 - 61, 1_100_929 - 342_162]
    assert n_steps(SCHEDULE_405B) == 1_100_929
    assert 60 * 1024 * 4096 < 252_000_000 <= 61 * 1024 * 4096


def test_405b_learning_rate_at_its_edges() -> None:
    """8,000 warmup steps to 8e-5, cosine to 8e-7 at step 1,200,000, half way in between, never below."""
    rates = {step: learning_rate(SCHEDULE_405B, 8e-5, step) for step in (0, 3999, 7999, 8000, 604_000, 1_100_928, 1_200_000, 1_300_000)}
    assert rates[0] == pytest.approx(1e-8)
    assert rates[3999] == pytest.approx(4e-5)
    assert rates[7999] == rates[8000] == pytest.approx(8e-5)
    assert rates[604_000] == pytest.approx((8e-5 + 8e-7) / 2)
    assert rates[1_100_928] > 8e-7
    assert rates[1_200_000] == rates[1_300_000] == pytest.approx(8e-7)


@pytest.mark.parametrize(
    ("mesh", "phases"),
    [
        (MESH_1, expand_phases(SCHEDULE_405B)),
        (MESH_2, expand_phases(SCHEDULE_405B)[2:]),
        (MESH_3, (CONTEXT_EXTENSION,)),
    ],
)
def test_published_meshes_divide_batch_heads_and_sequence(mesh: ParallelDims, phases: tuple[Phase, ...]) -> None:
    """Each published mesh takes its phases with micro-batches of one sequence, and has as many of them as stages at least."""
    check_execution(LLAMA3_405B, phases, TrainExecution(parallel=mesh, micro_batch_size=1, checkpoint_interval_steps=1))
    assert mesh.world_size == (8_192 if mesh is MESH_1 else 16_384)
    for phase in phases:
        assert micro_batches(mesh, global_batch_size=phase.global_batch_size, micro_batch_size=1) >= mesh.pp == 16


def test_mesh_2_does_not_serve_the_first_phases() -> None:
    """128-way data parallel leaves 8 micro-batches of the first batches, fewer than 16 stages, and the error names the numbers."""
    with pytest.raises(ConfigError, match=r"1024 gives 8 micro-batches of 1 on DP 128, fewer than PP 16"):
        check_execution(
            LLAMA3_405B, expand_phases(SCHEDULE_405B), TrainExecution(parallel=MESH_2, micro_batch_size=1, checkpoint_interval_steps=1)
        )


def test_126_layers_on_16_stages() -> None:
    """7, fourteen times 8, 7: embedding and head lighten the ends."""
    assert [len(layers) for layers in split_layers(126, 16)] == [7, *[8] * 14, 7]


@given(n_layers=st.integers(1, 200), pp=st.integers(1, 20), virtual=st.integers(1, 4))
def test_split_layers_covers_every_layer_once(n_layers: int, pp: int, virtual: int) -> None:
    """Stages are contiguous, none is empty, and no two loads differ by more than one where there are layers to level them."""
    if n_layers < pp * virtual:
        with pytest.raises(ConfigError, match="fewer than"):
            split_layers(n_layers, pp, virtual)
        return
    stages = split_layers(n_layers, pp, virtual)
    assert [layer for stage in stages for layer in stage] == list(range(n_layers))
    load = [len(stage) for stage in stages]
    assert min(load) >= 1
    load[0] += 1
    load[-1] += 1
    middle = load[1:-1]
    assert not middle or max(middle) - min(middle) <= 1
    if n_layers >= 2 * pp * virtual:
        assert max(load) - min(load) <= 1


def test_coordinates_put_tp_innermost_and_dp_outermost() -> None:
    """Consecutive ranks differ in TP first, then CP, PP, DP."""
    dims = ParallelDims(tp=2, cp=2, pp=2, dp=2)
    assert [tuple(dims.coordinates(rank)) for rank in (0, 1, 2, 4, 8, 15)] == [
        (0, 0, 0, 0),
        (0, 0, 0, 1),
        (0, 0, 1, 0),
        (0, 1, 0, 0),
        (1, 0, 0, 0),
        (1, 1, 1, 1),
    ]
    assert len({dims.coordinates(rank) for rank in range(16)}) == 16


def test_world_size_is_refused_by_name() -> None:
    """The error names every degree, their product, and what is running."""
    with pytest.raises(ConfigError, match=r"TP 2, CP 1, PP 3, DP 4 need 24 processes .* 16 are running"):
        ParallelDims(tp=2, pp=3, dp=4).check_world_size(16)


@pytest.mark.parametrize(
    ("seq_len", "fits"),
    [(32, True), (16, False), (48, False)],
)
def test_sequence_divides_into_head_tail_chunks_and_over_tp(seq_len: int, fits: bool) -> None:
    """CP 4 needs multiples of 8 tokens, and each rank's quarter must divide over TP 8."""
    dims = ParallelDims(tp=8, cp=4)
    if fits:
        check_seq_len(dims, seq_len)
    else:
        with pytest.raises(ConfigError, match="not a multiple of TP 8"):
            check_seq_len(dims, seq_len)
    with pytest.raises(ConfigError, match="two chunks"):
        check_seq_len(dims, seq_len + 1)


@given(
    sizes=st.lists(st.tuples(st.integers(2, 64), st.integers(1, 8), st.integers(1, 4000)), min_size=1, max_size=4),
    budget=st.integers(1, 4000),
)
def test_phases_by_tokens_begin_at_the_first_step_that_has_them(sizes: list[tuple[int, int, int]], budget: int) -> None:
    """Before a phase's first step its tokens were consumed, before the step before they were not."""
    starts = [0]
    for _, _, gap in sizes[1:]:
        starts.append(starts[-1] + gap + 600)  # a step is at most 512 tokens, so no phase is empty
    raw = [{"seq_len": s, "global_batch_size": b, "from_tokens": t} for (s, b, _), t in zip(sizes, starts, strict=True)]
    schedule = small(phases=raw, n_steps=None, n_tokens=starts[-1] + 600 + budget)
    consumed = 0
    edges = [*starts[1:], starts[-1] + 600 + budget]
    for phase, edge in zip(expand_phases(schedule), edges, strict=True):
        per_step = phase.seq_len * phase.global_batch_size
        consumed += phase.n_steps * per_step
        assert consumed - per_step < edge <= consumed


def test_phases_by_steps() -> None:
    """A phase may begin at a step, and the stage may end at one."""
    phases = [{"seq_len": 8, "global_batch_size": 4}, {"seq_len": 16, "global_batch_size": 2, "from_step": 7}]
    assert expand_phases(small(phases=phases)) == (Phase(8, 4, 7), Phase(16, 2, 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_tokens": 100}, "exactly one of n_tokens and n_steps"),
        ({"n_steps": None}, "exactly one of n_tokens and n_steps"),
        ({"phases": [{"seq_len": 8, "global_batch_size": 4, "from_step": 3}]}, "begins at step 0, not at 3"),
        ({"phases": [{"seq_len": 8, "global_batch_size": 4}, {"seq_len": 8, "global_batch_size": 4}]}, r"phases\[1\] needs exactly one"),
        (
            {"phases": [{"seq_len": 8, "global_batch_size": 4}, {"seq_len": 8, "global_batch_size": 4, "from_step": 10}]},
            r"phases\[1\] begins at step 10",
        ),
        ({"lr_decay_end_step": 2}, "must come after warmup_steps 2"),
        ({"decay": "exponential"}, "cosine"),
        ({"seq_len": 8}, "Extra inputs"),
    ],
)
def test_wrong_schedules_are_refused(changes: dict[str, object], message: str) -> None:
    """Each wrong field is refused with its name and what is allowed."""
    with pytest.raises(ValidationError, match=message):
        small(**changes)


def test_linear_decay_ends_at_zero_after_the_last_step() -> None:
    """Annealing: the rate falls linearly, and would be 0 at the step after the last."""
    schedule = small(warmup_steps=0)
    assert [learning_rate(schedule, 1.0, step) for step in range(11)] == pytest.approx([1 - s / 10 for s in range(11)])


def test_constant_decay_stays_at_the_peak() -> None:
    """Context extension may run at one rate."""
    assert learning_rate(small(decay="constant"), 1.0, 9) == 1.0


def test_averaged_checkpoints_end_with_the_last_step() -> None:
    """Three checkpoints, two steps apart, ending with the stage; more than the stage has steps is refused."""
    optimizer = {"lr_peak": 1e-3}
    config = TrainingConfig.model_validate(
        {"optimizer": optimizer, "schedule": small(), "average_checkpoints": 3, "average_interval_steps": 2}
    )
    assert config.averaged_steps == (6, 8, 10)
    with pytest.raises(ValidationError, match="reach back beyond 10 steps"):
        TrainingConfig.model_validate({"optimizer": optimizer, "schedule": small(), "average_checkpoints": 6, "average_interval_steps": 2})


@given(dp=st.integers(1, 6), pp=st.integers(1, 4), batch=st.integers(1, 96), size=st.integers(1, 12))
def test_a_refused_micro_batch_is_told_every_size_that_fits_and_no_other(dp: int, pp: int, batch: int, size: int) -> None:
    dims = ParallelDims(dp=dp, pp=pp)
    fitting = [n for n in range(1, batch + 1) if batch % (dp * n) == 0 and batch // (dp * n) >= pp]
    if size in fitting:
        assert micro_batches(dims, global_batch_size=batch, micro_batch_size=size) == batch // (dp * size)
        return
    with pytest.raises(ConfigError) as refused:
        micro_batches(dims, global_batch_size=batch, micro_batch_size=size)
    words = f"micro_batch_size may be {', '.join(map(str, fitting))}" if fitting else f"no micro_batch_size fits DP {dp} and PP {pp}"
    assert str(refused.value).endswith(words)


def test_the_sizes_named_fit_every_phase() -> None:
    """Batches of 12 and then 16 on two ranks: 3 would fit the first alone, 4 the second."""
    execution = TrainExecution(parallel=ParallelDims(dp=2), micro_batch_size=4, checkpoint_interval_steps=1)
    with pytest.raises(ConfigError, match=r"global_batch_size 12 .*; micro_batch_size may be 1, 2$"):
        check_execution(LLAMA3_405B, [Phase(8, 12, 5), Phase(8, 16, 5)], execution)
