"""The learning rate of a step. Pure; the phases of batch size and sequence length are `config.expand_phases`."""

from __future__ import annotations

import math

from training.config import ScheduleConfig, expand_phases


def n_steps(schedule: ScheduleConfig) -> int:
    """Optimizer steps of the training stage."""
    return sum(phase.n_steps for phase in expand_phases(schedule))


def learning_rate(schedule: ScheduleConfig, lr_peak: float, step: int) -> float:
    """The rate of optimizer step `step` (from 0).

    Linear warmup: step s of w gets (s + 1) / w of the peak. Then cosine or linear decay from the peak at step w to `lr_final` at
    `lr_decay_end_step` (the stage's end when not given) and after it, or a constant.
    Source: Llama 3 paper (arXiv:2407.21783), 3.4.1 and 3.4.3.
    """
    if step < schedule.warmup_steps:
        return lr_peak * (step + 1) / schedule.warmup_steps
    if schedule.decay == "constant":
        return lr_peak
    end = n_steps(schedule) if schedule.lr_decay_end_step is None else schedule.lr_decay_end_step
    done = min((step - schedule.warmup_steps) / max(end - schedule.warmup_steps, 1), 1.0)
    left = 1.0 - done if schedule.decay == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return schedule.lr_final + (lr_peak - schedule.lr_final) * left
