"""The mixture of one training stage as integers: from token counts and shares to `plan.json`. RULES 26 and 29.

`plan.json` holds `stage`, `seed`, `block_len` (L, tokens), `max_epochs`, `phases` and

    components   name, share (of 10,000), tokens, blocks (B), samples, realised_tokens, blocks_used, epochs_finished, epoch_blocks_used
                 (of the epoch that is not finished), unused_slices, tokens_past_last_block (fed at most as the last target)
    runs         component, phase, epoch, first_block, n_blocks, n_samples, first_ordinal, unused_slices (RULE 24)
    unused       tokens of the components that the stage does not use

What is short is repeated, up to `max_epochs`; a budget that needs more is refused with the largest that would do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Any

from pydantic import Field, field_validator

from storage.artifact import Attempt, FileEntry, Manifest, canonical_json, find, identity, read_verified
from storage.errors import ConfigError, IntegrityError
from storage.store import Store
from storage.strict import Strict
from training.order import PERIOD, Component, Order, Pattern, Phase, block_count, block_length, pattern, round_shares

NAME = "mix"
VERSION = 1


class PhaseConfig(Strict):
    """Optimizer steps with one sequence length and one batch size, as training/schedule.py expands a budget."""

    seq_len: int = Field(gt=0, description="tokens of a sample; divides the largest seq_len of the stage")
    global_batch_size: int = Field(gt=0, description="sequences of an optimizer step")
    n_steps: int = Field(gt=0, description="optimizer steps")


class Config(Strict):
    """What one training stage draws from which component, and how much of it."""

    stage: str = Field(min_length=1, description="name of the training stage; keys the order of its data")
    seed: int = Field(ge=0, description="keys the order of the data")
    shares: dict[str, float] = Field(description="share of the tokens by component, summing to 1; kept to 1/10,000")
    max_epochs: int = Field(ge=1, description="how often the stage may go through a component")
    phases: tuple[PhaseConfig, ...] = Field(min_length=1, description="the budget, phase by phase")

    @field_validator("shares")
    @classmethod
    def _check_shares(cls, shares: dict[str, float]) -> dict[str, float]:
        total = sum(shares.values())
        if abs(total - 1) > 1e-6:
            raise ValueError(f"shares sum to {total:g}, and must sum to 1")
        try:
            exact_shares(shares)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return shares

    @field_validator("phases")
    @classmethod
    def _check_phases(cls, phases: tuple[PhaseConfig, ...]) -> tuple[PhaseConfig, ...]:
        try:
            block_length(order_phases(phases))
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return phases


@dataclass(frozen=True)
class MixtureRow:
    """What a report shows of one component in one training stage. Shares and epochs are fractions, the others tokens or slices."""

    component: str
    target_share: float
    realised_share: float
    available_tokens: int
    realised_tokens: int
    epochs: float
    unused_slices: int
    tokens_past_last_block: int


def run(*, store: Store, config: Config, inputs: Mapping[str, Manifest], info: Mapping[str, Any] | None = None) -> Manifest:
    """Write the plan of one training stage. `inputs`: `tokens`.

    Raises ConfigError when a component is unknown, has less than one block, or is needed for more epochs than allowed.
    """
    fingerprint, payload = identity(NAME, VERSION, config, {name: manifest.digest for name, manifest in inputs.items()})
    if standing := find(store, NAME, fingerprint):
        return standing
    counts = json.loads(read_verified(store, inputs["tokens"], "counts.json"))
    made = plan(config, {name: row["tokens"] for name, row in counts["train"].items()})
    attempt, entries = Attempt(store, NAME, fingerprint), list[FileEntry]()
    with attempt.create("plan.json", entries) as file:
        file.write(canonical_json(made))
    samples = {f"samples:{row['name']}": row["samples"] for row in made["components"]}
    return attempt.publish(payload, entries, counts=samples, info=dict(info or {}))


def plan(config: Config, tokens: Mapping[str, int]) -> dict[str, Any]:
    """The content of plan.json, from the tokens of every component. Raises ConfigError as `run` does."""
    shares = exact_shares(config.shares)
    if unknown := sorted(set(shares) - set(tokens)):
        raise ConfigError(
            f"shares of {config.stage}: no tokens of {', '.join(unknown)}; the components are {', '.join(sorted(tokens)) or 'none'}"
        )
    components = [Component(name, share, tokens[name]) for name, share in shares.items()]
    phases = order_phases(config.phases)
    check_epochs(config, components, phases)
    order = Order(stage=config.stage, seed=config.seed, phases=phases, components=components)
    return {
        "format": 1,
        "stage": config.stage,
        "seed": config.seed,
        "block_len": order.block_len,
        "max_epochs": config.max_epochs,
        "phases": [phase.model_dump() for phase in config.phases],
        "components": [_component_row(order, number) for number in range(len(order.components))],
        "runs": [run._asdict() for runs in order.runs for run in runs],
        "unused": {name: tokens[name] for name in sorted(set(tokens) - set(shares))},
    }


def _component_row(order: Order, number: int) -> dict[str, Any]:
    component, runs = order.components[number], order.runs[number]
    blocks, used = order.n_blocks(component.name), order.blocks_used(component.name)
    return {
        "name": component.name,
        "share": component.share,
        "tokens": component.n_tokens,
        "blocks": blocks,
        "samples": sum(run.n_samples for run in runs),
        "realised_tokens": sum(run.n_samples * order.phases[run.phase].seq_len for run in runs),
        "blocks_used": used,
        "epochs_finished": used // blocks,
        "epoch_blocks_used": used % blocks,
        "unused_slices": sum(run.unused_slices for run in runs),
        "tokens_past_last_block": component.n_tokens - blocks * order.block_len,
    }


def read_plan(store: Store, manifest: Manifest) -> dict[str, Any]:
    """The content of a mix artifact's plan.json, verified. Raises IntegrityError."""
    made: dict[str, Any] = json.loads(read_verified(store, manifest, "plan.json"))
    return made


def order_of(made: Mapping[str, Any]) -> Order:
    """The order that a plan stands for. Raises IntegrityError when the plan's runs are not those that follow from its integers."""
    components = [Component(row["name"], row["share"], row["tokens"]) for row in made["components"]]
    phases = [Phase(**phase) for phase in made["phases"]]
    order = Order(stage=made["stage"], seed=made["seed"], phases=phases, components=components)
    runs = [run._asdict() for component in order.runs for run in component]
    if runs != made["runs"]:
        raise IntegrityError(
            f"plan.json of {made['stage']}", expected="the runs that follow from its integers (RULE 24)", actual="other runs"
        )
    return order


def mixture(made: Mapping[str, Any]) -> list[MixtureRow]:
    """Target, available and realised of every component of a plan, for people."""
    total = sum(row["realised_tokens"] for row in made["components"])
    return [
        MixtureRow(
            component=row["name"],
            target_share=row["share"] / PERIOD,
            realised_share=row["realised_tokens"] / total,
            available_tokens=row["tokens"],
            realised_tokens=row["realised_tokens"],
            epochs=row["blocks_used"] / row["blocks"],
            unused_slices=row["unused_slices"],
            tokens_past_last_block=row["tokens_past_last_block"],
        )
        for row in made["components"]
    ]


def exact_shares(shares: Mapping[str, float]) -> dict[str, int]:
    """Shares of 10,000 by name. Takes each float as the decimal number that it prints as. Raises ConfigError."""
    return round_shares({name: Fraction(repr(float(share))) for name, share in shares.items()})


def order_phases(phases: Sequence[PhaseConfig]) -> list[Phase]:
    """The phases as the order takes them."""
    return [Phase(phase.seq_len, phase.global_batch_size, phase.n_steps) for phase in phases]


def check_epochs(config: Config, components: Sequence[Component], phases: Sequence[Phase]) -> None:
    """Raises ConfigError when a component is needed for more than `max_epochs`, naming each, its need, what there is, and what would do."""
    components = sorted(components, key=lambda c: c.name)
    length, built = block_length(phases), pattern(tuple(c.share for c in components))
    blocks = [block_count(component, length) for component in components]
    n_steps = sum(phase.n_steps for phase in phases)
    need = [blocks_needed(built, number, phases, n_steps) for number in range(len(components))]
    short = [n for n, (needed, there) in enumerate(zip(need, blocks, strict=True)) if needed > there * config.max_epochs]
    if not short:
        return
    feasible = _largest_feasible_steps(built, phases, [there * config.max_epochs for there in blocks])
    n_samples, n_tokens = _budget_of(phases, feasible)
    details = "; ".join(
        f"{components[n].name} needs {need[n] * length:,} tokens ({need[n] / blocks[n]:.2f} epochs)"
        f" for its share of {components[n].share / PERIOD:.2%},"
        f" available are {blocks[n] * length * config.max_epochs:,} ({blocks[n] * length:,} x {config.max_epochs} epochs)"
        for n in short
    )
    epochs = max(-(-need[n] // blocks[n]) for n in short)
    raise ConfigError(
        f"budget of {config.stage}, {n_steps:,} steps: {details}."
        f" The largest feasible budget is {feasible:,} steps ({n_samples:,} samples, {n_tokens:,} tokens);"
        f" otherwise raise max_epochs to {epochs} or change the shares"
    )


def blocks_needed(built: Pattern, number: int, phases: Sequence[Phase], n_steps: int) -> int:
    """Blocks that the first `n_steps` of the phases take from component `number`: per phase, its samples over r, rounded up.

    All runs of a phase but the last use their blocks whole, so this is what RULE 24 adds up to.
    """
    length, first, needed = block_length(phases), 0, 0
    for phase, done in zip(phases, _steps_within(phases, n_steps), strict=True):
        end = first + done * phase.global_batch_size
        samples = built.count_before(number, end) - built.count_before(number, first)
        needed += -(-samples // (length // phase.seq_len))
        first = end
    return needed


def _steps_within(phases: Sequence[Phase], n_steps: int) -> list[int]:
    """How many of the first `n_steps` lie in each phase."""
    firsts = accumulate((phase.n_steps for phase in phases), initial=0)
    return [min(max(n_steps - first, 0), phase.n_steps) for phase, first in zip(phases, firsts, strict=False)]


def _budget_of(phases: Sequence[Phase], n_steps: int) -> tuple[int, int]:
    """Samples and tokens of the first `n_steps`."""
    samples = [done * phase.global_batch_size for phase, done in zip(phases, _steps_within(phases, n_steps), strict=True)]
    return sum(samples), sum(n * phase.seq_len for n, phase in zip(samples, phases, strict=True))


def _largest_feasible_steps(built: Pattern, phases: Sequence[Phase], limits: Sequence[int]) -> int:
    """The most steps, cut off the end of the phases, that take at most `limits` blocks of each component."""
    low, high = 0, sum(phase.n_steps for phase in phases)
    while low < high:
        middle = (low + high + 1) // 2
        if all(blocks_needed(built, number, phases, middle) <= limit for number, limit in enumerate(limits)):
            low = middle
        else:
            high = middle - 1
    return low
